#!/usr/bin/env bash
# Everything that CI runs.
#
#   scripts/test.sh               format, lints, release build, all tests on this machine
#   scripts/test.sh --arm         the suite for 64-bit ARM, cross-built and emulated (scripts/arm/test.sh says of what it consists)
#   scripts/test.sh --x86-levels  the kernels for AVX-512 VNNI and AVX-VNNI on emulated CPUs
#   scripts/test.sh --vulkan      qwren-gpu: format, lints, build, and its tests on a Vulkan driver that needs no GPU
#   scripts/test.sh --all         what CI runs: the native suite, qwren-gpu's, and ARM's (an ARM machine's own is the native one)
#
# QWREN_FIXTURES=DIR adds reference checkpoints that are too large for the repository (DIR/checkpoints/NAME).
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

native() {
  scripts/setup.sh

  step "format"
  cargo fmt --all --check

  step "lints"
  cargo clippy --workspace --all-targets --locked -- -D warnings

  step "release build: the programs that the tests drive"
  cargo build --release --locked -p qwren -p qwren-convert

  step "tests"
  if cargo nextest --version >/dev/null 2>&1; then
    cargo test --workspace --doc --locked # nextest leaves these out
    cargo nextest run --workspace --locked --no-fail-fast
  else
    cargo test --workspace --locked --no-fail-fast
  fi
}

# Its own workspace, and its own .cargo/config.toml: cargo is started in its folder. What it builds lies beside qwren.
vulkan() {
  scripts/setup.sh
  scripts/setup-vulkan.sh
  local target=${CARGO_TARGET_DIR:-$PWD/target}
  step "qwren-gpu: format, lints, build"
  (
    cd gpu
    cargo fmt --check
    # One profile: ggml and its shaders take minutes.
    cargo clippy --release --all-targets --locked --target-dir "$target" -- -D warnings
    cargo build --release --locked --target-dir "$target"
    cargo test --release --locked --target-dir "$target"
  )
  cargo build --release --locked -p qwren -p qwren-convert
  step "qwren-gpu on ${QWREN_TEST_DEVICE:-lavapipe}"
  QWREN_GPU=$target/release/qwren-gpu cargo test --locked -p qwren-tests --test gpu_vulkan -- --ignored --test-threads 1
}

case "${1:-}" in
  '') native ;;
  --arm) exec scripts/arm/test.sh ;;
  --x86-levels) exec scripts/x86/test.sh ;;
  --vulkan) vulkan ;;
  --all)
    native
    vulkan
    [ "$(uname -m)" != x86_64 ] || scripts/arm/test.sh
    ;;
  *)
    echo "usage: scripts/test.sh [--arm | --x86-levels | --vulkan | --all]" >&2
    exit 2
    ;;
esac
