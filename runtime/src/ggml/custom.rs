//! Our own code as nodes of a ggml graph: any output shape, up to [`MAX_SOURCES`] sources, run on the thread that computes
//! the graph. No panic crosses into C: it becomes a [`Fault`], and the nodes that follow are skipped.
use super::sys;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::os::raw::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The most sources that a node of ours has.
pub const MAX_SOURCES: usize = 4;

/// Why computing a graph stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The caller's stop flag was set.
    #[error("interrupted")]
    Interrupted,
    /// A fault of ours, with its text.
    #[error("{0}")]
    Failed(String),
}

/// Turns what a panic carried into a fault.
pub(crate) fn panic_fault(payload: Box<dyn Any + Send>) -> Fault {
    let text = payload.downcast_ref::<&str>().map(|s| s.to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    Fault::Failed(text.unwrap_or_else(|| "an operation panicked".into()))
}

/// What a node reads and writes in one run. All f32 and contiguous.
pub struct Io<'a> {
    /// The node's output.
    pub dst: &'a mut [f32],
    srcs: [&'a [f32]; MAX_SOURCES],
    /// Set when the computation should end early: long operations look at it between pieces of work.
    pub stop: &'a AtomicBool,
}

impl<'a> Io<'a> {
    /// The `i`-th source, empty when the node has fewer.
    pub fn src(&self, i: usize) -> &'a [f32] {
        self.srcs[i]
    }

    /// # Safety
    /// `dst` is a node made by [`super::Builder::custom`] in a graph that is allocated and being computed on this thread.
    unsafe fn new(dst: *mut sys::ggml_tensor, stop: &'a AtomicBool) -> Result<Io<'a>, Fault> {
        /// # Safety
        /// `t` is an allocated tensor.
        unsafe fn span(t: *const sys::ggml_tensor) -> (*mut f32, usize) {
            // SAFETY: `t` is alive, as the caller promises.
            unsafe { ((*t).data as *mut f32, (*t).ne.iter().product::<i64>() as usize) }
        }
        // SAFETY: as the caller promises; `Builder::custom` made `dst` f32 and contiguous.
        let (out, out_len) = unsafe { span(dst) };
        let mut srcs: [&'a [f32]; MAX_SOURCES] = [&[]; MAX_SOURCES];
        for i in 0..MAX_SOURCES {
            // SAFETY: `dst` is alive; its sources are null or alive like it.
            let src = unsafe { (&(*dst).src)[i] };
            if src.is_null() {
                break;
            }
            // SAFETY: sources of an allocated node are allocated; `Builder::custom` let in contiguous f32 only.
            let (p, len) = unsafe { span(src) };
            // ggml never runs a custom node in place; the slices below would be undefined if it did.
            let (a, b) = (out as usize, p as usize);
            if p.is_null() || a < b + len * 4 && b < a + out_len * 4 {
                return Err(Fault::Failed("a node's source and output overlap".into()));
            }
            // SAFETY: `len` floats that were allocated and cleared for `src` (`Builder::finish`) and that nothing writes
            // while this node runs, ggml being on one thread; disjoint from the output.
            srcs[i] = unsafe { std::slice::from_raw_parts(p, len) };
        }
        // SAFETY: `out_len` floats that were allocated and cleared for `dst`; nothing else reads or writes them while
        // this node runs.
        let dst = unsafe { std::slice::from_raw_parts_mut(out, out_len) };
        Ok(Io { dst, srcs, stop })
    }
}

/// An operation of ours. `E` is the state that the caller of [`super::Graph::compute`] lends to all nodes.
pub trait Op<E> {
    /// Computes the node. Must give the same result when it is run twice in a row.
    fn run(&self, env: &mut E, io: Io<'_>) -> Result<(), Fault>;
}

/// What the nodes of a graph share during one computation.
pub(super) struct Call<E> {
    env: Cell<*mut E>,
    stop: Cell<*const AtomicBool>,
    fault: RefCell<Option<Fault>>,
}

impl<E> Call<E> {
    pub(super) fn new() -> Rc<Call<E>> {
        Rc::new(Call { env: Cell::new(null_mut()), stop: Cell::new(null_mut()), fault: RefCell::new(None) })
    }

    /// Runs `compute` while `env` and `stop` are lent to the nodes.
    pub(super) fn lend(
        &self,
        env: &mut E,
        stop: &AtomicBool,
        compute: impl FnOnce() -> sys::ggml_status,
    ) -> Result<(), Fault> {
        self.env.set(env);
        self.stop.set(stop);
        *self.fault.borrow_mut() = None;
        let status = compute();
        self.env.set(null_mut());
        self.stop.set(null_mut());
        match (self.fault.borrow_mut().take(), status) {
            (Some(fault), _) => Err(fault),
            (None, sys::ggml_status_GGML_STATUS_SUCCESS) => Ok(()),
            (None, sys::ggml_status_GGML_STATUS_ABORTED) => Err(Fault::Interrupted),
            (None, status) => Err(Fault::Failed(format!("ggml ended with status {status}"))),
        }
    }

    fn must_stop(&self) -> bool {
        // SAFETY: only called from callbacks of the computation in `lend`, during which `stop` is borrowed.
        self.fault.borrow().is_some() || unsafe { (*self.stop.get()).load(Ordering::Relaxed) }
    }
}

/// What ggml asks between nodes. True makes it run the current node once more and then stop.
///
/// # Safety
/// `call` is the `Call<E>` of the computation that runs.
pub(super) unsafe extern "C" fn must_stop<E>(call: *mut c_void) -> bool {
    // SAFETY: as the caller promises; `Graph` keeps it alive.
    unsafe { (*(call as *const Call<E>)).must_stop() }
}

/// A node's code, kept by its graph for as long as ggml may call it.
pub(super) struct Node<'m, E> {
    pub(super) op: Box<dyn Op<E> + 'm>,
    pub(super) call: Rc<Call<E>>,
}

/// What ggml calls for a node.
///
/// # Safety
/// `user` is the `Node<E>` that `Builder::custom` made for `dst`, and `Call::lend` is running on this thread.
pub(super) unsafe extern "C" fn run_node<E>(
    dst: *mut sys::ggml_tensor,
    _: *const sys::ggml_tensor,
    _: c_int,
    _: c_int,
    user: *mut c_void,
) {
    // SAFETY: as the caller promises; the graph keeps the node in an `Rc`.
    let node = unsafe { &*(user as *const Node<'_, E>) };
    if node.call.fault.borrow().is_some() {
        return;
    }
    let run = || {
        // SAFETY: `lend` is running, so both pointers come from borrows that outlast this call. Nodes run one after
        // the other on one thread, so this is the only reference to the environment.
        let (env, stop) = unsafe { (&mut *node.call.env.get(), &*node.call.stop.get()) };
        // SAFETY: ggml computes `dst`, hence its graph is allocated.
        node.op.run(env, unsafe { Io::new(dst, stop) }?)
    };
    let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panic_fault(panic)));
    if let Err(fault) = result {
        *node.call.fault.borrow_mut() = Some(fault);
    }
}
