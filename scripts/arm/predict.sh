#!/usr/bin/env bash
# Predicts the kernels' cycles per 256 multiply-adds on a Raspberry Pi 4 and 5, without one: what a kernel executes in qemu
# is put through llvm-mca. With llama.cpp's sources its kernels are predicted beside ours.
#
#   scripts/arm/predict.sh [LLAMA_CPP]      LLAMA_CPP: a checkout of llama.cpp
#
# Loads count as hits of the first-level cache. The Cortex-A76 is taken as a Neoverse N1, the same core, four wide; LLVM's
# Cortex-A72 is its A57, a relative. Ratios are worth more than the cycles.
set -euo pipefail
cd "$(dirname "$0")/../.."
. "$(scripts/setup-arm.sh -q --predict)"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cc -O2 -shared -fPIC -o "$dir/trace.so" scripts/arm/trace.c
llvm=$(compgen -c llvm-mca- | sed 's/.*-//' | sort -n | tail -1)

target=aarch64-unknown-linux-gnu
cargo build --release --locked --target $target -p qwren-quant --example one_kernel
ours=${CARGO_TARGET_DIR:-target}/$target/release/examples/one_kernel

# predict CPU SYMBOL LABEL COMMAND FIRST MORE: the difference of two runs, which COMMAND's last argument tells apart.
predict() {
  local cpu=$1 symbol=$2 label=$3 command=$4 model=(-mcpu=cortex-a72) n
  [ "$cpu" = cortex-a72 ] || model=(-mcpu=neoverse-n1 -dispatch=4)
  for n in "$5" "$6"; do
    # shellcheck disable=SC2086 # a program and its arguments
    QEMU_CPU=$cpu qemu-aarch64 -plugin "$dir/trace.so,symbol=$symbol,words=$dir/words" $command "$n" >"$dir/macs.$n" 2>/dev/null
    "llvm-mc-$llvm" --disassemble -triple=aarch64 -mattr=+v8.2a,+dotprod,+fullfp16 <"$dir/words" | grep -v '\.text' >"$dir/code.s"
    "llvm-mca-$llvm" -mtriple=aarch64 "${model[@]}" -mattr=+dotprod,+fullfp16 -iterations=1 -instruction-info=0 \
      -resource-pressure=0 "$dir/code.s" 2>/dev/null | awk '/^Instructions|^Total Cycles/ {print $NF}' >"$dir/run.$n"
  done
  # llama.cpp's program tells the multiply-adds of a run, ours those of one time of a few.
  local first more
  first=$(cat "$dir/macs.$5") more=$(cat "$dir/macs.$6")
  [ "$first" != "$more" ] || { first=$((first * $5)) more=$((more * $6)); }
  paste "$dir/run.$5" "$dir/run.$6" | awk -v units="$(((more - first) / 256))" -v cpu="$cpu" -v label="$label" '
    { each[NR] = ($2 - $1) / units }
    END { printf "%-10s %-36s %6.1f instructions %6.1f cycles\n", cpu, label, each[1], each[2] }'
}

for cpu in cortex-a72 cortex-a76; do
  for type in q4_k q5_k q6_k q8_0; do
    predict $cpu mul_$type "qwren $type, 1 token" "$ours $type 1" 1 2
    predict $cpu mul_$type "qwren $type, 64 tokens" "$ours $type 64" 1 2
  done
  # All of Rust: an operation is several functions, and conversions collect into a vector.
  for operation in dots_f16 weighted_rows_f16 dots_q8 weighted_rows_q8; do
    predict $cpu _ZN "qwren $operation, 2 queries" "$ours $operation 2" 1 2
    predict $cpu _ZN "qwren $operation, 64 queries" "$ours $operation 64" 1 2
  done
done

[ $# -gt 0 ] || exit 0
ggml=$1/ggml
for cpu in cortex-a72 cortex-a76; do
  flags=(-O3 "-mcpu=$cpu" -D_GNU_SOURCE -DNDEBUG -ffunction-sections -fdata-sections)
  flags+=(-I"$ggml/include" -I"$ggml/src" -I"$ggml/src/ggml-cpu")
  aarch64-linux-gnu-gcc "${flags[@]}" -c "$ggml/src/ggml-cpu/arch/arm/quants.c" -o "$dir/quants.o"
  # What the kernels don't use is missing, which a static link lets pass.
  aarch64-linux-gnu-g++ "${flags[@]}" -static -Wl,--gc-sections -Wl,--unresolved-symbols=ignore-all -o "$dir/peer" \
    scripts/arm/peer.cpp "$dir/quants.o" "$ggml/src/ggml-cpu/arch/arm/repack.cpp" "$ggml/src/ggml-cpu/vec.cpp"
  kernels=(vec_dot)
  # Without dot products llama.cpp repacks nothing.
  [ $cpu = cortex-a72 ] || kernels+=(gemv gemm)
  for type in q4_K q5_K q6_K q8_0; do
    for kernel in "${kernels[@]}"; do
      predict $cpu "${kernel}_$type" "llama.cpp ${kernel}_$type" "$dir/peer ${kernel}_$type" 4 12
    done
  done
  predict $cpu vec_dot_f16 "llama.cpp vec_dot_f16" "$dir/peer vec_dot_f16" 4 12
done
