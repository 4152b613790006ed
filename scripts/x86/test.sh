#!/usr/bin/env bash
# The kernels' tests on emulated x86-64 CPUs, for the levels that few machines have: what `scripts/test.sh --x86-levels`
# runs, in a quarter of an hour. The same tests run on a CPU that has the instructions without this (`cargo test`).
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { printf '\n== %s\n' "$*"; }

target=x86_64-unknown-linux-gnu
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$PWD/scripts/x86/emulate.sh
# The emulated machine has no libraries; nobody debugs these builds.
export RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_DEV_DEBUG=0

# on CPU LEVELS FILTER…: the tests on a CPU that must have the levels. In one thread: the machine has one CPU.
on() {
  step "$3 … on $1: $2"
  QWREN_EMULATE=$1 QWREN_TEST_REQUIRE=$2 cargo test --locked -p qwren-quant --lib --target $target -- --test-threads 1 "${@:3}"
}

on sapphire_rapids avx512vnni,avxvnni kernel::
# Where a CPU has one level alone, executing an instruction of the other ends a test.
some=(kernel::level required_levels_are_there any_bytes_are_weights kernel::testing::vec_ops)
on arrow_lake avxvnni "${some[@]}"
on corei7_icelake_u avx512vnni "${some[@]}"
