//! One token by `vpdpwssd` in its VEX encoding.
use crate::kernel::x86::vnni::gemv;

gemv!("avx2,fma,f16c,avxvnni", "{{vex}} vpdpwssd {0}, {1}, {2}");
