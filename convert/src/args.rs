//! The command line: as typed, then as meant.

use std::num::NonZero;
use std::path::PathBuf;

use clap::Parser;
use clap::builder::{PathBufValueParser, TypedValueParser};
use qwren_convert::plan::Options;
use qwren_convert::recipe::{FileType, Override};
use qwren_convert::split::{Size, Split};
use qwren_quant::block;
use qwren_quant::dtype::DType;

/// Converts a Qwen3 checkpoint from Hugging Face into one GGUF file
///
/// The file's SHA-256 goes to standard output and to OUT.gguf.sha256, all else to standard error; OUT.gguf.json tells what
/// the file was made of. Until the end the output is OUT.gguf.partial; if a run ends early, the same command continues it.
/// Exit codes: 0 done, 1 a fault of ours, 2 wrong usage or a wrong file, 3 sound but unsupported, 4 not enough room,
/// 130 interrupted.
#[derive(Parser, Debug)]
#[command(name = "qwren-convert", version, max_term_width = 100)]
pub struct LowArgs {
    /// Folder with config.json, *.safetensors and the tokenizer
    #[arg(required = true)]
    dir: Option<PathBuf>,

    /// File to write
    #[arg(short, long, value_name = "OUT.gguf", required_unless_present = "dry_run", value_parser = file_parser())]
    output: Option<PathBuf>,

    /// Type of the file; as llama-quantize, some tensors get more bits
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value_t = FileType::Q4_K_M, ignore_case = true)]
    file_type: FileType,

    /// Type for tensors with a GGUF name that fits, such as 'blk.*.attn_v.weight=q8_0'; the first fitting one wins
    #[arg(long, value_name = "GLOB=TYPE", value_parser = parse_override)]
    tensor_type: Vec<Override>,

    /// Importance matrix, made by `qwren imatrix` or llama-imatrix: errors where it matters count for more
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,

    /// Use the embedding as output matrix, even if config.json or the checkpoint say otherwise
    #[arg(long)]
    tie_embeddings: bool,

    /// Write several files of at most N bytes, or N K, M or G of 1000: OUT-00001-of-00003.gguf and so on
    #[arg(long, value_name = "N[K|M|G]")]
    split_max_size: Option<Size>,

    /// Write several files of at most N tensors
    #[arg(long, value_name = "N", conflicts_with = "split_max_size", value_parser = clap::value_parser!(u64).range(1..))]
    split_max_tensors: Option<u64>,

    /// Take weights that are NaN, infinite or too large for their type as they are
    #[arg(long)]
    allow_nonfinite: bool,

    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Replace an existing output
    #[arg(long)]
    force: bool,

    /// Threads that quantize [default: all cores]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// No progress, notes or summary
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,

    /// Print one JSON object instead of the checksum line, and nothing on standard error but errors
    #[arg(long)]
    json: bool,

    /// Print the manual page or a shell's completions, and do nothing else
    #[arg(long, value_name = "WHAT", value_enum, exclusive = true)]
    pub generate: Option<Page>,
}

/// A text made from these definitions.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Manual page
    Man,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
}

/// What is to be done, and how it is told.
pub struct HiArgs {
    pub dir: PathBuf,
    pub options: Options,
    pub task: Task,
    pub report: Report,
}

/// Look or write.
pub enum Task {
    /// Plan only; the output, if given, says whose disk is looked at.
    DryRun { output: Option<PathBuf>, threads: usize },
    /// Convert.
    Write { output: PathBuf, force: bool, allow_nonfinite: bool, threads: usize },
}

/// How much is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Text,
    Quiet,
    Json,
}

impl LowArgs {
    /// The meaning of what was typed, unless only a page is wanted.
    pub fn resolve(self) -> HiArgs {
        let threads = self.threads.map_or_else(all_cores, usize::from);
        let task = match self.output {
            Some(output) if !self.dry_run => {
                Task::Write { output, force: self.force, allow_nonfinite: self.allow_nonfinite, threads }
            }
            output => Task::DryRun { output, threads },
        };
        let report = match (self.quiet, self.json) {
            (_, true) => Report::Json,
            (true, _) => Report::Quiet,
            _ => Report::Text,
        };
        let by_size = self.split_max_size.map(|Size(bytes)| Split::Bytes(bytes));
        let options = Options {
            file_type: self.file_type,
            overrides: self.tensor_type,
            imatrix: self.imatrix,
            tie_embeddings: self.tie_embeddings,
            split: by_size.or(self.split_max_tensors.map(Split::Tensors)),
        };
        let dir = self.dir.expect("clap wants a folder where no page is asked for");
        HiArgs { dir, options, task, report }
    }
}

fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// A file. `-`, elsewhere standard output, can't be one: what was written is read again, and continued.
fn file_parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str() == "-" {
        true => Err("a model can't go to standard output; name a file (./- is one of that name)"),
        false => Ok(path),
    })
}

/// `GLOB=TYPE`, TYPE being one that can be written.
fn parse_override(text: &str) -> Result<Override, String> {
    let (glob, name) = text.rsplit_once('=').ok_or("it has no '='")?;
    let dtype = DType::parse(name).filter(|t| block::codec(*t).is_some());
    let names = || block::codecs().iter().map(|c| c.dtype.name().to_lowercase()).collect::<Vec<_>>().join(", ");
    let dtype = dtype.ok_or_else(|| format!("{name:?} is not one of {}", names()))?;
    Ok(Override { glob: glob.to_owned(), dtype })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides() {
        assert_eq!(
            parse_override("blk.*.attn_v.weight=Q8_0"),
            Ok(Override { glob: "blk.*.attn_v.weight".into(), dtype: DType::Q8_0 })
        );
        assert_eq!(parse_override("output.weight").unwrap_err(), "it has no '='");
        assert!(parse_override("x=iq2_xs").unwrap_err().starts_with("\"iq2_xs\" is not one of f32, f16, bf16"));
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        LowArgs::command().debug_assert();
        assert!(LowArgs::try_parse_from(["x", "dir"]).is_err());
        assert!(LowArgs::try_parse_from(["x", "-o", "y"]).is_err());
        assert!(LowArgs::try_parse_from(["x", "dir", "-o", "-"]).is_err());
        assert!(LowArgs::try_parse_from(["x", "dir", "-o", "./-"]).is_ok());
        assert_eq!(LowArgs::try_parse_from(["x", "--generate", "man"]).unwrap().generate, Some(Page::Man));
        assert!(LowArgs::try_parse_from(["x", "dir", "-o", "y", "--generate", "man"]).is_err());
        assert!(LowArgs::try_parse_from(["x", "dir", "-o", "y", "--json", "--quiet"]).is_err());
        assert!(LowArgs::try_parse_from(["x", "dir", "-o", "y", "-t", "0"]).is_err());
        let split = |args: &[&str]| {
            let args = LowArgs::try_parse_from([&["x", "dir", "-o", "y"], args].concat());
            args.map(|args| args.resolve().options.split).ok()
        };
        assert_eq!(split(&["--split-max-size", "2G"]), Some(Some(Split::Bytes(2_000_000_000))));
        assert_eq!(split(&["--split-max-tensors", "9"]), Some(Some(Split::Tensors(9))));
        assert_eq!(split(&["--split-max-tensors", "0"]), None);
        assert_eq!(split(&["--split-max-size", "2T"]), None);
        assert_eq!(split(&["--split-max-size", "2G", "--split-max-tensors", "9"]), None);
        assert_eq!(split(&[]), Some(None));
        let args = LowArgs::try_parse_from(["x", "dir", "-o", "y", "--type", "Q6_K"]).unwrap().resolve();
        assert_eq!(args.options.file_type, FileType::Q6_K);
        assert!(matches!(args.task, Task::Write { force: false, allow_nonfinite: false, .. }));
    }
}
