//! A probe of what is about to be written: a tokenizer rebuilt from the file's tables alone, as its readers will rebuild
//! it, must give the same ids as the checkpoint's own. What a structural check can't foresee shows here, before work starts.

use std::sync::Once;
use std::{panic, thread};

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::{Kind, TokenizerError, structure};

/// The thread that runs the library.
const THREAD: &str = "tokenizer probe";

/// Texts that differ under most ways to tokenize: letters of several scripts, digits, runs of blanks and newlines,
/// contractions, composed and decomposed accents, symbols, emoji of several code points.
const TEXTS: [&str; 14] = [
    "Hello, world! It's 3 o'clock; we'll see what THEY'VE done.",
    "  two blanks,   three,\ttab\t\ttabs \n\nnewlines\r\n \n  end  ",
    "1234567890 3.14159 1,000,000 2026-11-25 0x7f 12:30",
    "caf\u{e9} cafe\u{301} na\u{ef}ve \u{c5}ngstr\u{f6}m A\u{30a}ngstro\u{308}m stra\u{df}e",
    "Привет, мир! Как дела?",
    "你好，世界。今天天气很好！",
    "こんにちは世界、カタカナとひらがな。",
    "안녕하세요 세계",
    "שלום עולם مرحبا بالعالم",
    "नमस्ते दुनिया สวัสดีชาวโลก",
    "👋🏽 👩‍👩‍👧‍👦 🇫🇷 ✨→∀x∈ℝ: ⌈x⌉ ≥ x",
    "fn main() {\n    let x: Vec<u8> = vec![0; 16]; // ok\n}\n",
    "<html><body class=\"a-b_c\">&nbsp;https://example.org/?q=1&r=%20#top</body></html>",
    "user@example.com C:\\path\\to\\file.txt $HOME/.config ~~~ ### *** ___ ---",
];

/// Compares both tokenizers. Gives a remark where only text with added tokens differs, since their trimming and word
/// rules have no place in a GGUF file.
///
/// # Errors
/// When the tokenizers library refuses either one, or plain text gets other ids.
pub(super) fn check(
    own: &[u8],
    texts: &[String],
    kinds: &[Kind],
    merges: &[String],
) -> Result<Option<String>, TokenizerError> {
    guarded(|| compare(own, texts, kinds, merges))
}

/// Runs code of the library, which was not written for hostile files, on a thread of its own, where a panic neither ends
/// the program nor prints anything.
fn guarded<T: Send>(f: impl FnOnce() -> Result<T, TokenizerError> + Send) -> Result<T, TokenizerError> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD) {
                others(info);
            }
        }));
    });
    thread::scope(|s| match thread::Builder::new().name(THREAD.to_owned()).spawn_scoped(s, f) {
        Ok(running) => running.join().unwrap_or_else(|_| Err(TokenizerError::Library("it gave up".to_owned()))),
        Err(e) => Err(TokenizerError::Library(e.to_string())),
    })
}

/// One tokenizer after the other: each takes tens of megabytes.
fn compare(own: &[u8], texts: &[String], kinds: &[Kind], merges: &[String]) -> Result<Option<String>, TokenizerError> {
    let library = |e: tokenizers::Error| TokenizerError::Library(e.to_string());
    let around: Vec<String> = added(texts, kinds).map(|(text, _)| format!("a {text} b{text}\n")).collect();
    let all = || TEXTS.iter().copied().chain(around.iter().map(String::as_str));
    let ids = |tokenizer: Tokenizer| -> Result<Vec<Vec<u32>>, TokenizerError> {
        all().map(|text| tokenizer.encode_fast(text, false).map(|e| e.get_ids().to_vec()).map_err(library)).collect()
    };
    let own = ids(Tokenizer::from_bytes(own).map_err(library)?)?;
    let written = ids(rebuild(texts, kinds, merges).map_err(library)?)?;
    let Some(first) = own.iter().zip(&written).position(|(a, b)| a != b) else { return Ok(None) };
    if let Some(text) = TEXTS.get(first) {
        return Err(TokenizerError::Probe { text: (*text).to_owned() });
    }
    let text = added(texts, kinds).nth(first - TEXTS.len()).map_or("", |(text, _)| text);
    Ok(Some(format!(
        "around the added token {text:?} text is split otherwise than by the checkpoint's own tokenizer: a GGUF file can't \
         carry its rules for blanks or words"
    )))
}

/// The tokenizer that the tables describe: Qwen's steps over these tokens and merges.
fn rebuild(texts: &[String], kinds: &[Kind], merges: &[String]) -> tokenizers::Result<Tokenizer> {
    let used = texts.iter().zip(kinds).zip(0..).filter(|((_, kind), _)| **kind != Kind::Unused);
    let vocab: Vec<(String, u32)> = used.map(|((text, _), id)| (text.clone(), id)).collect();
    let pairs = merges.iter().filter_map(|m| m.split_once(' '));
    let pairs = pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    let bpe = BPE::builder().vocab_and_merges(vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>(), pairs);

    let pattern = SplitPattern::Regex(structure::PATTERN.to_owned());
    let steps: Vec<PreTokenizerWrapper> = vec![
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into(),
        ByteLevel::new(false, false, false).into(),
    ];
    let mut tokenizer = Tokenizer::new(bpe.build()?);
    tokenizer.with_normalizer(Some(NFC))?;
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    tokenizer
        .add_tokens(added(texts, kinds).map(|(text, special)| AddedToken::from(text, special).normalized(false)))?;
    Ok(tokenizer)
}

/// Texts of the added tokens, and whether each is a control token.
fn added<'a>(texts: &'a [String], kinds: &'a [Kind]) -> impl Iterator<Item = (&'a str, bool)> {
    texts.iter().zip(kinds).filter_map(|(text, kind)| match kind {
        Kind::Control => Some((text.as_str(), true)),
        Kind::UserDefined => Some((text.as_str(), false)),
        Kind::Normal | Kind::Unused => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A tokenizer of all bytes, one merge and one added token, and the tables for it.
    fn sample() -> (Value, Vec<String>, Vec<Kind>, Vec<String>) {
        let mut texts: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
        texts.sort();
        texts.push("He".to_owned());
        let vocab: serde_json::Map<_, _> = texts.iter().enumerate().map(|(i, t)| (t.clone(), json!(i))).collect();
        let id = texts.len();
        texts.push("<x>".to_owned());
        let mut kinds = vec![Kind::Normal; id];
        kinds.push(Kind::UserDefined);
        let own = json!({
            "version": "1.0",
            "added_tokens": [{"id": id, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": false}],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": structure::PATTERN}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]},
            "model": {"type": "BPE", "vocab": vocab, "merges": ["H e"]}
        });
        (own, texts, kinds, vec!["H e".to_owned()])
    }

    fn run(own: &Value, texts: &[String], kinds: &[Kind], merges: &[String]) -> Result<Option<String>, TokenizerError> {
        check(own.to_string().as_bytes(), texts, kinds, merges)
    }

    #[test]
    fn equal_tables_pass() {
        let (own, texts, kinds, merges) = sample();
        assert!(matches!(run(&own, &texts, &kinds, &merges), Ok(None)));
    }

    #[test]
    fn another_merge_is_found_and_shown() {
        let (own, texts, kinds, _) = sample();
        let error = run(&own, &texts, &kinds, &[]).unwrap_err();
        assert!(error.unsupported());
        assert!(error.to_string().contains("Hello, world!"), "{error}");
    }

    #[test]
    fn rules_of_added_tokens_are_remarked() {
        let (mut own, texts, kinds, merges) = sample();
        own["added_tokens"][0]["lstrip"] = json!(true);
        let note = run(&own, &texts, &kinds, &merges).unwrap().unwrap();
        assert!(note.contains("\"<x>\""), "{note}");
    }

    #[test]
    fn a_panic_in_the_library_is_an_error() {
        let error = guarded::<()>(|| panic!("an index out of bounds, say")).unwrap_err();
        assert_eq!(error.to_string(), "is refused by the tokenizers library: it gave up");
    }

    #[test]
    fn what_the_library_refuses_is_an_error() {
        let (_, texts, kinds, merges) = sample();
        let error = check(b"{}", &texts, &kinds, &merges).unwrap_err();
        assert!(matches!(error, TokenizerError::Library(_)));
    }
}
