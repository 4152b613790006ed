//! ggml's own operations, for `--stock-ops`: each one's demands are checked first, since ggml aborts where they fail.
//! All activations are f32. What they lose: silu and softmax go through f16 tables, activations are rounded to the weight's
//! partner type.
use super::{Builder, GgmlError, Tensor, sys};
use crate::rope::Pairing;

type Result<T> = std::result::Result<T, GgmlError>;

impl<E> Builder<'_, E> {
    /// `a + b`, both of one shape.
    pub fn add(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        let shapes = self.check(&[a, b])?;
        self.demand("add", shapes[0] == shapes[1] && self.is_f32(a) && self.is_f32(b), &shapes)?;
        let (a, b) = (self.raw(a), self.raw(b));
        // SAFETY: two f32 tensors of one shape in this context.
        self.make(|ctx| unsafe { sys::ggml_add(ctx, a, b) })
    }

    /// `a * b` element by element, `b` repeated to `a`'s shape.
    pub fn mul(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        let (a, b) = self.broadcast("mul", a, b)?;
        // SAFETY: two f32 tensors in this context, `b` repeats to `a`.
        self.make(|ctx| unsafe { sys::ggml_mul(ctx, a, b) })
    }

    /// `a / b` element by element, `b` repeated to `a`'s shape.
    pub fn div(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        let (a, b) = self.broadcast("div", a, b)?;
        // SAFETY: as in `mul`.
        self.make(|ctx| unsafe { sys::ggml_div(ctx, a, b) })
    }

    /// Each row over the root of its mean square.
    pub fn rms_norm(&mut self, x: Tensor, eps: f32) -> Result<Tensor> {
        let shapes = self.check(&[x])?;
        self.demand("rms_norm", self.is_f32(x) && self.is_contiguous(x) && eps > 0.0, &shapes)?;
        let x = self.raw(x);
        // SAFETY: a contiguous f32 tensor of this context.
        self.make(|ctx| unsafe { sys::ggml_rms_norm(ctx, x, eps) })
    }

    /// `x / (1 + exp(-x))`.
    pub fn silu(&mut self, x: Tensor) -> Result<Tensor> {
        let shapes = self.check(&[x])?;
        self.demand("silu", self.is_f32(x) && self.is_contiguous(x), &shapes)?;
        let x = self.raw(x);
        // SAFETY: a contiguous f32 tensor of this context.
        self.make(|ctx| unsafe { sys::ggml_silu(ctx, x) })
    }

    /// `w` `[k, rows, a]` times `x` `[k, n, b]`: `[rows, n, b]`; matrix `i` of `x` meets matrix `i / (b / a)` of `w`.
    pub fn mul_mat(&mut self, w: Tensor, x: Tensor) -> Result<Tensor> {
        let s = self.check(&[w, x])?;
        let (hw, hx) = (self.header(w), self.header(x));
        let fits = s[0][0] == s[1][0] && s[1][2] % s[0][2] == 0 && s[0][3] == 1 && s[1][3] == 1;
        let rows = hw.nb[0] <= hw.nb[1] && hx.nb[0] == 4;
        self.demand("mul_mat", fits && rows && self.is_f32(x) && hw.type_ != sys::ggml_type_GGML_TYPE_I32, &s)?;
        let (w, x) = (self.raw(w), self.raw(x));
        // SAFETY: shapes as `ggml_can_mul_mat` wants them, `w` not transposed, both in this context.
        self.make(|ctx| unsafe { sys::ggml_mul_mat(ctx, w, x) })
    }

    /// For each token `t` and chosen expert `e = ids[j, t]`: matrix `e` of `w` `[k, rows, experts]` times row
    /// `[:, j % b, t]` of `x` `[k, b, n]`: `[rows, used, n]`. `ids` comes from [`Builder::top_k`].
    pub fn mul_mat_id(&mut self, w: Tensor, x: Tensor, ids: Tensor) -> Result<Tensor> {
        let s = self.check(&[w, x, ids])?;
        let [w3, x3, ids2] = [s[0], s[1], s[2]];
        let fits = w3[0] == x3[0] && w3[3] == 1 && x3[3] == 1 && ids2[2] * ids2[3] == 1;
        let fits = fits && ids2[1] == x3[2] && ids2[0] % x3[1] == 0 && self.is_f32(x) && self.is_contiguous(x);
        self.demand("mul_mat_id", fits && self.is_contiguous(w) && self.picks_from(ids, w3[2]), &s)?;
        let (w, x, ids) = (self.raw(w), self.raw(x), self.raw(ids));
        // SAFETY: shapes as the function asserts them; the ids are an argsort over the experts, hence in range and without
        // repeats.
        self.make(|ctx| unsafe { sys::ggml_mul_mat_id(ctx, w, x, ids) })
    }

    /// The columns of the `k` largest values of each row of `x` `[cols, n]`, largest first: integers `[k, n]`.
    pub fn top_k(&mut self, x: Tensor, k: usize) -> Result<Tensor> {
        let s = self.check(&[x])?;
        self.demand("top_k", k > 0 && k <= s[0][0] && self.is_f32(x) && self.is_contiguous(x), &s)?;
        self.reserve(1)?;
        let x = self.raw(x);
        // SAFETY: a contiguous f32 tensor of this context with at least k columns; room for the argsort and its view.
        self.make(|ctx| unsafe { sys::ggml_top_k(ctx, x, k as i32) })
    }

    /// For each token the values of `x` `[cols, n]` at the columns `ids` `[k, n]`, which come from [`Builder::top_k`] of a
    /// tensor of that shape: `[k, n]`.
    pub fn pick(&mut self, x: Tensor, ids: Tensor) -> Result<Tensor> {
        let s = self.check(&[x, ids])?;
        let fits = s[0][1] == s[1][1] && s[0][2] * s[0][3] * s[1][2] * s[1][3] == 1;
        self.demand("pick", fits && self.is_f32(x) && self.is_contiguous(x) && self.picks_from(ids, s[0][0]), &s)?;
        let [cols, n, ..] = s[0];
        let ids = self.raw(ids);
        let x = self.reshape(x, [1, cols, n])?;
        let x = self.raw(x);
        // SAFETY: rows `[1, cols, n]` meet ids `[k, n]`, which are in range since they come from an argsort of `cols` values.
        let picked = self.make(|ctx| unsafe { sys::ggml_get_rows(ctx, x, ids) })?;
        self.reshape(picked, [s[1][0], n, 1])
    }

    /// The sum of each row: `[1, …]`.
    pub fn sum_rows(&mut self, x: Tensor) -> Result<Tensor> {
        let s = self.check(&[x])?;
        self.demand("sum_rows", self.is_f32(x) && self.header(x).nb[0] == 4, &s)?;
        let x = self.raw(x);
        // SAFETY: an f32 tensor of this context.
        self.make(|ctx| unsafe { sys::ggml_sum_rows(ctx, x) })
    }

    /// Softmax of `scale · x + mask` over each row of `x` `[kv, n, heads]`, with a mask `[kv, n]` (no row all −∞).
    pub fn soft_max(&mut self, x: Tensor, mask: Option<Tensor>, scale: f32) -> Result<Tensor> {
        let mut s = self.check(&[x])?;
        if let Some(m) = mask {
            s.extend(self.check(&[m])?);
            let fits = s[1][..2] == s[0][..2] && s[1][2] * s[1][3] == 1;
            self.demand("soft_max", fits && self.is_f32(m) && self.is_contiguous(m), &s)?;
        }
        self.demand("soft_max", self.is_f32(x) && self.is_contiguous(x), &s)?;
        let (x, mask) = (self.raw(x), mask.map_or(std::ptr::null_mut(), |m| self.raw(m)));
        // SAFETY: contiguous f32 tensors; the mask is a matrix of x's rows or absent.
        self.make(|ctx| unsafe { sys::ggml_soft_max_ext(ctx, x, mask, std::ptr::null_mut(), scale, 0.0) })
    }

    /// Rotary embedding without scaling of `x` `[head_dim, heads, n]` at the positions `pos` `[n]`.
    pub fn rope(&mut self, x: Tensor, pos: Tensor, theta: f32, pairing: Pairing) -> Result<Tensor> {
        let s = self.check(&[x, pos])?;
        let fits = s[0][2] == s[1][0] && s[1][1] * s[1][2] * s[1][3] == 1 && s[0][0] % 2 == 0 && s[0][0] < 1 << 20;
        let types = self.is_f32(x) && self.is_contiguous(x) && self.header(pos).type_ == sys::ggml_type_GGML_TYPE_I32;
        self.demand("rope", fits && types, &s)?;
        let (x, pos, dims) = (self.raw(x), self.raw(pos), s[0][0] as i32);
        let mode = match pairing {
            Pairing::Neighbours => 0,
            Pairing::Halves => 2,
        };
        // The scaling is wrong in this version of ggml (freq_scale counts twice, YaRN's ramp is constant),
        // so freq_scale is 1 and ext_factor 0.
        // SAFETY: an f32 tensor and as many i32 positions as it has tokens.
        self.make(|ctx| unsafe {
            sys::ggml_rope_custom(ctx, x, pos, dims, mode, 0, 0, theta, 1.0, 0.0, 1.0, 32.0, 1.0)
        })
    }

    /// The elements of a contiguous tensor in another shape.
    pub fn reshape(&mut self, x: Tensor, ne: [usize; 3]) -> Result<Tensor> {
        let s = self.check(&[x])?;
        let all: usize = s[0].iter().product();
        let same = ne[0].checked_mul(ne[1]).and_then(|n| n.checked_mul(ne[2])) == Some(all);
        self.demand("reshape", same && self.is_contiguous(x), &s)?;
        let x = self.raw(x);
        // SAFETY: a contiguous tensor with as many elements.
        self.make(|ctx| unsafe { sys::ggml_reshape_3d(ctx, x, ne[0] as i64, ne[1] as i64, ne[2] as i64) })
    }

    /// `[a, b, c]` seen as `[a, c, b]`.
    pub fn swap_12(&mut self, x: Tensor) -> Result<Tensor> {
        let s = self.check(&[x])?;
        let small = self.header(x).nb.iter().all(|&nb| nb <= i32::MAX as usize);
        self.demand("permute", small, &s)?;
        let x = self.raw(x);
        // SAFETY: a permutation of the axes; strides fit the int that the function keeps them in.
        self.make(|ctx| unsafe { sys::ggml_permute(ctx, x, 0, 2, 1, 3) })
    }

    /// `[a, b]` seen as `[b, a]`.
    pub fn transpose(&mut self, x: Tensor) -> Result<Tensor> {
        self.check(&[x])?;
        let x = self.raw(x);
        // SAFETY: a tensor of this context.
        self.make(|ctx| unsafe { sys::ggml_transpose(ctx, x) })
    }

    /// A contiguous copy of an f32 tensor.
    pub fn cont(&mut self, x: Tensor) -> Result<Tensor> {
        let s = self.check(&[x])?;
        self.demand("cont", self.is_f32(x), &s)?;
        let x = self.raw(x);
        // In its own shape: with another one ggml writes past the end where the rows alone are alike.
        // SAFETY: an f32 tensor of this context.
        self.make(|ctx| unsafe { sys::ggml_cont(ctx, x) })
    }

    /// A part `[ne0, ne1, ne2]` of a contiguous f32 or f16 tensor, from element `offset` on, rows `strides[0]` and
    /// matrices `strides[1]` elements apart.
    pub fn view(&mut self, x: Tensor, ne: [usize; 3], strides: [usize; 2], offset: usize) -> Result<Tensor> {
        let s = self.check(&[x])?;
        let h = self.header(x);
        let es = match h.type_ {
            sys::ggml_type_GGML_TYPE_F32 => 4,
            sys::ggml_type_GGML_TYPE_F16 => 2,
            _ => 0,
        };
        let all: usize = s[0].iter().product();
        let last = |i: usize| ne[i + 1].checked_sub(1).and_then(|n| n.checked_mul(strides[i]));
        let end = last(0).zip(last(1)).and_then(|(a, b)| a.checked_add(b)?.checked_add(ne[0])?.checked_add(offset));
        // ggml asserts on the packed size too.
        let packed = ne[0].checked_mul(ne[1]).and_then(|n| n.checked_mul(ne[2])?.checked_add(offset));
        let inside = [end, packed].iter().all(|e| e.is_some_and(|e| e <= all)) && !ne.contains(&0);
        self.demand("view", es > 0 && inside && self.is_contiguous(x), &s)?;
        let x = self.raw(x);
        // SAFETY: first to last element of the view lie in `x`.
        self.make(|ctx| unsafe {
            let [a, b, c] = ne.map(|n| n as i64);
            sys::ggml_view_3d(ctx, x, a, b, c, strides[0] * es, strides[1] * es, offset * es)
        })
    }

    /// Copies `x` into the memory of `to`, which has the same shape, converting to its type. A node of its own: give it to
    /// [`Builder::expand`] before what reads the memory.
    pub fn copy(&mut self, x: Tensor, to: Tensor) -> Result<Tensor> {
        let s = self.check(&[x, to])?;
        let kind = self.header(to).type_;
        let float = kind == sys::ggml_type_GGML_TYPE_F32 || kind == sys::ggml_type_GGML_TYPE_F16;
        // ggml takes as many elements in any shape, but goes astray where the rows alone are alike.
        self.demand("copy", s[0] == s[1] && self.is_f32(x) && float, &s)?;
        let (x, to) = (self.raw(x), self.raw(to));
        // SAFETY: one shape, f32 to f32 or f16.
        self.make(|ctx| unsafe { sys::ggml_cpy(ctx, x, to) })
    }

    fn broadcast(
        &self,
        op: &'static str,
        a: Tensor,
        b: Tensor,
    ) -> Result<(*mut sys::ggml_tensor, *mut sys::ggml_tensor)> {
        let s = self.check(&[a, b])?;
        let repeats = (0..4).all(|i| s[0][i] % s[1][i] == 0);
        let rows = self.header(a).nb[0] == 4 && self.header(b).nb[0] == 4;
        self.demand(op, repeats && rows && self.is_f32(a) && self.is_f32(b), &s)?;
        Ok((self.raw(a), self.raw(b)))
    }

    /// Whether `ids` is the view that `top_k` makes of an argsort over `n` columns.
    fn picks_from(&self, ids: Tensor, n: usize) -> bool {
        let h = self.header(ids);
        // SAFETY: a view's source belongs to the same context.
        let source = unsafe { h.view_src.as_ref() };
        source.is_some_and(|s| s.op == sys::ggml_op_GGML_OP_ARGSORT && s.ne[0] as usize == n)
    }

    fn demand(&self, op: &'static str, met: bool, shapes: &[[usize; 4]]) -> Result<()> {
        if met { Ok(()) } else { Err(GgmlError::Shape { op, shapes: shapes.to_vec() }) }
    }
}
