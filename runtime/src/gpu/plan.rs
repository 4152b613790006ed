//! A model as a child is told of it: sizes, and where each layer's tensors lie.
use crate::model::{Arch, Ffn, Hparams, Layer, Model, Weight};
use crate::rope::{Pairing, Rope, Scaling};
use crate::session::KvType;
use qwren_offload::message::{self, Matrix, Shape};
use qwren_quant::dtype::DType;

/// The sizes of a model.
pub fn shape(hp: &Hparams) -> Shape {
    Shape {
        hidden: hp.hidden,
        heads: hp.heads,
        kv_heads: hp.kv_heads,
        head_dim: hp.head_dim,
        qk_norm: match hp.arch {
            Arch::Qwen3 | Arch::Qwen3Moe => true,
            Arch::Llama => false,
        },
        rms_eps: hp.rms_eps,
        rope: rope(&hp.rope),
        experts_used: hp.moe.map_or(0, |m| m.used),
        norm_weights: hp.moe.is_some_and(|m| m.norm_weights),
    }
}

fn rope(rope: &Rope) -> message::Rope {
    let plain = message::Rope {
        neighbours: rope.pairing == Pairing::Neighbours,
        theta: rope.theta as f32,
        scale: 1.0,
        ext_factor: 0.0,
        magnitude: 1.0,
        original_ctx: 0,
        beta_fast: 32.0,
        beta_slow: 1.0,
    };
    match rope.scaling {
        Scaling::None => plain,
        Scaling::Linear { factor } => message::Rope { scale: (1.0 / factor) as f32, ..plain },
        Scaling::Yarn { factor, original_ctx, beta_fast, beta_slow, ext_factor, attention_factor } => message::Rope {
            scale: (1.0 / factor) as f32,
            ext_factor: ext_factor as f32,
            magnitude: attention_factor as f32,
            original_ctx: original_ctx as u32,
            beta_fast: beta_fast as f32,
            beta_slow: beta_slow as f32,
            ..plain
        },
    }
}

/// ggml's number for a cache's type.
pub fn kv_type(kind: KvType) -> u32 {
    match kind {
        KvType::F32 => DType::F32,
        KvType::F16 => DType::F16,
        KvType::Q8_0 => DType::Q8_0,
    }
    .ggml_id()
}

/// A layer's norms one after the other: before attention, of q, of k (where there are such), before the feed-forward part.
pub fn norms(layer: &Layer) -> Vec<f32> {
    let heads = layer.qk_norm.iter().flat_map(|norm| norm.q.iter().chain(&norm.k));
    layer.attn_norm.iter().chain(heads).chain(&layer.ffn_norm).copied().collect()
}

/// Where the output matrix lies.
pub fn output(model: &Model) -> Matrix {
    matrix(model, model.output())
}

fn matrix(model: &Model, w: &Weight) -> Matrix {
    Matrix {
        dtype: w.info.dtype.ggml_id(),
        count: w.count,
        rows: w.rows,
        cols: w.cols,
        file: w.info.part,
        offset: model.gguf().span(&w.info).start as u64,
        bytes: w.info.bytes,
    }
}

/// Where a layer's tensors lie.
pub fn layer(model: &Model, layer: &Layer) -> message::Layer {
    let matrix = |w: &Weight| matrix(model, w);
    let (router, gate, up, down) = match &layer.ffn {
        Ffn::Dense { gate, up, down } => (None, gate, up, down),
        Ffn::Experts { router, gate, up, down } => (Some(matrix(router)), gate, up, down),
    };
    message::Layer {
        norms: norms(layer).len(),
        q: matrix(&layer.q),
        k: matrix(&layer.k),
        v: matrix(&layer.v),
        o: matrix(&layer.o),
        router,
        gate: matrix(gate),
        up: matrix(up),
        down: matrix(down),
    }
}

/// Bytes of a layer's matrices.
pub fn bytes(layer: &message::Layer) -> u64 {
    layer.matrices().map(|m| m.bytes).sum()
}
