# What scripts/compat.sh and scripts/bench.sh share: llama.cpp, our programs, random checkpoints. To be sourced, with
# root: the repository; out: a folder for everything that is made; tokenizer: a folder of Qwen3's tokenizer files.
#
# Environment: QWREN_BIN (folder of built programs; default: cargo build --release), LLAMA_SRC (a llama.cpp source folder to use
# instead of fetching).
# shellcheck shell=bash disable=SC2154

readonly PEER_VERSION=0.3.36
# The package holds C++ that we compile and run: take that one or none.
readonly PEER_SHA256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 2; }

install_tools() {
  local missing=()
  command -v cmake >/dev/null || missing+=(cmake)
  command -v ninja >/dev/null || missing+=(ninja-build)
  command -v c++ >/dev/null || missing+=(g++)
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  [[ ${#missing[@]} -eq 0 ]] || "$root/scripts/lib/install.sh" "${missing[@]}"
}

make_python() {
  [[ -x $out/venv/bin/python ]] || python3 -m venv "$out/venv"
  # numpy for us; the rest is what the peer's gguf-py imports, and scikit-build-core what its package's metadata asks for.
  "$out/venv/bin/pip" -q --disable-pip-version-check install numpy pyyaml tqdm requests scikit-build-core
}

# Sets llama_src.
fetch_peer() {
  llama_src=${LLAMA_SRC:-$out/src/vendor/llama.cpp}
  [[ -f $llama_src/CMakeLists.txt ]] && return
  local sdist=$out/llama_cpp_python-$PEER_VERSION.tar.gz
  if [[ ! -f $sdist ]]; then
    # Without --no-build-isolation pip would compile cmake first, only to read the package's name.
    "$out/venv/bin/pip" -q --disable-pip-version-check download --no-deps --no-binary :all: --no-build-isolation \
      -d "$out" "llama-cpp-python==$PEER_VERSION"
  fi
  echo "$PEER_SHA256  $sdist" | sha256sum --check --quiet || die "$sdist is not the package that this script knows"
  mkdir -p "$out/src"
  tar -xzf "$sdist" -C "$out/src" --strip-components=1
}

build_peer() { # TARGET…
  local log=$out/log/build.txt
  mkdir -p "$out/log"
  say "building llama.cpp (log: $log)"
  {
    cmake -S "$root/scripts/compat" -B "$out/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLLAMA_SRC="$llama_src"
    cmake --build "$out/build" -j "$(nproc)" --target "$@"
  } >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "llama.cpp does not build"; }
}

build_qwren() {
  if [[ -z ${QWREN_BIN:-} ]]; then
    (cd "$root" && cargo build --release --locked -p qwren -p qwren-convert)
    QWREN_BIN=${CARGO_TARGET_DIR:-$root/target}/release
  fi
  [[ -x $QWREN_BIN/qwren && -x $QWREN_BIN/qwren-convert ]] || die "no qwren and qwren-convert in $QWREN_BIN"
}

# Sets model: a random checkpoint of a shape, converted to a type.
make_model() { # SHAPE TYPE
  model=$out/gguf/$1-$2.gguf
  [[ -f $model ]] && return
  make_checkpoint "$1"
  mkdir -p "$out/gguf"
  "$QWREN_BIN/qwren-convert" "$out/ckpt/$1" -o "$model" --type "$2" --quiet
}

make_checkpoint() { # SHAPE
  local shape=$1
  [[ -f $out/ckpt/$shape/model.safetensors ]] && return
  say "making a random checkpoint: $shape"
  "$out/venv/bin/python" "$root/scripts/make_random_checkpoint.py" "$shape" "$out/ckpt/$shape" --tokenizer "$tokenizer"
}
