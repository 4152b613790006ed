//! Model ids as on the hub, `ORG/NAME`: the name is split at "-", and each part is labelled by its look.

/// What an id, or a folder's name, says about a model.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Id {
    pub organization: Option<String>,
    /// The whole name.
    pub name: Option<String>,
    pub basename: Option<String>,
    pub finetune: Option<String>,
    pub version: Option<String>,
    pub size_label: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Basename,
    /// A version at the end of the basename is a version only; inside it, it is both.
    BasenameVersion,
    Version,
    Finetune,
    Size,
    /// A weight type such as BF16: it says nothing about the model.
    Type,
}

/// "qwen3-0.6b" → "Qwen3 0.6b": words in lower case get capitals, numbers and versions stay.
pub(super) fn title(name: &str) -> String {
    let word = |w: &str| {
        let lower = w.chars().any(char::is_lowercase) && !w.chars().any(char::is_uppercase);
        let numeric = w.starts_with(|c: char| c.is_ascii_digit()) || w.strip_prefix('v').is_some_and(is_dotted);
        if lower && !numeric { capitals(w) } else { w.to_owned() }
    };
    name.replace('-', " ").split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// A capital for each letter that follows no letter.
fn capitals(word: &str) -> String {
    let mut after_letter = false;
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if after_letter {
            out.push(c)
        } else {
            out.extend(c.to_uppercase())
        }
        after_letter = c.is_alphabetic();
    }
    out
}

impl Id {
    /// Takes an id apart; `parameters` are those of the model, or of one of its size.
    pub fn parse(id: &str, parameters: u64) -> Id {
        if id.contains(' ') {
            // A sentence, not a name by the hub's custom.
            return Id { name: Some(id.to_owned()), ..Id::default() };
        }
        let (organization, name) = id.split_once('/').map_or((None, id), |(org, name)| (Some(org), name));
        // "./x" has none.
        let organization = organization.filter(|org| !org.is_empty() && !org.starts_with('.')).map(str::to_owned);
        let mut parts: Vec<String> = name.split('-').filter(|p| !p.is_empty()).map(str::to_owned).collect();
        let mut labels: Vec<Option<Label>> = Vec::new();
        for (i, part) in parts.iter_mut().enumerate() {
            labels.push(label(i, part, parameters));
        }
        // "mini" says nothing where there is a number.
        let sized = |label: &Option<Label>| *label == Some(Label::Size);
        if parts.iter().zip(&labels).any(|(p, l)| sized(l) && p.contains(|c: char| c.is_ascii_digit())) {
            for (part, label) in parts.iter().zip(&mut labels) {
                if sized(label) && part.chars().all(char::is_alphabetic) {
                    *label = None;
                }
            }
        }
        let mut leading = true;
        for (part, label) in parts.iter().zip(&mut labels) {
            match label {
                None if leading && part.starts_with(char::is_alphabetic) => *label = Some(Label::Basename),
                Some(Label::Version) if leading => *label = Some(Label::BasenameVersion),
                _ => {
                    leading = false;
                    label.get_or_insert(Label::Finetune);
                }
            }
        }
        for label in labels.iter_mut().rev().take_while(|l| **l == Some(Label::BasenameVersion)) {
            *label = Some(Label::Version);
        }

        let join = |wanted: &[Label]| {
            let mut chosen: Vec<&str> = Vec::new();
            for (part, label) in parts.iter().zip(&labels) {
                let repeated = *label == Some(Label::Size) && chosen.contains(&part.as_str());
                if label.is_some_and(|l| wanted.contains(&l)) && !repeated {
                    chosen.push(part);
                }
            }
            (!chosen.is_empty()).then(|| chosen.join("-"))
        };
        let mut found = Id {
            organization,
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            basename: join(&[Label::Basename, Label::BasenameVersion]),
            finetune: join(&[Label::Finetune]),
            version: join(&[Label::Version]),
            size_label: join(&[Label::Size]),
        };
        if found.finetune.is_none() && found.version.is_none() && found.size_label.is_none() {
            found.basename = None; // one word: too little to go by
        }
        found
    }
}

/// What part number `i` looks like; its spelling is made regular.
fn label(i: usize, part: &mut String, parameters: u64) -> Option<Label> {
    let lower = part.to_ascii_lowercase();
    let numbered = lower.strip_prefix("iter").or_else(|| lower.strip_prefix('v')).unwrap_or(&lower);
    if is_dotted(numbered) {
        return Some(Label::Version);
    }
    if is_type(&lower) {
        *part = part.to_uppercase();
        return Some(Label::Type);
    }
    if i == 0 {
        return None;
    }
    if ["small", "mini", "medium", "large", "xl", "xxl"].contains(&lower.as_str()) {
        return Some(Label::Size);
    }
    if is_size(&lower) {
        return Some(size(part, parameters));
    }
    ["chat", "instruct", "vision", "lora"].contains(&lower.as_str()).then_some(Label::Finetune)
}

/// Spells a size like "0.6b", "7b1" or "A3B" regularly. One that is far from the real number of parameters is a context
/// length ("128K") and belongs to the finetune.
fn size(part: &mut String, parameters: u64) -> Label {
    let mut chars: Vec<char> = part.replace('_', ".").chars().collect();
    let n = chars.len();
    if chars[n - 1].is_ascii_digit() {
        // "7b1" → "7.1B"
        let (unit, digit) = (chars[n - 2], chars[n - 1]);
        chars.splice(n - 2.., ['.', digit, unit]);
    }
    let n = chars.len();
    if n > 1 && chars[n - 2].is_ascii_digit() {
        chars[n - 1] = chars[n - 1].to_ascii_uppercase();
    }
    let unit = chars[n - 1];
    let number: String = chars[..n - 1].iter().collect();
    let exponent = "KMBT".find(unit).map_or(0, |i| i as i32 + 1);
    // "A3B" and "8x7B" are no numbers: they stay sizes.
    let size = number.parse::<f64>().ok().map(|x| x * 1000f64.powi(exponent));
    let far =
        size.is_some_and(|s| parameters > 0 && (s - parameters as f64).abs() > (7 * u128::from(parameters) / 8) as f64);
    if far {
        chars[n - 1] = unit.to_ascii_lowercase();
    }
    *part = chars.into_iter().collect();
    if far { Label::Finetune } else { Label::Size }
}

/// `\d+(\.\d+)*`
fn is_dotted(s: &str) -> bool {
    s.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// `i?q\d(_\w)*` or `b?fp?(16|32)`, in lower case.
fn is_type(s: &str) -> bool {
    let quantized = s.strip_prefix('i').unwrap_or(s).strip_prefix('q').and_then(|rest| {
        let rest = rest.strip_prefix(|c: char| c.is_ascii_digit())?;
        let mut letters = rest.split('_');
        Some(
            letters.next() == Some("")
                && letters.all(|l| l.chars().count() == 1 && l.chars().all(char::is_alphanumeric)),
        )
    });
    let float = s.strip_prefix('b').unwrap_or(s).strip_prefix('f').map(|rest| rest.strip_prefix('p').unwrap_or(rest));
    quantized == Some(true) || matches!(float, Some("16" | "32"))
}

/// `([a]|\d+x)?\d+([._]\d+)?[kmbt]\d?`, in lower case.
fn is_size(s: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let s = match s.split_once('x') {
        Some((times, rest)) if digits(times) => rest,
        _ => s.strip_prefix('a').unwrap_or(s),
    };
    let Some(at) = s.find(['k', 'm', 'b', 't']) else { return false };
    let (number, after) = (&s[..at], &s[at + 1..]);
    let whole = match number.split_once(['.', '_']) {
        Some((int, frac)) => digits(int) && digits(frac),
        None => digits(number),
    };
    whole && (after.is_empty() || after.len() == 1 && digits(after))
}

/// Two significant digits and a unit: "596M", "1.7B", "0.45K".
pub(super) fn rounded(parameters: u64) -> String {
    let n = parameters as f64;
    let (scaled, unit) = match parameters {
        p if p > 1_000_000_000_000 => (n * 1e-12, 'T'),
        p if p > 1_000_000_000 => (n * 1e-9, 'B'),
        p if p > 1_000_000 => (n * 1e-6, 'M'),
        _ => (n * 1e-3, 'K'),
    };
    let digits = match scaled.round_ties_even() as u64 {
        0 => 0,
        whole => whole.to_string().len(),
    };
    format!("{scaled:.*}{unit}", 2usize.saturating_sub(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(name: &str, parameters: u64) -> [Option<String>; 4] {
        let c = Id::parse(name, parameters);
        [c.basename, c.finetune, c.version, c.size_label]
    }

    fn some(all: [&str; 4]) -> [Option<String>; 4] {
        all.map(|s| (!s.is_empty()).then(|| s.to_owned()))
    }

    /// Expected values are what llama.cpp's converter makes of the same names.
    #[test]
    fn names_are_taken_apart_as_llama_cpp_does() {
        for (name, parameters, expected) in [
            ("Qwen3-0.6B", 596_049_920, ["Qwen3", "", "", "0.6B"]),
            ("Qwen3-4B-Instruct-2507", 4_022_468_096, ["Qwen3", "Instruct", "2507", "4B"]),
            ("Qwen3-30B-A3B", 30_532_122_624, ["Qwen3", "", "", "30B-A3B"]),
            ("Qwen3-235B-A22B-Thinking-2507", 235_093_634_560, ["Qwen3", "Thinking", "2507", "235B-A22B"]),
            ("Qwen3-8B-128K", 8_190_735_360, ["Qwen3", "128k", "", "8B"]),
            ("qwen3-0.6b-f16", 596_049_920, ["qwen3", "", "", "0.6B"]),
            ("Qwen3-0.6B", 3_000_000, ["Qwen3", "0.6b", "", ""]),
            ("Qwen3-0.6B-Base", 596_049_920, ["Qwen3", "Base", "", "0.6B"]),
            ("Qwen3-8B-FP8", 8_190_735_360, ["Qwen3", "FP8", "", "8B"]),
            ("Qwen3-MoE-Tiny", 215_000_000, ["", "", "", ""]),
            ("demo", 2_000_000, ["", "", "", ""]),
            ("my model 7B", 7_000_000_000, ["", "", "", ""]),
            ("bloom-7b1", 7_100_000_000, ["bloom", "", "", "7.1B"]),
            ("Mix-8x7B", 46_700_000_000, ["Mix", "", "", "8x7B"]),
            ("v2-thing-mini-3B", 3_000_000_000, ["v2-thing-mini", "", "", "3B"]),
            ("thing-mini", 3_000_000_000, ["thing", "", "", "mini"]),
            ("thing-v2", 3_000_000_000, ["thing", "", "v2", ""]),
            ("-", 1, ["", "", "", ""]),
        ] {
            assert_eq!(parts(name, parameters), some(expected), "{name}");
        }
    }

    #[test]
    fn titles() {
        for (name, expected) in [
            ("Qwen3-0.6B", "Qwen3 0.6B"),
            ("my-model", "My Model"),
            ("qwen3-0.6b-f16", "Qwen3 0.6b F16"),
            ("demo", "Demo"),
            ("Qwen3-MoE-Tiny", "Qwen3 MoE Tiny"),
            ("thing-v1.2", "Thing v1.2"),
            ("a1b-x", "A1B X"),
        ] {
            assert_eq!(title(name), expected);
        }
    }

    #[test]
    fn sizes_are_rounded_to_two_digits() {
        for (n, expected) in [
            (596_049_920, "596M"),
            (1_720_000_000, "1.7B"),
            (9_600_000_000, "10B"),
            (9_950_000_000, "10B"),
            (940_000_000, "940M"),
            (5_000, "5.0K"),
            (450, "0.45K"),
            (999_900_000, "1000M"),
        ] {
            assert_eq!(rounded(n), expected);
        }
    }
}
