//! A GGUF file as a model: hyperparameters and weights, all checked against each other, so that what runs later can
//! trust every shape. Weights stay where they lie in the mapped file.
mod copies;
mod error;
mod hparams;

pub use copies::{Copier, Piece, WeightCopy};
pub use error::{ModelError, ModelFault};
pub use hparams::{Arch, Hparams, Moe};

use qwren_quant::block::codec;
use qwren_quant::dtype::DType;
use qwren_quant::gguf::{GgufFile, Quoted, TensorInfo};
use qwren_quant::kernel::{Level, select};
use std::path::Path;
use std::sync::Arc;

/// A matrix `[rows, cols]`, or one for each expert `[experts, rows, cols]`, in the file.
#[derive(Debug, Clone)]
pub struct Weight {
    /// Its entry in the file's table.
    pub info: TensorInfo,
    /// Matrices: 1 but for experts.
    pub count: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Its rows in memory of the process, as far as they were copied.
    pub copy: Arc<WeightCopy>,
}

/// The feed-forward part of a layer.
#[derive(Debug, Clone)]
pub enum Ffn {
    /// SwiGLU: `down · (silu(gate · h) * (up · h))`.
    Dense {
        /// `[ff, hidden]`
        gate: Weight,
        /// `[ff, hidden]`
        up: Weight,
        /// `[hidden, ff]`
        down: Weight,
    },
    /// A mixture of such.
    Experts {
        /// `[experts, hidden]`
        router: Weight,
        /// `[experts, moe_ff, hidden]`
        gate: Weight,
        /// `[experts, moe_ff, hidden]`
        up: Weight,
        /// `[experts, hidden, moe_ff]`
        down: Weight,
    },
}

/// Norms on heads before RoPE.
#[derive(Debug, Clone)]
pub struct QkNorm {
    /// `[head_dim]`, for each query head
    pub q: Vec<f32>,
    /// `[head_dim]`, for each key head
    pub k: Vec<f32>,
}

/// The weights of one layer. Norms are small and held as f32.
#[derive(Debug, Clone)]
pub struct Layer {
    /// `[hidden]`
    pub attn_norm: Vec<f32>,
    /// `[heads * head_dim, hidden]`
    pub q: Weight,
    /// `[kv_heads * head_dim, hidden]`
    pub k: Weight,
    /// `[kv_heads * head_dim, hidden]`
    pub v: Weight,
    /// Norms on the heads of q and k, which Qwen3 has and Llama has not.
    pub qk_norm: Option<QkNorm>,
    /// `[hidden, heads * head_dim]`
    pub o: Weight,
    /// `[hidden]`
    pub ffn_norm: Vec<f32>,
    /// The feed-forward part.
    pub ffn: Ffn,
}

impl Layer {
    /// Its weights that activations are multiplied with.
    pub fn matrices(&self) -> Vec<&Weight> {
        let Layer { q, k, v, o, ffn, .. } = self;
        match ffn {
            Ffn::Dense { gate, up, down } => vec![q, k, v, o, gate, up, down],
            Ffn::Experts { router, gate, up, down } => vec![q, k, v, o, router, gate, up, down],
        }
    }
}

/// A model, ready for [`Session::new`](crate::session::Session::new).
#[derive(Debug)]
pub struct Model {
    file: GgufFile,
    hparams: Hparams,
    /// `[vocab, hidden]`
    embedding: Weight,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    /// `[vocab, hidden]`; absent when the embedding serves.
    output: Option<Weight>,
}

impl Model {
    /// Maps the file and checks that it holds a whole model of an architecture and in types that can run here.
    ///
    /// # Errors
    /// The file is no sound GGUF file, or no model that this program runs; the text names the file.
    pub fn open(path: &Path) -> Result<Model, ModelError> {
        Model::from_gguf(GgufFile::open(path)?)
    }

    /// As [`Model::open`], for a file that is open already.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_gguf(file: GgufFile) -> Result<Model, ModelError> {
        match Parts::read(&file) {
            Ok(Parts { hparams, embedding, layers, output_norm, output }) => {
                Ok(Model { file, hparams, embedding, layers, output_norm, output })
            }
            Err(fault) => Err(ModelError::InFile { path: file.path().to_owned(), source: Box::new(fault) }),
        }
    }

    /// The model's sizes.
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }

    /// The file.
    pub fn gguf(&self) -> &GgufFile {
        &self.file
    }

    /// The token embedding, `[vocab, hidden]`.
    pub fn embedding(&self) -> &Weight {
        &self.embedding
    }

    /// The layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The final norm, `[hidden]`.
    pub fn output_norm(&self) -> &[f32] {
        &self.output_norm
    }

    /// The output head, `[vocab, hidden]`: the embedding when they are tied.
    pub fn output(&self) -> &Weight {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// The weights that activations are multiplied with.
    pub fn matrices(&self) -> impl Iterator<Item = &Weight> {
        self.layers.iter().flat_map(Layer::matrices).chain([self.output()])
    }

    /// A weight's bytes.
    pub fn bytes(&self, weight: &Weight) -> &[u8] {
        self.file.data(&weight.info)
    }
}

/// What is read from a file to make a model.
struct Parts {
    hparams: Hparams,
    embedding: Weight,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    output: Option<Weight>,
}

impl Parts {
    fn read(file: &GgufFile) -> Result<Parts, ModelFault> {
        let header = file.header();
        let hp = Hparams::read(header)?;
        // A bias or a table of frequencies would change the results: better no answer than a wrong one.
        let qk_norm = |name: &str| name.ends_with(".attn_q_norm.weight") || name.ends_with(".attn_k_norm.weight");
        let alien = |t: &&TensorInfo| {
            t.name.ends_with(".bias") || t.name == "rope_freqs.weight" || hp.arch == Arch::Llama && qk_norm(&t.name)
        };
        if let Some(t) = header.tensors().iter().find(alien) {
            return Err(ModelFault::ExtraTensor(Quoted::new(&t.name)));
        }
        let hidden = hp.hidden;
        let embedding = Self::matrix(file, "token_embd.weight", 1, hp.vocab, hidden)?;
        let output = match header.tensor("output.weight") {
            Some(_) => Some(Self::matrix(file, "output.weight", 1, hp.vocab, hidden)?),
            None => None,
        };
        let layers = (0..hp.layers).map(|i| Self::layer(file, &hp, i)).collect::<Result<_, _>>()?;
        let output_norm = Self::vector(file, "output_norm.weight", hidden)?;
        let hparams = Hparams { tied: output.is_none(), ..hp };
        Ok(Parts { hparams, embedding, layers, output_norm, output })
    }

    fn layer(file: &GgufFile, hp: &Hparams, i: usize) -> Result<Layer, ModelFault> {
        let matrix =
            |name: &str, count, rows, cols| Self::matrix(file, &format!("blk.{i}.{name}.weight"), count, rows, cols);
        let vector = |name: &str, len| Self::vector(file, &format!("blk.{i}.{name}.weight"), len);
        let (hidden, q_rows, kv_rows) = (hp.hidden, hp.heads * hp.head_dim, hp.kv_heads * hp.head_dim);
        Ok(Layer {
            attn_norm: vector("attn_norm", hidden)?,
            q: matrix("attn_q", 1, q_rows, hidden)?,
            k: matrix("attn_k", 1, kv_rows, hidden)?,
            v: matrix("attn_v", 1, kv_rows, hidden)?,
            qk_norm: match hp.arch {
                Arch::Qwen3 | Arch::Qwen3Moe => {
                    let (q, k) = (vector("attn_q_norm", hp.head_dim)?, vector("attn_k_norm", hp.head_dim)?);
                    Some(QkNorm { q, k })
                }
                Arch::Llama => None,
            },
            o: matrix("attn_output", 1, hidden, q_rows)?,
            ffn_norm: vector("ffn_norm", hidden)?,
            ffn: match &hp.moe {
                None => Ffn::Dense {
                    gate: matrix("ffn_gate", 1, hp.ff, hidden)?,
                    up: matrix("ffn_up", 1, hp.ff, hidden)?,
                    down: matrix("ffn_down", 1, hidden, hp.ff)?,
                },
                Some(moe) => Ffn::Experts {
                    router: matrix("ffn_gate_inp", 1, moe.experts, hidden)?,
                    gate: matrix("ffn_gate_exps", moe.experts, moe.ff, hidden)?,
                    up: matrix("ffn_up_exps", moe.experts, moe.ff, hidden)?,
                    down: matrix("ffn_down_exps", moe.experts, hidden, moe.ff)?,
                },
            },
        })
    }

    fn find<'f>(file: &'f GgufFile, name: &str, wanted: &[usize]) -> Result<&'f TensorInfo, ModelFault> {
        let info = file.header().tensor(name).ok_or_else(|| ModelFault::MissingTensor(name.to_owned()))?;
        // Trailing dimensions of 1 say nothing.
        let trim = |s: &[u64]| s[..s.iter().rposition(|&n| n != 1).map_or(0, |i| i + 1)].to_vec();
        let wanted: Vec<u64> = wanted.iter().map(|&n| n as u64).collect();
        if trim(&info.shape) != trim(&wanted) {
            return Err(ModelFault::Shape { name: name.to_owned(), found: info.shape.clone(), wanted });
        }
        // Both are there or neither: a type that can be read but not run is of no use.
        if codec(info.dtype).is_none() || select(Level::Scalar, info.dtype).is_none() {
            return Err(ModelFault::Type { name: name.to_owned(), dtype: info.dtype });
        }
        Ok(info)
    }

    fn matrix(file: &GgufFile, name: &str, count: usize, rows: usize, cols: usize) -> Result<Weight, ModelFault> {
        let wanted: &[usize] = if count == 1 { &[cols, rows] } else { &[cols, rows, count] };
        let info = Self::find(file, name, wanted)?.clone();
        let copy = Arc::new(WeightCopy::new(count, rows, info.bytes as usize / (count * rows)));
        Ok(Weight { info, count, rows, cols, copy })
    }

    fn vector(file: &GgufFile, name: &str, len: usize) -> Result<Vec<f32>, ModelFault> {
        let info = Self::find(file, name, &[len])?;
        if !matches!(info.dtype, DType::F32 | DType::F16 | DType::BF16) {
            return Err(ModelFault::Type { name: name.to_owned(), dtype: info.dtype });
        }
        let mut out = vec![0.0; len];
        if let Some(codec) = codec(info.dtype) {
            codec.dequantize(file.data(info), &mut out);
        }
        Ok(out)
    }
}
