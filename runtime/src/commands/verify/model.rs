//! Do keys, shapes and tokenizer make a whole model?

use qwren::model::{Arch, Model};
use qwren::vocab::Vocab;
use qwren_quant::gguf::GgufFile;

use crate::exit::Failure;

/// Says what was found. A model of another architecture is not judged; one that runs here and is not whole is an error.
pub fn check(file: &GgufFile) -> anyhow::Result<String> {
    let (path, header) = (file.path(), file.header());
    if header.str("general.architecture")?.and_then(Arch::named).is_none() {
        return Ok("not looked at: its architecture doesn't run here".to_owned());
    }
    let model = match Model::open(path) {
        Ok(model) => model,
        Err(e) if e.unsupported() => return Ok(format!("can't run here: {e}")),
        Err(e) => return Err(Failure::usage(e.to_string()).into()),
    };
    let vocab = match Vocab::from_gguf(header) {
        Ok(vocab) => vocab,
        Err(e) if e.unsupported() => return Ok(format!("can't run here: {e}")),
        Err(e) => return Err(Failure::usage(format!("{}: {e}", path.display())).into()),
    };
    let hp = model.hparams();
    if vocab.len() != hp.vocab {
        let text = format!("{}: has {} tokens but {} rows of embeddings", path.display(), vocab.len(), hp.vocab);
        return Err(Failure::usage(text + "; convert the model again").into());
    }
    Ok(format!("whole: {}, {} layers, {} tokens", hp.arch.name(), hp.layers, hp.vocab))
}
