//! llama.cpp's options. Short ones of more than one letter (`-tb 4`), which clap would read as `-t b`, become long ones; those
//! that are not there are refused with what to do instead.

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

/// llama.cpp's options for other things, and what does them here.
const ABSENT: [(&str, &str); 25] = [
    (
        "-hf -hfr -hff -mu -dr --hf-repo --hf-file --model-url --docker-repo",
        "qwren downloads nothing; convert a downloaded checkpoint with qwren-convert",
    ),
    ("-fa --flash-attn", "attention is fused wherever it runs; leave the option out"),
    ("-cnv --conversation -i --interactive --interactive-first", "a conversation is `qwren chat`, without it"),
    ("-no-cnv --no-conversation", "texts are completed by `qwren complete`, without it"),
    ("-rea --reasoning", "--think and --no-think say whether a model thinks"),
    (
        "-np -cb -nocb -kvu --parallel --cont-batching --no-cont-batching --kv-unified",
        "there is one conversation at a time; leave the option out",
    ),
    ("-st --single-turn", "one turn is `qwren chat` with the message on stdin"),
    ("-ub --ubatch-size", "a batch is computed as a whole; -b is its size"),
    (
        "-md -ngld -cd --model-draft --draft --draft-max --draft-n --draft-min --draft-p-min",
        "drafts need no second model: --draft-lookup",
    ),
    (
        "-sm -ts -mg -ot -cmoe -ncmoe -nkvo --split-mode --tensor-split --main-gpu --override-tensor --cpu-moe \
         --n-cpu-moe --no-kv-offload",
        "one device takes whole layers: -ngl N --device D",
    ),
    (
        "--no-mmap --mlock",
        "weights are moved into memory where there is room for them, and used from the file where there is none; \
         leave the option out (--mmap keeps them in the file)",
    ),
    (
        "--jinja --no-jinja --chat-template --chat-template-file",
        "a conversation is written as the model's own template says, which is always run; leave the option out",
    ),
    ("--warmup --no-warmup", "there is no empty run at the start; leave the option out"),
    (
        "--keep --context-shift --no-context-shift",
        "what happens when a conversation fills its context, `qwren chat --context-full` says",
    ),
    (
        "-C -Cr --cpu-mask --cpu-range --cpu-strict --numa --prio --poll",
        "threads run where and how the process may: start it with taskset, numactl or chrt",
    ),
    (
        "--lora --lora-scaled --control-vector --control-vector-scaled",
        "there are no adapters; merge one into the checkpoint before it is converted",
    ),
    (
        "--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx --yarn-ext-factor \
         --yarn-attn-factor --yarn-beta-slow --yarn-beta-fast",
        "positions are turned as the file says, YaRN included; leave the option out",
    ),
    ("-e --escape --no-escape", "a text is taken as it is; a shell writes a line break as $'\\n'"),
    ("--no-display-prompt", "a prompt is not repeated unless --echo asks for it; leave the option out"),
    (
        "-ofreq --output-frequency --save-frequency",
        "the matrix is written at the end, and by Ctrl-C as far as it was summed; leave the option out",
    ),
    (
        "-lcs -lcd --lookup-cache-static --lookup-cache-dynamic",
        "--draft-lookup looks for drafts in the context alone; leave the option out",
    ),
    ("-nr --no-repack --repack", "rows are interleaved where that pays; --mmap leaves weights as they are"),
    (
        "--samplers --sampling-seq --typical --typical-p --mirostat --mirostat-lr --mirostat-ent --xtc-probability \
         --xtc-threshold --dynatemp-range --dynatemp-exp --dry-multiplier --dry-base --top-nsigma",
        "tokens are chosen by --temp, --top-k, --top-p, --min-p and penalties",
    ),
    (
        "--kl-divergence --kl-divergence-base --save-all-logits",
        "--save-logits FILE writes what --base-logits FILE compares another model with",
    ),
    ("--color --simple-io --log-disable", "what is shown follows the terminal, and --quiet"),
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

/// Options that may stand before a command.
const FIRST: [&str; 7] = ["-h", "--help", "-V", "--version", "-v", "--verbose", "--quiet"];

/// Rewrites the short spellings, up to a `--`; values of text options stay as they are.
///
/// # Errors
/// An option that is not there, or stands before the command: what to use.
pub fn expand(args: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let mut out = Vec::new();
    let (mut is_text, mut ended) = (false, false);
    for (i, arg) in args.into_iter().enumerate() {
        if i == 1 && arg.as_bytes().starts_with(b"-") && FIRST.iter().all(|first| arg != *first) {
            return Err("a command comes first, as in `qwren complete -m FILE` or `qwren chat -m FILE`".to_owned());
        }
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
    if let Some((_, instead)) = ABSENT.iter().find(|(names, _)| names.split(' ').any(|absent| absent == name)) {
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
            expanded("q x -t 2 -tb 4 -ctk=f32 -ctv f16 -ngl all"),
            "q x -t 2 --threads-batch 4 --cache-type-k=f32 --cache-type-v f16 --gpu-layers all"
        );
        assert_eq!(expanded("q x -jf schema.json"), "q x --json-schema schema.json");
        assert_eq!(expanded("q x -sys Hi -dev Vulkan0"), "q x --system Hi --device Vulkan0");
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let refused = |line: &str| expand(line.split(' ').map(OsString::from)).unwrap_err();
        assert_eq!(refused("q chat -cnv"), "there is no -cnv: a conversation is `qwren chat`, without it");
        assert!(refused("q x -p -fa -hf x/y").starts_with("there is no -hf: "));
        assert!(refused("q x -fa=1").starts_with("there is no -fa: "));
        assert!(refused("q -m x -p y").starts_with("a command comes first, "));
        assert!(refused("q x --no-mmap -p x").starts_with("there is no --no-mmap: weights are moved"));
        assert!(refused("q x --chat-template=chatml").starts_with("there is no --chat-template: "));
        assert_eq!(expanded("q x -p -fa -- -hf"), "q x -p -fa -- -hf");
    }

    #[test]
    fn what_is_there_is_not_called_absent() {
        let tree = crate::args::tree();
        let own = |name: &str| {
            tree.get_subcommands().flat_map(clap::Command::get_arguments).any(|arg| {
                let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
                let shorts = arg.get_short_and_visible_aliases().unwrap_or_default();
                longs.iter().any(|long| name == format!("--{long}"))
                    || shorts.iter().any(|short| name == format!("-{short}"))
            })
        };
        assert!(own("--mmap") && own("-b"));
        for name in ABSENT.iter().flat_map(|(names, _)| names.split(' ')) {
            assert!(!own(name) && SHORT.iter().all(|(short, _)| *short != name), "{name}");
        }
    }

    #[test]
    fn text_and_what_follows_two_dashes_stay() {
        assert_eq!(expanded("q x -p -tb -tb 3"), "q x -p -tb --threads-batch 3");
        assert_eq!(expanded("q x -p -- -tb 3"), "q x -p -- --threads-batch 3");
        assert_eq!(expanded("q x -- -tb"), "q x -- -tb");
        assert_eq!(expanded("q x -tbx -t2"), "q x -tbx -t2");
    }
}
