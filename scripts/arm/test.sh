#!/usr/bin/env bash
# The suite for 64-bit ARM: everything is cross-built and run in qemu's emulation.
#
#   scripts/arm/test.sh             what `scripts/test.sh --arm` runs
#   scripts/arm/test.sh --kernels   what `scripts/test.sh --all` runs: the same without "all tests", in minutes
#
#   lints                           of everything, so that everything is compiled
#   all tests                       as on a Raspberry Pi 4 (Cortex-A72: NEON alone); executing what that CPU lacks ends a test
#   the kernels' tests              as on that CPU, as on a Raspberry Pi 5 (Cortex-A76: dot products), and with everything that
#                                   qemu has (i8mm)
#   the tests that map files        under a kernel with pages of 16 KiB, as Raspberry Pi OS has on a Pi 5
#   the kernels' instruction counts against scripts/arm/counts.txt
#
# QWREN_TEST_REQUIRE names the levels that must be there: a level that isn't found fails instead of being passed over.
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
  '') whole=true ;;
  --kernels) whole=false ;;
  *)
    echo "usage: scripts/arm/test.sh [--kernels]" >&2
    exit 2
    ;;
esac

step() { printf '\n== %s\n' "$*"; }

step "ARM: tools"
if $whole && ! command -v cargo-nextest >/dev/null; then cargo install --locked cargo-nextest; fi
# Its rustc builds everything from here on; nothing else is built meanwhile, since ggml's bindings are written to a place
# that both targets share.
env=$(scripts/setup-arm.sh -q)
. "$env"

target=aarch64-unknown-linux-gnu
out=${CARGO_TARGET_DIR:-target}/$target
mkdir -p "$out"
out=$(cd "$out" && pwd)
# Nobody debugs these builds; without it they are a third of the size.
export CARGO_PROFILE_DEV_DEBUG=0
# A debug build of ggml talks about its buffers on stderr, which tests look at.
export CFLAGS_aarch64_unknown_linux_gnu="-D_GNU_SOURCE -mcpu=generic -DNDEBUG"

step "ARM: lints"
"$QWREN_ARM_CLIPPY" clippy -p qwren-quant --all-targets -p qwren -p qwren-convert --locked --target $target -- -A unknown_lints

all_tests() {
  cargo build --locked --target $target --workspace --bins --tests
  # The tests start the programs by their path, where no runner of cargo's applies: scripts of the same names do.
  local programs=$out/emulated program name package all='all()'
  mkdir -p "$programs"
  for program in qwren qwren-convert; do
    printf '#!/bin/sh\nexec qemu-aarch64 "%s" "$@"\n' "$out/debug/$program" >"$programs/$program"
    chmod +x "$programs/$program"
  done
  # Everything but the files of tests and the single tests (FILE::TEST) that skip.txt names.
  while read -r package name; do
    case $package,$name in
      , | '#'*) ;;
      *::*) all+=" - (package($package) & binary(${name%%::*}) & test(=${name#*::}))" ;;
      *) all+=" - (package($package) & binary($name))" ;;
    esac
  done <scripts/arm/skip.txt
  QWREN_BIN_DIR=$programs QEMU_CPU=cortex-a72 QWREN_TEST_REQUIRE=neon \
    cargo nextest run --locked --target $target --no-fail-fast --workspace -E "$all"
}
if $whole; then
  step "ARM: all tests on a Cortex-A72"
  all_tests
fi

# kernels CPU LEVELS
kernels() {
  QEMU_CPU=$1 QWREN_TEST_REQUIRE=$2 cargo test --locked --target $target -p qwren-quant --lib -- kernel:: act::
}
step "ARM: the kernels' tests on a Cortex-A72"
kernels cortex-a72 neon
step "ARM: the kernels' tests on a Cortex-A76"
kernels cortex-a76 neon,dotprod
step "ARM: the kernels' tests with int8 matrix instructions"
kernels max neon,dotprod,i8mm

step "ARM: pages of 16 KiB"
QEMU_PAGESIZE=16384 cargo test --locked --target $target -p qwren-quant --test gguf_hostile --test gguf_mutations \
  --test gguf_round_trip --test gguf_split

step "ARM: instruction counts"
scripts/arm/counts.sh

step "ARM: a level that the CPU lacks is refused"
if refusal=$(QEMU_CPU=cortex-a72 QWREN_CPU=dotprod qemu-aarch64 "$out/release/examples/one_kernel" Q4_K 1 1 2>&1); then
  echo "QWREN_CPU=dotprod was taken on a Cortex-A72" >&2
  exit 1
fi
echo "$refusal"
grep -q "QWREN_CPU=dotprod is not a level of this CPU; it has neon, scalar" <<<"$refusal"
