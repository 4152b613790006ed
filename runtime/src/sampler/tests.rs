use super::*;
use proptest::prelude::*;

const OFF: Sampling = Sampling {
    temp: 1.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    repeat_last_n: 64,
    presence_penalty: 0.0,
    frequency_penalty: 0.0,
    seed: 1,
};

/// The chain as its documentation reads, with a full sort: ids and probabilities.
fn naive(logits: &[f32], s: &Sampling) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f64)> = logits.iter().enumerate().map(|(id, &l)| (id as u32, f64::from(l))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if s.top_k > 0 {
        all.truncate(s.top_k);
    }
    let softmax = |all: &[(u32, f64)], temp: f64| -> Vec<f64> {
        let weights: Vec<f64> = all.iter().map(|c| ((c.1 - all[0].1) / temp).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    };
    let p = softmax(&all, 1.0);
    if s.top_p < 1.0 {
        let mut sum = 0.0;
        let keep = p.iter().position(|p| {
            sum += p;
            sum >= f64::from(s.top_p)
        });
        all.truncate(keep.map_or(all.len(), |i| i + 1));
    }
    let most = p[0];
    let keep = p.iter().take(all.len()).take_while(|&&p| p >= f64::from(s.min_p) * most).count();
    all.truncate(keep);
    let p = softmax(&all, f64::from(s.temp));
    all.iter().zip(p).map(|(c, p)| (c.0, p)).collect()
}

/// Logits on a grid, so that there are ties but sums never stop just at a limit.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-40i32..40).prop_map(|i| i as f32 * 0.37), 1..3000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn x2_the_chain_equals_a_full_sort(
        logits in logits(),
        top_k in prop_oneof![Just(0), 1..50usize, 1..4000usize],
        top_p in prop_oneof![Just(1.0f32), 0.0..1.0f32],
        min_p in prop_oneof![Just(0.0f32), 0.0..1.0f32],
        temp in 0.05..3.0f32,
    ) {
        let s = Sampling { temp, top_k, top_p, min_p, ..OFF };
        let mut sampler = Sampler::new(s);
        let choice = sampler.sample(&logits);
        let (mut found, expected) = (sampler.candidates().to_vec(), naive(&logits, &s));
        if found.len() == logits.len() {
            found.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
        }
        let ids = |len: usize| found.iter().take(len).map(|c| c.id).eq(expected.iter().take(len).map(|c| c.0));
        // A sum in another order may cross top-p's line one token earlier or later.
        prop_assert!(found.len().abs_diff(expected.len()) <= usize::from(top_p < 1.0), "{} {}", found.len(), expected.len());
        prop_assert!(ids(found.len().min(expected.len())));
        if found.len() == expected.len() {
            for (c, e) in found.iter().zip(&expected) {
                prop_assert!((f64::from(c.p) - e.1).abs() < 1e-6, "{c:?} {e:?}");
            }
        }
        prop_assert!(found.iter().any(|c| c.id == choice.id && c.p == choice.p));
        prop_assert!((found.iter().map(|c| f64::from(c.p)).sum::<f64>() - 1.0).abs() < 1e-4);
    }

    #[test]
    fn x1_temperature_0_is_argmax(
        logits in logits(), top_k in 0..50usize, top_p in 0.0..=1.0f32, min_p in 0.0..=1.0f32, seed: u64,
    ) {
        let mut sampler = Sampler::new(Sampling { temp: 0.0, top_k, top_p, min_p, seed, ..OFF });
        let best = logits.iter().copied().fold(f32::MIN, f32::max);
        let first = logits.iter().position(|&l| l == best).unwrap() as u32;
        prop_assert_eq!(sampler.sample(&logits), Choice { id: first, p: 1.0 });
    }

    /// Whatever bits the logits have, a token comes out.
    #[test]
    fn no_logits_are_too_odd(
        bits in prop::collection::vec(prop_oneof![any::<u32>(), Just(0x7fc0_0000), Just(0xff80_0000), Just(0x7f80_0000)], 1..300),
        top_k in 0..400usize, top_p in 0.0..=1.0f32, min_p in 0.0..=1.0f32, temp in 0.0..2.0f32,
        repeat_penalty in 0.1..10.0f32,
    ) {
        let logits: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let mut sampler = Sampler::new(Sampling { temp, top_k, top_p, min_p, repeat_penalty, presence_penalty: f32::MAX, ..OFF });
        (0..logits.len() as u32).for_each(|id| sampler.accept(id));
        let choice = sampler.sample(&logits);
        prop_assert!((choice.id as usize) < logits.len());
        prop_assert!(choice.p > 0.0 && choice.p <= 1.0, "{choice:?}");
        // A token that is not a number is drawn only if all are that or impossible.
        let sound = |l: f32| !l.is_nan() && l > f32::NEG_INFINITY;
        if repeat_penalty == 1.0 && logits.iter().any(|&l| sound(l)) {
            prop_assert!(sound(logits[choice.id as usize]));
        }
        let _ = top_logprobs(&logits, top_k);
    }
}

#[test]
fn what_is_not_a_number_is_never_chosen() {
    let logits = [f32::NAN, 1.0, f32::NEG_INFINITY, 2.0, f32::NAN];
    let mut greedy = Sampler::new(Sampling { temp: 0.0, ..OFF });
    assert_eq!(greedy.sample(&logits).id, 3);
    let mut sampler = Sampler::new(OFF);
    for _ in 0..100 {
        assert!([1, 3].contains(&sampler.sample(&logits).id));
    }
    assert_eq!(sampler.candidates().len(), 2);
    assert_eq!(greedy.sample(&[f32::NAN, f32::NAN]).id, 0);
    assert_eq!(sampler.sample(&[f32::INFINITY, 0.0]).id, 0);
}

#[test]
fn draws_follow_the_distribution() {
    // Probabilities 1/2, 1/3, 1/6 at temperature 1.
    let logits = [6f32.ln(), 4f32.ln(), 2f32.ln()];
    let mut sampler = Sampler::new(OFF);
    let mut counts = [0u32; 3];
    for _ in 0..60_000 {
        counts[sampler.sample(&logits).id as usize] += 1;
    }
    for (n, expected) in counts.into_iter().zip([30_000, 20_000, 10_000]) {
        assert!(n.abs_diff(expected) < 600, "{counts:?}");
    }
}

#[test]
fn a_seed_gives_the_same_tokens_again() {
    let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32 * 0.01).collect();
    let draw = |sampler: &mut Sampler| -> Vec<u32> { (0..50).map(|_| sampler.sample(&logits).id).collect() };
    let mut one = Sampler::new(Sampling { seed: 42, ..OFF });
    let first = draw(&mut one);
    assert_eq!(draw(&mut Sampler::new(Sampling { seed: 42, ..OFF })), first);
    assert_ne!(draw(&mut Sampler::new(Sampling { seed: 43, ..OFF })), first);
    one.reset();
    assert_eq!(draw(&mut one), first);
}

#[test]
fn x3_penalties_count_the_window() {
    let s = Sampling { repeat_penalty: 2.0, presence_penalty: 0.25, frequency_penalty: 0.5, repeat_last_n: 4, ..OFF };
    let mut sampler = Sampler::new(s);
    let logits = [4.0, -1.0, 4.0, 0.0];
    let logit = |sampler: &mut Sampler, id: u32| {
        sampler.sample(&logits);
        sampler.candidates().iter().find(|c| c.id == id).map(|c| c.logit).unwrap()
    };
    assert_eq!(logit(&mut sampler, 0), 4.0);
    for id in [0, 0, 1, 3] {
        sampler.accept(id);
    }
    // 4 / 2 − 2 · 0.5 − 0.25; −1 · 2 − 0.5 − 0.25; untouched; 0 · 2 − 0.75.
    assert_eq!([0, 1, 2, 3].map(|id| logit(&mut sampler, id)), [0.75, -2.75, 4.0, -0.75]);
    // The first 0 leaves the window.
    sampler.accept(2);
    assert_eq!(logit(&mut sampler, 0), 1.25);
    sampler.reset();
    assert_eq!(logit(&mut sampler, 0), 4.0);
    // Greedy sees them too.
    let mut greedy = Sampler::new(Sampling { temp: 0.0, ..s });
    assert_eq!(greedy.sample(&logits).id, 0);
    greedy.accept(0);
    assert_eq!(greedy.sample(&logits).id, 2);
    // A window of 0 is off.
    let mut off = Sampler::new(Sampling { temp: 0.0, repeat_last_n: 0, ..s });
    off.accept(0);
    assert_eq!(off.sample(&logits).id, 0);
}

#[test]
fn logprobs_are_the_models_own() {
    let logits = [0.0, 3f32.ln(), f32::NEG_INFINITY, 0.0];
    let top = top_logprobs(&logits, 3);
    assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 0, 3]);
    for ((_, logprob), p) in top.iter().zip([0.6f32, 0.2, 0.2]) {
        assert!((logprob.exp() - p).abs() < 1e-6);
    }
    for &(id, logprob_of) in &top {
        assert_eq!(logprob(&logits, id), logprob_of);
    }
    assert_eq!((logprob(&logits, 2), logprob(&logits, 4)), (f32::NEG_INFINITY, f32::NEG_INFINITY));
    assert_eq!(top_logprobs(&logits, 99).len(), 4);
    assert_eq!(top_logprobs(&logits, 0), []);
    assert_eq!(top_logprobs(&[f32::NEG_INFINITY], 1), [(0, f32::NEG_INFINITY)]);
}

#[test]
fn a_whole_vocabulary_is_cut_as_a_full_sort_cuts_it() {
    let mut rng = super::rng::Rng::new(3);
    let logits: Vec<f32> = (0..151_936).map(|_| (rng.unit() * rng.unit() * rng.unit()) as f32 * 20.0).collect();
    let warm = Sampling { temp: 0.6, ..OFF };
    for (what, s) in [
        ("card", Sampling { top_k: 20, top_p: 0.95, ..warm }),
        ("top-k alone", Sampling { top_k: 1000, ..warm }),
        ("top-p alone", Sampling { top_p: 0.95, ..warm }),
        ("min-p alone", Sampling { min_p: 0.05, ..warm }),
    ] {
        let mut sampler = Sampler::new(s);
        sampler.sample(&logits);
        let (found, expected) = (sampler.candidates(), naive(&logits, &s));
        assert!((1..logits.len()).contains(&found.len()), "{what}: {}", found.len());
        // A sum in another order may cross top-p's line one token earlier or later.
        let apart = found.len().abs_diff(expected.len());
        assert!(apart <= usize::from(s.top_p < 1.0), "{what}: {} for {}", found.len(), expected.len());
        assert!(found.iter().zip(&expected).all(|(c, e)| c.id == e.0), "{what}");
    }
    let best = naive(&logits, &Sampling { top_k: 1, ..warm })[0].0;
    assert_eq!(Sampler::new(Sampling { temp: 0.0, ..OFF }).sample(&logits), Choice { id: best, p: 1.0 });
}
