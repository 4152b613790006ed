# Reads `objdump -d -C --no-show-raw-insn` of a program for `arch`; prints functions that have instructions beyond the
# architecture's baseline although nothing in their name says that they are chosen at run time.
#
# x86-64: SSE3 and what came before. `tzcnt` is `rep bsf` to an older CPU, and compilers emit it where either does.
# aarch64: ARMv8.0 with NEON.
BEGIN {
  FS = "\t"
  if (arch == "x86_64") {
    beyond = "^(v[a-z]|aes|sha(1|256)|pclmul|crc32|popcnt|lzcnt|andn$|bextr|bls|pdep$|pext$|mulx|rorx|sarx|shlx|shrx|adcx|adox|" \
      "pshufb|palignr|pmaddubsw|pabs|psign|pblend|blendv|pmul(dq|ld|hrsw)|pmin(sb|sd|uw|ud)|pmax(sb|sd|uw|ud)|" \
      "pmov[sz]x|ptest|round[sp]|insertps|extractps|pextr[bdq]|pinsr[bdq]|pcmp(eqq|gtq|[ei]str)|packusdw|dpp[sd]|" \
      "mpsadbw|phminpos|phadd|phsub|movbe|rd(rand|seed)|gf2p8)"
    harmless = "^ver[rw]$"
    chosen = "qwren_quant::kernel::x86::(avx|vnni)|_f16c|(avx2|ssse3|sse41|avx)(::|$|_)|_(avx2?|ssse3|sse41)|x86_sha::|aho_corasick::packed"
  } else {
    beyond = "^([su]dot|usdot|sudot|[su]mmla|usmmla|bf(dot|mmla|mlal|cvt)|fmlal|fmlsl|ldadd|ldclr|ldset|ldeor|swp|cas|sqrdml|ldapr|aes|sha|" \
      "pmull2?$|rax1|bcax|eor3|crc32|ptrue|whilel)"
    harmless = "^$"
    chosen = "qwren_quant::kernel::aarch64::(order|speed)::(dotprod|i8mm)|sdot|smmla|__aarch64_|sha2::|crc32"
  }
}
/^[0-9a-f]+ <.*>:$/ {
  name = $0
  sub(/^[0-9a-f]+ </, "", name)
  sub(/>:$/, "", name)
  next
}
NF >= 2 {
  split($2, words, /[ ]+/)
  op = words[1]
  half = arch == "aarch64" && $2 ~ /\.[48]h/ && op ~ /^f(add|sub|mul|div|mla|mls|max|min|sqrt|abs|neg|cm)/
  if ((op ~ beyond || half) && op !~ harmless && name !~ chosen && !seen[name, op]++) print "  " op " in " name
}
