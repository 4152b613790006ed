//! Which sampling values hold, and why: flag, then the file's `general.sampling.*`, then Qwen's model card.

use super::Sampling;
use qwren_quant::gguf::{GgufError, Header};
use std::fmt;
use thiserror::Error;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Asked for on the command line or by /set.
    Flag,
    /// The file's `general.sampling.*`.
    File,
    /// Qwen's model card.
    Card,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Flag => "flag",
            Source::File => "file",
            Source::Card => "model card",
            Source::Default => "default",
        })
    }
}

/// A value with its source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sourced<T> {
    /// What holds.
    pub value: T,
    /// Why.
    pub source: Source,
}

/// What a person asked for; None: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of Sampling")]
pub struct Flags {
    pub temp: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
    pub repeat_last_n: Option<usize>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub seed: Option<u64>,
}

/// What a file recommends. It has no keys for the other values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of Sampling")]
pub struct FileSampling {
    pub temp: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
    pub repeat_last_n: Option<usize>,
    /// The model is one of Qwen's, so what their card says holds where the file says nothing.
    pub is_qwen: bool,
}

impl FileSampling {
    /// Reads `general.sampling.*`.
    ///
    /// # Errors
    /// A value of another type than it must have.
    pub fn from_gguf(h: &Header) -> Result<FileSampling, GgufError> {
        let float = |name: &str| h.f32(&format!("general.sampling.{name}"));
        // A negative count (-1: everything, or the context's size) is left to our own default.
        let count = |name: &str| -> Result<Option<usize>, GgufError> {
            let value = h.get(&format!("general.sampling.{name}")).and_then(|v| v.integer());
            Ok(value.and_then(|v| usize::try_from(v).ok()))
        };
        Ok(FileSampling {
            temp: float("temp")?,
            top_k: count("top_k")?,
            top_p: float("top_p")?,
            min_p: float("min_p")?,
            repeat_penalty: float("penalty_repeat")?,
            repeat_last_n: count("penalty_last_n")?,
            is_qwen: h.str("general.architecture")?.is_some_and(|name| name.starts_with("qwen")),
        })
    }

    /// Whether the file says nothing.
    pub fn is_empty(&self) -> bool {
        *self == FileSampling { is_qwen: self.is_qwen, ..FileSampling::default() }
    }

    /// Whether these are the values that the card gives for thinking.
    fn is_cards_thinking(&self) -> bool {
        let near = |a: Option<f32>, b: f32| a.is_some_and(|a| (a - b).abs() < 1e-4);
        near(self.temp, THINKING.temp) && near(self.top_p, THINKING.top_p) && self.top_k == Some(THINKING.top_k)
    }
}

/// What the tokens are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Raw completion.
    Complete,
    /// An answer in a chat.
    Chat {
        /// Whether the model thinks first.
        thinking: bool,
    },
}

/// Values of Qwen3's model card (section "Best Practices").
struct Card {
    temp: f32,
    top_p: f32,
    top_k: usize,
    min_p: f32,
}

const THINKING: Card = Card { temp: 0.6, top_p: 0.95, top_k: 20, min_p: 0.0 };
const NOT_THINKING: Card = Card { temp: 0.7, top_p: 0.8, top_k: 20, min_p: 0.0 };
/// llama.cpp's window of the penalties.
const REPEAT_LAST_N: usize = 64;

/// A value that can't be sampled with.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{name} is {value} ({origin}); it must be {range}")]
pub struct SamplingError {
    /// The option.
    pub name: &'static str,
    /// Its value.
    pub value: f32,
    /// Who gave it.
    pub origin: Source,
    /// What is allowed.
    pub range: &'static str,
}

/// Every value with its source.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of Sampling")]
pub struct Resolved {
    pub temp: Sourced<f32>,
    pub top_k: Sourced<usize>,
    pub top_p: Sourced<f32>,
    pub min_p: Sourced<f32>,
    pub repeat_penalty: Sourced<f32>,
    pub repeat_last_n: Sourced<usize>,
    pub presence_penalty: Sourced<f32>,
    pub frequency_penalty: Sourced<f32>,
    pub seed: Sourced<u64>,
}

/// The values that hold. Where thinking is off and the file has the card's values for thinking — files carry only one
/// set — the card's other set holds instead. Without a flag the seed is a new one each time.
///
/// # Errors
/// A value out of its range, from a flag or from the file.
pub fn resolve(flags: &Flags, file: &FileSampling, purpose: Purpose) -> Result<Resolved, SamplingError> {
    // To another maker's model the same values are only ours.
    let fallback = if file.is_qwen { Source::Card } else { Source::Default };
    let (card, file) = match purpose {
        Purpose::Chat { thinking: false } if file.is_qwen && file.is_cards_thinking() => {
            (NOT_THINKING, FileSampling { temp: None, top_k: None, top_p: None, ..*file })
        }
        Purpose::Chat { thinking: false } => (NOT_THINKING, *file),
        Purpose::Chat { thinking: true } | Purpose::Complete => (THINKING, *file),
    };
    let resolved = Resolved {
        temp: first(flags.temp, file.temp, card.temp, fallback),
        top_k: first(flags.top_k, file.top_k, card.top_k, fallback),
        top_p: first(flags.top_p, file.top_p, card.top_p, fallback),
        min_p: first(flags.min_p, file.min_p, card.min_p, fallback),
        repeat_penalty: first(flags.repeat_penalty, file.repeat_penalty, 1.0, Source::Default),
        repeat_last_n: first(flags.repeat_last_n, file.repeat_last_n, REPEAT_LAST_N, Source::Default),
        presence_penalty: first(flags.presence_penalty, None, 0.0, Source::Default),
        frequency_penalty: first(flags.frequency_penalty, None, 0.0, Source::Default),
        seed: match flags.seed {
            Some(value) => Sourced { value, source: Source::Flag },
            None => Sourced { value: fresh_seed(), source: Source::Default },
        },
    };
    resolved.check()?;
    Ok(resolved)
}

fn first<T>(flag: Option<T>, file: Option<T>, otherwise: T, source: Source) -> Sourced<T> {
    match (flag, file) {
        (Some(value), _) => Sourced { value, source: Source::Flag },
        (None, Some(value)) => Sourced { value, source: Source::File },
        (None, None) => Sourced { value: otherwise, source },
    }
}

/// A seed that nobody can foresee: the standard library seeds its hash maps from the system.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

impl Resolved {
    /// The bare values.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temp: self.temp.value,
            top_k: self.top_k.value,
            top_p: self.top_p.value,
            min_p: self.min_p.value,
            repeat_penalty: self.repeat_penalty.value,
            repeat_last_n: self.repeat_last_n.value,
            presence_penalty: self.presence_penalty.value,
            frequency_penalty: self.frequency_penalty.value,
            seed: self.seed.value,
        }
    }

    /// Option, value and source of every value, in the order of the chain, for /show.
    pub fn rows(&self) -> [(&'static str, String, Source); 9] {
        fn row<T: fmt::Display>(name: &'static str, v: Sourced<T>) -> (&'static str, String, Source) {
            (name, v.value.to_string(), v.source)
        }
        [
            row("repeat-penalty", self.repeat_penalty),
            row("repeat-last-n", self.repeat_last_n),
            row("presence-penalty", self.presence_penalty),
            row("frequency-penalty", self.frequency_penalty),
            row("top-k", self.top_k),
            row("top-p", self.top_p),
            row("min-p", self.min_p),
            row("temp", self.temp),
            row("seed", self.seed),
        ]
    }

    fn check(&self) -> Result<(), SamplingError> {
        let share = |v: f32| (0.0..=1.0).contains(&v);
        let above = |v: f32| v.is_finite() && v > 0.0;
        let from_0 = |v: f32| v.is_finite() && v >= 0.0;
        type Rule = fn(f32) -> bool;
        let rules: [(&'static str, Sourced<f32>, Rule, &'static str); 6] = [
            ("temp", self.temp, from_0, "0 or more"),
            ("top-p", self.top_p, share, "between 0 and 1"),
            ("min-p", self.min_p, share, "between 0 and 1"),
            ("repeat-penalty", self.repeat_penalty, above, "above 0"),
            ("presence-penalty", self.presence_penalty, f32::is_finite, "a number"),
            ("frequency-penalty", self.frequency_penalty, f32::is_finite, "a number"),
        ];
        match rules.iter().find(|(_, v, holds, _)| !holds(v.value)) {
            None => Ok(()),
            Some(&(name, v, _, range)) => Err(SamplingError { name, value: v.value, origin: v.source, range }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwren_quant::gguf::{Plan, Value};

    fn triple(r: &Resolved) -> [(f32, Source); 3] {
        [(r.temp.value, r.temp.source), (r.top_p.value, r.top_p.source), (r.top_k.value as f32, r.top_k.source)]
    }

    const CARDS: FileSampling = FileSampling {
        temp: Some(0.6),
        top_k: Some(20),
        top_p: Some(0.95),
        min_p: None,
        repeat_penalty: None,
        repeat_last_n: None,
        is_qwen: true,
    };

    #[test]
    fn t14_flag_then_file_then_card() {
        use Source::{Card, File, Flag};
        let thinking = Purpose::Chat { thinking: true };
        let none = FileSampling { is_qwen: true, ..FileSampling::default() };
        let r = resolve(&Flags::default(), &none, thinking).unwrap();
        assert_eq!(triple(&r), [(0.6, Card), (0.95, Card), (20.0, Card)]);
        assert_eq!(r.min_p, Sourced { value: 0.0, source: Card });
        assert_eq!(r.repeat_penalty, Sourced { value: 1.0, source: Source::Default });
        let r = resolve(&Flags { temp: Some(0.0), ..Flags::default() }, &CARDS, thinking).unwrap();
        assert_eq!(triple(&r), [(0.0, Flag), (0.95, File), (20.0, File)]);
        let r = resolve(&Flags::default(), &none, Purpose::Complete).unwrap();
        assert_eq!(triple(&r), [(0.6, Card), (0.95, Card), (20.0, Card)]);
        // Qwen's card says nothing of other makers' models.
        let r = resolve(&Flags::default(), &FileSampling::default(), thinking).unwrap();
        assert_eq!(triple(&r).map(|(_, source)| source), [Source::Default; 3]);
    }

    #[test]
    fn q13_without_thinking_the_cards_other_set_holds() {
        use Source::{Card, File, Flag};
        let not = Purpose::Chat { thinking: false };
        let r = resolve(&Flags::default(), &CARDS, not).unwrap();
        assert_eq!(triple(&r), [(0.7, Card), (0.8, Card), (20.0, Card)]);
        let r = resolve(&Flags { top_p: Some(0.5), ..Flags::default() }, &CARDS, not).unwrap();
        assert_eq!(triple(&r), [(0.7, Card), (0.5, Flag), (20.0, Card)]);
        // A file with values of its own means them.
        let own = FileSampling { temp: Some(0.3), ..CARDS };
        let r = resolve(&Flags::default(), &own, not).unwrap();
        assert_eq!(triple(&r), [(0.3, File), (0.95, File), (20.0, File)]);
        // Raw completion has no thinking to be off.
        let r = resolve(&Flags::default(), &CARDS, Purpose::Complete).unwrap();
        assert_eq!(triple(&r), [(0.6, File), (0.95, File), (20.0, File)]);
    }

    #[test]
    fn values_out_of_range_name_option_and_source() {
        let check = |flags: Flags, file: FileSampling| {
            resolve(&flags, &file, Purpose::Complete).map(|_| ()).map_err(|e| e.to_string())
        };
        let flags = Flags::default();
        assert_eq!(
            check(Flags { temp: Some(-1.0), ..flags }, CARDS),
            Err("temp is -1 (flag); it must be 0 or more".into())
        );
        let file = FileSampling { top_p: Some(f32::NAN), ..CARDS };
        assert_eq!(check(flags, file), Err("top-p is NaN (file); it must be between 0 and 1".into()));
        assert!(check(Flags { repeat_penalty: Some(0.0), ..flags }, CARDS).is_err());
        assert!(check(Flags { min_p: Some(1.5), ..flags }, CARDS).is_err());
        assert!(check(Flags { frequency_penalty: Some(f32::INFINITY), ..flags }, CARDS).is_err());
        assert!(check(Flags { top_p: Some(1.0), min_p: Some(0.0), temp: Some(0.0), ..flags }, CARDS).is_ok());
    }

    #[test]
    fn seeds_differ_unless_given() {
        let seed = |flags: &Flags| resolve(flags, &CARDS, Purpose::Complete).unwrap().seed;
        assert_ne!(seed(&Flags::default()).value, seed(&Flags::default()).value);
        let given = Flags { seed: Some(7), ..Flags::default() };
        assert_eq!(seed(&given), Sourced { value: 7, source: Source::Flag });
    }

    #[test]
    fn files_are_read() {
        let mut plan = Plan::new(32);
        plan.push_kv("general.architecture", Value::String("qwen3".into()));
        plan.push_kv("general.sampling.top_k", Value::I32(20));
        plan.push_kv("general.sampling.top_p", Value::F32(0.95));
        plan.push_kv("general.sampling.temp", Value::F32(0.6));
        plan.push_kv("general.sampling.penalty_last_n", Value::I32(-1));
        let layout = plan.layout().unwrap();
        let header = Header::parse(&layout.header, layout.file_bytes).unwrap();
        assert_eq!(FileSampling::from_gguf(&header).unwrap(), CARDS);
    }
}
