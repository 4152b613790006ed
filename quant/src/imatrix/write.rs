//! Writing both forms, as llama-imatrix writes them: entries by name, sums and counts as float32.

use std::io::{self, Write};

use byteorder::{LE, WriteBytesExt};

use super::gguf::{CHUNK_COUNT_KEY, COUNTS, DATASETS_KEY, SUMS};
use crate::dtype::DType;
use crate::gguf::{Plan, WriteError, Writer};

/// What was summed for one matrix.
#[derive(Clone, Copy, Debug)]
pub struct Sums<'a> {
    /// The name of its tensor.
    pub name: &'a str,
    /// Sums of squares, `[experts, cols]`.
    pub squares: &'a [f64],
    /// Rows in the sums, `[experts]`.
    pub rows: &'a [u64],
}

/// Where the sums come from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The text's name.
    pub dataset: &'a str,
    /// Pieces of it that were read.
    pub chunks: u32,
    /// Tokens in a piece.
    pub chunk_size: u32,
}

fn by_name<'a, 's>(sums: &'s [Sums<'a>]) -> Vec<&'s Sums<'a>> {
    let mut sorted: Vec<_> = sums.iter().collect();
    sorted.sort_by_key(|s| s.name);
    sorted
}

/// Writes the GGUF form.
///
/// # Errors
/// What `out` returns, or two entries of one name.
pub fn write_gguf(out: impl Write, sums: &[Sums<'_>], origin: &Origin<'_>) -> Result<(), WriteError> {
    let mut plan = Plan::new(32);
    plan.push_kv("general.type", "imatrix");
    plan.push_kv(DATASETS_KEY, vec![origin.dataset.to_owned()]);
    plan.push_kv(CHUNK_COUNT_KEY, origin.chunks);
    plan.push_kv("imatrix.chunk_size", origin.chunk_size);
    let sums = by_name(sums);
    for s in &sums {
        let (len, experts) = (s.squares.len() as u64, s.rows.len() as u64);
        // As ggml, without trailing dimensions of 1.
        let shape = |cols| if experts == 1 { vec![cols] } else { vec![cols, experts] };
        plan.push_tensor(&format!("{}{SUMS}", s.name), &shape(len / experts.max(1)), DType::F32)?;
        plan.push_tensor(&format!("{}{COUNTS}", s.name), &shape(1), DType::F32)?;
    }
    let layout = plan.layout()?;
    let mut writer = Writer::new(out, &layout)?;
    for s in sums {
        let squares: Vec<u8> = s.squares.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
        writer.write(&squares)?;
        writer.end_tensor()?;
        let rows: Vec<u8> = s.rows.iter().flat_map(|&n| (n as f32).to_le_bytes()).collect();
        writer.write(&rows)?;
        writer.end_tensor()?;
    }
    writer.finish()?;
    Ok(())
}

/// Writes the older form, which has one count for all experts: means times that count, and 1 times it for an expert without
/// rows. Matrices without any row are left out.
///
/// # Errors
/// What `out` returns.
pub fn write_dat(mut out: impl Write, sums: &[Sums<'_>], origin: &Origin<'_>) -> io::Result<()> {
    let seen = |s: &&Sums<'_>| s.rows.iter().any(|&n| n > 0);
    let sums: Vec<_> = by_name(sums).into_iter().filter(seen).collect();
    out.write_i32::<LE>(int(sums.len() as u64)?)?;
    for s in sums {
        let most = s.rows.iter().copied().max().unwrap_or(0);
        let calls = most.div_ceil(u64::from(origin.chunk_size.max(1)));
        write_text(&mut out, s.name)?;
        out.write_i32::<LE>(int(calls)?)?;
        out.write_i32::<LE>(int(s.squares.len() as u64)?)?;
        for (squares, &rows) in s.squares.chunks(s.squares.len() / s.rows.len()).zip(s.rows) {
            for &sum in squares {
                let mean = if rows > 0 { sum as f32 / rows as f32 } else { 1.0 };
                out.write_f32::<LE>(mean * calls as f32)?;
            }
        }
    }
    out.write_i32::<LE>(int(origin.chunks.into())?)?;
    write_text(&mut out, origin.dataset)?;
    out.flush()
}

fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_i32::<LE>(int(text.len() as u64)?)?;
    out.write_all(text.as_bytes())
}

/// A number as the form has them.
fn int(n: u64) -> io::Result<i32> {
    i32::try_from(n).map_err(|_| io::Error::other("too large for the older form; write a GGUF file"))
}
