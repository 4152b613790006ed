use super::*;
use serde_json::json;

/// Qwen3-0.6B as published.
fn published() -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false, "head_dim": 128,
        "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960,
        "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
        "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "use_sliding_window": false, "vocab_size": 151936,
        "bos_token_id": 151643, "eos_token_id": [151645, 151643]
    })
}

fn read(config: &Value) -> Result<Config, Error> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), config.to_string()).unwrap();
    Config::read(dir.path())
}

fn with(changes: Value) -> Result<Config, Error> {
    let mut config = published();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    read(&config)
}

fn without(key: &str) -> Result<Config, Error> {
    let mut config = published();
    config.as_object_mut().unwrap().remove(key);
    read(&config)
}

#[test]
fn both_styles_say_the_same() {
    let old = read(&published()).unwrap();
    assert_eq!((old.rope_theta, old.context, old.tied), (1e6, 40960, Some(true)));
    assert_eq!((old.token_ids.bos, old.token_ids.eos), (Some(151643), Some(151645)));
    let mut new = published();
    let map = new.as_object_mut().unwrap();
    map.remove("rope_theta");
    map.remove("rope_scaling");
    map.insert("rope_parameters".into(), json!({"rope_theta": 1000000.0, "rope_type": "default"}));
    assert_eq!(read(&new).unwrap(), old);
}

#[test]
fn an_absent_rope_theta_is_never_a_default() {
    let e = without("rope_theta").unwrap_err();
    assert!(
        e.to_string()
            .ends_with("config.json: rope_theta is missing; use the config.json that was published with the weights")
    );
    assert_eq!(e.exit_code(), 2);
}

#[test]
fn yarn_is_read_in_both_styles() {
    let yarn = Scaling::Yarn {
        factor: 4.0,
        original_context: 32768,
        ext_factor: None,
        attn_factor: None,
        beta_fast: None,
        beta_slow: None,
    };
    let old = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}});
    assert_eq!(with(old).unwrap().rope_scaling, Some(yarn.clone()));
    let new = json!({"rope_theta": null, "rope_parameters":
        {"rope_type": "yarn", "rope_theta": 5e6, "factor": 4, "original_max_position_embeddings": 32768.0}});
    let new = with(new).unwrap();
    assert_eq!((new.rope_scaling, new.rope_theta), (Some(yarn), 5e6));
    let e = with(json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})).unwrap_err();
    assert!(e.to_string().contains("original_max_position_embeddings is missing"));
    assert_eq!(with(json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})).unwrap_err().exit_code(), 3);
}

#[test]
fn experts_are_read_under_both_names() {
    let moe = |key: &str| {
        with(json!({"architectures": ["Qwen3MoeForCausalLM"], key: 128, "num_experts_per_tok": 8,
            "moe_intermediate_size": 768, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": []}))
    };
    let expected = Moe { experts: 128, used: 8, ff: 768, norm_weights: true };
    assert_eq!(moe("num_experts").unwrap().moe, Some(expected));
    assert_eq!(moe("num_local_experts").unwrap().moe, Some(expected));
    assert!(moe("experts").unwrap_err().to_string().contains("num_experts is missing"));
}

#[test]
fn other_architectures_are_named() {
    for class in ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3NextForCausalLM", "Qwen3VLForConditionalGeneration"] {
        let e = with(json!({"architectures": [class]})).unwrap_err();
        assert!(e.to_string().contains(&format!("architecture {class} is not supported")));
        assert_eq!(e.exit_code(), 3);
    }
    let e = with(json!({"architectures": null, "model_type": null})).unwrap_err();
    assert_eq!(e.exit_code(), 2);
}

#[test]
fn variants_that_would_compute_otherwise_are_refused() {
    for (changes, word) in [
        (json!({"hidden_act": "gelu"}), "hidden_act"),
        (json!({"attention_bias": true}), "attention_bias"),
        (json!({"use_sliding_window": true}), "use_sliding_window"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "sliding_attention"),
        (json!({"decoder_sparse_step": 2}), "decoder_sparse_step"),
        (json!({"mlp_only_layers": [0]}), "mlp_only_layers"),
        (json!({"is_causal": false}), "is_causal"),
        (json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": [1, 1]}}), "weight_block_size"),
    ] {
        let e = with(changes).unwrap_err();
        assert!(e.to_string().contains(word), "{e}");
        assert_eq!(e.exit_code(), 3, "{e}");
    }
}

#[test]
fn nonsense_is_a_wrong_file() {
    for changes in [
        json!({"hidden_size": 0}),
        json!({"hidden_size": -5}),
        json!({"hidden_size": "wide"}),
        json!({"num_hidden_layers": 1u64 << 40}),
        json!({"num_key_value_heads": 7}),
        json!({"rope_theta": -1.0}),
        json!({"rms_norm_eps": 1e300}),
        json!({"head_dim": 0}),
    ] {
        let e = with(changes.clone()).unwrap_err();
        assert_eq!(e.exit_code(), 2, "{changes} gave {e}");
    }
}
