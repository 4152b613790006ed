//! A program that waits for its user leaves the processor alone. The only test of its file: it counts the process's time.
use std::time::Duration;

use qwren::model::Model;
use qwren::session::{Options, Session, Threads};
use qwren_quant::dtype::DType;
use qwren_tests::models::{NEVER, exact};
use qwren_tests::tiny::{PLAIN, Tiny};

/// CPU time that this process has taken, in ticks of 10 ms.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process's state");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    // utime and stime are fields 14 and 15; the state, the first here, is field 3.
    fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
}

#[test]
fn p11_idle_workers_sleep() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    Tiny::new(&PLAIN, DType::Q8_0).write(file.path(), 7, |_, _| ());
    let model = Model::open(file.path()).unwrap_or_else(|e| panic!("{e}"));
    let opts = Options { threads: Threads { decode: 4, prefill: 4 }, ..exact(64) };
    let mut session = Session::new(&model, &opts).expect("a session");
    for token in 0..20 {
        session.eval(&[token], &NEVER, &mut |_, _| ()).expect("evaluation");
    }
    std::thread::sleep(Duration::from_millis(50));
    let before = ticks();
    std::thread::sleep(Duration::from_millis(500));
    // Spinning workers would take 150 ticks on the three other threads.
    assert!(ticks() - before <= 2, "{} ticks in half a second of waiting", ticks() - before);
}
