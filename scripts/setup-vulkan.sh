#!/usr/bin/env bash
# Installs what building qwren-gpu needs (Vulkan headers and loader, a compiler for shaders, CMake, a C++ compiler, libclang) and a
# driver that needs no GPU, for its tests. Called by test.sh --vulkan; safe to run again.
#
#   scripts/setup-vulkan.sh                    install what is missing
#   . "$(scripts/setup-vulkan.sh --shaders)"   also Debian 13's compiler for shaders and its headers, in a folder of their own, for this
#                                              shell's builds: shaders then use matrix cores and 8-bit dot products
#
# QWREN_VULKAN_HOME where it goes (default: ${XDG_CACHE_HOME:-$HOME/.cache}/qwren-vulkan)
set -euo pipefail
# shellcheck source=scripts/lib/private_apt.sh
. "$(dirname "$0")/lib/private_apt.sh"

packages=(libvulkan-dev glslc spirv-headers cmake g++ libclang-dev mesa-vulkan-drivers)
missing=()
if ! command -v dpkg-query >/dev/null; then
  echo "setup-vulkan.sh: please install these (Debian's names): ${packages[*]}" >&2
  exit 1
fi
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] || "$(dirname "$0")/lib/install.sh" "${missing[@]}"
[ $# -gt 0 ] || exit 0
[ "$*" = --shaders ] || {
  echo "usage: scripts/setup-vulkan.sh [--shaders]" >&2
  exit 2
}

home=${QWREN_VULKAN_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/qwren-vulkan}
mkdir -p "$home"
home=$(cd "$home" && pwd)
log=$home/log
exec 9>"$home/lock"
flock 9

# Compiles a shader that multiplies on matrix cores: the test of "installed".
works() {
  printf '%s\n' '#version 450' '#extension GL_KHR_cooperative_matrix : require' '#extension GL_EXT_integer_dot_product : require' \
    'void main() {}' >"$home/test.comp"
  [ -f "$home/env.sh" ] && "$home/usr/bin/glslc" --target-env=vulkan1.3 -o /dev/null "$home/test.comp" >>"$log" 2>&1
}

# Debian 13's packages, unpacked and not installed: the compiler runs with the C library that it was built for.
fetch() {
  local apt=$home/apt new=$home/usr.new library=x86_64-linux-gnu mirror
  # Where this machine gets its own Debian from.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p)
  [ -n "$mirror" ] || {
    echo "no mirror of Debian among apt's sources"
    return 1
  }
  rm -rf "$new" "$home/usr"
  private_apt "$apt" amd64 -- "Dir::Etc::SourceList \"$apt/sources.list\";" 'Dir::Etc::SourceParts "/nonexistent";' \
    'Dir::State::Status "/dev/null";'
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt/sources.list"
  apt-get -qq update
  (cd "$apt/debs" && apt-get -qq download glslc libshaderc1 libc6 libgcc-s1 libstdc++6 libvulkan-dev spirv-headers)
  unset APT_CONFIG
  for deb in "$apt"/debs/*.deb; do dpkg -x "$deb" "$new"; done
  mv "$new/usr" "$home/usr"
  rm -rf "$apt" "$new"
  mv "$home/usr/bin/glslc" "$home/usr/bin/glslc.bin"
  cat >"$home/usr/bin/glslc" <<WRAP
#!/bin/sh
exec "$home/usr/lib/$library/ld-linux-x86-64.so.2" --library-path "$home/usr/lib/$library" "$home/usr/bin/glslc.bin" "\$@"
WRAP
  chmod +x "$home/usr/bin/glslc"
  # The loader to link with stays the system's.
  rm -f "$home/usr/lib/$library"/libvulkan.so*
  echo "export VULKAN_SDK='$home/usr'" >"$home/env.sh"
}

if ! works; then
  [ "$(dpkg --print-architecture)" = amd64 ] || {
    echo "setup-vulkan.sh: --shaders is for x86-64; install shaderc 2025 or newer and name its folder in VULKAN_SDK" >&2
    exit 1
  }
  echo "setup-vulkan.sh: fetching Debian 13's compiler for shaders" >&2
  fetch >>"$log" 2>&1 && works || {
    tail -5 "$log" >&2
    echo "setup-vulkan.sh: this failed" >&2
    exit 1
  }
fi
echo "$home/env.sh"
