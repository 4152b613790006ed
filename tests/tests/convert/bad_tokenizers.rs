//! Tokenizers in all their forms, and those that are not Qwen's.

use std::fs;

use qwren_quant::gguf::GgufFile;
use serde_json::{Value, json};

use crate::support::Sample;

#[test]
fn c1_a_tokenizer_of_another_kind_is_told_by_its_difference() {
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 4] = [
        (|t| t["normalizer"] = Value::Null, "normalizer is none, Qwen's is NFC"),
        (
            |t| t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("\\p{N}{1,3}"),
            "split pattern is \\p{N}{1,3}",
        ),
        (|t| t["model"]["type"] = json!("WordPiece"), "model type is WordPiece"),
        (|t| t["model"]["byte_fallback"] = json!(true), "byte_fallback is true"),
    ];
    for (change, words) in changes {
        let sample = Sample::dense();
        sample.edit("tokenizer.json", change);
        sample.fails(&[], 3, &["tokenizer.json: is not Qwen's tokenizer", words]);
    }
}

#[test]
fn c1_c9_a_fine_tune_with_tokens_template_and_size_of_its_own() {
    // Grown, and shrunk to the last token: 752 tokens.
    for (rows, unused) in [(1024u64, 271), (753, 0)] {
        let sample = Sample::new(json!({"vocab_size": rows, "_name_or_path": "me/Qwen3-Tuned"}), 1);
        sample.edit("tokenizer.json", |t| {
            let added = t["added_tokens"].as_array_mut().unwrap();
            let mut token = added[0].clone();
            (token["id"], token["content"]) = (json!(752), json!("<|my_turn|>"));
            added.push(token);
            t["post_processor"] = json!({"type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|my_turn|>", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<|my_turn|>": {"id": "<|my_turn|>", "ids": [752], "tokens": ["<|my_turn|>"]}}});
        });
        // An opened think tag at the end, as the Thinking-2507 models have it.
        let template = "{% for m in messages %}{{ m.content }}{% endfor %}<|my_turn|><think>\n";
        sample.edit("tokenizer_config.json", |c| {
            c["tokenizer_class"] = json!("MyTokenizer");
            c["eos_token"] = json!("<|my_turn|>");
            c["chat_template"] = json!(template);
        });
        let output = sample.converts(&["--type", "q8_0"]);
        let told = format!("vocabulary: {} tokens, {unused} unused rows", rows - unused);
        assert!(String::from_utf8_lossy(&output.stderr).contains(&told), "{}", String::from_utf8_lossy(&output.stderr));
        let file = GgufFile::open(&sample.out()).unwrap();
        let header = file.header();
        assert_eq!(header.str("tokenizer.chat_template").unwrap(), Some(template));
        assert_eq!(header.u32("tokenizer.ggml.eos_token_id").unwrap(), Some(752));
        assert_eq!(header.bool("tokenizer.ggml.add_eos_token").unwrap(), Some(true));
        assert_eq!(header.str("tokenizer.ggml.pre").unwrap(), Some("qwen2"));
        assert_eq!(header.str("general.organization").unwrap(), Some("Me"));
        assert_eq!(header.strings("tokenizer.ggml.tokens").unwrap().unwrap().len() as u64, rows);
    }
}

#[test]
fn c10_of_several_end_tokens_the_first_one_is_written() {
    let sample = Sample::dense();
    sample.edit("config.json", |c| c["eos_token_id"] = json!([745, 743]));
    sample.edit("tokenizer_config.json", |c| _ = c.as_object_mut().unwrap().remove("eos_token"));
    sample.converts(&["--type", "q8_0", "--quiet"]);
    let file = GgufFile::open(&sample.out()).unwrap();
    assert_eq!(file.header().u32("tokenizer.ggml.eos_token_id").unwrap(), Some(745));
}

#[test]
fn c9_tokens_in_the_padding_are_carried_and_those_beyond_it_refused() {
    let sample = Sample::dense();
    sample.edit("tokenizer.json", |t| {
        let added = t["added_tokens"].as_array_mut().unwrap();
        for (id, content, special) in [(760, "<mine>", false), (761, "<|mine|>", true)] {
            let mut token = added[0].clone();
            (token["id"], token["content"], token["special"]) = (json!(id), json!(content), json!(special));
            added.push(token);
        }
    });
    let output = sample.converts(&["--type", "f32"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("vocabulary: 754 tokens, 14 unused rows"));
    let file = GgufFile::open(&sample.out()).unwrap();
    let (texts, kinds) =
        (file.header().strings("tokenizer.ggml.tokens"), file.header().i32s("tokenizer.ggml.token_type"));
    let (texts, kinds) = (texts.unwrap().unwrap(), kinds.unwrap().unwrap());
    assert_eq!((&*texts[759], &*texts[760], &*texts[761]), ("[PAD759]", "<mine>", "<|mine|>"));
    assert_eq!(kinds[759..762], [5, 4, 3]);

    let other = Sample::dense();
    other.edit("tokenizer.json", |t| t["added_tokens"][0]["id"] = json!(768));
    other.fails(&[], 2, &["a token with id 768, but vocab_size is 768"]);
}

#[test]
fn c19_every_form_gives_the_same_file() {
    let sample = Sample::dense();
    sample.converts(&["--type", "f32", "--quiet"]);
    let whole = fs::read(sample.out()).unwrap();
    let tokenizer: Value = serde_json::from_slice(&fs::read(sample.path("tokenizer.json")).unwrap()).unwrap();
    let merges: Vec<String> = (tokenizer["model"]["merges"].as_array().unwrap().iter())
        .map(|m| {
            m.as_str().map_or_else(|| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()), str::to_owned)
        })
        .collect();

    sample.edit("tokenizer.json", |t| t["model"]["merges"] = json!(merges));
    sample.converts(&["--type", "f32", "--quiet", "--force"]);
    assert!(fs::read(sample.out()).unwrap() == whole, "merges as strings");

    sample.edit("tokenizer.json", |t| {
        t["model"]["merges"] = merges.iter().map(|m| m.split_once(' ').map(|(a, b)| json!([a, b]))).collect();
    });
    sample.converts(&["--type", "f32", "--quiet", "--force"]);
    assert!(fs::read(sample.out()).unwrap() == whole, "merges as pairs");

    fs::remove_file(sample.path("tokenizer.json")).unwrap();
    fs::write(sample.path("vocab.json"), tokenizer["model"]["vocab"].to_string()).unwrap();
    fs::write(sample.path("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n"))).unwrap();
    sample.converts(&["--type", "f32", "--quiet", "--force"]);
    assert!(fs::read(sample.out()).unwrap() == whole, "vocab.json and merges.txt");

    let bare = Sample::dense();
    fs::remove_file(bare.path("tokenizer.json")).unwrap();
    bare.fails(&[], 2, &["tokenizer.json: does not exist, nor do vocab.json and merges.txt"]);
}

#[test]
fn c18_the_default_template_is_carried_from_wherever_it_is() {
    let template = |sample: &Sample| {
        sample.converts(&["--type", "f32", "--quiet", "--force"]);
        let file = GgufFile::open(&sample.out()).unwrap();
        file.header().str("tokenizer.chat_template").unwrap().map(str::to_owned)
    };
    let sample = Sample::dense();
    sample.edit("tokenizer_config.json", |c| {
        c["chat_template"] = json!([{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]);
    });
    assert_eq!(template(&sample).as_deref(), Some("D"));
    fs::write(sample.path("chat_template.jinja"), "J").unwrap();
    assert_eq!(template(&sample).as_deref(), Some("J"));
    fs::remove_file(sample.path("chat_template.jinja")).unwrap();
    sample.edit("tokenizer_config.json", |c| c["chat_template"] = Value::Null);
    assert_eq!(template(&sample), None);
    let output = sample.converts(&["--type", "f32", "--force"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("note: no chat template was found"));
}

#[test]
fn merges_and_ids_that_no_vocabulary_has() {
    let merge = Sample::dense();
    merge.edit("tokenizer.json", |t| t["model"]["merges"][0] = json!(["a", "nowhere"]));
    merge.fails(&[], 2, &["merge 1 needs the token \"nowhere\""]);
    let twice = Sample::dense();
    twice.edit("tokenizer.json", |t| t["added_tokens"][0]["id"] = json!(3));
    twice.fails(&[], 2, &["gives id 3 to both"]);
    let broken = Sample::dense();
    fs::write(broken.path("tokenizer.json"), "[]").unwrap();
    broken.fails(&[], 2, &["tokenizer.json: is not the JSON expected here"]);
}
