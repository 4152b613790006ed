# Runs a model with qwren and with llama.cpp at its best: prompts, answers at depth, the start, memory.
#
#   scripts/bench.sh peers [--model FILE]… [--shape 0.6b] [--depths 0,2048] [--rounds 3]
#
# llama.cpp runs with and without --repack and with and without flash attention; each figure of qwren's is compared with the best
# of its. Both use all cores.
#
# --model   a GGUF file; may be given several times. Without one a random checkpoint is converted to Q4_K_M and Q8_0
# --shape   a shape of scripts/make_random_checkpoint.py for that: 0.6b, 1.7b, 4b, …
# --depths  tokens that the context holds when 64 more are written
# --rounds  times that each side runs; medians are compared
# shellcheck shell=bash disable=SC2154

bench_main() {
  local shape=0.6b rounds=3 depths=0,2048 models=() type
  while [[ $# -gt 0 ]]; do
    [[ $# -ge 2 ]] || die "peers: $1 wants a value"
    case $1 in
      --model) models+=("$2") ;;
      --shape) shape=$2 ;;
      --depths) depths=$2 ;;
      --rounds) rounds=$2 ;;
      *) die "peers: unknown argument $1 (see --help)" ;;
    esac
    shift 2
  done
  install_tools
  make_python
  build_qwren
  fetch_peer
  build_peer llama-bench llama-completion
  if [[ ${#models[@]} -eq 0 ]]; then
    for type in q4_k_m q8_0; do
      models+=("$out/gguf/$shape-$type.gguf")
      [[ -f ${models[-1]} ]] && continue
      make_checkpoint "$shape"
      mkdir -p "$out/gguf"
      "$QWREN_BIN/qwren-convert" "$out/ckpt/$shape" -o "${models[-1]}" --type "$type" --quiet
    done
  fi
  "$out/venv/bin/python" "$root/scripts/bench/peers.py" "${models[@]}" --rounds "$rounds" --depths "$depths" \
    --qwren "$QWREN_BIN/qwren" --peer-bin "$out/build/bin" --peer-version "llama-cpp-python $PEER_VERSION"
}
