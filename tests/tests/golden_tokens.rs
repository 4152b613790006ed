//! The tokenizer against ids by the tokenizers library: those of the golden file, and those that it gives right now.
use proptest::prelude::*;
use qwren::vocab::{Specials, Vocab};
use qwren_tests::tokenizer::{self, QWEN3_ROWS};
use std::sync::LazyLock;

static QWEN3: LazyLock<Vocab> = LazyLock::new(|| {
    let header = tokenizer::header(&qwren_tests::qwen3_tokenizer(), QWEN3_ROWS);
    Vocab::from_gguf(&header).expect("Qwen3's vocabulary")
});

static ORACLE: LazyLock<tokenizers::Tokenizer> = LazyLock::new(|| {
    tokenizers::Tokenizer::from_file(qwren_tests::qwen3_tokenizer().join("tokenizer.json")).expect("a tokenizer")
});

fn by_oracle(text: &str) -> Vec<u32> {
    ORACLE.encode(text, false).expect("ids").get_ids().to_vec()
}

#[test]
fn golden_texts_have_the_golden_ids() {
    let lines = tokenizer::golden("tokens.jsonl");
    assert!(lines.len() >= 276);
    for line in lines {
        let text = line["text"].as_str().expect("a text");
        let ids = tokenizer::ids(&line["ids"]);
        assert_eq!(QWEN3.encode(text, Specials::Parse).unwrap(), ids, "{text:?}");
        assert_eq!(QWEN3.encode(text, Specials::Plain).unwrap(), tokenizer::ids(&line["ids_plain"]), "plain {text:?}");
        assert_eq!(QWEN3.decode(&ids), line["decoded"].as_str().expect("a text"), "{ids:?}");
    }
}

#[test]
fn qwen3s_special_tokens_are_known() {
    assert_eq!(QWEN3.len(), QWEN3_ROWS);
    assert_eq!((QWEN3.eos(), QWEN3.pad(), QWEN3.bos()), (Some(151_645), Some(151_643), None));
    assert!(!QWEN3.add_bos());
    // The eos, and by their texts <|endoftext|> and the marks of padding, repository and file.
    assert_eq!(QWEN3.end_ids(), [151_643, 151_645, 151_662, 151_663, 151_664]);
    assert!(QWEN3.ends_answer(151_643) && QWEN3.ends_answer(151_645) && !QWEN3.ends_answer(151_644));
    for (text, id, control) in
        [("<think>", 151_667, false), ("</think>", 151_668, false), ("<|im_start|>", 151_644, true)]
    {
        assert_eq!(QWEN3.token_id(text), Some(id));
        assert_eq!(QWEN3.piece(id), text.as_bytes());
        assert!(QWEN3.is_special(id));
        assert_eq!(QWEN3.is_control(id), control);
    }
    assert_eq!(QWEN3.token_id(" Hello"), Some(21_927));
    assert!(!QWEN3.is_special(21_927));
    // Unused rows and ids that are not there have no text; their texts are no tokens.
    assert_eq!(QWEN3.piece(151_700), b"");
    assert_eq!(QWEN3.piece(u32::MAX), b"");
    assert_eq!(QWEN3.token_id("[PAD151700]"), None);
    assert_eq!(QWEN3.token_id(""), None);
    assert!(QWEN3.encode("[PAD151700]", Specials::Parse).unwrap().iter().all(|&id| id < 151_669));
}

#[test]
fn small_vocabularies_match_too() {
    for name in ["dense-tied", "dense-odd"] {
        let dir = qwren_tests::data("checkpoints").join(name);
        let oracle = tokenizers::Tokenizer::from_file(dir.join("tokenizer.json")).expect("a tokenizer");
        let vocab = Vocab::from_gguf(&tokenizer::header(&dir, 768)).expect("a vocabulary");
        for line in tokenizer::golden("tokens.jsonl") {
            let text = line["text"].as_str().expect("a text");
            let ids = oracle.encode(text, false).expect("ids");
            assert_eq!(vocab.encode(text, Specials::Parse).unwrap(), ids.get_ids(), "{name} {text:?}");
        }
    }
}

/// Parts that meet at every border of the pattern.
fn parts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop::sample::select(vec![
            " ", "  ", "\n", "\r\n", "\r", "\t", "\u{a0}", "\u{3000}", "\u{85}", "'s", "'LL", "'", "\u{17f}", "a", "Word",
            "1", "٣", "½", "Ⅻ", ".", "!?", "_", "é", "e\u{301}", "\u{301}", "中", "文字", "한", "\u{1112}\u{1161}", "🙂",
            "\u{200d}", "<|im_end|>", "<think>", "</think>", "<|im_", "\u{0}",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => "\\PC{1,8}",
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_texts_have_the_librarys_ids(text in parts()) {
        prop_assert_eq!(QWEN3.encode(&text, Specials::Parse).unwrap(), by_oracle(&text));
    }

    #[test]
    fn plain_text_never_holds_special_tokens(text in parts()) {
        let ids = QWEN3.encode(&text, Specials::Plain).unwrap();
        prop_assert!(ids.iter().all(|&id| !QWEN3.is_special(id)));
        // Decoding gives the text back, composed.
        prop_assert_eq!(QWEN3.encode(&QWEN3.decode(&ids), Specials::Plain).unwrap(), ids);
    }
}

#[test]
fn a_megabyte_of_anything_is_encoded() {
    // Whatever took the square of a length here would take hours.
    const MIB: usize = 1 << 20;
    let golden: Vec<String> =
        tokenizer::golden("tokens.jsonl").iter().map(|l| l["text"].as_str().unwrap_or_default().to_owned()).collect();
    let prose = "The quick brown fox doesn't jump over 12 lazy dogs; it sleeps.\n".repeat(MIB / 63);
    for (what, text) in [
        ("spaces", " ".repeat(MIB)),
        ("letters", "a".repeat(MIB)),
        ("newlines", "\n".repeat(MIB)),
        ("a newline, then spaces", format!("\n{}", " ".repeat(MIB))),
        ("spaces, then a word", format!("{}x", " ".repeat(MIB))),
        ("spaces and newlines", " \n".repeat(MIB / 2)),
        ("punctuation", "=".repeat(MIB)),
        ("Chinese", "今天天气真好,我们去公园吧?".repeat(MIB / 37)),
        ("combining marks", format!("a{}", "\u{301}".repeat(MIB / 2))),
        ("reordered marks", format!("a{}", "\u{301}\u{323}".repeat(MIB / 4))),
        ("emoji", "👩‍👩‍👧".repeat(MIB / 18)),
        ("special tokens", "<|im_end|>".repeat(MIB / 10)),
        ("beginnings of special tokens", "<|im_".repeat(MIB / 5)),
        ("everything", golden.concat().repeat(MIB / golden.concat().len())),
        ("prose", prose),
    ] {
        let ids = QWEN3.encode(&text, Specials::Parse).unwrap();
        let decoded = QWEN3.decode(&ids);
        if what != "everything" && what != "reordered marks" && what != "combining marks" {
            assert!(decoded == text, "{what}: not the same text");
        }
        assert_eq!(QWEN3.encode(&decoded, Specials::Parse).unwrap(), ids, "{what}");
    }
}
