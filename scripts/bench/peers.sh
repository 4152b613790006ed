# Runs a model with qwren, with llama.cpp at its best and with candle: prompts, answers at depth, the start, memory.
#
#   scripts/bench.sh peers [--model FILE]… [--shape 0.6b] [--depths 0,2048] [--rounds 3]
#
# llama.cpp runs with and without --repack and with and without flash attention; each figure of qwren's is compared with the best
# of its. candle's quantized Qwen3 (scripts/bench/candle) is shown beside it, up to a depth of 2048. All use all cores.
#
# --model   a GGUF file; may be given several times. Without one a random checkpoint is converted to Q4_K_M and Q8_0
# --shape   a shape of scripts/make_random_checkpoint.py for that: 0.6b, 1.7b, 4b, …
# --depths  tokens that the context holds when 64 more are written
# --rounds  times that each side runs; medians are compared
# shellcheck shell=bash disable=SC2154

bench_main() {
  local shape=0.6b rounds=3 depths=0,2048 model=() models type
  take_options model shape depths rounds -- "$@"
  models=("${model[@]}")
  install_tools
  make_python
  build_qwren
  fetch_peer
  build_peer llama-bench llama-completion
  build_candle
  if [[ ${#models[@]} -eq 0 ]]; then
    for type in q4_k_m q8_0; do
      make_model "$shape" "$type"
      models+=("$model")
    done
  fi
  "$out/venv/bin/python" "$root/scripts/bench/peers.py" "${models[@]}" --rounds "$rounds" --depths "$depths" \
    --qwren "$QWREN_BIN/qwren" --peer-bin "$out/build/bin" --peer-version "llama-cpp-python $PEER_VERSION" \
    --candle "$out/candle/release/candle-bench"
}

build_candle() {
  local log=$out/log/candle.txt
  say "building candle (log: $log)"
  RUSTFLAGS="-C target-cpu=native" CARGO_TARGET_DIR=$out/candle cargo build --release --locked \
    --manifest-path "$root/scripts/bench/candle/Cargo.toml" >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "candle does not build"; }
}
