//! Opens what a command needs of a model file; every error names the file.

use std::path::Path;

use qwren::model::Model;
use qwren::template::ChatTemplate;
use qwren::vocab::Vocab;
use qwren_quant::gguf::{GgufFile, Header};

use crate::exit::{self, Exit, Failure};

/// The whole model.
pub fn model(path: &Path) -> anyhow::Result<Model> {
    Ok(Model::open(path)?)
}

/// The file alone, for what needs no weights.
pub fn file(path: &Path) -> anyhow::Result<GgufFile> {
    Ok(GgufFile::open(path)?)
}

/// The tokenizer.
pub fn vocab(path: &Path, header: &Header) -> anyhow::Result<Vocab> {
    Vocab::from_gguf(header).map_err(|err| naming(path, err.into()))
}

/// The chat template; a file without one can't chat.
pub fn template(path: &Path, header: &Header) -> anyhow::Result<ChatTemplate> {
    let template = ChatTemplate::from_gguf(header).map_err(|err| naming(path, err.into()))?;
    template.ok_or_else(|| {
        let text =
            "has no chat template, as base models may; use `qwren complete`, or convert the model with its template";
        Failure::new(Exit::Unsupported, format!("{}: {text}", path.display())).into()
    })
}

/// Puts the file's name before an error that doesn't have it; its exit code stays.
pub fn naming(path: &Path, err: anyhow::Error) -> anyhow::Error {
    let text = format!("{}: {err}", path.display());
    exit::reword(err, text)
}
