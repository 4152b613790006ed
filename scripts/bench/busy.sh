# Measures how much of its speed each side keeps beside one busy process per core, all at one ordinary priority.
#
#   scripts/bench.sh busy [--model FILE] [--shape 0.6b] [--rounds 3]
#
# --model   a GGUF file; without one a random checkpoint is converted to Q4_K_M
# --shape   a shape of scripts/make_random_checkpoint.py for that: 0.6b, 1.7b, 4b, …
# --rounds  times that each side runs, quiet and disturbed; medians are compared
# shellcheck shell=bash disable=SC2154

bench_main() {
  local shape=0.6b rounds=3 model=
  take_options model shape rounds -- "$@"
  install_tools
  make_python
  build_qwren
  fetch_peer
  build_peer llama-bench
  [[ -n $model ]] || make_model "$shape" q4_k_m
  "$out/venv/bin/python" "$root/scripts/bench/busy.py" "$model" --rounds "$rounds" \
    --qwren "$QWREN_BIN/qwren" --peer-bin "$out/build/bin" --peer-version "llama-cpp-python $PEER_VERSION"
}
