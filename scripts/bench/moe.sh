# Runs a mixture of experts that is larger than the memory it may use, from the mapped file: how fast qwren and llama.cpp are
# with all the memory and with a part of the file's size. As root: the limit is a control group's.
#
#   scripts/bench.sh moe [--model FILE] [--shape moe64] [--type q8_0] [--limit 60] [--rounds 3]
#
# --model   a GGUF file; without one a random checkpoint is converted
# --shape   a shape of scripts/make_random_checkpoint.py for that
# --type    the type to convert it to
# --limit   memory in per cent of the file's size
# --rounds  times that each side runs; medians are compared
# shellcheck shell=bash disable=SC2154

bench_main() {
  local shape=moe64 type=q8_0 limit=60 rounds=3 model=
  take_options model shape type limit rounds -- "$@"
  [[ $(id -u) -eq 0 ]] || die "moe: only root may limit memory"
  install_tools
  make_python
  build_qwren
  fetch_peer
  build_peer llama-bench
  [[ -n $model ]] || make_model "$shape" "$type"
  "$out/venv/bin/python" "$root/scripts/bench/moe.py" "$model" --limit "$limit" --rounds "$rounds" \
    --qwren "$QWREN_BIN/qwren" --peer-bin "$out/build/bin" --peer-version "llama-cpp-python $PEER_VERSION"
}
