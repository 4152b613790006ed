//! Building, allocating and computing a graph.
use super::custom::{Call, MAX_SOURCES, Node, must_stop, run_node};
use super::{Fault, GgmlError, Op, sys};
use memmap2::MmapMut;
use qwren_quant::dtype::DType;
use std::marker::PhantomData;
use std::os::raw::c_void;
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The CPU as ggml's device, with one thread.
pub struct Backend(NonNull<sys::ggml_backend>);

impl Backend {
    /// # Errors
    /// When ggml has no memory for it.
    pub fn new() -> Result<Backend, GgmlError> {
        // SAFETY: no arguments; null is checked.
        let raw = NonNull::new(unsafe { sys::ggml_backend_cpu_init() }).ok_or(GgmlError::Init("backend"))?;
        // SAFETY: `raw` is a CPU backend.
        unsafe { sys::ggml_backend_cpu_set_n_threads(raw.as_ptr(), 1) };
        Ok(Backend(raw))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: made by `ggml_backend_cpu_init`, freed once.
        unsafe { sys::ggml_backend_free(self.0.as_ptr()) }
    }
}

/// Memory that graphs read and write and that outlives them, committed page by page as it is touched: a KV cache for the
/// stock operations, or weights in a type that they know.
pub struct Region {
    base: NonNull<u8>,
    _map: MmapMut,
}

impl Region {
    /// `bytes` of zeros, which `fill` may set before graphs see them.
    ///
    /// # Errors
    /// When the system refuses so much.
    pub fn new(bytes: usize, fill: impl FnOnce(&mut [u8])) -> Result<Rc<Region>, GgmlError> {
        let mut map = MmapMut::map_anon(bytes.max(1)).map_err(|_| GgmlError::Memory)?;
        fill(&mut map);
        let base = NonNull::new(map.as_mut_ptr()).ok_or(GgmlError::Memory)?;
        // From here on the memory is reached through `base` alone.
        Ok(Rc::new(Region { base, _map: map }))
    }

    fn len(&self) -> usize {
        self._map.len()
    }
}

/// The ggml context that holds the headers of a graph and its tensors.
struct Context(NonNull<sys::ggml_context>);

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `ggml_init`, freed once, after the allocator that refers to its tensors (field order in Graph).
        unsafe { sys::ggml_free(self.0.as_ptr()) }
    }
}

/// A tensor of one graph: a handle that is good for this graph only.
#[derive(Clone, Copy)]
pub struct Tensor {
    raw: NonNull<sys::ggml_tensor>,
    graph: u64,
}

/// A graph under construction. Weights are borrowed for `'m`; `E` is what [`Graph::compute`] lends to our own nodes.
pub struct Builder<'m, E> {
    id: u64,
    capacity: usize,
    used: usize,
    raw: NonNull<sys::ggml_cgraph>,
    nodes: Vec<Rc<Node<'m, E>>>,
    regions: Vec<Rc<Region>>,
    call: Rc<Call<E>>,
    inputs: Vec<Tensor>,
    ctx: Context,
    _weights: PhantomData<&'m [u8]>,
}

/// The type of a tensor in ggml's numbering, if this version has it.
fn ggml_type(dtype: DType) -> Result<sys::ggml_type, GgmlError> {
    match dtype {
        DType::F32 | DType::F16 | DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => {}
        DType::Q2K | DType::Q3K | DType::Q4K | DType::Q5K | DType::Q6K | DType::IQ4NL | DType::IQ4XS => {}
        other => return Err(GgmlError::Type(other.name())),
    }
    Ok(dtype.ggml_id() as sys::ggml_type)
}

impl<'m, E> Builder<'m, E> {
    /// A graph with room for `capacity` tensors, views and weights included.
    ///
    /// # Errors
    /// When ggml gives no context: it has 64.
    pub fn new(capacity: usize) -> Result<Builder<'m, E>, GgmlError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // SAFETY: pure functions of their arguments. The size counts every tensor and the graph with as many nodes and
        // leafs; ggml rounds objects up to 16 bytes, hence the spare.
        let (ctx, raw) = unsafe {
            let tensors = capacity * (sys::ggml_tensor_overhead() + 16);
            let mem_size = tensors + sys::ggml_graph_overhead_custom(capacity, false) + 4096;
            let ctx = sys::ggml_init(sys::ggml_init_params { mem_size, mem_buffer: null_mut(), no_alloc: true });
            let ctx = Context(NonNull::new(ctx).ok_or(GgmlError::Init("context"))?);
            let graph = sys::ggml_new_graph_custom(ctx.0.as_ptr(), capacity, false);
            (ctx, NonNull::new(graph).ok_or(GgmlError::Init("graph"))?)
        };
        Ok(Builder {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            capacity,
            used: 0,
            raw,
            nodes: Vec::new(),
            regions: Vec::new(),
            call: Call::new(),
            inputs: Vec::new(),
            ctx,
            _weights: PhantomData,
        })
    }

    /// An f32 input `[cols, rows]`, written with [`Graph::input`] before each computation.
    pub fn input(&mut self, ne: [usize; 2]) -> Result<Tensor, GgmlError> {
        self.new_input(sys::ggml_type_GGML_TYPE_F32, [ne[0], ne[1], 1])
    }

    /// A list of `n` 32-bit integers, written with [`Graph::input_i32`] before each computation.
    pub fn input_i32(&mut self, n: usize) -> Result<Tensor, GgmlError> {
        self.new_input(sys::ggml_type_GGML_TYPE_I32, [n, 1, 1])
    }

    /// A weight that ggml reads where it lies. `data` holds exactly the `ne` elements of type `dtype`.
    pub fn weight(&mut self, dtype: DType, ne: [usize; 3], data: &'m [u8]) -> Result<Tensor, GgmlError> {
        let raw_type = ggml_type(dtype)?;
        let bytes = dtype.tensor_bytes(&ne.map(|n| n as u64)).ok();
        if bytes != Some(data.len() as u64) || !data.as_ptr().addr().is_multiple_of(4) {
            return Err(GgmlError::Shape { op: "weight", shapes: vec![[ne[0], ne[1], ne[2], 1]] });
        }
        let t = self.leaf(raw_type, ne)?;
        // SAFETY: `t` is a leaf of this context; the data live for 'm, as long as any graph built here, are as many
        // bytes as ggml will read, and no operation writes to its weight.
        unsafe { (*t.raw.as_ptr()).data = data.as_ptr() as *mut c_void };
        Ok(t)
    }

    /// A region as a tensor of F32 or F16, that nodes may write to.
    pub fn region(&mut self, region: &Rc<Region>, dtype: DType, ne: [usize; 3]) -> Result<Tensor, GgmlError> {
        let shape = || GgmlError::Shape { op: "region", shapes: vec![[ne[0], ne[1], ne[2], 1]] };
        let bytes = dtype.tensor_bytes(&ne.map(|n| n as u64)).map_err(|_| shape())?;
        if !matches!(dtype, DType::F32 | DType::F16) || bytes > region.len() as u64 {
            return Err(shape());
        }
        let t = self.leaf(ggml_type(dtype)?, ne)?;
        // SAFETY: the region holds as many bytes, starts on a page and is kept alive by the graph; nothing but graphs
        // reaches its memory, and those stay on one thread (`Rc`).
        unsafe { (*t.raw.as_ptr()).data = region.base.as_ptr() as *mut c_void };
        self.regions.push(region.clone());
        Ok(t)
    }

    /// A node of ours with the f32 output `[cols, rows]`. The sources are f32 and contiguous.
    pub fn custom(&mut self, srcs: &[Tensor], ne: [usize; 2], op: impl Op<E> + 'm) -> Result<Tensor, GgmlError> {
        let shapes = self.check(srcs)?;
        let elements = ne[0].checked_mul(ne[1]).filter(|&n| n > 0 && n <= isize::MAX as usize / 4);
        let fits = srcs.iter().all(|&s| self.is_f32(s) && self.is_contiguous(s));
        let (Some(elements), true, true) = (elements, fits, (1..=MAX_SOURCES).contains(&srcs.len())) else {
            return Err(GgmlError::Shape { op: "a custom operation", shapes });
        };
        let node = Rc::new(Node { op: Box::new(op), call: self.call.clone() });
        let user = Rc::as_ptr(&node) as *mut c_void;
        self.nodes.push(node);
        let src0 = srcs[0].raw.as_ptr();
        // SAFETY: `src0` is a tensor of this context (checked), and `make` has made sure that there is room. The result is
        // a header like src0's without memory, so its shape and sources can still be set.
        self.make(|ctx| unsafe {
            let t = sys::ggml_map_custom1(ctx, src0, Some(run_node::<E>), 1, user);
            (*t).ne = [ne[0] as i64, ne[1] as i64, 1, 1];
            (*t).nb = [4, ne[0] * 4, elements * 4, elements * 4];
            let slots = &mut (*t).src;
            slots.iter_mut().zip(srcs).for_each(|(slot, src)| *slot = src.raw.as_ptr());
            t
        })
    }

    /// The f32 elements `offset..` of a contiguous tensor, seen as `[cols, rows]`.
    pub fn part(&mut self, t: Tensor, offset: usize, ne: [usize; 2]) -> Result<Tensor, GgmlError> {
        let shapes = self.check(&[t])?;
        let all: usize = shapes[0].iter().product();
        let end = ne[0].checked_mul(ne[1]).and_then(|n| n.checked_add(offset));
        if !self.is_f32(t) || !self.is_contiguous(t) || ne.contains(&0) || end.is_none_or(|end| end > all) {
            return Err(GgmlError::Shape { op: "a part", shapes });
        }
        let raw = t.raw.as_ptr();
        // SAFETY: the part lies in `t`, a tensor of this context.
        self.make(|ctx| unsafe { sys::ggml_view_2d(ctx, raw, ne[0] as i64, ne[1] as i64, ne[0] * 4, offset * 4) })
    }

    /// Puts the nodes that `t` needs into the graph now, before those of later calls: for writes whose readers don't name
    /// them as a source.
    pub fn expand(&mut self, t: Tensor) -> Result<(), GgmlError> {
        self.check(&[t])?;
        // SAFETY: `t` is a tensor of the graph's context. Each tensor is a node or a leaf once, and there are at most
        // `capacity` of them (`make`).
        unsafe { sys::ggml_build_forward_expand(self.raw.as_ptr(), t.raw.as_ptr()) };
        Ok(())
    }

    /// Allocates memory for everything that `outputs` need. Outputs stay readable until the next computation.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn finish(mut self, outputs: &[Tensor]) -> Result<Graph<'m, E>, GgmlError> {
        for &t in outputs {
            self.check(&[t])?;
            // SAFETY: a header of ours (checked); sets a flag.
            unsafe { sys::ggml_set_output(t.raw.as_ptr()) };
            self.expand(t)?;
        }
        // SAFETY: no arguments that could be wrong; null is checked.
        let allocator = unsafe { sys::ggml_gallocr_new(sys::ggml_backend_cpu_buffer_type()) };
        let allocator = Allocator(NonNull::new(allocator).ok_or(GgmlError::Memory)?);
        // SAFETY: the allocator and the graph are alive, and every tensor in it belongs to `ctx`.
        if !unsafe { sys::ggml_gallocr_alloc_graph(allocator.0.as_ptr(), self.raw.as_ptr()) } {
            return Err(GgmlError::Memory);
        }
        // SAFETY: the graph is alive: its lists hold as many pointers as they say, all to tensors of `ctx`.
        unsafe {
            let g = self.raw.as_ref();
            for i in 0..g.n_nodes as usize + g.n_leafs as usize {
                let n = g.n_nodes as usize;
                let t = if i < n { *g.nodes.add(i) } else { *g.leafs.add(i - n) };
                if (*t).data.is_null() {
                    return Err(GgmlError::Memory);
                }
            }
            // All nodes share one buffer (views name their tensor's). Cleared once, so that slices of it are initialised.
            let owned = (0..g.n_nodes as usize).map(|i| (**g.nodes.add(i)).buffer).find(|b| !b.is_null());
            if let Some(buffer) = owned {
                sys::ggml_backend_buffer_clear(buffer, 0);
            }
        }
        let Builder { id, raw, nodes, regions, call, inputs, ctx, .. } = self;
        Ok(Graph {
            raw,
            id,
            call,
            inputs,
            outputs: outputs.to_vec(),
            _allocator: allocator,
            _nodes: nodes,
            _regions: regions,
            _ctx: ctx,
            _weights: PhantomData,
        })
    }

    /// The shape of a tensor of this graph, in ggml's order.
    pub fn shape(&self, t: Tensor) -> Result<[usize; 4], GgmlError> {
        Ok(self.check(&[t])?[0])
    }

    fn leaf(&mut self, kind: sys::ggml_type, ne: [usize; 3]) -> Result<Tensor, GgmlError> {
        let shape = || GgmlError::Shape { op: "a new tensor", shapes: vec![[ne[0], ne[1], ne[2], 1]] };
        let elements = ne[0].checked_mul(ne[1]).and_then(|n| n.checked_mul(ne[2]));
        if elements.is_none_or(|n| n == 0 || n > isize::MAX as usize / 8) {
            return Err(shape());
        }
        // SAFETY: a known type, positive sizes whose product fits.
        self.make(|ctx| unsafe { sys::ggml_new_tensor_3d(ctx, kind, ne[0] as i64, ne[1] as i64, ne[2] as i64) })
    }

    /// A leaf that keeps memory of its own from the start of a computation.
    fn new_input(&mut self, kind: sys::ggml_type, ne: [usize; 3]) -> Result<Tensor, GgmlError> {
        let t = self.leaf(kind, ne)?;
        // SAFETY: a header of ours; sets a flag.
        unsafe { sys::ggml_set_input(t.raw.as_ptr()) };
        self.inputs.push(t);
        Ok(t)
    }

    /// Calls ggml for a new tensor, if there is room for one more (some operations make two: they call `reserve` first).
    pub(super) fn make(
        &mut self,
        f: impl FnOnce(*mut sys::ggml_context) -> *mut sys::ggml_tensor,
    ) -> Result<Tensor, GgmlError> {
        self.reserve(1)?;
        let raw = NonNull::new(f(self.ctx.0.as_ptr())).ok_or(GgmlError::Init("tensor"))?;
        Ok(Tensor { raw, graph: self.id })
    }

    /// Counts `n` tensors against the capacity.
    pub(super) fn reserve(&mut self, n: usize) -> Result<(), GgmlError> {
        self.used += n;
        if self.used > self.capacity { Err(GgmlError::Full(self.capacity)) } else { Ok(()) }
    }

    /// The tensors' shapes, once it is clear that they belong to this graph.
    pub(super) fn check(&self, tensors: &[Tensor]) -> Result<Vec<[usize; 4]>, GgmlError> {
        let shape = |t: &Tensor| {
            if t.graph != self.id {
                return Err(GgmlError::Foreign);
            }
            // SAFETY: a tensor with this graph's id lies in `ctx`, which is alive; its sizes were made positive.
            Ok(unsafe { t.raw.as_ref() }.ne.map(|n| n as usize))
        };
        tensors.iter().map(shape).collect()
    }

    /// Of a tensor that `check` has seen.
    pub(super) fn header(&self, t: Tensor) -> &sys::ggml_tensor {
        assert_eq!(t.graph, self.id, "a tensor of another graph");
        // SAFETY: it belongs to `ctx`, which is alive while `self` is.
        unsafe { t.raw.as_ref() }
    }

    pub(super) fn raw(&self, t: Tensor) -> *mut sys::ggml_tensor {
        assert_eq!(t.graph, self.id, "a tensor of another graph");
        t.raw.as_ptr()
    }

    pub(super) fn is_f32(&self, t: Tensor) -> bool {
        self.header(t).type_ == sys::ggml_type_GGML_TYPE_F32
    }

    pub(super) fn is_contiguous(&self, t: Tensor) -> bool {
        // SAFETY: `header` has made sure that `t` is alive.
        unsafe { sys::ggml_is_contiguous(self.header(t)) }
    }
}

struct Allocator(NonNull<sys::ggml_gallocr>);

impl Drop for Allocator {
    fn drop(&mut self) {
        // SAFETY: made by `ggml_gallocr_new`, freed once; it owns the buffer, which no tensor is used after.
        unsafe { sys::ggml_gallocr_free(self.0.as_ptr()) }
    }
}

/// A graph with its memory, ready to be computed any number of times.
pub struct Graph<'m, E> {
    raw: NonNull<sys::ggml_cgraph>,
    id: u64,
    call: Rc<Call<E>>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    // Kept alive for ggml, which holds pointers to all of them; dropped in this order.
    _allocator: Allocator,
    _nodes: Vec<Rc<Node<'m, E>>>,
    _regions: Vec<Rc<Region>>,
    _ctx: Context,
    _weights: PhantomData<&'m [u8]>,
}

impl<E> Graph<'_, E> {
    /// Computes all nodes on this thread, lending `env` to ours. Ends early, within a node's time, once `stop` is set.
    ///
    /// # Errors
    /// What one of our nodes gave, or [`Fault::Interrupted`].
    pub fn compute(&mut self, backend: &mut Backend, env: &mut E, stop: &AtomicBool) -> Result<(), Fault> {
        let (backend, raw, call) = (backend.0.as_ptr(), self.raw.as_ptr(), Rc::as_ptr(&self.call));
        self.call.lend(env, stop, || {
            // SAFETY: a CPU backend with one thread; the graph is allocated (`Builder::finish`), its tensors, weights, regions
            // and nodes are alive while `self` is. The callback is taken back before `call` can go.
            unsafe {
                sys::ggml_backend_cpu_set_abort_callback(backend, Some(must_stop::<E>), call as *mut c_void);
                let status = sys::ggml_backend_graph_compute(backend, raw);
                sys::ggml_backend_cpu_set_abort_callback(backend, None, null_mut());
                status
            }
        })
    }

    /// An f32 input, to be written before each computation: its memory is reused once the input has been read.
    ///
    /// # Panics
    /// When `t` is no f32 input of this graph.
    pub fn input(&mut self, t: Tensor) -> &mut [f32] {
        let (data, len) = self.span(t, &self.inputs, sys::ggml_type_GGML_TYPE_F32);
        // SAFETY: an allocated and cleared tensor of `len` f32; `self` is borrowed exclusively, so nothing else has a
        // slice of it and no computation runs.
        unsafe { std::slice::from_raw_parts_mut(data as *mut f32, len) }
    }

    /// An integer input, as [`Graph::input`].
    ///
    /// # Panics
    /// When `t` is no integer input of this graph.
    pub fn input_i32(&mut self, t: Tensor) -> &mut [i32] {
        let (data, len) = self.span(t, &self.inputs, sys::ggml_type_GGML_TYPE_I32);
        // SAFETY: as in `input`, with i32.
        unsafe { std::slice::from_raw_parts_mut(data as *mut i32, len) }
    }

    /// An output of the last computation.
    ///
    /// # Panics
    /// When `t` is no output of this graph.
    pub fn output(&self, t: Tensor) -> &[f32] {
        let (data, len) = self.span(t, &self.outputs, sys::ggml_type_GGML_TYPE_F32);
        // SAFETY: an allocated tensor of `len` f32, cleared once; nothing writes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(data as *const f32, len) }
    }

    /// Address and elements of a contiguous tensor that is in `list`.
    fn span(&self, t: Tensor, list: &[Tensor], kind: sys::ggml_type) -> (*mut c_void, usize) {
        assert!(t.graph == self.id && list.iter().any(|l| l.raw == t.raw), "no such input or output");
        // SAFETY: a tensor of this graph: it lies in `ctx`.
        let h = unsafe { t.raw.as_ref() };
        // SAFETY: as above.
        assert!(h.type_ == kind && unsafe { sys::ggml_is_contiguous(h) } && !h.data.is_null(), "not a plain tensor");
        (h.data, h.ne.iter().product::<i64>() as usize)
    }
}
