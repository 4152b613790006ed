//! The generated checkpoints are the ones that scripts/make_reference.py computed with.
use std::fs;

use qwren_tests::generated::{tensor_shapes, write_checkpoint};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Digest of the file that the script's `weights()` gives for this spec, written down once.
#[test]
fn weights_equal_the_scripts_bit_by_bit() {
    let config = json!({"hidden_size": 32, "head_dim": 16, "num_attention_heads": 2, "num_key_value_heads": 1,
        "num_hidden_layers": 1, "intermediate_size": 64, "vocab_size": 50, "tie_word_embeddings": false});
    for (dtype, digest) in [
        ("float32", "948b333e7abdd8a5f27479e5ae2070e3dc88f0cb84e851977f6457e640542692"),
        ("float16", "744678d3eb79f2f93b3f5111f5a588e667ab524ead56c89dc6673cb8e68f644c"),
        ("bfloat16", "f03be6d66cdbc40aef2af8da523847fe1554da99954f800422b269f4acfd7699"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(&json!({"config": config, "dtype": dtype, "seed": 7, "shards": 1}), dir.path());
        let file = fs::read(dir.path().join("model.safetensors")).unwrap();
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let hex: String = Sha256::digest(&file[8 + header..]).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, digest, "{dtype}");
    }
}

#[test]
fn experts_and_tying_change_the_list_of_tensors() {
    let config = json!({"hidden_size": 8, "head_dim": 4, "num_attention_heads": 2, "num_key_value_heads": 1,
        "num_hidden_layers": 2, "moe_intermediate_size": 4, "num_experts": 3, "vocab_size": 5, "tie_word_embeddings": true});
    let shapes = tensor_shapes(&config);
    // embedding, final norm; a layer: 8 of attention and norms, the router, 3 × 3 of experts
    assert_eq!(shapes.len(), 2 + 2 * (8 + 1 + 9));
    assert!(shapes.contains(&("model.layers.1.mlp.experts.2.down_proj.weight".to_owned(), vec![8, 4])));
    assert!(!shapes.iter().any(|(name, _)| name == "lm_head.weight"));
}
