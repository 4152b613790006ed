#!/usr/bin/env bash
# The suite for 64-bit ARM: everything is cross-built and run in qemu's emulation.
#
#   lints                           of quant, where the code for ARM is
#   all tests                       as on a Raspberry Pi 4 (Cortex-A72: NEON alone); executing what that CPU lacks ends a test.
#                                   skip.txt says what is left out, and why
#   the kernels' tests              again as on a Raspberry Pi 5 (Cortex-A76: dot products), and with everything that qemu has
#                                   (i8mm)
#   the tests that map files        again under a kernel with pages of 16 KiB, as Raspberry Pi OS has on a Pi 5
#   the kernels' instruction counts against scripts/arm/counts.txt
#
# QWREN_TEST_REQUIRE names the levels that must be there: a level that isn't found fails instead of being passed over.
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { printf '\n== %s\n' "$*"; }

step "ARM: tools"
if ! command -v cargo-nextest >/dev/null; then cargo install --locked cargo-nextest; fi
# Its rustc builds everything from here on; nothing else is built meanwhile, since ggml's bindings are written to a place
# that both targets share.
env=$(scripts/setup-arm.sh -q)
. "$env"

target=aarch64-unknown-linux-gnu
out=${CARGO_TARGET_DIR:-target}/$target
mkdir -p "$out"
out=$(cd "$out" && pwd)
# The reference checkpoints of the repository are enough in emulation.
unset QWREN_FIXTURES
# Nobody debugs these builds, nor changes a line and builds again.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
# A debug build of ggml talks about its buffers on stderr, which tests look at.
export CFLAGS_aarch64_unknown_linux_gnu="-D_GNU_SOURCE -mcpu=generic -DNDEBUG"

step "ARM: lints"
"$QWREN_ARM_CLIPPY" clippy -p qwren-quant --all-targets --locked --target $target -- -A unknown_lints

step "ARM: build"
cargo build --locked --target $target --workspace --bins --tests
# The tests start the programs by their path, where no runner of cargo's applies: scripts of the same names do.
programs=$out/emulated
mkdir -p "$programs"
for program in qwren qwren-convert; do
  printf '#!/bin/sh\nexec qemu-aarch64 "%s" "$@"\n' "$out/debug/$program" >"$programs/$program"
  chmod +x "$programs/$program"
done

# run CPU LEVELS TESTS: the workspace's tests of that filter expression.
run() {
  QWREN_BIN_DIR=$programs QEMU_CPU=$1 QWREN_TEST_REQUIRE=$2 \
    cargo nextest run --locked --target $target --no-fail-fast --workspace --bins --tests -E "$3"
}

# The kernels first: they take seconds.
kernels='package(qwren-quant) & kind(lib) & test(/^(kernel|act)::/)'
step "ARM: the kernels' tests on a Cortex-A76"
run cortex-a76 neon,dotprod "$kernels"
step "ARM: the kernels' tests with int8 matrix instructions"
run max neon,dotprod,i8mm "$kernels"

step "ARM: pages of 16 KiB"
QEMU_PAGESIZE=16384 run cortex-a76 neon 'package(qwren-quant) & binary(/^gguf_(hostile|mutations|round_trip|split)$/)'

# Everything but the files of tests and the single tests (FILE::TEST) that skip.txt names.
all='all()'
while read -r package name; do
  case $package,$name in
    , | '#'*) ;;
    *::*) all+=" - (package($package) & binary(${name%%::*}) & test(=${name#*::}))" ;;
    *) all+=" - (package($package) & binary($name))" ;;
  esac
done <scripts/arm/skip.txt
step "ARM: all tests on a Cortex-A72"
run cortex-a72 neon "$all"

step "ARM: instruction counts"
scripts/arm/counts.sh

step "ARM: a level that the CPU lacks is refused"
if refusal=$(QEMU_CPU=cortex-a72 QWREN_CPU=dotprod qemu-aarch64 "$out/release/examples/one_kernel" Q4_K 1 1 2>&1); then
  echo "QWREN_CPU=dotprod was taken on a Cortex-A72" >&2
  exit 1
fi
echo "$refusal"
grep -q "QWREN_CPU=dotprod is not a level of this CPU; it has neon, scalar" <<<"$refusal"
