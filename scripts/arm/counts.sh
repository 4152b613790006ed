#!/usr/bin/env bash
# Counts the kernels' instructions per 256 multiply-adds, exactly, and compares with scripts/arm/counts.txt: more than 3 %
# above a line of it is a fault. Only for a machine that setup-arm.sh has prepared.
#
#   scripts/arm/counts.sh            compare
#   scripts/arm/counts.sh --update   write the counts of today
set -euo pipefail
cd "$(dirname "$0")/../.."
. "$(scripts/setup-arm.sh -q)"

target=aarch64-unknown-linux-gnu
cargo build --release --locked --target $target -p qwren-quant --example one_kernel
program=${CARGO_TARGET_DIR:-target}/$target/release/examples/one_kernel
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cc -O2 -shared -fPIC -o "$dir/trace.so" scripts/arm/trace.c

# instructions CPU WHAT TOKENS TIMES
instructions() {
  QEMU_CPU=$1 qemu-aarch64 -plugin "$dir/trace.so" "$program" "$2" "$3" "$4" 2>&1 >"$dir/macs" | sed -n 's/^instructions: //p'
}

failed=false
: >"$dir/macs"
while read -r cpu what tokens limit; do
  case $cpu in '#'*)
    echo "$cpu $what $tokens $limit" >>"$dir/counts.txt"
    continue
    ;;
  esac
  # What isn't the kernel's drops out of the difference.
  once=$(instructions "$cpu" "$what" "$tokens" 1)
  thrice=$(instructions "$cpu" "$what" "$tokens" 3)
  count=$(awk -v d=$((thrice - once)) -v macs="$(cat "$dir/macs")" 'BEGIN { printf "%.1f", d / 2 / (macs / 256) }')
  printf '%-10s %-17s %2s tokens %6s instructions per 256 multiply-adds\n' "$cpu" "$what" "$tokens" "$count"
  printf '%-10s %-17s %2s %6s\n' "$cpu" "$what" "$tokens" "$count" >>"$dir/counts.txt"
  if [ "${1:-}" != --update ] && awk -v c="$count" -v l="$limit" 'BEGIN { exit !(c > l * 1.03) }'; then
    echo "counts.sh: that is more than $limit and 3 %" >&2
    failed=true
  fi
done <scripts/arm/counts.txt
if [ "${1:-}" = --update ]; then cp "$dir/counts.txt" scripts/arm/counts.txt; fi
! $failed
