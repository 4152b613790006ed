//! Whatever is asked of the wrapper, the process lives on.
use super::*;
use qwren_quant::dtype::DType;
use std::sync::atomic::{AtomicBool, Ordering};

/// An operation from a closure over the environment, a counter.
struct Call<F>(F);

impl<F: Fn(&mut usize, Io<'_>) -> Result<(), Fault>> Op<usize> for Call<F> {
    fn run(&self, env: &mut usize, io: Io<'_>) -> Result<(), Fault> {
        self.0(env, io)
    }
}

fn builder<'m>() -> Builder<'m, usize> {
    Builder::new(32).unwrap()
}

static GO: AtomicBool = AtomicBool::new(false);

#[test]
fn nodes_of_any_shape_compute_and_share_the_environment() {
    let mut b = builder();
    let x = b.input([3, 2]).unwrap();
    let outer = Call(|calls: &mut usize, io: Io<'_>| {
        *calls += 1;
        let x = io.src(0);
        io.dst.iter_mut().enumerate().for_each(|(i, y)| *y = x[i % 6] + i as f32);
        Ok(())
    });
    let wide = b.custom(&[x], [5, 4], outer).unwrap();
    let tail = b.part(wide, 14, [3, 2]).unwrap();
    let sum = b.add(tail, x).unwrap();
    let mut graph = b.finish(&[wide, sum]).unwrap();
    let (mut backend, mut calls) = (Backend::new().unwrap(), 0);
    for round in 1..=3 {
        graph.input(x).copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, round as f32]);
        graph.compute(&mut backend, &mut calls, &GO).unwrap();
        assert_eq!((calls, graph.output(wide)[19], graph.output(wide)[17]), (round, 21.0, 17.0 + round as f32));
        assert_eq!(graph.output(sum)[0], graph.output(wide)[14] + 1.0);
    }
}

#[test]
fn a_panic_in_a_node_is_an_error_and_skips_the_rest() {
    let mut b = builder();
    let x = b.input([1, 1]).unwrap();
    let bad = Call(|calls: &mut usize, _: Io<'_>| if *calls == 0 { panic!("out of luck") } else { Ok(()) });
    let y = b.custom(&[x], [1, 1], bad).unwrap();
    let next = Call(|calls: &mut usize, _: Io<'_>| {
        *calls += 100;
        Ok(())
    });
    let z = b.custom(&[y], [1, 1], next).unwrap();
    let mut graph = b.finish(&[z]).unwrap();
    let (mut backend, mut calls) = (Backend::new().unwrap(), 0);
    assert_eq!(graph.compute(&mut backend, &mut calls, &GO), Err(Fault::Failed("out of luck".into())));
    assert_eq!(calls, 0);
    calls = 1;
    assert_eq!(graph.compute(&mut backend, &mut calls, &GO), Ok(()));
    assert_eq!(calls, 101);
}

#[test]
fn a_set_flag_stops_between_nodes() {
    let stop = AtomicBool::new(false);
    let mut b = builder();
    let mut x = b.input([1, 1]).unwrap();
    for i in 0..10 {
        let (stop, step) = (&stop, i);
        let op = Call(move |calls: &mut usize, _: Io<'_>| {
            *calls += 1;
            stop.store(step == 4, Ordering::Relaxed);
            Ok(())
        });
        x = b.custom(&[x], [1, 1], op).unwrap();
    }
    let mut graph = b.finish(&[x]).unwrap();
    let mut calls = 0;
    assert_eq!(graph.compute(&mut Backend::new().unwrap(), &mut calls, &stop), Err(Fault::Interrupted));
    // ggml runs the node at which it is told to stop twice.
    assert!((5..=6).contains(&calls), "{calls}");
}

#[test]
fn tensors_of_other_graphs_and_too_many_are_refused() {
    let (mut a, mut b) = (builder(), builder());
    let (x, y) = (a.input([2, 2]).unwrap(), b.input([2, 2]).unwrap());
    assert!(matches!(a.add(x, y), Err(GgmlError::Foreign)));
    assert!(matches!(a.finish(&[y]), Err(GgmlError::Foreign)));
    for _ in 1..32 {
        b.silu(y).unwrap();
    }
    assert!(matches!(b.silu(y), Err(GgmlError::Full(32))));
}

#[test]
fn shapes_that_ggml_would_abort_on_are_refused() {
    let data = vec![0u8; 34 * 4];
    let mut b = builder();
    let x = b.input([4, 3]).unwrap();
    let y = b.input([3, 4]).unwrap();
    let ints = b.input_i32(4).unwrap();
    let turned = b.transpose(x).unwrap();
    let w = b.weight(DType::Q8_0, [32, 4, 1], &data).unwrap();
    let region = Region::new(64, |_| ()).unwrap();
    let other_ids = b.top_k(y, 2).unwrap();
    let refused = [
        b.add(x, y),
        b.mul(x, y),
        b.div(y, x),
        b.add(ints, ints),
        b.rms_norm(turned, 1e-6),
        b.rms_norm(x, 0.0),
        b.silu(turned),
        b.mul_mat(w, x),
        b.mul_mat(turned, y),
        b.mul_mat(x, ints),
        b.top_k(x, 5),
        b.top_k(x, 0),
        b.pick(x, ints),
        b.pick(x, other_ids),
        b.mul_mat_id(w, x, ints),
        b.soft_max(turned, None, 1.0),
        b.soft_max(x, Some(y), 1.0),
        b.rope(x, ints, 1e4, crate::rope::Pairing::Halves),
        b.reshape(x, [5, 2, 1]),
        b.reshape(x, [usize::MAX, 2, 1]),
        b.reshape(turned, [12, 1, 1]),
        b.view(x, [4, 3, 1], [4, 12], 1),
        b.view(x, [2, 2, 2], [usize::MAX / 2, 4], 0),
        b.view(x, [0, 1, 1], [4, 4], 0),
        b.view(w, [32, 1, 1], [32, 32], 0),
        b.copy(x, y),
        b.copy(x, w),
        b.cont(ints),
        b.part(x, 10, [3, 1]),
        b.part(turned, 0, [3, 1]),
        b.part(x, usize::MAX, [1, 1]),
        b.weight(DType::Q8_0, [32, 5, 1], &data),
        b.weight(DType::Q8_0, [33, 4, 1], &data),
        b.weight(DType::F32, [1, 1, 1], &data[1..5]),
        b.region(&region, DType::F32, [17, 1, 1]),
        b.region(&region, DType::Q8_0, [32, 1, 1]),
        b.input([0, 1]),
        b.input([usize::MAX, 8]),
        b.custom(&[], [1, 1], Call(|_: &mut usize, _: Io<'_>| Ok(()))),
        b.custom(&[ints], [1, 1], Call(|_: &mut usize, _: Io<'_>| Ok(()))),
        b.custom(&[turned], [1, 1], Call(|_: &mut usize, _: Io<'_>| Ok(()))),
        b.custom(&[x], [usize::MAX, 2], Call(|_: &mut usize, _: Io<'_>| Ok(()))),
        b.custom(&[x; 5], [1, 1], Call(|_: &mut usize, _: Io<'_>| Ok(()))),
    ];
    for (i, result) in refused.iter().enumerate() {
        assert!(matches!(result, Err(GgmlError::Shape { .. })), "number {i} passed: {:?}", result.as_ref().err());
    }
    assert!(matches!(b.weight(DType::BF16, [4, 1, 1], &data[..8]), Err(GgmlError::Type("BF16"))));
}
