//! The report as tables for people.

use std::fmt::{self, Write};

use qwren_quant::gguf::Quoted;

use super::report::Report;
use crate::units::bytes;

/// The whole text. Names from the file are on one line each, whatever they are.
pub fn render(report: &Report<'_>) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write(report, &mut out);
    out
}

fn write(r: &Report<'_>, out: &mut String) -> fmt::Result {
    let parts = if r.parts.len() > 1 { format!(" in {} files", r.parts.len()) } else { String::new() };
    writeln!(
        out,
        "{}: GGUF version {}, {}{parts}, alignment {}, data at byte {}\n",
        r.file.display(),
        r.version,
        bytes(r.file_bytes),
        r.alignment,
        r.data_offset
    )?;

    writeln!(out, "{} keys", r.metadata.len())?;
    let rows: Vec<[String; 3]> =
        r.metadata.iter().map(|(key, value)| [plain(key), value.kind(), value.to_string()]).collect();
    columns(&rows, [false, false, false], out)?;

    writeln!(out, "\n{} tensors", r.tensors.len())?;
    let rows: Vec<[String; 4]> = r
        .tensors
        .iter()
        .map(|t| [plain(t.name), t.dtype.to_owned(), format!("{:?}", t.shape), bytes(t.bytes)])
        .collect();
    columns(&rows, [false, false, false, true], out)?;

    writeln!(out, "\ntypes")?;
    let bits = |bytes: u64, weights: u64| format!("{:.2} bits per weight", bytes as f64 * 8.0 / weights as f64);
    let mut rows: Vec<[String; 5]> = r
        .types
        .iter()
        .map(|s| {
            let (tensors, weights) = (format!("{} tensors", s.tensors), format!("{} weights", s.weights));
            [s.dtype.to_owned(), tensors, weights, bytes(s.bytes), bits(s.bytes, s.weights)]
        })
        .collect();
    if r.weights > 0 {
        let (tensors, weights) = (format!("{} tensors", r.tensors.len()), format!("{} weights", r.weights));
        rows.push(["all".to_owned(), tensors, weights, bytes(r.weight_bytes), bits(r.weight_bytes, r.weights)]);
    }
    columns(&rows, [false, true, true, true, true], out)?;

    if let Some(m) = &r.memory {
        writeln!(out, "\nmemory at a context of {} tokens", m.context)?;
        let row = |name: &str, cache: u64| {
            let sum = m.file_bytes.saturating_add(cache).saturating_add(m.work_bytes);
            let parts = format!("{} file + {} cache + {} work", bytes(m.file_bytes), bytes(cache), bytes(m.work_bytes));
            [format!("{name} cache"), bytes(sum), format!("= {parts}")]
        };
        let rows = [row("q8_0", m.cache_q8_0_bytes), row("f16", m.cache_f16_bytes), row("f32", m.cache_f32_bytes)];
        columns(&rows, [false, true, false], out)?;
    }
    if let Some(why) = &r.cannot_run {
        writeln!(out, "\ncan't run here: the file {why}")?;
    }
    Ok(())
}

/// A name without quotes if it is plain, quoted and escaped else.
fn plain(name: &str) -> String {
    let is_plain = name.len() <= 80 && name.bytes().all(|b| b.is_ascii_graphic());
    if is_plain { name.to_owned() } else { Quoted::new(name).to_string() }
}

/// Rows indented by two spaces, columns as wide as their widest cell, numbers to the right.
fn columns<const N: usize>(rows: &[[String; N]], to_the_right: [bool; N], out: &mut String) -> fmt::Result {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::new();
        for i in 0..N {
            match to_the_right[i] {
                true => write!(line, "  {:>1$}", row[i], widths[i])?,
                false => write!(line, "  {:<1$}", row[i], widths[i])?,
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1".to_owned()], ["bcd".to_owned(), "100".to_owned()]];
        let mut out = String::new();
        columns(&rows, [false, true], &mut out).unwrap();
        assert_eq!(out, "  a      1\n  bcd  100\n");
    }

    #[test]
    fn odd_names_are_quoted() {
        assert_eq!(plain("blk.0.attn_q.weight"), "blk.0.attn_q.weight");
        assert_eq!(plain("a b\n"), r"'a b\n'");
    }
}
