#!/usr/bin/env bash
# Runs a program on an emulated x86-64 CPU, which may have instructions that this machine's CPU lacks.
#
#   scripts/x86/emulate.sh PROGRAM [ARGUMENT...]
#
# PROGRAM is linked statically and no argument has a space. Prints what the program prints, and ends with its status. So
# this is a runner for cargo (CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER). QWREN_ variables reach the program.
#
# QWREN_EMULATE   the CPU, a name of Bochs' (default: sapphire_rapids, with AVX-512 VNNI and AVX-VNNI; arrow_lake has
#                 AVX-VNNI alone, corei7_icelake_u AVX-512 VNNI alone)
#
# The emulator is Bochs 3, built once from Debian's source (some minutes); it boots Debian's kernel with the program alone.
# Both lie in target/emulate-x86.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

die() {
  echo "x86/emulate.sh: $*" >&2
  exit 1
}

[ $# -ge 1 ] || die "usage: emulate.sh PROGRAM [ARGUMENT...]"
program=$(realpath "$1")
shift
home=${CARGO_TARGET_DIR:-$here/../../target}/emulate-x86
mkdir -p "$home"
home=$(cd "$home" && pwd)

install_tools() {
  local missing=()
  command -v g++ make >/dev/null || missing+=(build-essential)
  command -v cpio >/dev/null || missing+=(cpio)
  [ ${#missing[@]} -eq 0 ] || "$here/../lib/install.sh" "${missing[@]}"
}

# Debian 12 has Bochs 2.7, which knows no AVX-VNNI: the source of a later one, by a list of its own.
build_bochs() {
  local apt=$home/apt mirror
  mirror=$(apt-cache policy | awk '!found && $2 ~ /^http.*debian$/ { print $2; found = 1 }')
  [ -n "$mirror" ] || die "apt knows no mirror of Debian"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt/sources.list"
  local options=(-qq -oDir::Etc::SourceList="$apt/sources.list" -oDir::Etc::SourceParts=/dev/null
    -oDir::State::Lists="$apt/lists" -oDir::Cache="$apt/cache")
  apt-get "${options[@]}" update
  (cd "$apt" && apt-get "${options[@]}" source --tar-only bochs)
  mkdir -p "$apt/bochs"
  tar xf "$apt"/bochs_*.orig.tar.* --strip-components=1 -C "$apt/bochs"
  cd "$apt/bochs"
  ./configure --enable-x86-64 --enable-cpu-level=6 --enable-avx --enable-evex --enable-all-optimizations \
    --disable-docbook --with-nogui CFLAGS='-O2 -w' CXXFLAGS='-O2 -w'
  make -j"$(nproc)" bochs
  mv bochs "$home/bochs"
  rm -rf "$apt"
}

# The package that the newest kernel for virtual machines is in; used where it is unpacked.
fetch_kernel() {
  local apt=$home/kernel package
  rm -rf "$apt" && mkdir -p "$apt"
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '!found && $2 ~ /^linux-image/ { print $2; found = 1 }')
  [ -n "$package" ] || die "apt knows no linux-image-cloud-amd64"
  (cd "$apt" && apt-get download "$package" && dpkg -x ./*.deb .)
  mv "$apt"/boot/vmlinuz-* "$home/vmlinuz"
  rm -rf "$apt"
}

exec 9>"$home/lock"
flock 9
install_tools
if [ ! -x "$home/bochs" ]; then
  echo "emulate.sh: building Bochs, which takes some minutes" >&2
  # In the background, since "set -e" does not hold in a function on the left of "||".
  build_bochs >"$home/log" 2>&1 &
  wait $! || die "Bochs was not built: see $home/log"
fi
if [ ! -e "$home/vmlinuz" ]; then
  fetch_kernel >"$home/log" 2>&1 &
  wait $! || die "there is no kernel: see $home/log"
fi
cc -O1 -static -o "$home/init" "$here/init.c"
exec 9>&-

run=$(mktemp -d "$home/run.XXXXXX")
emulator=
trap '{ [ -z "$emulator" ] || kill -9 "$emulator" || true; wait; rm -rf "$run"; } 2>/dev/null' EXIT
cd "$run"

cp "$home/vmlinuz" .
cp "$home/init" init
strip -o program "$program"
printf 'init\nprogram\n' | cpio -o -H newc --quiet | gzip -1 >initrd

# clearcpuid: without a BIOS "fast strings" are off, and Linux 6.1 fails where a CPU has fast short ones (580) but not those.
# reboot=t: the machine ends by a triple fault.
variables=()
for name in "${!QWREN_@}"; do variables+=("$name=${!name}"); done
printf '%s ' console=ttyS0 quiet panic=-1 reboot=t nolapic nokaslr clearcpuid=580 mitigations=off cryptomgr.notests \
  random.trust_cpu=on "${variables[@]}" -- "$@" >cmdline

# Bochs reads an image straight into a block of its memory (8 MiB at most), so none may cross the end of one.
block=$((8 << 20))
sectors=$(od -An -tu1 -j 497 -N 1 vmlinuz)
tail -c +$(((sectors + 1) * 512 + 1)) vmlinuz >kernel
images=()
image() { images+=("optramimage$((${#images[@]} + 1)): file=$run/$1, address=$2"); }
megabyte=$((1 << 20))
head -c $((block - megabyte)) kernel >kernel.0
image kernel.0 $megabyte
for part in 1 2; do
  tail -c +$((part * block - megabyte + 1)) kernel | head -c $block >kernel.$part
  [ ! -s kernel.$part ] || image kernel.$part $((part * block))
done
[ "$(stat -c %s kernel)" -le $((3 * block - megabyte)) ] || die "$home/vmlinuz is too large"
[ "$(stat -c %s initrd)" -le $block ] || die "$program is too large"
memory=512
initrd=$((memory * megabyte / 2))
image initrd $initrd

as -o rom.o --defsym INITRD=$initrd --defsym INITRD_BYTES="$(stat -c %s initrd)" \
  --defsym MEMORY_BYTES=$((memory * megabyte)) "$here/rom.S"
objcopy -O binary -j .text rom.o rom
: >serial
{
  echo "cpu: model=${QWREN_EMULATE:-sapphire_rapids}, ips=500000000, reset_on_triple_fault=0"
  echo "memory: guest=$memory, host=$memory, block_size=$((block / 1024))"
  echo "romimage: file=$run/rom, address=$((0xffff0000)), options=none"
  echo "vgaromimage: file=$run/rom" # there must be one; nothing calls it
  printf '%s\n' "${images[@]}" "com1: enabled=1, mode=file, dev=$run/serial" "log: $run/log"
  echo "display_library: nogui"
  echo "panic: action=fatal"
  # Nothing else is logged: a timer's message amid another one would lock up.
  printf '%s: action=ignore\n' info error
} >bochsrc
"$home/bochs" -q -f bochsrc </dev/null >/dev/null 2>&1 &
emulator=$!

# What lies between the lines of init.c, until the second one is there or the machine has ended.
started=false status=
while IFS= read -r line; do
  line=${line%$'\r'}
  case $line in
    'EMULATED PROGRAM') started=true ;;
    'EMULATED STATUS '*) status=${line##* } && break ;;
    *) ! $started || printf '%s\n' "$line" ;;
  esac
done < <(tail -n +1 -s 0.2 --pid=$emulator -f serial)
[ -n "$status" ] || {
  tail -n 20 serial log >&2
  die "the emulated machine ended before the program"
}
exit "$status"
