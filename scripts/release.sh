#!/usr/bin/env bash
# Makes the archive of a release and its SHA-256 in target/dist, and checks what it promises.
#
#   scripts/release.sh            for x86-64
#   scripts/release.sh aarch64    for 64-bit ARM (Raspberry Pi 4 and 5), cross-built
#
# An archive has both programs, stripped, their manual pages and completions, README and licence. Of each program is checked:
# the newest glibc that it needs, its size, that instructions beyond the baseline stand only in functions that are chosen
# at run time, and that it works on an old CPU (emulated).
set -euo pipefail
cd "$(dirname "$0")/.."

newest_glibc=2.34 # Debian 12, Ubuntu 22.04, Raspberry Pi OS bookworm
most_bytes=12000000

fail() {
  echo "release: $*" >&2
  exit 1
}

arch=${1:-x86_64}
case "$arch" in
  x86_64)
    scripts/setup.sh
    command -v qemu-x86_64-static >/dev/null || scripts/lib/install.sh qemu-user-static
    built=${CARGO_TARGET_DIR:-target}/release
    target=()
    objdump=objdump strip=strip
    # No SSE4, no AVX, no POPCNT.
    old=(qemu-x86_64-static -cpu Conroe) new=()
    ;;
  aarch64)
    # shellcheck disable=SC1090
    . "$(scripts/setup-arm.sh -q)"
    built=${CARGO_TARGET_DIR:-target}/aarch64-unknown-linux-gnu/release
    target=(--target aarch64-unknown-linux-gnu)
    objdump=aarch64-linux-gnu-objdump strip=aarch64-linux-gnu-strip
    # No dot products, no half-precision arithmetic, no atomics of ARMv8.1.
    old=(qemu-aarch64 -cpu cortex-a72 -L /usr/aarch64-linux-gnu)
    new=(qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu)
    ;;
  *) fail "usage: scripts/release.sh [x86_64|aarch64]" ;;
esac

cargo build --release --locked "${target[@]}" -p qwren -p qwren-convert

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=qwren-$version-linux-$arch
dist=target/dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$dist" "$work/$name"/{man,completions}

for program in qwren qwren-convert; do
  from=$built/$program
  glibc=$("$objdump" -T "$from" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1)
  glibc=${glibc#GLIBC_}
  [ "$(printf '%s\n' "$glibc" "$newest_glibc" | sort -V | tail -1)" = "$newest_glibc" ] ||
    fail "$program needs glibc $glibc; at most $newest_glibc is promised"

  strays=$("$objdump" -d -C --no-show-raw-insn "$from" | awk -v arch="$arch" -f scripts/lib/instructions.awk)
  [ -z "$strays" ] || fail "$program has instructions that not every CPU knows in functions that are not chosen at run time:
$strays"

  "$strip" -o "$work/$name/$program" "$from"
  bytes=$(stat -c %s "$work/$name/$program")
  [ "$program" != qwren ] || [ "$bytes" -le "$most_bytes" ] || fail "$program has $bytes bytes; at most $most_bytes are promised"
  echo "$program: $bytes bytes, glibc $glibc or newer, baseline instructions only outside of chosen functions"
done

# On an old CPU: a conversion gives the bytes that a new one gives, and the answer is right.
run() { "${old[@]}" "$work/$name/$1" "${@:2}"; }
run qwren-convert tests/data/demo -o "$work/demo.gguf" --quiet >"$work/old"
"${new[@]}" "$work/$name/qwren-convert" tests/data/demo -o "$work/demo.gguf" --quiet --force >"$work/new"
cmp -s "$work/old" "$work/new" || fail "qwren-convert writes other bytes on an old CPU than on a new one"
answer=$(run qwren complete -m "$work/demo.gguf" -p "The capital of France" -n 8 --temp 0 --quiet)
[ "$answer" = " is Paris." ] || fail "qwren says ${answer@Q} on an old CPU"
echo "both work on an emulated ${old[2]}"

run qwren man >"$work/$name/man/qwren.1"
run qwren-convert --generate man >"$work/$name/man/qwren-convert.1"
for shell in bash zsh fish; do
  run qwren completions "$shell" >"$work/$name/completions/qwren.$shell"
  run qwren-convert --generate "$shell" >"$work/$name/completions/qwren-convert.$shell"
done
cp README.md LICENSE CHANGELOG.md "$work/$name/"

archive=$dist/$name.tar.gz
# The same tree gives the same archive.
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -c "$name" | gzip -9n >"$archive"
(cd "$dist" && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
