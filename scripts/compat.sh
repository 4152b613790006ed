#!/usr/bin/env bash
# Does llama.cpp open what we write, do we run what it writes, and do both say the same?
#
#   scripts/compat.sh [--keep] [--no-speed]
#
# Fetches llama.cpp (in the source package of llama-cpp-python), builds it in target/compat (about five minutes), makes random
# checkpoints of published shapes, and prints a table of what held. Exit code 0: everything held.
# Needs 12 GB of disk, 4 GB of memory, python3, cargo, cmake, ninja and a C++ compiler; the last three are installed by apt if
# missing and this runs as root. --keep leaves the checkpoints and files for a look.
#
# Environment: COMPAT_DIR (default target/compat), QWREN_BIN (folder of built programs; default: cargo build --release),
# LLAMA_SRC (a llama.cpp source folder to use instead of fetching), TOKENIZER (folder of Qwen3's tokenizer files),
# MIN_RATIO (least speed, as a share of the peer's; default 0.8).
set -euo pipefail

readonly RSS_LIMIT_MIB=1024
readonly STEPS=24
readonly ROUNDS=5

root=$(cd "$(dirname "$0")/.." && pwd)
readonly root
readonly here=$root/scripts/compat
readonly out=${COMPAT_DIR:-$root/target/compat}
readonly tokenizer=${TOKENIZER:-$root/tests/data/qwen3-tokenizer}
readonly min_ratio=${MIN_RATIO:-0.8}
keep=0
speed=1
failed=0

# shellcheck source=scripts/lib/peer.sh
source "$root/scripts/lib/peer.sh"

qwren() { "$QWREN_BIN/qwren" "$@"; }
convert() { "$QWREN_BIN/qwren-convert" "$@"; }
peer() { local tool=$1; shift; "$out/build/bin/$tool" "$@"; }
checks() { PYTHONPATH=$llama_src/gguf-py "$out/venv/bin/python" "$here/checks.py" "$@"; }

# --- the table -----------------------------------------------------------------------------------------------------

# check NAME COMMAND…: run it; the last line of its stdout is the finding; a failure is noted and the run goes on.
check() {
  local name=$1 log code verdict=PASS finding
  shift
  log=$out/log/$(tr -c 'a-zA-Z0-9_\n' '-' <<<"$name").txt
  # Not in an if: bash would then ignore set -e inside the command.
  set +e
  (set -e; "$@") >"$log" 2>"$log.err"
  code=$?
  set -e
  [[ $code -eq 0 ]] || { verdict=FAIL; failed=1; }
  finding=$(tail -n 1 "$log")
  [[ -n $finding || $verdict = PASS ]] || finding=$(tail -n 1 "$log.err")
  printf '%s\t%s\t%s\n' "$verdict" "$name" "$finding" | tee -a "$out/table.tsv" >&2
}

skip() { printf 'SKIP\t%s\t%s\n' "$1" "$2" | tee -a "$out/table.tsv" >&2; }

print_table() {
  echo
  # Not column(1): a bare Debian lacks it.
  awk -F '\t' '{ printf "%-4s  %-46s  %s\n", $1, $2, $3 }' "$out/table.tsv"
  echo
  echo "$(grep -c ^PASS "$out/table.tsv" || true) passed, $(grep -c ^FAIL "$out/table.tsv" || true) failed"
}

# --- single checks -------------------------------------------------------------------------------------------------

convert_within_memory() { # CHECKPOINT FILE TYPE
  checks rss --limit "$RSS_LIMIT_MIB" -- "$QWREN_BIN/qwren-convert" "$1" -o "$2" --type "$3" --force --quiet
}

# The peer's greedy answers to all prompts, as answers/NAME/{peer.jsonl,N.f32}.
ask_peer() { # FILE NAME
  local dir=$out/answers/$2
  rm -rf "$dir"
  mkdir -p "$dir/text"
  peer compat-greedy "$1" "$STEPS" "$dir" "$out"/prompts/?.txt >"$dir/peer.jsonl"
}

# Qwren's logits for the texts that the peer wrote.
ask_qwren() { # FILE NAME
  local dir=$out/answers/$2 i
  for i in $(prompt_numbers); do
    qwren logits -m "$1" --ids "$(checks teacher "$dir/peer.jsonl" "$i")" --last "$STEPS" -o "$dir/$i.npy"
  done
}

prompt_numbers() { seq 0 $(($(wc -l <"$out/prompts/all.jsonl") - 1)); }

opens_in_peer() { # FILE NAME
  ask_peer "$1" "$2"
  echo "loaded, $(wc -l <"$out/answers/$2/peer.jsonl") answers"
}

same_ids() { # FILE NAME
  local dir=$out/answers/$2
  qwren tokenize -m "$1" --special --jsonl <"$out/prompts/all.jsonl" >"$dir/ids.jsonl"
  checks ids "$dir/peer.jsonl" "$dir/ids.jsonl"
}

# Token for token: where both programs compute in nearly the same precision.
same_tokens() { # FILE NAME TOLERANCE
  local dir=$out/answers/$2 i
  ask_qwren "$1" "$2"
  for i in $(prompt_numbers); do
    qwren complete -m "$1" -f "$out/prompts/$i.txt" -n "$STEPS" --temp 0 >"$dir/text/$i.txt"
  done
  checks greedy "$dir/peer.jsonl" --logits "$dir" --npy "$dir" --text "$dir/text" --tol "$3" --rms "$3"
}

# With 8-bit activations two right programs differ by more than any margin once random layers have blown it up. So both are
# measured against the same weights at 16 bits, which were compared token for token: neither may be worse than the other.
as_exact_as_peer() { # FILE NAME
  local dir=$out/answers/$2 exact=$out/gguf/exact.gguf i
  peer llama-quantize --allow-requantize "$1" "$exact" F16 "$(nproc)" >/dev/null
  ask_qwren "$1" "$2"
  for i in $(prompt_numbers); do
    qwren logits -m "$exact" --ids "$(checks teacher "$dir/peer.jsonl" "$i")" --last "$STEPS" -o "$dir/exact-$i.npy"
  done
  checks errors "$dir/peer.jsonl" "$dir"
}

# A file that the peer quantized.
runs_in_qwren() { # FILE NAME
  qwren verify "$1" >/dev/null
  qwren complete -m "$1" -p "Once upon a time" -n 16 --temp 0 >"$out/log/complete.txt"
  [[ -s $out/log/complete.txt ]] || { echo "no text"; return 1; }
  ask_peer "$1" "$2"
  as_exact_as_peer "$1" "$2"
}

measure() { # FILE
  local dir=$out/speed i
  rm -rf "$dir"
  mkdir -p "$dir"
  # Alternating, so that a neighbour or a hot processor slows both.
  for i in $(seq "$ROUNDS"); do
    qwren bench -m "$1" --json --prefill 512 --decode 64 -r 1 >"$dir/qwren-$i.json"
    peer llama-bench -m "$1" -p 512 -n 64 -r 1 -t "$(nproc)" -o json >"$dir/peer-$i.json"
  done
  echo "$ROUNDS rounds on $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
}

# --- groups --------------------------------------------------------------------------------------------------------

# Our files of one checkpoint, in both programs.
group_files() { # NAME CHECKPOINT TOLERANCE
  local name=$1 dir=$2 tolerance=$3 coarse type
  mkdir -p "$out/gguf/$name"
  for type in f16 bf16 q8_0 q4_k_m; do
    local file=$out/gguf/$name/$type.gguf
    check "$name $type: convert" convert_within_memory "$dir" "$file" "$type"
    check "$name $type: opens in llama.cpp" opens_in_peer "$file" "$name-$type"
  done
  check "$name: same ids of prompts" same_ids "$out/gguf/$name/f16.gguf" "$name-f16"
  # The peer rounds activations to the type of the weights: bf16 keeps 3 bits fewer than f16.
  coarse=$(awk "BEGIN { print 4 * $tolerance }")
  check "$name f16: same greedy tokens" same_tokens "$out/gguf/$name/f16.gguf" "$name-f16" "$tolerance"
  check "$name bf16: same greedy tokens" same_tokens "$out/gguf/$name/bf16.gguf" "$name-bf16" "$coarse"
  check "$name q8_0: as exact as llama.cpp" as_exact_as_peer "$out/gguf/$name/q8_0.gguf" "$name-q8_0"
  check "$name q4_k_m: as exact as llama.cpp" as_exact_as_peer "$out/gguf/$name/q4_k_m.gguf" "$name-q4_k_m"
}

# Files that llama-quantize makes of our 16-bit file, in qwren.
group_peers_files() { # NAME TYPE…
  local name=$1 type file
  shift
  for type; do
    file=$out/gguf/$name/peer-$type.gguf
    check "$name $type: llama-quantize reads our bf16" quantize "$out/gguf/$name/bf16.gguf" "$file" "$type"
    check "$name $type by llama-quantize: runs in qwren" runs_in_qwren "$file" "$name-peer-$type"
  done
}

quantize() { # IN OUT TYPE OPTION…
  peer llama-quantize "${@:4}" "$1" "$2" "${3^^}" "$(nproc)" >/dev/null
  echo "$(($(stat -c %s "$2") / 1000000)) MB"
}

# Importance matrices of one 16-bit file by both programs, each read by the other.
group_imatrix() { # NAME CHECKPOINT TOLERANCE
  local name=$1 dir=$2 file=$out/gguf/$1/f16.gguf ours=$out/gguf/$1/ours.imatrix.gguf peers=$out/gguf/$1/peers.imatrix.gguf
  cat "$out"/prompts/?.txt "$root/README.md" "$root/ARCHITECTURE.md" >"$out/prompts/imatrix.txt"
  check "$name: qwren imatrix" qwren imatrix -m "$file" -f "$out/prompts/imatrix.txt" -o "$ours" -c 256 --chunks 8 --force
  check "$name: llama-imatrix" peer llama-imatrix -m "$file" -f "$out/prompts/imatrix.txt" -o "$peers" -c 256 --chunks 8 --no-ppl
  check "$name: the same sums" checks imatrix "$ours" "$peers" --tol "$3"
  check "$name: llama-quantize takes ours" quantize "$file" "$out/gguf/$name/imatrix-q4_k_m.gguf" q4_k_m --imatrix "$ours"
  check "$name: qwren-convert takes theirs" convert "$dir" -o "$out/gguf/$name/imatrix-ours.gguf" --imatrix "$peers" --force --quiet
}

# A file that llama-gguf-split cut runs as the whole one does.
same_when_split() { # FILE
  local parts=$out/gguf/split
  rm -rf "$parts"
  mkdir -p "$parts"
  peer llama-gguf-split --split --split-max-tensors 64 "$1" "$parts/m" >/dev/null
  local first
  first=$(printf '%s\n' "$parts"/m-*.gguf | tail -n 1)
  qwren verify "$first" >/dev/null
  cmp <(qwren complete -m "$1" -p "Once upon a time" -n 16 --temp 0) <(qwren complete -m "$first" -p "Once upon a time" -n 16 --temp 0)
  echo "$(find "$parts" -name 'm-*.gguf' | wc -l) parts"
  rm -rf "$parts"
}

# A failure shows in the comparison that misses the file.
convert_once() { # CHECKPOINT FILE TYPE
  [[ -f $2 ]] || convert "$1" -o "$2" --type "$3" --quiet >/dev/null || true
}

# Per tensor, our type is llama-quantize's.
group_recipes() { # NAME CHECKPOINT TYPE…
  local name=$1 dir=$2 type ours peers
  shift 2
  mkdir -p "$out/gguf/$name"
  convert_once "$dir" "$out/gguf/$name/bf16.gguf" bf16
  for type; do
    ours=$out/gguf/$name/$type.gguf
    peers=$out/gguf/$name/peer-$type.gguf
    convert_once "$dir" "$ours" "$type"
    [[ -f $peers ]] || quantize "$out/gguf/$name/bf16.gguf" "$peers" "$type" >/dev/null 2>&1 || true
    check "$name $type: llama-quantize's types" checks types "$ours" "$peers"
    case $type in
      q8_0 | f16) check "$name $type: llama-quantize's bytes" checks same-bytes "$ours" "$peers" ;;
    esac
  done
}

group_speed() {
  local file=$out/gguf/0.6b/q4_k_m.gguf
  check "0.6b q4_k_m: speed, measured" measure "$file"
  check "0.6b q4_k_m: prefill of 512" checks speed "$out/speed" prefill --least "$min_ratio"
  check "0.6b q4_k_m: decode of 64" checks speed "$out/speed" decode --least "$min_ratio"
}

group_demo() {
  local dir=$root/tests/data/demo
  if [[ ! -f $dir/config.json ]]; then
    skip "demo" "no checkpoint in tests/data/demo"
    return
  fi
  group_files demo "$dir" 0.02
  group_recipes demo "$dir" q4_k_m q8_0 f16
}

# -------------------------------------------------------------------------------------------------------------------

parse_args() {
  for arg; do
    case $arg in
      --keep) keep=1 ;;
      --no-speed) speed=0 ;;
      -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
      *) die "unknown argument: $arg (see --help)" ;;
    esac
  done
}

main() {
  parse_args "$@"
  [[ -f $tokenizer/tokenizer.json || -f $tokenizer/tokenizer.json.gz ]] || die "no tokenizer.json in $tokenizer"
  mkdir -p "$out/log"
  : >"$out/table.tsv"
  install_tools
  make_python
  checks_disk=$("$out/venv/bin/python" "$here/checks.py" disk "$out" 12) || die "$out: $checks_disk"
  build_qwren
  fetch_peer
  build_peer llama-quantize llama-bench llama-imatrix llama-gguf-split compat-greedy
  checks prompts "$out/prompts" >/dev/null
  local shape
  for shape in 0.6b moe odd moe8; do make_checkpoint "$shape"; done

  # Where the choice of experts flips on rounding, the logits jump: hence more for the mixture.
  group_files 0.6b "$out/ckpt/0.6b" 0.02
  group_files moe "$out/ckpt/moe" 0.05
  group_imatrix 0.6b "$out/ckpt/0.6b" 0.01
  group_imatrix moe "$out/ckpt/moe" 0.05
  check "0.6b q4_k_m split by llama-gguf-split" same_when_split "$out/gguf/0.6b/q4_k_m.gguf"
  group_demo
  group_peers_files 0.6b q4_k_m q8_0 q5_k_m q6_k q4_0 q5_0 q5_1
  group_peers_files moe q4_k_m
  group_recipes 0.6b "$out/ckpt/0.6b" q4_k_m q8_0 f16
  for shape in moe odd moe8; do
    group_recipes "$shape" "$out/ckpt/$shape" q4_k_m q4_k_s q5_k_m q6_k q8_0 f16
  done
  [[ $speed -eq 0 ]] || group_speed

  [[ $keep -eq 1 ]] || rm -rf "$out/ckpt" "$out/gguf" "$out/answers"
  print_table
  return "$failed"
}

main "$@"
