#!/usr/bin/env bash
# Installs what builds and tests qwren for 64-bit ARM (Raspberry Pi 4, Pi 5 and the like) on an x86-64 Debian machine: a
# cross gcc, qemu's user emulation and, unless the installed Rust has the ARM standard library already, Debian's own Rust
# for both architectures in a folder of its own. Safe to run again. On an ARM board itself plain cargo is enough.
#
#   scripts/setup-arm.sh            install what is missing, then name the file to source
#   . "$(scripts/setup-arm.sh -q)"  the same, and use it in this shell; its rustc then builds for x86-64, too
#   cargo test --target aarch64-unknown-linux-gnu
#   QEMU_CPU=cortex-a72 cargo test --target …   as on a Pi 4;  QEMU_PAGESIZE=16384 …   as under a kernel with 16 KiB pages
#
# --predict      also what predicts cycles: a cross g++ for llama.cpp's kernels, and the newest llvm-mca
# --force        install again, taking newer packages
# QWREN_ARM_HOME where it goes (default: ${XDG_CACHE_HOME:-$HOME/.cache}/qwren-arm)
set -euo pipefail
lib=$(cd "$(dirname "$0")/lib" && pwd)
# shellcheck source=scripts/lib/private_apt.sh
. "$lib/private_apt.sh"

target=aarch64-unknown-linux-gnu
home=${QWREN_ARM_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/qwren-arm}
quiet=false force=false predict=false
for arg in "$@"; do
  case $arg in
    -q | --quiet) quiet=true ;;
    --force) force=true ;;
    --predict) predict=true ;;
    -h | --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
      exit 0
      ;;
    *)
      echo "setup-arm.sh: unknown argument: $arg" >&2
      exit 2
      ;;
  esac
done

say() { $quiet || echo "setup-arm: $*" >&2; }
die() {
  echo "setup-arm: $*" >&2
  exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || die "this is for x86-64 Linux; on an ARM board plain 'cargo test' is enough"
command -v rustc cargo >/dev/null || die "install Rust first: cargo drives the build whatever the compiler"
mkdir -p "$home"
home=$(cd "$home" && pwd)
exec 9>"$home/lock"
flock 9

# Another version of this script installs again.
made_by="made by setup-arm.sh $(cat "$0" "$lib/private_apt.sh" | cksum | cut -d' ' -f1)"

# Builds a program for ARM and runs it, as the tests will be: the test of "installed".
works() {
  grep -qsxF "# $made_by" "$home/env.sh" || return 1
  local dir=$home/check
  mkdir -p "$dir"
  echo 'fn main() { print!("{}", std::env::consts::ARCH) }' >"$dir/check.rs"
  (
    . "$home/env.sh"
    command -v aarch64-linux-gnu-ar
    ! $predict || { command -v aarch64-linux-gnu-g++ && compgen -c llvm-mca-; }
    "${RUSTC:-rustc}" --target $target -C linker=aarch64-linux-gnu-gcc -o "$dir/check" "$dir/check.rs"
    [ "$(qemu-aarch64 "$dir/check")" = aarch64 ]
  ) >"$dir/log" 2>&1
}

report() {
  if $quiet; then echo "$home/env.sh"; else echo ". $home/env.sh"; fi
}

if ! $force && works; then
  say "already installed"
  report
  exit 0
fi

command -v apt-get >/dev/null || die "this installs with apt-get, which is missing"
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
export DEBIAN_FRONTEND=noninteractive

# logged WHAT COMMAND…: quiet, unless it fails.
logged() {
  local what=$1
  shift
  "$@" >"$home/apt.log" 2>&1 || {
    tail -5 "$home/apt.log" >&2
    die "$what failed"
  }
}
install() {
  logged "apt-get install $*" "${sudo[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
}

say "cross gcc, qemu, libclang"
logged "apt-get update" "${sudo[@]}" apt-get -qq update
# qemu-user and not its static sister, which takes no plugins.
install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user libclang-dev
if $predict; then
  llvm=$(apt-cache search --names-only '^llvm-[0-9]+$' | sed 's/ .*//' | sort -V | tail -1)
  say "cross g++, $llvm"
  install g++-aarch64-linux-gnu "$llvm"
fi

# A standard library must come from the compiler that uses it. Debian's compiler and its two standard libraries, all of
# one version, are unpacked into a folder: nothing replaces the Rust that the machine has.
install_rust() {
  local apt=$home/apt new=$home/toolchain.new version='' v minor llvm program
  rm -rf "$new"
  mkdir -p "$new/bin"
  private_apt "$apt" amd64 arm64 -- 'Dir::State::Status "/var/lib/dpkg/status";'
  logged "apt-get update for arm64" apt-get -qq update
  for v in $(apt-cache madison rustc-web | awk '{print $3}'); do
    if apt-cache madison libstd-rust-web-dev:arm64 | awk '{print $3}' | grep -qxF "$v"; then
      version=$v
      break
    fi
  done
  [ -n "$version" ] || die "Debian's rustc-web is missing for amd64 or arm64; with rustup: rustup target add $target"
  minor=$(echo "$version" | cut -d. -f1-2)
  say "Debian's Rust $version"
  cd "$apt/debs"
  logged "download of Rust $version" apt-get -qq download "rustc-web:amd64=$version" "rust-web-clippy:amd64=$version" \
    "libstd-rust-web-$minor:amd64=$version" "libstd-rust-web-dev:amd64=$version" "libstd-rust-web-dev:arm64=$version"
  cd "$home"
  llvm=$(apt-cache depends "libstd-rust-web-$minor=$version" | sed -n 's/.*Depends: \(libllvm[0-9]*\).*/\1/p')
  unset APT_CONFIG
  [ -z "$llvm" ] || install "$llvm"
  for v in "$apt"/debs/*.deb; do dpkg -x "$v" "$new"; done
  for program in rustc rustdoc cargo-clippy; do
    cat >"$new/bin/$program" <<'WRAP'
#!/bin/bash
# Debian's program, whose libraries lie beside it and not in the system's path. Not sh: it would drop cargo's
# CARGO_BIN_EXE_name-with-dashes, since no variable of a shell has such a name.
here=${0%/*}/..
LD_LIBRARY_PATH=$here/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$here/usr/bin/${0##*/}" "$@"
WRAP
    chmod +x "$new/bin/$program"
  done
  rm -rf "$home/toolchain" "$apt"
  mv "$new" "$home/toolchain"
}

if [ -n "$(find "$(rustc --print target-libdir --target $target)" -name 'libstd-*.rlib' 2>/dev/null)" ]; then
  say "using $(rustc --version), which has the ARM standard library"
  rust="export QWREN_ARM_CLIPPY=cargo-clippy"
else
  install_rust
  rust="export RUSTC=\"$home/toolchain/bin/rustc\" RUSTDOC=\"$home/toolchain/bin/rustdoc\"
export QWREN_ARM_CLIPPY=\"$home/toolchain/bin/cargo-clippy\""
fi

cat >"$home/env.sh" <<ENV
# $made_by
$rust
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++
export AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar
export BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu="-I/usr/aarch64-linux-gnu/include"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64
export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
export QEMU_CPU=\${QEMU_CPU:-cortex-a72}
ENV
works || {
  cat "$home/check/log" >&2
  die "the check program did not build or run"
}
say "done"
report
