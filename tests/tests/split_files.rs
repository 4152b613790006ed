//! A model in several files runs, is verified and inspected as the one file it was cut from.
use qwren_tests::cli::{qwren, random_model, run};
use qwren_tests::split::split;

#[test]
fn a_split_model_is_used_like_the_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let whole = random_model();
    let parts = split(&whole, dir.path(), "m", 3);
    let say = |model: &std::path::Path| {
        let mut command = qwren(["complete", "-p", "the", "-n", "12", "--temp", "0", "-m"]);
        command.arg(model);
        run(command, "").ok()
    };
    let expected = say(&whole);
    assert!(!expected.is_empty());
    for part in &parts {
        assert_eq!(say(part), expected);
    }

    let mut command = qwren(["inspect", "--json"]);
    command.arg(&parts[1]);
    let report: serde_json::Value = serde_json::from_str(&run(command, "").ok()).unwrap();
    let bytes: u64 = parts.iter().map(|p| std::fs::metadata(p).unwrap().len()).sum();
    assert_eq!(report["file_bytes"], bytes);
    assert_eq!(report["memory"]["file_bytes"], bytes);
    assert_eq!(report["parts"].as_array().unwrap().len(), 3);
    assert_eq!(report["metadata"]["split.tensors.count"], report["tensors"].as_array().unwrap().len());
    assert_eq!(report["tensors"].as_array().unwrap().last().unwrap()["part"], 2);

    // A digest beside any part is compared.
    std::fs::write(dir.path().join("m-00003-of-00003.gguf.sha256"), format!("{}\n", "0".repeat(64))).unwrap();
    let mut command = qwren(["verify"]);
    command.arg(&parts[0]);
    let out = run(command, "");
    assert_eq!(out.code, Some(2));
    assert!(out.stderr.contains("m-00003-of-00003.gguf: has the SHA-256 "), "{}", out.stderr);
    std::fs::remove_file(dir.path().join("m-00003-of-00003.gguf.sha256")).unwrap();
    let mut command = qwren(["verify"]);
    command.arg(&parts[0]);
    let said = run(command, "").ok();
    assert!(said.contains("whole: qwen3, ") && said.contains("values     finite in "), "{said}");
}

#[test]
fn a_missing_part_is_named_whatever_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let parts = split(&random_model(), dir.path(), "m", 3);
    std::fs::remove_file(&parts[1]).unwrap();
    let missing = parts[1].display().to_string();
    for args in
        [&["complete", "-p", "x", "-m"][..], &["chat", "-m"], &["inspect"], &["verify"], &["tokenize", "-p", "x", "-m"]]
    {
        let mut command = qwren(args);
        command.arg(&parts[0]);
        let said = run(command, "").error(2);
        assert!(said.contains(&format!("{missing}: is missing: the model is split into 3 files")), "{said}");
    }
}
