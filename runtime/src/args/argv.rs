//! llama.cpp's short options of more than one letter (`-tb 4`), which clap would read as `-t b`, become long ones.

use std::ffi::OsString;

/// Short spelling → long spelling.
const SHORT: [(&str, &str); 6] = [
    ("-tb", "--threads-batch"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-ngl", "--gpu-layers"),
    ("-sys", "--system"),
    ("-dev", "--device"),
];

/// Options whose value is free text, so that the next argument is never an option.
const TEXT: [&str; 11] = [
    "-p",
    "--prompt",
    "--system",
    "--system-prompt",
    "-sys",
    "--stop",
    "--reverse-prompt",
    "-j",
    "--json-schema",
    "--thinking-budget-message",
    "--reasoning-budget-message",
];

/// Rewrites the short spellings, up to a `--`; values of text options stay as they are.
pub fn expand(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut out = Vec::new();
    let (mut is_text, mut ended) = (false, false);
    for arg in args {
        let long = if is_text || ended { None } else { lengthen(&arg) };
        ended |= !is_text && arg == "--";
        is_text = !is_text && TEXT.iter().any(|t| arg == *t);
        out.push(long.unwrap_or(arg));
    }
    out
}

fn lengthen(arg: &OsString) -> Option<OsString> {
    let arg = arg.to_str()?;
    SHORT.iter().find_map(|(short, long)| match arg.strip_prefix(short)? {
        "" => Some(OsString::from(long)),
        rest => rest.starts_with('=').then(|| OsString::from(format!("{long}{rest}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(line: &str) -> String {
        let out = expand(line.split(' ').map(OsString::from));
        out.iter().map(|s| s.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn short_spellings_become_long_ones() {
        assert_eq!(
            expanded("q -t 2 -tb 4 -ctk=f32 -ctv f16 -ngl all"),
            "q -t 2 --threads-batch 4 --cache-type-k=f32 --cache-type-v f16 --gpu-layers all"
        );
        assert_eq!(expanded("q -sys Hi -dev Vulkan0"), "q --system Hi --device Vulkan0");
    }

    #[test]
    fn text_and_what_follows_two_dashes_stay() {
        assert_eq!(expanded("q -p -tb -tb 3"), "q -p -tb --threads-batch 3");
        assert_eq!(expanded("q -p -- -tb 3"), "q -p -- --threads-batch 3");
        assert_eq!(expanded("q -- -tb"), "q -- -tb");
        assert_eq!(expanded("q -tbx -t2"), "q -tbx -t2");
    }
}
