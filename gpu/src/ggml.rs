//! The part of ggml that is used, made safe: tensors can't outlive their context, and sizes are checked where bytes are copied.
//! Shapes that don't fit each other end the process, as ggml has it.
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{NonNull, null, null_mut};

/// 32-bit floats.
pub const F32: u32 = sys::GGML_TYPE_F32;
/// 16-bit floats.
pub const F16: u32 = sys::GGML_TYPE_F16;
/// 32-bit integers.
pub const I32: u32 = sys::GGML_TYPE_I32;
/// 64-bit integers.
pub const I64: u32 = sys::GGML_TYPE_I64;

/// RoPE that pairs neighbours, and elements as halves of a head.
const NEIGHBOURS: i32 = 0;
const NEOX: i32 = 2;

/// Whether ggml knows a type of that number.
pub fn is_type(id: u32) -> bool {
    id < sys::GGML_TYPE_COUNT
}

unsafe extern "C" fn ignore(_: sys::ggml_log_level, _: *const c_char, _: *mut c_void) {}

unsafe extern "C" fn last_words(text: *const c_char) {
    // SAFETY: ggml gives a string that ends with a zero.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    eprintln!("ggml gave up: {}", text.rsplit('/').next().unwrap_or(&text).trim());
}

/// Lets ggml say nothing but its last words.
pub fn quiet() {
    // SAFETY: both functions are what ggml expects, and touch nothing that another thread uses.
    unsafe {
        sys::ggml_log_set(Some(ignore), null_mut());
        sys::ggml_set_abort_callback(Some(last_words));
    }
}

/// Free and total bytes of the Vulkan devices of these numbers. The first call decides which devices ggml knows.
pub fn memory(numbers: &[usize]) -> Vec<(u64, u64)> {
    let list: Vec<String> = numbers.iter().map(usize::to_string).collect();
    // SAFETY: no other thread runs yet: drivers start theirs when ggml, which reads this, comes up.
    unsafe { std::env::set_var("GGML_VK_VISIBLE_DEVICES", list.join(",")) };
    // SAFETY: counts and handles are ggml's own; `p` is written whole before it is read.
    unsafe {
        (0..sys::ggml_backend_dev_count())
            .map(|i| {
                let mut p: sys::ggml_backend_dev_props = std::mem::zeroed();
                sys::ggml_backend_dev_get_props(sys::ggml_backend_dev_get(i), &mut p);
                (p.memory_free as u64, p.memory_total as u64)
            })
            .collect()
    }
}

/// A device at work.
pub struct Backend {
    backend: sys::ggml_backend_t,
    device: sys::ggml_backend_dev_t,
}

impl Backend {
    /// Opens the first of the devices that ggml knows.
    pub fn open() -> Option<Backend> {
        // SAFETY: the device's number is below their count; what may be null is checked.
        unsafe {
            if sys::ggml_backend_dev_count() == 0 {
                return None;
            }
            let device = sys::ggml_backend_dev_get(0);
            let backend = sys::ggml_backend_dev_init(device, null());
            (!backend.is_null()).then_some(Backend { backend, device })
        }
    }

    /// The first node of `graph` that the device can't compute, in words. ggml doesn't ask: it computes nothing, or ends.
    pub fn unsupported(&self, graph: &Graph) -> Option<String> {
        // SAFETY: nodes lie below their count and live as long as the graph; names are static strings.
        unsafe {
            (0..sys::ggml_graph_n_nodes(graph.0)).find_map(|i| {
                let node = sys::ggml_graph_node(graph.0, i);
                if sys::ggml_backend_dev_supports_op(self.device, node) {
                    return None;
                }
                let op = CStr::from_ptr(sys::ggml_op_name((*node).op)).to_string_lossy();
                let source = (*node).src[0];
                let of = if source.is_null() { (*node).type_ } else { (*source).type_ };
                let of = CStr::from_ptr(sys::ggml_type_name(of)).to_string_lossy();
                let [cols, rows, ..] = if source.is_null() { (*node).ne } else { (*source).ne };
                Some(format!("{op} of {of} [{rows}, {cols}]"))
            })
        }
    }

    /// Computes a graph of supported nodes, whose memory was allotted. False when it failed.
    pub fn compute(&self, graph: &Graph) -> bool {
        // SAFETY: both live.
        unsafe { sys::ggml_backend_graph_compute(self.backend, graph.0) == sys::GGML_STATUS_SUCCESS }
    }
}

/// Names tensors; they have no memory until they are allotted some.
pub struct Context(NonNull<sys::ggml_context>);

impl Context {
    /// Room for `tensors` names, and for a graph of as many nodes.
    pub fn new(tensors: usize) -> Context {
        // SAFETY: sizes come from ggml; it allocates and checks.
        let raw = unsafe {
            let graph = sys::ggml_graph_overhead_custom(tensors, false);
            let mem_size = tensors * sys::ggml_tensor_overhead() + graph;
            sys::ggml_init(sys::ggml_init_params { mem_size, mem_buffer: null_mut(), no_alloc: true })
        };
        Context(NonNull::new(raw).expect("memory for a few names"))
    }

    fn tensor(&self, raw: *mut sys::ggml_tensor) -> Tensor<'_> {
        Tensor(NonNull::new(raw).expect("ggml makes a tensor or ends"), PhantomData)
    }

    /// A tensor of this type and shape, columns first.
    pub fn new_tensor(&self, dtype: u32, [a, b, c]: [usize; 3]) -> Tensor<'_> {
        // SAFETY: the context lives.
        self.tensor(unsafe { sys::ggml_new_tensor_3d(self.0.as_ptr(), dtype, a as i64, b as i64, c as i64) })
    }

    /// As [`Context::new_tensor`], filled from outside before a graph is computed.
    pub fn input(&self, dtype: u32, shape: [usize; 3]) -> Tensor<'_> {
        let tensor = self.new_tensor(dtype, shape);
        // SAFETY: the tensor lives.
        unsafe { sys::ggml_set_input(tensor.raw()) };
        tensor
    }

    /// Gives all tensors so far memory on the device, and fills it with zeros. None where there isn't enough.
    pub fn allot(&self, backend: &Backend) -> Option<Buffer> {
        // SAFETY: both live; what may be null is checked.
        unsafe {
            let buffer = NonNull::new(sys::ggml_backend_alloc_ctx_tensors(self.0.as_ptr(), backend.backend))?;
            sys::ggml_backend_buffer_set_usage(buffer.as_ptr(), sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            sys::ggml_backend_buffer_clear(buffer.as_ptr(), 0);
            Some(Buffer(buffer))
        }
    }

    /// An empty graph of at most `nodes` nodes.
    pub fn graph(&self, nodes: usize) -> Graph {
        // SAFETY: the context lives.
        Graph(unsafe { sys::ggml_new_graph_custom(self.0.as_ptr(), nodes, false) })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it is ours, and this is the last use.
        unsafe { sys::ggml_free(self.0.as_ptr()) };
    }
}

/// Memory on the device. It stays until the process ends: some drivers still touch what was freed.
pub struct Buffer(#[expect(dead_code, reason = "held, not looked at")] NonNull<sys::ggml_backend_buffer>);

/// Memory for graphs, used again by each.
pub struct Arena(sys::ggml_gallocr_t);

impl Arena {
    /// None yet.
    pub fn new(backend: &Backend) -> Arena {
        // SAFETY: the backend lives.
        Arena(unsafe { sys::ggml_gallocr_new(sys::ggml_backend_get_default_buffer_type(backend.backend)) })
    }

    /// Gives a graph's tensors memory, taking more from the device where it needs more than any before. False where there
    /// isn't enough.
    pub fn allot(&mut self, graph: &Graph) -> bool {
        // SAFETY: both live.
        unsafe { sys::ggml_gallocr_alloc_graph(self.0, graph.0) }
    }
}

/// A graph. It lives in its context, next to which it is kept.
pub struct Graph(*mut sys::ggml_cgraph);

impl Graph {
    /// Adds what `tensor` needs, and it.
    pub fn add(&self, tensor: Tensor<'_>) {
        // SAFETY: both live.
        unsafe { sys::ggml_build_forward_expand(self.0, tensor.raw()) };
    }

    /// As [`Graph::add`]; its memory isn't used for anything else.
    pub fn output(&self, tensor: Tensor<'_>) {
        // SAFETY: the tensor lives.
        unsafe { sys::ggml_set_output(tensor.raw()) };
        self.add(tensor);
    }
}

/// A tensor, which lives in a context.
#[derive(Clone, Copy)]
pub struct Tensor<'c>(NonNull<sys::ggml_tensor>, PhantomData<&'c Context>);

/// A tensor whose context is kept beside it.
pub type Kept = Tensor<'static>;

impl Tensor<'_> {
    fn raw(self) -> *mut sys::ggml_tensor {
        self.0.as_ptr()
    }

    /// Forgets which context it lives in: for who keeps both in one place, and drops the context last.
    pub fn keep(self) -> Kept {
        Tensor(self.0, PhantomData)
    }

    /// Its bytes.
    pub fn bytes(self) -> usize {
        // SAFETY: the tensor lives.
        unsafe { sys::ggml_nbytes(self.raw()) }
    }

    /// Copies `bytes` to its memory from `offset` on.
    ///
    /// # Panics
    /// It has no memory, or is smaller.
    pub fn set(self, offset: usize, bytes: &[u8]) {
        assert!(self.has_memory() && offset + bytes.len() <= self.bytes());
        // SAFETY: the tensor lives, has memory, and the bytes lie in it.
        unsafe { sys::ggml_backend_tensor_set(self.raw(), bytes.as_ptr().cast(), offset, bytes.len()) };
    }

    /// Copies its memory from `offset` on to `bytes`.
    ///
    /// # Panics
    /// It has no memory, or is smaller.
    pub fn get(self, offset: usize, bytes: &mut [u8]) {
        assert!(self.has_memory() && offset + bytes.len() <= self.bytes());
        // SAFETY: the tensor lives, has memory, the bytes lie in it, and are copied to where there is room for as many.
        unsafe { sys::ggml_backend_tensor_get(self.raw(), bytes.as_mut_ptr().cast(), offset, bytes.len()) };
    }

    /// As [`Tensor::set`], all of it.
    pub fn set_floats(self, values: &[f32]) {
        self.set(0, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    }

    /// As [`Tensor::get`].
    pub fn get_floats(self, values: &mut [f32]) {
        let mut bytes = vec![0; size_of_val(values)];
        self.get(0, &mut bytes);
        for (value, b) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*b);
        }
    }

    fn has_memory(self) -> bool {
        // SAFETY: the tensor lives.
        unsafe { !(*self.raw()).data.is_null() }
    }
}

/// The parameters of RoPE that stay the same.
#[derive(Debug, Clone, Copy)]
pub struct RopeParams {
    /// Neighbours turn together; else halves of a head.
    pub neighbours: bool,
    /// Elements of a head.
    pub head_dim: usize,
    /// See [`qwren_offload::message::Rope`].
    pub original_ctx: u32,
    /// Base of the frequencies.
    pub theta: f32,
    /// What positions are multiplied by.
    pub scale: f32,
    /// YaRN's share.
    pub ext_factor: f32,
    /// What results are multiplied by, before YaRN's own factor.
    pub attn_factor: f32,
    /// YaRN's bounds.
    pub beta: (f32, f32),
}

/// Operations. Shapes are in ggml's order, columns first.
impl Context {
    fn one<'c>(
        &'c self,
        op: unsafe extern "C" fn(*mut sys::ggml_context, *mut sys::ggml_tensor) -> *mut sys::ggml_tensor,
        a: Tensor<'c>,
    ) -> Tensor<'c> {
        // SAFETY: the context and the tensor live; `op` is one of ggml's.
        self.tensor(unsafe { op(self.0.as_ptr(), a.raw()) })
    }

    fn two<'c>(
        &'c self,
        op: unsafe extern "C" fn(
            *mut sys::ggml_context,
            *mut sys::ggml_tensor,
            *mut sys::ggml_tensor,
        ) -> *mut sys::ggml_tensor,
        a: Tensor<'c>,
        b: Tensor<'c>,
    ) -> Tensor<'c> {
        // SAFETY: the context and the tensors live; `op` is one of ggml's.
        self.tensor(unsafe { op(self.0.as_ptr(), a.raw(), b.raw()) })
    }

    /// `a + b`
    pub fn add<'c>(&'c self, a: Tensor<'c>, b: Tensor<'c>) -> Tensor<'c> {
        self.two(sys::ggml_add, a, b)
    }

    /// `a * b`, b repeated where it is smaller.
    pub fn mul<'c>(&'c self, a: Tensor<'c>, b: Tensor<'c>) -> Tensor<'c> {
        self.two(sys::ggml_mul, a, b)
    }

    /// `a / b`, b repeated where it is smaller.
    pub fn div<'c>(&'c self, a: Tensor<'c>, b: Tensor<'c>) -> Tensor<'c> {
        self.two(sys::ggml_div, a, b)
    }

    /// `W x`, accumulated in f32.
    pub fn mul_mat<'c>(&'c self, weight: Tensor<'c>, x: Tensor<'c>) -> Tensor<'c> {
        let product = self.two(sys::ggml_mul_mat, weight, x);
        // SAFETY: the tensor lives, and is a product.
        unsafe { sys::ggml_mul_mat_set_prec(product.raw(), sys::GGML_PREC_F32) };
        product
    }

    /// `W[id] x` for each token's experts, accumulated in f32: `[rows, used, n]`.
    pub fn mul_mat_id<'c>(&'c self, weight: Tensor<'c>, x: Tensor<'c>, ids: Tensor<'c>) -> Tensor<'c> {
        // SAFETY: the context and the tensors live. The precision is where it is for MUL_MAT, whose setter takes no others.
        unsafe {
            let product = sys::ggml_mul_mat_id(self.0.as_ptr(), weight.raw(), x.raw(), ids.raw());
            (*product).op_params[0] = sys::GGML_PREC_F32 as i32;
            self.tensor(product)
        }
    }

    /// `x / √(mean x² + ε) * weight`
    pub fn rms_norm<'c>(&'c self, x: Tensor<'c>, weight: Tensor<'c>, eps: f32) -> Tensor<'c> {
        // SAFETY: the context and the tensor live.
        let normed = self.tensor(unsafe { sys::ggml_rms_norm(self.0.as_ptr(), x.raw(), eps) });
        self.mul(normed, weight)
    }

    /// RoPE at `positions`.
    pub fn rope<'c>(&'c self, x: Tensor<'c>, positions: Tensor<'c>, p: &RopeParams) -> Tensor<'c> {
        // SAFETY: the context and the tensors live; there are no factors of frequencies.
        self.tensor(unsafe {
            sys::ggml_rope_ext(
                self.0.as_ptr(),
                x.raw(),
                positions.raw(),
                null_mut(),
                p.head_dim as i32,
                if p.neighbours { NEIGHBOURS } else { NEOX },
                p.original_ctx as i32,
                p.theta,
                p.scale,
                p.ext_factor,
                p.attn_factor,
                p.beta.0,
                p.beta.1,
            )
        })
    }

    /// Writes rows of `x` to `rows` of `into`.
    pub fn set_rows<'c>(&'c self, into: Tensor<'c>, x: Tensor<'c>, rows: Tensor<'c>) -> Tensor<'c> {
        // SAFETY: the context and the tensors live.
        self.tensor(unsafe { sys::ggml_set_rows(self.0.as_ptr(), into.raw(), x.raw(), rows.raw()) })
    }

    /// Rows `rows` of `x`.
    pub fn get_rows<'c>(&'c self, x: Tensor<'c>, rows: Tensor<'c>) -> Tensor<'c> {
        self.two(sys::ggml_get_rows, x, rows)
    }

    /// The same elements in another shape.
    pub fn reshape<'c>(&'c self, x: Tensor<'c>, [a, b, c]: [usize; 3]) -> Tensor<'c> {
        // SAFETY: the context and the tensor live.
        self.tensor(unsafe { sys::ggml_reshape_3d(self.0.as_ptr(), x.raw(), a as i64, b as i64, c as i64) })
    }

    /// Parts of rows: `[head, rows, heads]` of a cache `[heads * head, …]`.
    pub fn heads<'c>(&'c self, cache: Tensor<'c>, head: usize, rows: usize, heads: usize) -> Tensor<'c> {
        // SAFETY: the context and the tensor live; strides are those of the tensor.
        self.tensor(unsafe {
            let (row, part) = ((*cache.raw()).nb[1], sys::ggml_row_size((*cache.raw()).type_, head as i64));
            let (a, b, c) = (head as i64, rows as i64, heads as i64);
            sys::ggml_view_3d(self.0.as_ptr(), cache.raw(), a, b, c, row, part, 0)
        })
    }

    /// Matrix `i` along the middle dimension of `x` `[cols, used, n]`: `[cols, n]`.
    pub fn middle<'c>(&'c self, x: Tensor<'c>, i: usize) -> Tensor<'c> {
        // SAFETY: the context and the tensor live; strides are those of the tensor.
        self.tensor(unsafe {
            let t = &*x.raw();
            sys::ggml_view_2d(self.0.as_ptr(), x.raw(), t.ne[0], t.ne[2], t.nb[2], i * t.nb[1])
        })
    }

    /// Dimensions in another order.
    pub fn permute<'c>(&'c self, x: Tensor<'c>, [a, b, c]: [i32; 3]) -> Tensor<'c> {
        // SAFETY: the context and the tensor live.
        self.tensor(unsafe { sys::ggml_permute(self.0.as_ptr(), x.raw(), a, b, c, 3) })
    }

    /// A copy whose elements lie in order.
    pub fn cont<'c>(&'c self, x: Tensor<'c>) -> Tensor<'c> {
        self.one(sys::ggml_cont, x)
    }

    /// `softmax(q kᵀ scale + mask) v`, q `[head, n, heads]`, k and v `[head, kv, kv_heads]`: `[head, heads, n]`.
    pub fn flash_attention<'c>(&'c self, [q, k, v]: [Tensor<'c>; 3], mask: Tensor<'c>, scale: f32) -> Tensor<'c> {
        // SAFETY: the context and the tensors live.
        unsafe {
            let (ctx, mask) = (self.0.as_ptr(), mask.raw());
            let a = sys::ggml_flash_attn_ext(ctx, q.raw(), k.raw(), v.raw(), mask, scale, 0.0, 0.0);
            sys::ggml_flash_attn_ext_set_prec(a, sys::GGML_PREC_F32);
            self.tensor(a)
        }
    }

    /// `softmax(x scale + mask)` along columns.
    pub fn soft_max<'c>(&'c self, x: Tensor<'c>, mask: Option<Tensor<'c>>, scale: f32) -> Tensor<'c> {
        let mask = mask.map_or(null_mut(), Tensor::raw);
        // SAFETY: the context and the tensors live.
        self.tensor(unsafe { sys::ggml_soft_max_ext(self.0.as_ptr(), x.raw(), mask, scale, 0.0) })
    }

    /// The columns of the `k` largest elements of each row, I32 `[k, n]`.
    pub fn top_k<'c>(&'c self, x: Tensor<'c>, k: usize) -> Tensor<'c> {
        // SAFETY: the context and the tensor live.
        self.tensor(unsafe { sys::ggml_argsort_top_k(self.0.as_ptr(), x.raw(), k as i32) })
    }

    /// Sums of rows.
    pub fn sum_rows<'c>(&'c self, x: Tensor<'c>) -> Tensor<'c> {
        self.one(sys::ggml_sum_rows, x)
    }

    /// `silu(gate) * up`
    pub fn swiglu<'c>(&'c self, gate: Tensor<'c>, up: Tensor<'c>) -> Tensor<'c> {
        self.two(sys::ggml_swiglu_split, gate, up)
    }
}
