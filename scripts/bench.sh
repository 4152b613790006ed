#!/usr/bin/env bash
# Measures qwren beside its peers on this machine and prints ratios.
#
#   scripts/bench.sh convert [--shape 0.6b] [--rounds 3] [--peer-python PATH]
#   scripts/bench.sh peers [--model FILE]… [--depths 0,2048]
#   scripts/bench.sh busy
#   scripts/bench.sh moe
#
# The peers are fetched and built in target/bench (BENCH_DIR). Sides alternate, at real-time priority where this runs as root,
# so that a busy neighbour disturbs both. Each run leaves a record by machine and date in scripts/bench/records.
# `scripts/bench.sh SUBCOMMAND --help` says more.
#
# Environment: BENCH_DIR, QWREN_BIN (folder of built programs; default: cargo build --release), LLAMA_SRC (a llama.cpp source folder
# to use instead of fetching), TOKENIZER (folder of Qwen3's tokenizer files).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
readonly root
readonly out=${BENCH_DIR:-$root/target/bench}
readonly tokenizer=${TOKENIZER:-$root/tests/data/qwen3-tokenizer}
# shellcheck source=scripts/lib/peer.sh
source "$root/scripts/lib/peer.sh"

# The comment at the top of a script.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"; }

# take_options NAME… -- ARGUMENT…: `--NAME VALUE` sets the caller's variable of that name, or adds to it where it is an array.
take_options() {
  local names=' ' name
  while [[ $1 != -- ]]; do
    names+="$1 "
    shift
  done
  shift
  while [[ $# -gt 0 ]]; do
    name=${1#--}
    [[ $1 == --* && $names == *" $name "* ]] || die "$subcommand: unknown argument $1 (see --help)"
    [[ $# -ge 2 ]] || die "$subcommand: $1 wants a value"
    local -n variable=${name//-/_}
    if [[ $(declare -p "${name//-/_}") == 'declare -a'* ]]; then variable+=("$2"); else variable=$2; fi
    unset -n variable
    shift 2
  done
}

case ${1:-} in
  '' | -h | --help) usage "$0"; exit 0 ;;
esac
readonly subcommand=$1 script=$root/scripts/bench/$1.sh
[[ $subcommand =~ ^[a-z]+$ && -f $script ]] || die "no subcommand $subcommand (see --help)"
shift
for argument; do
  [[ $argument != -h && $argument != --help ]] || { usage "$script"; exit 0; }
done
mkdir -p "$out/log"
# A subcommand defines bench_main.
# shellcheck source=/dev/null
source "$script"
bench_main "$@"
