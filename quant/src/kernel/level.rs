//! Which instructions this CPU has, as a value that only detection can make.
use std::fmt;

#[cfg(target_arch = "aarch64")]
use super::aarch64::{Dotprod, I8mm, Neon};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512Vnni, AvxVnni};

/// The environment variable that forces a level.
const FORCE: &str = "QWREN_CPU";

/// A set of instructions to compute with, from the plainest up. A level above `Scalar` is proof that this CPU has its
/// instructions: its variant holds a token that nobody else can make.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Level {
    /// What the compiler's target promises.
    Scalar,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Also AVX-VNNI: int8 dot products in 256-bit registers.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    /// Also AVX-512 (F, BW, DQ, VL) with VNNI: int8 dot products in 512-bit registers.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// NEON with dot products.
    #[cfg(target_arch = "aarch64")]
    Dotprod(Dotprod),
    /// NEON with dot products and int8 matrix products.
    #[cfg(target_arch = "aarch64")]
    I8mm(I8mm),
}

/// `QWREN_CPU` names no level of this CPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{FORCE}={asked} is not a level of this CPU; it has {}", available_names())]
pub struct LevelError {
    asked: String,
}

impl Level {
    /// The level to use: the best one, or the one that the environment variable `QWREN_CPU` names.
    ///
    /// # Errors
    /// When `QWREN_CPU` names a level that this CPU lacks or that does not exist.
    pub fn detect() -> Result<Level, LevelError> {
        match std::env::var_os(FORCE) {
            None => Ok(Level::best()),
            Some(asked) if asked.is_empty() => Ok(Level::best()),
            Some(asked) => Level::parse(&asked.to_string_lossy()),
        }
    }

    /// The best level of this CPU.
    pub fn best() -> Level {
        Level::available()[0]
    }

    /// Every level of this CPU, best first; the last one is `Scalar`.
    pub fn available() -> Vec<Level> {
        let mut levels = vec![Level::Scalar];
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = Avx2::detect() {
            levels.push(Level::Avx2(avx2));
            levels.extend(AvxVnni::detect(avx2).map(Level::AvxVnni));
            levels.extend(Avx512Vnni::detect(avx2).map(Level::Avx512Vnni));
        }
        #[cfg(target_arch = "aarch64")]
        {
            levels.extend(Neon::detect().map(Level::Neon));
            levels.extend(Dotprod::detect().map(Level::Dotprod));
            levels.extend(I8mm::detect().map(Level::I8mm));
        }
        levels.reverse();
        levels
    }

    /// The level of this name, if this CPU has it.
    ///
    /// # Errors
    /// When it does not.
    pub fn parse(name: &str) -> Result<Level, LevelError> {
        let found = Level::available().into_iter().find(|level| level.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| LevelError { asked: name.to_owned() })
    }

    /// The name, as `QWREN_CPU` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni(_) => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni(_) => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Level::Dotprod(_) => "dotprod",
            #[cfg(target_arch = "aarch64")]
            Level::I8mm(_) => "i8mm",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn available_names() -> String {
    Level::available().iter().map(|level| level.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_parse_by_name_and_are_ordered() {
        let levels = Level::available();
        assert_eq!(levels.last(), Some(&Level::Scalar));
        assert!(levels.is_sorted_by(|a, b| a > b));
        assert_eq!(levels.first(), Some(&Level::best()));
        for level in levels {
            assert_eq!(Level::parse(&level.name().to_uppercase()), Ok(level));
        }
        let error = Level::parse("z80").expect_err("no such level").to_string();
        assert!(error.starts_with("QWREN_CPU=z80 is not a level of this CPU; it has ") && error.ends_with("scalar"));
    }
}
