#!/usr/bin/env bash
# Installs what building qwren-gpu needs (Vulkan headers and loader, a compiler for shaders, CMake, a C++ compiler, libclang) and a
# driver that needs no GPU, for its tests. Called by test.sh --vulkan; safe to run again.
set -euo pipefail

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
