//! Folders that can't be converted: one line, the right exit code, nothing left behind. Ids as in the field reports
//! that each test guards against.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::process::Command;

use qwren_convert::plan::{Options, Plan};
use qwren_convert::recipe::FileType;
use serde_json::{Value, json};

use crate::support::{Sample, assert_one_line, convert, lfs_pointer, write_sparse};

const WEIGHTS: &str = "model.safetensors";

#[test]
fn c2_missing_shards_are_named_with_the_tensors_that_they_hold() {
    let sample = Sample::sharded();
    let index: Value = serde_json::from_slice(&fs::read(sample.path("model.safetensors.index.json")).unwrap()).unwrap();
    let map = index["weight_map"].as_object().unwrap();
    let lost = "model-00002-of-00003.safetensors";
    let tensors = map.values().filter(|v| *v == lost).count();
    fs::remove_file(sample.path(lost)).unwrap();
    let told = format!("1 of 3 shards are missing ({lost}), which hold {tensors} of {} tensors", map.len());
    sample.fails(&[], 2, &["model.safetensors.index.json", &told]);

    // Without an index the names still tell what is missing.
    fs::remove_file(sample.path("model.safetensors.index.json")).unwrap();
    sample.fails(&[], 2, &["1 of 3 shards are missing", lost]);
    let whole = Sample::sharded();
    fs::remove_file(whole.path("model.safetensors.index.json")).unwrap();
    whole.converts(&["--type", "f32"]);
}

#[test]
fn c2_an_index_of_another_revision() {
    let sample = Sample::sharded();
    sample.edit("model.safetensors.index.json", |index| {
        index["weight_map"]["model.layers.0.mlp.down_proj.weight"] = json!("model-00003-of-00003.safetensors");
    });
    sample.fails(&[], 2, &["model.layers.0.mlp.down_proj.weight should be in model-00003-of-00003.safetensors"]);
    sample.edit("model.safetensors.index.json", |index| index["weight_map"]["x"] = json!("../x.safetensors"));
    sample.fails(&[], 2, &["\"../x.safetensors\" is not a plain file name"]);
}

#[test]
fn c3_lfs_pointers_in_place_of_any_file() {
    for name in [WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let sample = Sample::dense();
        fs::write(sample.path(name), lfs_pointer(1_503_300_328)).unwrap();
        sample.fails(&[], 2, &[name, "Git LFS pointer; 1503300328 bytes are promised", "git lfs pull"]);
    }
    let sample = Sample::sharded();
    fs::write(sample.path("model-00001-of-00003.safetensors"), lfs_pointer(77)).unwrap();
    sample.fails(&[], 2, &["model-00001-of-00003.safetensors", "77 bytes"]);
}

#[test]
fn c4_half_a_download_is_told_with_both_numbers() {
    let sample = Sample::dense();
    let path = sample.path(WEIGHTS);
    let whole = fs::metadata(&path).unwrap().len();
    let cut = |len: u64| OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
    cut(whole + 1);
    sample.fails(&[], 2, &[&format!("has {} bytes where its header accounts for {whole}", whole + 1)]);
    for len in [whole - 1, whole / 2] {
        cut(len);
        sample.fails(&[], 2, &[&format!("promises {whole} bytes but has {len}; it is truncated")]);
    }
    cut(100);
    sample.fails(&[], 2, &["but has 100 bytes in all; it is truncated"]);
    cut(5);
    sample.fails(&[], 2, &["has 5 bytes, too few"]);
    cut(0);
    sample.fails(&[], 2, &["has 0 bytes, too few"]);
}

#[test]
fn spans_that_overlap_leave_gaps_or_lie_outside() {
    let first = "model.embed_tokens.weight";
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 7] = [
        (|h| h["model.norm.weight"]["data_offsets"] = json!([0, 512]), "overlap"),
        (|h| h["model.norm.weight"]["data_offsets"] = json!([1u64 << 40, (1u64 << 40) + 512]), "belong to no tensor"),
        (|h| h["model.norm.weight"]["data_offsets"] = json!([512, 0]), "ends (0) before it begins (512)"),
        (|h| h["model.norm.weight"]["shape"] = json!([257]), "but its shape [257] of type BF16 needs 514 bytes"),
        (|h| h["model.norm.weight"]["shape"] = json!([1u64 << 40, 1u64 << 40]), "needs more than a file can hold"),
        (|h| h["model.norm.weight"]["dtype"] = json!("BF17"), "header is malformed"),
        (|h| *h = json!([1, 2, 3]), "header is malformed"),
    ];
    for (change, words) in changes {
        let sample = Sample::dense();
        sample.edit_header(WEIGHTS, |header| {
            assert!(header[first].is_object());
            change(header);
        });
        sample.fails(&[], 2, &[WEIGHTS, words]);
    }
    let sample = Sample::dense();
    fs::write(sample.path(WEIGHTS), [0xff; 64]).unwrap();
    sample.fails(&[], 2, &["promises a header of 18446744073709551615 bytes"]);
}

#[test]
fn other_architectures_are_named() {
    for class in ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3NextForCausalLM", "Qwen3VLForConditionalGeneration"] {
        let sample = Sample::dense();
        sample.edit("config.json", |c| c["architectures"] = json!([class]));
        sample.fails(&[], 3, &["config.json", &format!("architecture {class} is not supported")]);
    }
}

#[test]
fn c6_quantized_checkpoints_are_recognised_before_work() {
    for (config, method) in [
        (json!({"quant_method": "gptq", "bits": 3, "group_size": 128}), "GPTQ with 3 bits"),
        (json!({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"}), "AWQ in \"gemv\" layout"),
        (json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), "bitsandbytes"),
        (json!({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}), "compressed-tensors"),
        (json!({"quant_method": "exl2"}), "EXL2"),
        (json!({"quant_method": "exl3"}), "EXL3"),
        (json!({"quant_method": "hqq"}), "HQQ"),
        (json!({"quant_method": "quark"}), "quark"),
        (json!({"quant_method": "torchao"}), "torchao"),
        (json!({"quant_method": "something-new"}), "something-new"),
    ] {
        let sample = Sample::dense();
        sample.edit("config.json", |c| c["quantization_config"] = config);
        sample.fails(&[], 3, &[&format!("quantized with {method}"), "use the original checkpoint"]);
    }
    // The model card knows what to fetch.
    let card = Sample::dense();
    card.edit("config.json", |c| c["quantization_config"] = json!({"quant_method": "hqq"}));
    fs::write(card.path("README.md"), "---\nlicense: mit\nbase_model:\n- Qwen/Qwen3-8B\n---\n").unwrap();
    card.fails(&[], 3, &["config.json: is quantized with HQQ", "use the original checkpoint, Qwen/Qwen3-8B"]);
    let mlx = Sample::dense();
    mlx.edit("config.json", |c| c["quantization"] = json!({"group_size": 64, "bits": 4}));
    mlx.fails(&[], 3, &["quantized with MLX"]);
    for (suffix, method) in
        [("qweight", "GPTQ or AWQ"), ("weight_packed", "compressed-tensors"), ("weight.absmax", "bitsandbytes")]
    {
        let sample = Sample::dense();
        let name = format!("model.layers.0.self_attn.q_proj.{suffix}");
        sample.edit_tensors(WEIGHTS, |t| t.push((name.clone(), "F32", vec![1], vec![0; 4])));
        sample.fails(&[], 3, &[&format!("quantized with {method} (tensor {name}")]);
    }
}

#[test]
fn c7_tied_and_untied_heads() {
    let untied = Sample::dense();
    untied.edit_tensors(WEIGHTS, |t| t.retain(|t| t.0 != "lm_head.weight"));
    untied.fails(&[], 2, &["config.json", "lm_head.weight is not there", "--tie-embeddings"]);
    untied.converts(&["--tie-embeddings", "--type", "f32"]);
    // Unsaid and not stored: tied.
    untied.edit("config.json", |c| _ = c.as_object_mut().unwrap().remove("tie_word_embeddings"));
    untied.converts(&["--force", "--type", "f32"]);

    let both = Sample::dense();
    both.edit("config.json", |c| c["tie_word_embeddings"] = json!(true));
    let output = both.converts(&["--type", "f32"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("lm_head.weight is stored: it becomes output.weight"));
}

#[test]
fn c8_head_dim_is_settled_by_shapes() {
    let sample = Sample::dense();
    sample.edit("config.json", |c| _ = c.as_object_mut().unwrap().remove("head_dim"));
    sample.converts(&["--type", "f32"]);
    let header = qwren_quant::gguf::GgufFile::open(&sample.out()).unwrap();
    assert_eq!(header.header().u32("qwen3.attention.key_length").unwrap(), Some(64));

    let wrong = Sample::dense();
    wrong.edit("config.json", |c| c["head_dim"] = json!(128));
    wrong.fails(&[], 2, &["self_attn.q_proj.weight has shape [256, 256], config.json implies [512, 256]"]);
}

#[test]
fn tensors_that_are_missing_unknown_or_of_another_shape_or_type() {
    let lost = "model.layers.1.mlp.up_proj.weight";
    let missing = Sample::dense();
    missing.edit_tensors(WEIGHTS, |t| t.retain(|t| t.0 != lost));
    missing.fails(&[], 2, &[&format!("tensor {lost} is missing (1 in all)")]);

    let more_layers = Sample::dense();
    more_layers.edit("config.json", |c| c["num_hidden_layers"] = json!(4000));
    more_layers.fails(&[], 2, &["tensor model.layers.2.input_layernorm.weight is missing (1000 or more in all)"]);

    let adapter = Sample::dense();
    let name = "model.layers.0.self_attn.q_proj.lora_A.weight";
    adapter.edit_tensors(WEIGHTS, |t| t.push((name.into(), "F32", vec![1], vec![0; 4])));
    adapter.fails(&[], 3, &[&format!("tensor {name} is unknown to Qwen3")]);

    let vocab = Sample::dense();
    vocab.edit("config.json", |c| c["vocab_size"] = json!(800));
    vocab.fails(&[], 2, &["model.embed_tokens.weight has shape [768, 256], config.json implies [800, 256]"]);

    let integers = Sample::dense();
    integers.edit_header(WEIGHTS, |h| h["model.norm.weight"]["dtype"] = json!("I16"));
    integers.fails(&[], 3, &["tensor model.norm.weight has type I16"]);

    let expert = Sample::moe(json!({}));
    let lost = "model.layers.0.mlp.experts.3.down_proj.weight";
    expert.edit_tensors(WEIGHTS, |t| t.retain(|t| t.0 != lost));
    expert.fails(&[], 2, &[&format!("tensor {lost} is missing")]);
}

#[test]
fn c16_weights_that_are_not_finite_are_counted() {
    let spoiled = "model.layers.1.mlp.down_proj.weight";
    let sample = Sample::dense();
    sample.edit_tensors(WEIGHTS, |tensors| {
        let bytes = &mut tensors.iter_mut().find(|t| t.0 == spoiled).unwrap().3;
        for (at, value) in [(1000, half::bf16::NAN), (1001, half::bf16::INFINITY), (65535, half::bf16::NEG_INFINITY)] {
            bytes[2 * at..][..2].copy_from_slice(&value.to_le_bytes());
        }
    });
    for dtype in ["f32", "q8_0", "q4_k_m"] {
        let told = format!("tensor {spoiled} has 3 values that are not finite, the first (NaN) at index 1000");
        sample.fails(&["--type", dtype], 2, &[WEIGHTS, &told]);
    }
    for dtype in ["f32", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"] {
        let output = sample.converts(&["--type", dtype, "--allow-nonfinite", "--force"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("note: 3 values of {spoiled}")));
    }
}

#[test]
fn values_beyond_f16_do_not_become_infinite_in_silence() {
    let sample = Sample::dense();
    sample.edit_tensors(WEIGHTS, |tensors| {
        let bytes = &mut tensors.iter_mut().find(|t| t.0 == "lm_head.weight").unwrap().3;
        bytes[14..16].copy_from_slice(&half::bf16::from_f32(-1e6).to_le_bytes());
    });
    sample.fails(&["--type", "f16"], 2, &["tensor lm_head.weight has 1 values beyond what F16 holds", "at index 7"]);
    sample.converts(&["--type", "bf16"]);
}

#[test]
fn folders_that_are_none_or_hold_no_weights() {
    let sample = Sample::dense();
    let absent = sample.path("absent");
    assert_one_line(&convert(&absent, &["-o", "x"]), 2, &["absent: does not exist"]);
    assert_one_line(&convert(&sample.path(WEIGHTS), &["-o", "x"]), 2, &["is not a folder"]);
    for (name, code, words) in
        [(WEIGHTS, 2, "holds no *.safetensors"), ("config.json", 2, "config.json: does not exist")]
    {
        let sample = Sample::dense();
        fs::remove_file(sample.path(name)).unwrap();
        sample.fails(&[], code, &[words]);
        if name == WEIGHTS {
            fs::write(sample.path("pytorch_model.bin"), "x").unwrap();
            sample.fails(&[], 3, &["only pytorch_model.bin; use a safetensors checkpoint"]);
        }
    }
    let broken = Sample::dense();
    fs::write(broken.path("config.json"), "{\"architectures\": [\"Qwen3ForCausalLM\"],").unwrap();
    broken.fails(&[], 2, &["config.json", "is not the JSON expected here", "line 1"]);
    fs::write(broken.path("config.json"), "{} {}").unwrap();
    broken.fails(&[], 2, &["config.json: goes on after its JSON", "line 1 column 4"]);
}

#[test]
fn entries_of_config_json_of_a_wrong_kind_are_named() {
    let sample = Sample::dense();
    let path = sample.path("config.json");
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (entry, name) in [
        (json!({"hidden_size": "64"}), "hidden_size: invalid type: string \"64\", expected u64"),
        (json!({"num_hidden_layers": -1}), "num_hidden_layers: invalid "),
        (json!({"rms_norm_eps": [1]}), "rms_norm_eps: invalid type: sequence, expected f64"),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": "4"}}), "rope_scaling.factor: invalid type: string"),
        (json!({"layer_types": ["full_attention", 3]}), "layer_types[1]: invalid type: number"),
    ] {
        let mut config = whole.clone();
        config.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
        fs::write(&path, config.to_string()).unwrap();
        sample.fails(&[], 2, &["config.json: is not the JSON expected here", name]);
    }
}

#[test]
fn files_that_are_pipes_or_dangling_links_do_not_hang() {
    for name in ["config.json", WEIGHTS, "tokenizer.json"] {
        let sample = Sample::dense();
        fs::remove_file(sample.path(name)).unwrap();
        assert!(Command::new("mkfifo").arg(sample.path(name)).status().unwrap().success());
        sample.fails(&[], 2, &[name, "is not a regular file"]);
        fs::remove_file(sample.path(name)).unwrap();
        symlink("../../blobs/gone", sample.path(name)).unwrap();
        sample.fails(&[], 2, &[name, "exist"]);
    }
}

#[test]
fn c21_other_files_and_copies_are_noted_and_not_read() {
    let sample = Sample::sharded();
    fs::write(sample.path("consolidated.safetensors"), "not read").unwrap();
    fs::write(sample.path("optimizer.pt"), "not read").unwrap();
    // A second copy of a tensor, in another shard than the index says.
    sample.edit_tensors("model-00003-of-00003.safetensors", |t| {
        t.push(("model.embed_tokens.weight".into(), "F32", vec![1], vec![0; 4]));
        t.push(("nobody.asked".into(), "F32", vec![1], vec![0; 4]));
    });
    let output = sample.converts(&["--type", "f32"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    for note in [
        "not read: consolidated.safetensors, optimizer.pt",
        "1 tensors are stored twice",
        "1 tensors that the index does not name",
    ] {
        assert!(stderr.contains(note), "{stderr}");
    }
}

#[test]
fn c20_read_only_folders_and_hub_links_work() {
    let sample = Sample::dense();
    let blobs = sample.dir().parent().unwrap().join("blobs");
    fs::create_dir(&blobs).unwrap();
    for name in [WEIGHTS, "config.json", "tokenizer.json"] {
        fs::rename(sample.path(name), blobs.join(name)).unwrap();
        symlink(format!("../blobs/{name}"), sample.path(name)).unwrap();
    }
    let read_only = |on: bool| {
        let mut rights = fs::metadata(sample.dir()).unwrap().permissions();
        rights.set_readonly(on);
        fs::set_permissions(sample.dir(), rights).unwrap();
    };
    read_only(true);
    let output = sample.run(&["--type", "f32"]);
    // The same through a name of other letters.
    let named = blobs.with_file_name("модель 模型 é");
    symlink(sample.dir(), &named).unwrap();
    let out = blobs.with_file_name("вывод.gguf");
    let again = convert(&named, &["--type", "f32", "-o", out.to_str().unwrap()]);
    read_only(false);
    for output in [output, again] {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(fs::read(out).unwrap() == fs::read(sample.out()).unwrap());
}

#[test]
fn experts_stored_as_one_tensor_convert_to_the_same_bytes() {
    let sample = Sample::moe(json!({}));
    sample.converts(&["--type", "q8_0", "--quiet"]);
    let single = fs::read(sample.out()).unwrap();
    sample.edit_tensors(WEIGHTS, |tensors| {
        for l in 0..2 {
            let prefix = format!("model.layers.{l}.mlp.experts.");
            let mut take = |e: usize, kind: &str| {
                let i = tensors.iter().position(|t| t.0 == format!("{prefix}{e}.{kind}_proj.weight")).unwrap();
                tensors.remove(i).3
            };
            let (mut gate_up, mut down) = (Vec::new(), Vec::new());
            for e in 0..4 {
                gate_up.extend(take(e, "gate"));
                gate_up.extend(take(e, "up"));
                down.extend(take(e, "down"));
            }
            tensors.push((format!("{prefix}gate_up_proj"), "BF16", vec![4, 512, 256], gate_up));
            tensors.push((format!("{prefix}down_proj"), "BF16", vec![4, 256, 256], down));
        }
    });
    sample.converts(&["--type", "q8_0", "--quiet", "--force"]);
    assert!(fs::read(sample.out()).unwrap() == single);
}

#[test]
fn a_header_with_more_tensors_than_any_model_is_read_in_time() {
    let sample = Sample::new(json!({"tie_word_embeddings": true}), 1);
    let tensors: Vec<_> = (0..200_000).map(|i| (format!("t{i}"), "F32", vec![0])).collect();
    write_sparse(&sample.path(WEIGHTS), &tensors);
    sample.fails(&[], 2, &["tensor model.embed_tokens.weight is missing"]);
}

/// Every file that is read, with single bytes changed and cut short: an error or a plan, never a panic.
#[test]
fn damaged_files_are_errors_and_nothing_else() {
    let options = Options::new(FileType::Q4_K_M);
    let sample = Sample::sharded();
    for (name, reach) in [
        ("config.json", usize::MAX),
        ("model.safetensors.index.json", 1200),
        ("model-00001-of-00003.safetensors", 1200),
        ("tokenizer.json", 1200),
        ("tokenizer_config.json", 1200),
        ("generation_config.json", usize::MAX),
    ] {
        let whole = fs::read(sample.path(name)).unwrap();
        for i in (0..whole.len().min(reach)).step_by(13) {
            for byte in [b'"', b'9', b'}', 0xff] {
                let mut damaged = whole.clone();
                damaged[i] = byte;
                fs::write(sample.path(name), &damaged).unwrap();
                let codes = Plan::new(&sample.dir(), &options).err().map(|e| e.exit_code());
                assert!(matches!(codes, None | Some(2 | 3)), "{name} byte {i} = {byte}: {codes:?}");
            }
            fs::write(sample.path(name), &whole[..i]).unwrap();
            let result = Plan::new(&sample.dir(), &options);
            // generation_config.json is advice: a broken one is ignored.
            assert!(result.is_err_and(|e| e.exit_code() == 2) || name == "generation_config.json", "{name} cut at {i}");
        }
        fs::write(sample.path(name), &whole).unwrap();
    }
    assert!(Plan::new(&sample.dir(), &options).is_ok());
}
