//! Conversions that end early, and those that continue them.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use qwren_quant::gguf::Header;
use rustix::process::Signal;
use serde_json::json;

use crate::running::{CHEAP, Running, TENSORS, clear, everything, layers, long_sample, report, results, tensors_in};
use crate::support::{Sample, assert_one_line, text};

const LEFT: [&str; 2] = ["x.gguf.partial", "x.gguf.partial.journal"];

/// What an undisturbed run makes.
fn undisturbed(sample: &Sample, args: &[&str]) -> Vec<Vec<u8>> {
    clear(sample);
    assert_eq!(report(sample, args)["resumed_tensors"], 0);
    let good = results(sample);
    clear(sample);
    good
}

#[test]
fn a_kill_at_any_moment_costs_no_more_than_its_tensor() {
    kill(100, &CHEAP, "x.gguf");
}

#[test]
fn nor_does_it_with_several_files() {
    kill(100, &[&CHEAP[..], &["--split-max-tensors", "8"]].concat(), "x-00001-of-00005.gguf");
}

/// Kills conversions of one sample at random moments; whenever `first` is there, all must be.
fn kill(times: usize, args: &[&str], first: &str) {
    let sample = layers(3);
    report(&sample, args);
    let good = everything(&sample);
    clear(&sample);
    let begin = Instant::now();
    report(&sample, &[args, &["-t", "1"]].concat());
    let whole = begin.elapsed();
    assert!(everything(&sample) == good);
    clear(&sample);
    let (mut kills, mut ends, mut kept, mut random) = (0, 0, 0, 5u64);
    while kills < times {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut running = Running::start(&sample, args);
        std::thread::sleep(whole.mul_f64((random >> 40) as f64 / (1 << 24) as f64));
        kills += usize::from(!running.has_ended());
        drop(running);
        // Whatever has its final name is whole.
        let there = everything(&sample);
        if there.iter().any(|(name, _)| name == first) {
            assert!(good.iter().all(|file| there.contains(file)), "a wrong file after {kills} kills");
            ends += 1;
            clear(&sample);
        } else if random >> 20 & 7 == 0 {
            // The next run to its end.
            kept += report(&sample, &[args, &["-t", "2"]].concat())["resumed_tensors"].as_u64().unwrap();
            assert!(everything(&sample) == good, "another result after {kills} kills");
            clear(&sample);
        }
    }
    kept += report(&sample, args)["resumed_tensors"].as_u64().unwrap();
    assert!(everything(&sample) == good);
    assert!(kept > 0, "no run was continued ({ends} came to their end)");
}

#[test]
fn signals_end_the_work_and_the_same_command_continues() {
    let sample = long_sample();
    for (signal, dtype) in [(Signal::INT, "q4_0"), (Signal::TERM, "q8_0"), (Signal::HUP, "f16")] {
        let args = ["--type", dtype];
        let good = undisturbed(&sample, &args);
        let output = Running::stopped_in_the_middle(&sample, &args).goes_on(Some(signal));
        let done = tensors_in(&sample.out().with_extension("gguf.partial.journal"));
        let told = format!("interrupted; {done} of {TENSORS} tensors are done, and the same command continues");
        assert_one_line(&output, 130, &[&told]);
        assert_eq!(sample.left(), LEFT);
        let output = sample.converts(&args);
        assert!(text(&output.stderr).contains(&format!("continuing: {done} of {TENSORS} tensors are done")));
        assert!(results(&sample) == good);
        clear(&sample);
    }
}

#[test]
fn a_hangup_that_nohup_had_ignored_changes_nothing() {
    let sample = long_sample();
    let good = undisturbed(&sample, &CHEAP);
    let running = Running::with_signals("--ignore-signal=HUP", &sample, &CHEAP).stop_in_the_middle();
    let output = running.goes_on(Some(Signal::HUP));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(results(&sample) == good);
}

#[test]
fn what_was_damaged_meanwhile_is_done_again() {
    let sample = long_sample();
    let good = undisturbed(&sample, &CHEAP);
    let partial = sample.out().with_extension("gguf.partial");
    let journal = sample.out().with_extension("gguf.partial.journal");
    let header = Header::parse(&good[0], good[0].len() as u64).unwrap();
    let second = (header.data_offset + header.tensors()[1].offset) as usize;
    // A flipped bit in the second tensor; header and padding gone; more than was planned; half of the
    // file gone; all of it.
    type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
    let damages: [(&str, Damage, Option<usize>); 5] = [
        ("a bit", &|bytes| bytes[second + 7] ^= 16, Some(1)),
        ("the header", &|bytes| bytes[..header.data_offset as usize].fill(0xee), Some(0)),
        ("too long", &|bytes| bytes.extend([7; 100]), Some(0)),
        ("the end", &|bytes| bytes.truncate(second), None),
        ("everything", &Vec::clear, None),
    ];
    for (what, damage, lost) in damages {
        Running::stopped_in_the_middle(&sample, &CHEAP).goes_on(Some(Signal::INT));
        let done = tensors_in(&journal);
        let mut bytes = fs::read(&partial).unwrap();
        damage(&mut bytes);
        fs::write(&partial, bytes).unwrap();
        let kept = report(&sample, &CHEAP)["resumed_tensors"].as_u64().unwrap() as usize;
        assert!(results(&sample) == good, "{what}");
        match lost {
            Some(lost) => assert_eq!(kept, done - lost, "{what}"),
            None => assert!(kept <= 1, "{what}"),
        }
        clear(&sample);
    }
    // A file that is no longer there.
    Running::stopped_in_the_middle(&sample, &CHEAP).goes_on(Some(Signal::INT));
    fs::remove_file(&partial).unwrap();
    assert_eq!(report(&sample, &CHEAP)["resumed_tensors"], 0);
    assert!(results(&sample) == good);
}

#[test]
fn another_recipe_or_checkpoint_begins_afresh() {
    let sample = long_sample();
    let good = undisturbed(&sample, &CHEAP);
    let afresh = "an unfinished conversion is there, but of another recipe or checkpoint: it begins afresh";
    Running::stopped_in_the_middle(&sample, &["--type", "q6_k"]).goes_on(Some(Signal::INT));
    let output = sample.converts(&CHEAP);
    assert!(text(&output.stderr).contains(afresh), "{}", text(&output.stderr));
    assert!(results(&sample) == good);
    clear(&sample);

    let others: [&dyn Fn(&Sample); 3] = [
        &|s| {
            File::open(s.path("model-00002-of-00003.safetensors")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap()
        },
        &|s| s.edit("config.json", |c| c["rms_norm_eps"] = json!(1e-5)),
        // A foreign journal, and one that would like to be believed.
        &|s| {
            let path = s.out().with_extension("gguf.partial.journal");
            let own = fs::read_to_string(&path).unwrap();
            fs::write(path, own.lines().skip(1).map(|l| format!("0{l}\n")).collect::<String>()).unwrap();
        },
    ];
    for other in others {
        Running::stopped_in_the_middle(&sample, &CHEAP).goes_on(Some(Signal::INT));
        other(&sample);
        let output = sample.converts(&CHEAP);
        assert!(text(&output.stderr).contains(afresh), "{}", text(&output.stderr));
        clear(&sample);
    }
}

#[test]
fn sources_that_change_meanwhile_are_told() {
    type Change<'a> = &'a dyn Fn(&Sample);
    let changes: [(&str, Change); 4] = [
        ("longer", &|s| {
            let path = s.path("model-00002-of-00003.safetensors");
            let len = fs::metadata(&path).unwrap().len();
            File::options().write(true).open(path).unwrap().set_len(len + 1).unwrap();
        }),
        ("shorter", &|s| {
            File::options()
                .write(true)
                .open(s.path("model-00003-of-00003.safetensors"))
                .unwrap()
                .set_len(5000)
                .unwrap();
        }),
        ("touched", &|s| {
            File::open(s.path("model-00001-of-00003.safetensors"))
                .unwrap()
                .set_modified(std::time::UNIX_EPOCH)
                .unwrap();
        }),
        ("replaced", &|s| {
            let path = s.path("model-00003-of-00003.safetensors");
            fs::copy(&path, s.path("new")).unwrap();
            fs::rename(s.path("new"), path).unwrap();
        }),
    ];
    for (what, change) in changes {
        let sample = long_sample();
        let running = Running::stopped_in_the_middle(&sample, &CHEAP);
        change(&sample);
        let output = running.goes_on(None);
        assert_one_line(&output, 2, &["-of-00003.safetensors: changed while it was being read"]);
        assert_eq!(sample.left(), [""; 0], "{what}");
    }
}

#[test]
fn a_second_converter_leaves_the_first_alone() {
    let sample = long_sample();
    let good = undisturbed(&sample, &CHEAP);
    let running = Running::stopped_in_the_middle(&sample, &CHEAP);
    for args in [&CHEAP[..], &["--force"], &["--type", "q6_k"], &["--split-max-tensors", "10"]] {
        assert_one_line(&sample.run(args), 2, &["x.gguf: is being written by another process"]);
    }
    let output = running.goes_on(None);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(results(&sample) == good);
}

#[test]
fn an_old_output_stays_until_the_new_one_is_whole() {
    // In the usual mixture of types.
    let sample = layers(10);
    let good = undisturbed(&sample, &[]);
    fs::write(sample.out(), "old").unwrap();
    let output = Running::stopped_in_the_middle(&sample, &["--force"]).goes_on(Some(Signal::INT));
    assert_one_line(&output, 130, &["the same command continues"]);
    assert_eq!(fs::read(sample.out()).unwrap(), b"old");
    assert_one_line(&sample.run(&[]), 2, &["exists already"]);
    assert!(report(&sample, &["--force"])["resumed_tensors"].as_u64().unwrap() >= 3);
    assert!(results(&sample) == good);
}

#[test]
fn a_signal_before_anything_is_done_leaves_nothing() {
    let sample = Sample::dense();
    // One tensor of 200 M weights comes first: a hole of 0.4 GB.
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(sample.path("config.json")).unwrap()).unwrap();
    config["vocab_size"] = json!(786_432);
    crate::support::sparse_checkpoint(&sample.dir(), &config);
    let mut running = Running::start(&sample, &[]);
    while sample.left().len() < 2 {
        assert!(!running.has_ended(), "no partial file appears");
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = running.goes_on(Some(Signal::TERM));
    assert_one_line(&output, 130, &["x.gguf: interrupted"]);
    assert_eq!(sample.left(), [""; 0]);
}
