#!/usr/bin/env bash
# install.sh PACKAGE...: installs packages of Debian's names, or tells which ones are missing where that can't be done.
set -euo pipefail
if ! command -v apt-get >/dev/null; then
  echo "please install these (Debian's names): $*" >&2
  exit 1
fi
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
echo "Installing $*" >&2
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "$@" >&2
