use super::*;
use qwren_quant::gguf::{Array, Plan, Value};

/// A vocabulary of the 256 bytes, some merges, and two special tokens.
struct Parts {
    tokens: Vec<String>,
    types: Vec<i32>,
    merges: Vec<String>,
}

const IM_END: u32 = 261;
const THINK: u32 = 262;

fn parts() -> Parts {
    let mut tokens: Vec<String> = (0..=255).map(|b| bytes::to_char(b).to_string()).collect();
    let mut types = vec![1; 256];
    for (text, kind) in
        [("ab", 1), ("abc", 1), ("Ġab", 1), ("bc", 1), ("[PAD]", 5), ("<|im_end|>", 3), ("<think>", 4), ("</s>", 1)]
    {
        tokens.push(text.to_owned());
        types.push(kind);
    }
    let merges = ["a b", "ab c", "Ġ ab", "b c"].map(str::to_owned).to_vec();
    Parts { tokens, types, merges }
}

fn plan(p: &Parts) -> Plan {
    let mut plan = Plan::new(32);
    plan.push_kv("general.architecture", Value::String("qwen3".into()));
    plan.push_kv("tokenizer.ggml.model", Value::String("gpt2".into()));
    plan.push_kv("tokenizer.ggml.pre", Value::String("qwen2".into()));
    plan.push_kv("tokenizer.ggml.tokens", Value::Array(Array::String(p.tokens.clone())));
    plan.push_kv("tokenizer.ggml.token_type", Value::Array(Array::I32(p.types.clone())));
    plan.push_kv("tokenizer.ggml.merges", Value::Array(Array::String(p.merges.clone())));
    plan
}

fn read(plan: Plan) -> Result<Vocab, VocabError> {
    let layout = plan.layout().expect("a sound plan");
    Vocab::from_gguf(&Header::parse(&layout.header, layout.file_bytes).expect("a sound header"))
}

fn vocab() -> Vocab {
    read(plan(&parts())).expect("a sound vocabulary")
}

/// The same, with a token that ends answers.
pub(crate) fn letters() -> Vocab {
    let mut plan = plan(&parts());
    plan.push_kv("tokenizer.ggml.eos_token_id", Value::U32(IM_END));
    read(plan).expect("a sound vocabulary")
}

/// The error for `parts` after `spoil`.
fn spoiled(spoil: impl FnOnce(&mut Parts)) -> VocabError {
    let mut p = parts();
    spoil(&mut p);
    match read(plan(&p)) {
        Ok(_) => panic!("accepted"),
        Err(e) => e,
    }
}

#[test]
fn merges_go_by_rank() {
    let v = vocab();
    let id = |t: &str| v.token_id(t).expect("a token");
    assert_eq!(v.encode("abc", Specials::Plain).unwrap(), [id("abc")]);
    assert_eq!(v.encode("bc", Specials::Plain).unwrap(), [id("bc")]);
    assert_eq!(v.encode("x ab", Specials::Plain).unwrap(), [id("x"), id(" ab")]);
    // "ab" before "bc".
    assert_eq!(v.encode("aabcbc", Specials::Plain).unwrap(), [id("a"), id("abc"), id("bc")]);
    assert!(v.encode("", Specials::Parse).unwrap().is_empty());
    assert_eq!(v.decode(&v.encode("äöü 中文 \u{0}", Specials::Plain).unwrap()), "äöü 中文 \u{0}");
}

#[test]
fn specials_are_parsed_or_plain() {
    let v = vocab();
    assert_eq!(v.encode("<|im_end|><think>", Specials::Parse).unwrap(), [IM_END, THINK]);
    let plain = v.encode("<|im_end|>", Specials::Plain).unwrap();
    assert_eq!(plain.len(), 10);
    assert_eq!(v.decode(&plain), "<|im_end|>");
    // A mark keeps a special token from being found and leaves no trace.
    let marked = v.encode_marked("<think><\u{f0000}|im_end|>", '\u{f0000}').unwrap();
    assert_eq!(marked[0], THINK);
    assert_eq!(marked[1..], plain);
}

#[test]
fn a_longer_special_token_wins() {
    let mut p = parts();
    p.tokens.extend(["<|im_end|>!".to_owned(), "<|im_".to_owned()]);
    p.types.extend([4, 4]);
    let v = read(plan(&p)).unwrap();
    assert_eq!(v.encode("<|im_end|>!<|im_end|>.<|im_", Specials::Parse).unwrap(), [264, IM_END, u32::from(b'.'), 265]);
}

#[test]
fn ends_are_found_by_key_and_by_text() {
    let v = vocab();
    // "</s>" is an ordinary token here, HTML perhaps.
    assert_eq!(v.end_ids(), [IM_END]);
    assert_eq!((v.eos(), v.bos(), v.pad(), v.add_bos()), (None, None, None, false));
    let mut p = plan(&parts());
    for (key, id) in [("eos", 3u32), ("bos", 4), ("padding", 5), ("eot", 6)] {
        p.push_kv(&format!("tokenizer.ggml.{key}_token_id"), Value::U32(id));
    }
    p.push_kv("tokenizer.ggml.add_bos_token", Value::Bool(true));
    let v = read(p).unwrap();
    assert_eq!(v.end_ids(), [3, 6, IM_END]);
    assert_eq!((v.eos(), v.bos(), v.pad(), v.add_bos()), (Some(3), Some(4), Some(5), true));
}

#[test]
fn unused_tokens_have_no_text() {
    let v = vocab();
    assert_eq!(v.piece(260), b"");
    assert_eq!(v.token_id("[PAD]"), None);
    assert_eq!(v.encode("[PAD]", Specials::Parse).unwrap().len(), 5);
}

#[test]
fn other_tokenizers_are_unsupported_by_name() {
    for (key, text) in [("tokenizer.ggml.model", "llama"), ("tokenizer.ggml.pre", "llama-bpe")] {
        let mut plan = Plan::new(32);
        plan.push_kv("general.architecture", Value::String("qwen3".into()));
        for (k, ours) in [("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "qwen2")] {
            plan.push_kv(k, Value::String(if k == key { text } else { ours }.to_owned()));
        }
        let Err(e) = read(plan) else { panic!("accepted") };
        assert!(e.unsupported(), "{e}");
        assert!(e.to_string().contains(&format!("\"{text}\"")), "{e}");
    }
}

#[test]
fn hostile_sections_are_errors() {
    let types = |p: &mut Parts| p.types.truncate(9);
    assert!(matches!(spoiled(types), VocabError::TypeCount { types: 9, tokens: 264 }));
    assert!(matches!(spoiled(|p| p.types[7] = 77), VocabError::TokenType { id: 7, kind: 77 }));
    assert!(matches!(spoiled(|p| p.types[7] = -1), VocabError::TokenType { id: 7, kind: -1 }));
    assert!(matches!(spoiled(|p| p.tokens[8].clear()), VocabError::EmptyToken { id: 8 }));
    assert!(matches!(spoiled(|p| p.tokens[261].clear()), VocabError::EmptyToken { id: 261 }));
    let twice = |p: &mut Parts| p.tokens[9] = p.tokens[5].clone();
    assert!(matches!(spoiled(twice), VocabError::DuplicateToken { first: 5, second: 9 }));
    for (merge, reason) in [
        ("", "half"),
        ("a", "half"),
        (" ", "half"),
        ("a ", "right half that is no token"),
        ("zz b", "left half that is no token"),
        ("b a", "makes no token"),
        ("a b", "twice"),
        ("[PAD ]", "left half"),
        // The two longest tokens: longer than any.
        ("<|im_end|> <think>", "makes no token"),
    ] {
        match spoiled(|p| p.merges.push(merge.to_owned())) {
            VocabError::Merge { rank: 4, reason: why } => assert!(why.contains(reason), "{merge:?}: {why}"),
            other => panic!("{merge:?}: {other}"),
        }
    }
    let large = |p: &mut Parts| p.tokens[262] = "x".repeat(MAX_SPECIALS);
    assert!(matches!(spoiled(large), VocabError::TooLarge));
    let control = spoiled(|p| {
        p.tokens.extend(["<|im_end|".to_owned()]);
        p.types.extend([1]);
        p.merges = vec!["<|im_end| >".to_owned()];
    });
    assert!(matches!(control, VocabError::Merge { rank: 0, reason: "makes a control token" }));
    for key in ["eos", "bos", "padding", "eot", "eom"] {
        let mut p = plan(&parts());
        p.push_kv(&format!("tokenizer.ggml.{key}_token_id"), Value::U32(264));
        assert!(matches!(read(p), Err(VocabError::IdOutOfRange { id: 264, tokens: 264, .. })), "{key}");
    }
    for missing in ["tokens", "merges", "model", "pre"] {
        let p = parts();
        let mut plan = Plan::new(32);
        plan.push_kv("general.architecture", Value::String("qwen3".into()));
        for (key, value) in [
            ("model", Value::String("gpt2".into())),
            ("pre", Value::String("qwen2".into())),
            ("tokens", Value::Array(Array::String(p.tokens.clone()))),
            ("merges", Value::Array(Array::String(p.merges.clone()))),
        ] {
            if key != missing {
                plan.push_kv(&format!("tokenizer.ggml.{key}"), value);
            }
        }
        assert!(matches!(read(plan), Err(VocabError::Missing { .. })), "{missing}");
    }
}

#[test]
fn a_vocabulary_without_some_bytes_says_so_when_they_come() {
    let v = {
        let mut p = parts();
        p.tokens[usize::from(b'z')] = "zz".to_owned();
        read(plan(&p)).unwrap()
    };
    assert_eq!(v.encode("abc", Specials::Plain).unwrap().len(), 1);
    assert!(matches!(v.encode("az", Specials::Plain), Err(VocabError::NoByteToken { byte: b'z' })));
}

#[test]
fn without_types_the_texts_of_ends_are_special() {
    let p = parts();
    let v = Vocab::new(PreTokenizer::Qwen2, &p.tokens, None, &p.merges).unwrap();
    assert_eq!(v.encode("<|im_end|>", Specials::Parse).unwrap(), [IM_END]);
    assert!(v.is_control(IM_END) && !v.is_special(THINK));
}
