//! Where the programs under test lie.
use std::path::PathBuf;

/// The path of a built program: `$QWREN_BIN_DIR/NAME`, else `target/release/NAME`. scripts/test.sh builds them first.
///
/// # Panics
/// If it isn't there: a test must not pass without having run the program.
pub fn bin(name: &str) -> PathBuf {
    let dir = std::env::var_os("QWREN_BIN_DIR").map_or_else(|| crate::target_dir().join("release"), PathBuf::from);
    let path = dir.join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --release` first, or scripts/test.sh", path.display());
    path
}
