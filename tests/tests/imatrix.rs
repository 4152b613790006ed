//! `qwren imatrix` and `qwren-convert --imatrix`: the sums are llama-imatrix's, each expert has its own, and files made with
//! them are nearer to the original.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use qwren_quant::block::codec;
use qwren_quant::dtype::DType;
use qwren_quant::gguf::{GgufFile, Value};
use qwren_quant::imatrix::{Imatrix, Origin, Sums, write_gguf};
use qwren_tests::cli::{Run, qwren, run};
use qwren_tests::generated::checkpoint;
use qwren_tests::{bin, converted, data};

fn demo() -> PathBuf {
    converted("demo", &data("demo"), "f32")
}

fn moe() -> PathBuf {
    converted("gen-moe-norm", &checkpoint("gen-moe-norm"), "f32")
}

/// `qwren imatrix` over the text of the test data in chunks of 128 tokens.
fn collect(model: &Path, out: &Path, args: &[&str]) -> Run {
    in_chunks(128, model, out, args)
}

fn in_chunks(tokens: u32, model: &Path, out: &Path, args: &[&str]) -> Run {
    let mut command = qwren(["imatrix", "-f", "text.txt", "-c", &tokens.to_string()]);
    command.args(args).arg("-m").arg(model).arg("-o").arg(out).current_dir(data("imatrix"));
    run(command, "")
}

fn convert(checkpoint: &Path, out: &Path, args: &[&str]) -> Run {
    let mut command = Command::new(bin("qwren-convert"));
    command.arg(checkpoint).args(args).arg("-o").arg(out);
    run(command, "")
}

fn floats(file: &GgufFile, name: &str) -> Vec<f32> {
    let t = file.header().tensor(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(t.dtype, DType::F32);
    let mut values = vec![0.0; (t.bytes / 4) as usize];
    codec(DType::F32).unwrap().dequantize(file.data(t), &mut values);
    values
}

/// Recorded in tests/data/imatrix: `llama-imatrix -m FILE -f text.txt -c 128 -t 1 --parse-special -o OUT`.
#[test]
fn sums_are_llama_imatrixs() {
    let dir = tempfile::tempdir().unwrap();
    for (name, model) in [("demo", demo()), ("moe", moe())] {
        let out = dir.path().join(format!("{name}.gguf"));
        collect(&model, &out, &["--parse-special"]).ok();
        let recorded = data("imatrix").join(name).with_extension("gguf");
        let (ours, theirs) = (GgufFile::open(&out).unwrap(), GgufFile::open(&recorded).unwrap());
        // Keys, names, shapes and their order: but for the values these are the same bytes.
        assert!(ours.header().metadata().eq(theirs.header().metadata()), "{name}");
        assert_eq!(ours.header().tensors(), theirs.header().tensors());
        assert_eq!(ours.header().data_offset, theirs.header().data_offset);
        assert_eq!(ours.file_len(), theirs.file_len());
        for t in ours.header().tensors() {
            let (a, b) = (floats(&ours, &t.name), floats(&theirs, &t.name));
            let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let total = |x: &[f32]| x.iter().sum::<f32>();
            if t.name.ends_with(".counts") {
                // In a layer of random experts a choice now and then hangs on the last bit.
                assert!(apart(&a, &b) <= if a.len() > 1 { 4.0 } else { 0.0 }, "{}: {a:?} {b:?}", t.name);
                assert_eq!(total(&a), total(&b), "{}", t.name);
            } else {
                // The peer sums in f32 and computes in another order, with exp and dot products of its own.
                let off: f32 = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f32>() / total(&b);
                assert!(off < if name == "demo" { 3e-4 } else { 5e-3 }, "{}: {off}", t.name);
            }
        }
    }
}

#[test]
fn both_forms_of_both_programs_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours.dat");
    collect(&demo(), &ours, &["--parse-special", "--format", "dat"]).ok();
    let paths = [ours, data("imatrix/demo.dat"), data("imatrix/demo.gguf")];
    let read = paths.each_ref().map(|path| Imatrix::read(path).unwrap());
    assert!(fs::metadata(&paths[0]).unwrap().len() == fs::metadata(&paths[1]).unwrap().len());
    for matrix in &read {
        assert_eq!(matrix.names().len(), 28);
        assert_eq!((matrix.datasets(), matrix.chunks()), (&["text.txt".to_owned()][..], read[2].chunks()));
        for name in matrix.names() {
            let cols = if name.contains("ffn_down") { 512 } else { 256 };
            let values = |m: &Imatrix| m.importance(name, cols, 1).unwrap().unwrap().weights;
            for (a, b) in values(matrix).iter().zip(values(&read[2])) {
                assert!((a - b).abs() <= 2e-3 * b, "{name}: {a} {b}");
            }
        }
    }
}

#[test]
fn the_file_is_the_same_for_any_threads_and_batches() {
    let dir = tempfile::tempdir().unwrap();
    for (name, model) in [("demo", demo()), ("moe", moe())] {
        let make = |args: &[&str]| {
            let out = dir.path().join(format!("{name} {}", args.join(" ")));
            collect(&model, &out, &[args, &["--process-output", "--chunks", "2"]].concat()).ok();
            fs::read(out).unwrap()
        };
        let one = make(&["-t", "1"]);
        for args in [&["-t", "3"][..], &["-t", "2", "-b", "48"], &["-b", "1"]] {
            assert!(make(args) == one, "{name} {args:?}");
        }
    }
}

#[test]
fn chunks_and_the_output_matrix_are_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.gguf");
    let said = collect(&moe(), &out, &["--chunks", "2", "--process-output"]);
    assert_eq!(said.stdout, "");
    assert!(said.stderr.contains("m.gguf: 17 entries from 2 of 2 chunks"), "{}", said.stderr);
    let matrix = Imatrix::read(&out).unwrap();
    assert_eq!(matrix.chunks(), 2);
    assert!(matrix.importance("output.weight", 256, 1).unwrap().is_some());
    let file = GgufFile::open(&out).unwrap();
    assert_eq!(floats(&file, "output.weight.counts"), [256.0]);
    // Each token has two experts.
    let counts = floats(&file, "blk.1.ffn_down_exps.weight.counts");
    assert_eq!((counts.len(), counts.iter().sum::<f32>()), (8, 512.0));
    // Where the embedding is the output matrix, it has the entry.
    let tied = converted("dense-tied", &data("checkpoints/dense-tied"), "f32");
    let out = dir.path().join("tied.gguf");
    collect(&tied, &out, &["--chunks", "1", "--process-output"]).ok();
    assert!(Imatrix::read(&out).unwrap().names().any(|name| name == "token_embd.weight"));
}

#[test]
fn wrong_usage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.gguf");
    let said = in_chunks(100_000, &demo(), &out, &[]).error(2);
    assert!(said.contains("text.txt: has ") && said.contains("a chunk has 100000; give a longer text"), "{said}");
    assert!(collect(&demo(), &out, &["--stock-ops"]).error(2).contains("run without --stock-ops"));
    assert!(!out.exists());
    fs::write(&out, "mine").unwrap();
    assert!(collect(&demo(), &out, &[]).error(2).contains("exists already"));
    assert_eq!(fs::read(&out).unwrap(), b"mine");
}

/// Ctrl-C keeps what was summed.
#[test]
fn an_interrupted_run_writes_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (text, out) = (dir.path().join("long.txt"), dir.path().join("m.gguf"));
    fs::write(&text, fs::read_to_string(data("imatrix/text.txt")).unwrap().repeat(60)).unwrap();
    let mut command = qwren(["imatrix", "-c", "64", "-t", "1"]);
    command.arg("-m").arg(demo()).arg("-f").arg(&text).arg("-o").arg(&out);
    command.stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    // The file under another name shows that the work begins. Then there is time for some chunks, and not for all.
    let begun = || fs::read_dir(dir.path()).unwrap().count() > 1;
    for _ in 0..600 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        if begun() {
            break;
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    // On a slow machine not one chunk was whole.
    if out.exists() {
        assert!(said.contains("m.gguf: 28 entries from ") && said.contains(" chunks, interrupted"), "{said}");
        assert!(Imatrix::read(&out).unwrap().chunks() > 0);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1 + usize::from(out.exists()), "nothing is left behind");
}

fn key<'h>(file: &'h GgufFile, name: &str) -> Option<&'h Value> {
    file.header().get(&format!("quantize.imatrix.{name}"))
}

/// Mean KL divergence of a quantized demo from the original over text that the matrix was not made from.
fn divergence(model: &Path, base: &Path) -> f64 {
    let mut command = qwren(["perplexity", "-f", "heldout.txt", "-c", "256", "--json"]);
    command.arg("-m").arg(model).arg("--base-logits").arg(base).current_dir(data("imatrix"));
    let score: serde_json::Value = serde_json::from_str(&run(command, "").ok()).unwrap();
    score["kl"]["mean"].as_f64().unwrap()
}

#[test]
fn files_made_by_importance_are_nearer_to_the_original() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut command = qwren(["perplexity", "-f", "heldout.txt", "-c", "256", "--save-logits"]);
    command.arg(path("base")).arg("-m").arg(demo()).current_dir(data("imatrix"));
    run(command, "").ok();
    let matrix = data("imatrix/demo.gguf").display().to_string();
    for dtype in ["q4_k_m", "q5_k_m"] {
        let plain = converted("demo", &data("demo"), dtype);
        let with = path(dtype);
        convert(&data("demo"), &with, &["--type", dtype, "--imatrix", &matrix, "--quiet"]).ok();
        let (before, after) = (divergence(&plain, &path("base")), divergence(&with, &path("base")));
        assert!(after < before, "{dtype}: {after} with, {before} without");

        let file = GgufFile::open(&with).unwrap();
        assert_eq!(key(&file, "file"), Some(&Value::String(matrix.clone())));
        assert_eq!(key(&file, "dataset"), Some(&Value::String("text.txt".into())));
        assert_eq!(key(&file, "entries_count"), Some(&Value::U32(28)));
        assert_eq!(key(&file, "chunks_count").map(Value::type_name).as_deref(), Some("uint32"));
        assert_eq!(key(&GgufFile::open(&plain).unwrap(), "file"), None);
    }
}

/// The error of each expert, weighted by what that expert is fed, falls for every expert.
#[test]
fn each_expert_is_quantized_by_its_own_importance() {
    let dir = tempfile::tempdir().unwrap();
    let with = dir.path().join("with.gguf");
    let matrix = data("imatrix/moe.gguf");
    let source = checkpoint("gen-moe-norm");
    convert(&source, &with, &["--type", "q4_k_m", "--imatrix", &matrix.display().to_string(), "--quiet"]).ok();
    let plain = converted("gen-moe-norm", &source, "q4_k_m");
    let [original, plain, with] = [moe(), plain, with].map(|path| GgufFile::open(&path).unwrap());
    let matrix = Imatrix::read(&matrix).unwrap();
    for name in ["blk.0.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight"] {
        let weights = matrix.importance(name, 256, 8).unwrap().unwrap().weights;
        let values = |file: &GgufFile| {
            let t = file.header().tensor(name).unwrap();
            let mut values = vec![0.0f32; 256 * 256 * 8];
            codec(t.dtype).unwrap().dequantize(file.data(t), &mut values);
            values
        };
        let (exact, plain, with) = (values(&original), values(&plain), values(&with));
        for expert in 0..8 {
            let error = |got: &[f32]| -> f64 {
                let span = expert * 65_536..(expert + 1) * 65_536;
                let pairs = exact[span.clone()].iter().zip(&got[span]).enumerate();
                pairs.map(|(i, (x, y))| f64::from((x - y).powi(2) * weights[expert * 256 + i % 256])).sum()
            };
            assert!(error(&with) < error(&plain), "{name}, expert {expert}");
        }
    }
}

#[test]
fn what_a_matrix_lacks_is_said_and_another_models_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (matrix, out) = (dir.path().join("i.gguf"), dir.path().join("out.gguf"));
    let write = |entries: &[(&str, usize, &[u64])]| {
        let squares: Vec<Vec<f64>> = entries.iter().map(|(_, cols, rows)| vec![1.0; cols * rows.len()]).collect();
        let sums: Vec<Sums<'_>> =
            entries.iter().zip(&squares).map(|((name, _, rows), squares)| Sums { name, squares, rows }).collect();
        let origin = Origin { dataset: "t", chunks: 1, chunk_size: 1 };
        write_gguf(fs::File::create(&matrix).unwrap(), &sums, &origin).unwrap();
    };
    let say = |checkpoint: &Path, args: &[&str]| {
        let given = matrix.display().to_string();
        convert(checkpoint, &out, &[&["--imatrix", &given, "--force"], args].concat())
    };
    let (dense, experts) = (data("demo"), checkpoint("gen-moe-norm"));

    write(&[("blk.0.attn_q.weight", 256, &[1])]);
    let said = say(&dense, &[]);
    assert!(said.stderr.contains("i.gguf has no entry for token_embd.weight and 27 more"), "{}", said.stderr);
    let said = say(&dense, &["--type", "q8_0"]);
    assert!(said.stderr.contains("i.gguf changes nothing"), "{}", said.stderr);
    write(&[("blk.0.ffn_up_exps.weight", 256, &[1, 0, 2, 0, 3, 1, 1, 1])]);
    let said = say(&experts, &[]);
    assert!(said.stderr.contains("i.gguf has seen nothing of 2 of 8 matrices of experts"), "{}", said.stderr);

    fs::remove_file(&out).unwrap();
    write(&[("blk.0.attn_q.weight", 256, &[1]), ("blk.9.attn_q.weight", 256, &[1])]);
    assert!(
        say(&dense, &[]).error(2).contains("i.gguf: has an entry for 'blk.9.attn_q.weight', which this model lacks")
    );
    write(&[("model.layers.0.q", 256, &[1])]);
    assert!(say(&dense, &[]).error(2).contains("which this model lacks: it was made from another model"));
    write(&[("blk.0.attn_q.weight", 128, &[1])]);
    let said = say(&dense, &[]).error(2);
    assert!(said.contains("has 128 values for 'blk.0.attn_q.weight', where the model has 1 × 256 columns"), "{said}");
    assert!(say(&experts, &["--dry-run"]).error(2).contains("it was made from another model"));
    fs::write(&matrix, "no matrix").unwrap();
    assert!(say(&dense, &[]).error(2).contains("i.gguf: is no importance matrix"));
    fs::remove_file(&matrix).unwrap();
    assert!(say(&dense, &[]).error(2).contains("i.gguf: No such file"));
    assert!(!out.exists());
}

/// Under none of the names that a conversion makes use of, on its way and at its end.
#[test]
fn a_matrix_that_is_read_is_not_replaced() {
    let recorded = fs::read(data("imatrix/demo.gguf")).unwrap();
    for name in ["", ".json", ".sha256", ".partial", ".json.partial", ".sha256.partial", ".partial.journal"] {
        let dir = tempfile::tempdir().unwrap();
        let (matrix, out) = (dir.path().join(format!("x.gguf{name}")), dir.path().join("x.gguf"));
        fs::write(&matrix, &recorded).unwrap();
        let said =
            convert(&data("demo"), &out, &["--force", "--quiet", "--imatrix", matrix.to_str().unwrap()]).error(2);
        assert!(said.contains(&format!("x.gguf{name}: is read by this conversion")), "{said}");
        assert!(fs::read(&matrix).unwrap() == recorded && (name.is_empty() || !out.exists()), "{name}");
    }
}
