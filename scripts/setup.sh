#!/usr/bin/env bash
# Installs what building qwren needs and this machine lacks. Called by quickstart.sh and test.sh; safe to run again.
#
# ggml's C sources want a C compiler; their Rust bindings are generated at build time, which wants libclang and its headers.
set -euo pipefail

have_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] || ldconfig -p | grep -q 'libclang[-.0-9]*\.so' ||
    compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null ||
    compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' >/dev/null # not libclang-cpp, which is another library
}

missing=()
command -v cc >/dev/null || missing+=(build-essential)
have_libclang || missing+=(libclang-dev)

[ ${#missing[@]} -eq 0 ] || "$(dirname "$0")/lib/install.sh" "${missing[@]}"

if ! command -v cargo >/dev/null; then
  echo "setup.sh: cargo is missing: install Rust 1.89 or newer (rustup, or your distribution's packages)" >&2
  exit 1
fi
