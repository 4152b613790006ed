//! One token by `vpdpwssd` of 256 bits.
use crate::kernel::x86::vnni::gemv;

// 512 bits would win nothing: a row's scales change every 16 or 32 columns, and a vector of two of them takes another shuffle.
gemv!("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", "vpdpwssd {0}, {1}, {2}");
