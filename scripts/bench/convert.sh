# Converts a random checkpoint with qwren-convert and with llama.cpp's two programs, to Q4_K_M and to Q8_0.
#
#   scripts/bench.sh convert [--shape 0.6b] [--rounds 3] [--peer-python PATH]
#
# Prints wall seconds, processor seconds and the peak of resident memory of both sides, and their ratios. llama.cpp's side of Q4_K_M
# is convert_hf_to_gguf.py to bf16, then llama-quantize; of Q8_0 the script alone. All run on all cores.
#
# --shape        a shape of scripts/make_random_checkpoint.py: 0.6b (1.2 GB), 1.7b, 4b, …
# --rounds       times that each side runs; medians are compared
# --peer-python  a Python with torch, transformers, sentencepiece and protobuf; without it one is made by pip (6 GB: PyPI's
#                torch brings CUDA along)
# shellcheck shell=bash disable=SC2154

make_peer_python() {
  peer_python=$out/hf/bin/python
  [[ -x $peer_python ]] && return
  python3 -m venv "$out/hf"
  "$out/hf/bin/pip" -q --disable-pip-version-check install torch transformers sentencepiece protobuf
}

bench_main() {
  local shape=0.6b rounds=3 peer_python=''
  take_options shape rounds peer-python -- "$@"
  install_tools
  make_python
  build_qwren
  fetch_peer
  build_peer llama-quantize
  [[ -n $peer_python ]] || make_peer_python
  make_checkpoint "$shape"
  "$out/venv/bin/python" "$root/scripts/bench/convert.py" "$shape" --rounds "$rounds" --checkpoint "$out/ckpt/$shape" \
    --scratch "$out/convert" --qwren "$QWREN_BIN/qwren-convert" --peer-python "$peer_python" \
    --peer-script "$llama_src/convert_hf_to_gguf.py" --peer-quantize "$out/build/bin/llama-quantize" \
    --peer-version "llama-cpp-python $PEER_VERSION"
}
