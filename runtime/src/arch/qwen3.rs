//! What Qwen3 computes, dense or with experts, top to bottom. The steps become graph nodes through [`Emit`].
use super::emit::{Emit, Result, feed_forward};
use crate::ggml::Tensor;
use crate::model::{Layer, QkNorm};

/// Layer `i`: from the residual stream `x` `[n, hidden]` to the next.
pub fn layer<'m>(e: &mut impl Emit<'m>, i: usize, l: &'m Layer, norm: &'m QkNorm, x: Tensor) -> Result<Tensor> {
    let h = e.rms_norm(x, &l.attn_norm)?; //                       [n, hidden]
    let [q, k, v] = e.project([&l.q, &l.k, &l.v], h)?; //          [n, heads * head_dim], 2 × [n, kv_heads * head_dim]
    let q = e.norm_rope(q, &norm.q)?;
    let k = e.norm_rope(k, &norm.k)?;
    let a = e.attention(i, q, k, v)?; //                           [n, heads * head_dim]
    let x = e.project_add(&l.o, a, x)?; //                         [n, hidden]
    feed_forward(e, l, x)
}
