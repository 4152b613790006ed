# Sourced by scripts that fetch packages of another system or architecture without making them the machine's.
# shellcheck shell=bash

# private_apt DIR ARCHITECTURE… [-- LINE…]: from now on apt-get and apt-cache keep lists, state and downloads in DIR, with these
# lines of configuration beside. `unset APT_CONFIG` ends it.
private_apt() {
  local dir=$1 architectures=''
  shift
  while [[ $# -gt 0 && $1 != -- ]]; do
    architectures+="\"$1\"; "
    shift
  done
  rm -rf "$dir"
  mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/debs"
  printf '%s\n' "APT::Architecture \"$(dpkg --print-architecture)\";" "APT::Architectures { $architectures};" \
    'APT::Sandbox::User "root";' 'Acquire::Languages "none";' "Dir::State \"$dir\";" "Dir::State::Lists \"$dir/lists\";" \
    "Dir::Cache \"$dir/cache\";" "${@:2}" >"$dir/apt.conf"
  export APT_CONFIG=$dir/apt.conf
}
