//! Runs one kernel some times at this CPU's best level: what scripts/arm counts the instructions of.
//!
//! `one_kernel TYPE|OPERATION TOKENS TIMES` prints the multiply-adds of one time. Matrix products have 2,048 columns and the
//! rows that a worker takes at once, 64 with one token and 32 with many; attention takes TOKENS queries over 64 positions of 128 values.
use half::f16;
use qwren_quant::act::Acts;
use qwren_quant::dtype::DType;
use qwren_quant::kernel::{Level, Q8_BLOCK, Q8Rows, select, vec_ops};

const COLS: usize = 2048;
const POSITIONS: usize = 64;
const DIM: usize = 128;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, tokens, times] = &args[..] else { panic!("usage: one_kernel TYPE|OPERATION TOKENS TIMES") };
    let (tokens, times): (usize, usize) = (tokens.parse().expect("a number"), times.parse().expect("a number"));
    let level = Level::detect().unwrap_or_else(|err| panic!("{err}"));
    match DType::ALL.iter().find(|dtype| dtype.name().eq_ignore_ascii_case(what)) {
        Some(&weight) => mul_mat(level, weight, tokens, times),
        None => attention(level, what, tokens, times),
    }
}

/// `[rows, 2048]` weights times `[tokens, 2048]` activations.
fn mul_mat(level: Level, weight: DType, tokens: usize, times: usize) {
    let kernel = select(level, weight).expect("a type to compute with");
    let rows = if tokens == 1 { 64 } else { 32 };
    let w = vec![0x11; rows * COLS / weight.block_len() * weight.block_bytes()];
    let mut acts = Acts::new();
    acts.reset(kernel.act, tokens, COLS);
    for t in 0..tokens {
        acts.set_row(level, t, &[0.5; COLS]);
    }
    let mut out = vec![0.0; rows * tokens];
    for _ in 0..times {
        kernel.mul_mat(&w, acts.view(), &mut out);
    }
    println!("{}", rows * COLS * tokens);
}

/// One KV head's 64 positions with some queries.
fn attention(level: Level, what: &str, queries: usize, times: usize) {
    let ops = vec_ops(level);
    let halves = vec![f16::ONE; POSITIONS * DIM];
    let (q8, scales) = (vec![1; POSITIONS * DIM], vec![f16::ONE; POSITIONS * DIM / Q8_BLOCK]);
    let rows = Q8Rows { q: &q8, scales: &scales };
    let (mut vectors, mut matrix) = (vec![0.5; queries * DIM], vec![0.5; queries * POSITIONS]);
    for _ in 0..times {
        match what {
            "dots_f16" => ops.dots_f16(&halves, DIM, &vectors, DIM, &mut matrix, None),
            "dots_q8" => ops.dots_q8(rows, &vectors, DIM, &mut matrix, None),
            "weighted_rows_f16" => ops.weighted_rows_f16(&halves, DIM, &matrix, DIM, &mut vectors, None),
            "weighted_rows_q8" => ops.weighted_rows_q8(rows, &matrix, DIM, &mut vectors, None),
            _ => panic!("no such type or operation: {what}"),
        }
    }
    println!("{}", POSITIONS * DIM * queries);
}
