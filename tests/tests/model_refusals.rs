//! GGUF files that are sound but no model that can run: a sentence that says why, and the right kind of refusal.
use qwren::model::Model;
use qwren_quant::dtype::DType;
use qwren_quant::gguf::Value;
use qwren_tests::tiny::{PLAIN, Sizes, Tiny};

/// What opening the model says, and whether it calls the file unsupported rather than wrong.
fn refusal(tiny: &Tiny) -> (String, bool) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("m.gguf");
    tiny.write(&path, 3, |_, _| ());
    let error = Model::open(&path).expect_err("a refusal");
    let text = error.to_string();
    assert!(text.starts_with(&path.display().to_string()) && !text.contains('\n'), "{text}");
    (text[path.display().to_string().len()..].to_owned(), error.unsupported())
}

const MOE: Sizes = Sizes { experts: Some((4, 2)), ..PLAIN };

#[test]
fn keys_out_of_range_are_refused_by_name() {
    let wrong: &[(&str, Value, bool)] = &[
        ("block_count", Value::U32(0), false),
        ("block_count", Value::U32(u32::MAX), false),
        ("block_count", Value::String("two".into()), false),
        ("embedding_length", Value::U32(0), false),
        ("embedding_length", Value::U64(1 << 40), false),
        ("feed_forward_length", Value::U32(0), false),
        ("context_length", Value::U32(0), false),
        ("attention.head_count", Value::U32(0), false),
        ("attention.head_count", Value::I32(-4), false),
        ("attention.head_count_kv", Value::U32(0), false),
        ("attention.head_count_kv", Value::U32(3), false),
        ("attention.key_length", Value::U32(0), false),
        ("attention.key_length", Value::U32(33), false),
        ("attention.key_length", Value::U32(514), false),
        ("attention.value_length", Value::U32(64), true),
        ("attention.causal", Value::Bool(false), true),
        ("attention.layer_norm_rms_epsilon", Value::F32(0.0), false),
        ("attention.layer_norm_rms_epsilon", Value::F32(f32::NAN), false),
        ("rope.freq_base", Value::F32(-1.0), false),
        ("rope.freq_base", Value::F32(f32::INFINITY), false),
        ("rope.dimension_count", Value::U32(16), true),
        ("rope.scaling.factor", Value::F32(0.0), false),
        ("rope.scaling.type", Value::String("longrope".into()), true),
    ];
    for (key, value, unsupported) in wrong {
        let mut tiny = Tiny::new(&PLAIN, DType::F32);
        tiny.set(key, value.clone());
        let (text, kind) = refusal(&tiny);
        assert!(text.contains(key) && kind == *unsupported, "{key} = {value:?}: {text}");
    }
    let experts: &[(&str, Value, bool)] = &[
        ("expert_count", Value::U32(0), false),
        ("expert_used_count", Value::U32(5), false),
        ("expert_used_count", Value::U32(0), false),
        ("expert_feed_forward_length", Value::U32(0), false),
        ("expert_shared_count", Value::U32(1), true),
        ("expert_weights_scale", Value::F32(2.5), true),
    ];
    for (key, value, unsupported) in experts {
        let mut tiny = Tiny::new(&MOE, DType::F32);
        tiny.set(key, value.clone());
        let (text, kind) = refusal(&tiny);
        assert!(text.contains(key) && kind == *unsupported, "{key} = {value:?}: {text}");
    }
    for key in ["block_count", "embedding_length", "attention.head_count", "attention.layer_norm_rms_epsilon"] {
        let mut tiny = Tiny::new(&PLAIN, DType::F32);
        tiny.unset(key);
        let (text, unsupported) = refusal(&tiny);
        assert!(text.contains(&format!("lacks the key qwen3.{key}")) && !unsupported, "{text}");
    }
}

#[test]
fn other_architectures_are_unsupported() {
    for arch in ["llama4", "qwen2", "qwen3vl", ""] {
        let mut tiny = Tiny::new(&PLAIN, DType::F32);
        tiny.keys[0].1 = arch.into();
        let (text, unsupported) = refusal(&tiny);
        assert!(text.contains(&format!("architecture '{arch}'")) && unsupported, "{text}");
    }
    // What goes by Llama's name and computes something else.
    let mut mixtral = Tiny::llama(&PLAIN, DType::F32);
    mixtral.set("expert_count", 8u32);
    let (text, unsupported) = refusal(&mixtral);
    assert!(text.contains("llama.expert_count = 8") && unsupported, "{text}");
    let mut normed = Tiny::new(&PLAIN, DType::F32);
    normed.keys.iter_mut().for_each(|(key, _)| *key = key.replace("qwen3.", "llama."));
    normed.keys[0].1 = "llama".into();
    let (text, unsupported) = refusal(&normed);
    assert!(text.contains("blk.0.attn_q_norm.weight") && unsupported, "{text}");
    let mut tiny = Tiny::new(&PLAIN, DType::F32);
    tiny.unset("general.architecture");
    assert!(!refusal(&tiny).1);
}

#[test]
fn tensors_that_are_missing_or_wrong_are_named() {
    for sizes in [PLAIN, MOE] {
        let names: Vec<String> = Tiny::new(&sizes, DType::F32).tensors.iter().map(|(n, ..)| n.clone()).collect();
        for name in names {
            if name != "output.weight" {
                let mut tiny = Tiny::new(&sizes, DType::F32);
                tiny.tensors.retain(|(n, ..)| *n != name);
                let (text, unsupported) = refusal(&tiny);
                assert!(text.contains(&format!("lacks the tensor {name}")) && !unsupported, "{text}");
            }
            // The embedding's rows say how many tokens there are: it is the others that don't fit then.
            if name != "token_embd.weight" {
                let mut tiny = Tiny::new(&sizes, DType::F32);
                *tiny.tensor(&name).1.last_mut().expect("a dimension") += 1;
                let (text, unsupported) = refusal(&tiny);
                assert!(text.contains(&format!("tensor {name} of shape")) && !unsupported, "{text}");
            }
            let mut tiny = Tiny::new(&sizes, DType::F32);
            tiny.tensor(&name).2 = DType::I32;
            let (text, unsupported) = refusal(&tiny);
            assert!(text.contains(&format!("tensor {name} of type I32")) && unsupported, "{text}");
        }
    }
}

#[test]
fn tensors_that_would_change_the_result_are_refused_and_others_ignored() {
    for name in ["blk.0.attn_q.bias", "rope_freqs.weight"] {
        let mut tiny = Tiny::new(&PLAIN, DType::F32);
        tiny.tensors.push((name.into(), vec![16], DType::F32));
        let (text, unsupported) = refusal(&tiny);
        assert!(text.contains(name) && unsupported, "{text}");
    }
    let mut tiny = Tiny::new(&PLAIN, DType::F32);
    tiny.tensors.push(("cls.output.weight".into(), vec![16], DType::F32));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    tiny.write(file.path(), 3, |_, _| ());
    assert!(Model::open(file.path()).is_ok());
}
