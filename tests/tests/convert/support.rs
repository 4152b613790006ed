//! Checkpoint folders to spoil, and the program to try them on.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use qwren_tests::{bin, generated};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A temporary checkpoint folder, and an empty folder for outputs.
pub struct Sample {
    root: TempDir,
}

/// One tensor of a safetensors file: name, type, shape, bytes.
pub type Tensor = (String, &'static str, Vec<usize>, Vec<u8>);

impl Sample {
    /// A small dense checkpoint in one file, untied, BF16.
    pub fn dense() -> Sample {
        Sample::new(json!({}), 1)
    }

    /// The same in three shards with an index.
    pub fn sharded() -> Sample {
        Sample::new(json!({}), 3)
    }

    /// A small MoE checkpoint with `changes` to its config.json.
    pub fn moe(changes: Value) -> Sample {
        let mut config = json!({
            "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 4, "num_experts_per_tok": 2,
            "moe_intermediate_size": 256, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": []
        });
        merge(&mut config, &changes);
        Sample::new(config, 1)
    }

    /// A checkpoint in some shards with `changes` to config.json.
    pub fn new(changes: Value, shards: u64) -> Sample {
        let mut config = json!({
            "architectures": ["Qwen3ForCausalLM"], "head_dim": 64, "hidden_size": 256, "intermediate_size": 256,
            "max_position_embeddings": 4096, "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": false, "vocab_size": 768,
            "bos_token_id": 743, "eos_token_id": 745
        });
        merge(&mut config, &changes);
        let root = tempfile::tempdir().expect("a temporary folder");
        let sample = Sample { root };
        fs::create_dir(sample.dir()).expect("a new folder");
        fs::create_dir(sample.outputs()).expect("a new folder");
        let spec = json!({"config": config, "dtype": "bfloat16", "seed": 5, "shards": shards});
        generated::write_checkpoint(&spec, &sample.dir());
        sample
    }

    /// The checkpoint folder.
    pub fn dir(&self) -> PathBuf {
        self.root.path().join("my model")
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn outputs(&self) -> PathBuf {
        self.root.path().join("out")
    }

    /// The output file.
    pub fn out(&self) -> PathBuf {
        self.outputs().join("x.gguf")
    }

    /// Names in the output folder, sorted.
    pub fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.outputs()).expect("the output folder");
        let mut names: Vec<String> =
            names.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    /// Changes a JSON file.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let path = self.path(name);
        let mut json = serde_json::from_slice(&fs::read(&path).expect("the file")).expect("JSON");
        change(&mut json);
        fs::write(path, json.to_string()).expect("a writable file");
    }

    /// Changes the tensors of a safetensors file.
    pub fn edit_tensors(&self, name: &str, change: impl FnOnce(&mut Vec<Tensor>)) {
        let path = self.path(name);
        let raw = fs::read(&path).expect("the file");
        let file = SafeTensors::deserialize(&raw).expect("a sound file");
        let mut tensors: Vec<Tensor> = file
            .tensors()
            .into_iter()
            .map(|(name, t)| (name, type_name(t.dtype()), t.shape().to_vec(), t.data().to_vec()))
            .collect();
        change(&mut tensors);
        qwren_tests::safetensors::write(&path, &tensors);
    }

    /// Changes the JSON header of a safetensors file and leaves the data as they are.
    pub fn edit_header(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let path = self.path(name);
        let raw = fs::read(&path).expect("the file");
        let len = u64::from_le_bytes(raw[..8].try_into().expect("8 bytes")) as usize;
        let mut header = serde_json::from_slice(&raw[8..8 + len]).expect("JSON");
        change(&mut header);
        let header = header.to_string();
        let all = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &raw[8 + len..]].concat();
        fs::write(path, all).expect("a writable file");
    }

    /// Runs the program on the folder.
    pub fn run(&self, args: &[&str]) -> Output {
        let out = self.out();
        convert(&self.dir(), &[&["-o", out.to_str().expect("UTF-8")], args].concat())
    }

    /// Asserts that the conversion succeeds, and returns what it says.
    pub fn converts(&self, args: &[&str]) -> Output {
        let output = self.run(args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(self.left(), ["x.gguf", "x.gguf.json", "x.gguf.sha256"]);
        output
    }

    /// Asserts the exit code, one line that says `words`, silence on stdout, and that nothing is left behind.
    pub fn fails(&self, args: &[&str], code: i32, words: &[&str]) {
        let output = self.run(args);
        assert_one_line(&output, code, words);
        assert_eq!(self.left(), [""; 0], "{words:?}");
    }
}

/// Runs the program.
pub fn convert(dir: &Path, args: &[&str]) -> Output {
    Command::new(bin("qwren-convert")).arg(dir).args(args).output().expect("qwren-convert starts")
}

/// Asserts a failure with `code` that is told in one line with all `words`.
#[track_caller]
pub fn assert_one_line(output: &Output, code: i32, words: &[&str]) {
    let stderr = text(&output.stderr);
    let told: Vec<&str> = stderr.lines().filter(|l| !l.starts_with("note: ")).collect();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(told.len(), 1, "{stderr}");
    assert!(told[0].starts_with("qwren-convert: "), "{stderr}");
    for word in words {
        assert!(told[0].contains(word), "{word:?} is not in: {stderr}");
    }
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What Git leaves in place of a large file of `size` bytes.
pub fn lfs_pointer(size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {size}\n", "0f".repeat(32))
}

/// Writes a safetensors file of (name, type, shape) whose data are a hole: zeros that take no room.
pub fn write_sparse(path: &Path, tensors: &[(String, &'static str, Vec<u64>)]) {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, dtype, shape) in tensors {
        let bytes_each = match *dtype {
            "F32" | "I32" => 4,
            "I64" => 8,
            _ => 2,
        };
        let end = at + shape.iter().product::<u64>() * bytes_each;
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let header = Value::Object(header).to_string();
    let mut file = File::create(path).expect("a new file");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("a writable file");
    file.write_all(header.as_bytes()).expect("a writable file");
    file.set_len(8 + header.len() as u64 + at).expect("a sparse file");
}

/// The tensors of a BF16 checkpoint with this config.json.
pub fn sparse_tensors(config: &Value) -> Vec<(String, &'static str, Vec<u64>)> {
    let wide = |shape: Vec<usize>| shape.into_iter().map(|n| n as u64).collect();
    generated::tensor_shapes(config).into_iter().map(|(name, shape)| (name, "BF16", wide(shape))).collect()
}

/// Writes config.json and a sparse BF16 checkpoint of its shapes.
pub fn sparse_checkpoint(dir: &Path, config: &Value) {
    fs::write(dir.join("config.json"), config.to_string()).expect("config.json");
    write_sparse(&dir.join("model.safetensors"), &sparse_tensors(config));
}

/// The name of a type in a safetensors header.
pub fn type_name(dtype: safetensors::Dtype) -> &'static str {
    match dtype {
        safetensors::Dtype::BF16 => "BF16",
        safetensors::Dtype::F16 => "F16",
        safetensors::Dtype::F32 => "F32",
        safetensors::Dtype::F8_E4M3 => "F8_E4M3",
        safetensors::Dtype::I8 => "I8",
        safetensors::Dtype::I32 => "I32",
        safetensors::Dtype::I64 => "I64",
        other => panic!("{other:?}"),
    }
}

fn merge(config: &mut Value, changes: &Value) {
    for (key, value) in changes.as_object().expect("an object") {
        config[key] = value.clone();
    }
}
