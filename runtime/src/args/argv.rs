//! llama.cpp's short options of more than one letter (`-tb 4`), which clap would read as `-t b`: they become long ones, or
//! are refused with what to do instead.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Short spelling → long spelling.
const SHORT: [(&str, &str); 7] = [
    ("-tb", "--threads-batch"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-ngl", "--gpu-layers"),
    ("-sys", "--system"),
    ("-dev", "--device"),
    ("-jf", "--json-schema"),
];

/// Those of other things, and what does them here.
const ABSENT: [(&[&str], &str); 10] = [
    (
        &["-hf", "-hfr", "-hff", "-mu", "-dr"],
        "qwren downloads nothing; convert a downloaded checkpoint with qwren-convert",
    ),
    (&["-fa"], "attention is fused wherever it runs; leave the option out"),
    (&["-cnv"], "conversations are `qwren chat`"),
    (&["-no-cnv"], "texts are completed by `qwren complete`, without it"),
    (&["-rea"], "--think and --no-think say whether a model thinks"),
    (&["-np", "-cb", "-nocb", "-kvu"], "there is one conversation at a time; leave the option out"),
    (&["-st"], "one turn is `qwren chat` with the message on stdin"),
    (&["-ub"], "a batch is computed as a whole; -b is its size"),
    (&["-md", "-ngld", "-cd"], "drafts need no second model: --draft-lookup"),
    (&["-sm", "-ts", "-mg", "-ot", "-cmoe", "-ncmoe", "-nkvo"], "one device takes whole layers: -ngl N --device D"),
];

/// Options whose value is free text, so that the next argument is never an option.
const TEXT: [&str; 12] = [
    "-p",
    "--prompt",
    "--system",
    "--system-prompt",
    "-sys",
    "--stop",
    "--reverse-prompt",
    "-r",
    "-j",
    "--json-schema",
    "--thinking-budget-message",
    "--reasoning-budget-message",
];

/// Rewrites the short spellings, up to a `--`; values of text options stay as they are.
///
/// # Errors
/// An option that is not there: what to use.
pub fn expand(args: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let mut out = Vec::new();
    let (mut is_text, mut ended) = (false, false);
    for arg in args {
        let long = if is_text || ended { None } else { lengthen(&arg)? };
        ended |= !is_text && arg == "--";
        is_text = !is_text && TEXT.iter().any(|t| arg == *t);
        out.push(long.unwrap_or(arg));
    }
    Ok(out)
}

/// The long spelling, if it is one of the short ones, a `=VALUE` behind it or not.
fn lengthen(arg: &OsStr) -> Result<Option<OsString>, String> {
    let bytes = arg.as_bytes();
    let (name, value) = bytes.split_at(bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len()));
    let Ok(name) = str::from_utf8(name) else { return Ok(None) };
    if let Some((_, instead)) = ABSENT.iter().find(|(names, _)| names.contains(&name)) {
        return Err(format!("there is no {name}: {instead}"));
    }
    let long = SHORT.iter().find(|(short, _)| *short == name);
    Ok(long.map(|(_, long)| [OsStr::new(long), OsStr::from_bytes(value)].into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(line: &str) -> String {
        let out = expand(line.split(' ').map(OsString::from));
        out.unwrap().iter().map(|s| s.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn short_spellings_become_long_ones() {
        assert_eq!(
            expanded("q -t 2 -tb 4 -ctk=f32 -ctv f16 -ngl all"),
            "q -t 2 --threads-batch 4 --cache-type-k=f32 --cache-type-v f16 --gpu-layers all"
        );
        assert_eq!(expanded("q -jf schema.json"), "q --json-schema schema.json");
        assert_eq!(expanded("q -sys Hi -dev Vulkan0"), "q --system Hi --device Vulkan0");
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let refused = |line: &str| expand(line.split(' ').map(OsString::from)).unwrap_err();
        assert_eq!(refused("q chat -cnv"), "there is no -cnv: conversations are `qwren chat`");
        assert!(refused("q -p -fa -hf x/y").starts_with("there is no -hf: "));
        assert!(refused("q -fa=1").starts_with("there is no -fa: "));
        assert_eq!(expanded("q -p -fa -- -hf"), "q -p -fa -- -hf");
    }

    #[test]
    fn text_and_what_follows_two_dashes_stay() {
        assert_eq!(expanded("q -p -tb -tb 3"), "q -p -tb --threads-batch 3");
        assert_eq!(expanded("q -p -- -tb 3"), "q -p -- --threads-batch 3");
        assert_eq!(expanded("q -- -tb"), "q -- -tb");
        assert_eq!(expanded("q -tbx -t2"), "q -tbx -t2");
    }
}
