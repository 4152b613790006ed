//! What `/set` changes and `/show` shows.

use std::collections::BTreeSet;
use std::str::FromStr;

use clap::ValueEnum;
use qwren::sampler::{FileSampling, Flags, Purpose, Resolved, resolve};

use super::conversation::{ContextFull, Conversation};
use super::render::Thinking;
use crate::exit::Failure;
use crate::generate::Budget;

/// Settings that choose tokens, by the names of their flags.
const SAMPLING: [&str; 9] = [
    "temp",
    "top-k",
    "top-p",
    "min-p",
    "repeat-penalty",
    "repeat-last-n",
    "presence-penalty",
    "frequency-penalty",
    "seed",
];
/// The others.
const OTHERS: [&str; 5] = ["n", "thoughts", "thinking", "thinking-budget", "context-full"];

/// Every setting.
pub fn names() -> impl Iterator<Item = &'static str> {
    SAMPLING.into_iter().chain(OTHERS)
}

/// The values of a setting that has a few words for them.
pub fn values(name: &str) -> &'static [&'static str] {
    match name {
        "thoughts" => &["show", "dim", "hide"],
        "thinking" => &["on", "off", "default"],
        "context-full" => &["drop", "stop"],
        "thinking-budget" => &["none"],
        _ => &[],
    }
}

/// Whether the model is told to think, and whether it will.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// What it is told; None: nothing, and the template decides.
    pub asked: Option<bool>,
    /// What comes of that.
    pub thinks: bool,
}

/// The settings of a chat, but for those that the conversation itself has.
pub struct Settings {
    /// What becomes of thoughts.
    pub thoughts: Thinking,
    /// Whether the template can be told to think or not.
    pub has_switch: bool,
    /// What is put before the end of a thought that is cut short.
    pub sentence: String,
    /// Thinking as it was at the start.
    asked: Asked,
    /// As typed at the start.
    typed: Flags,
    /// As they hold now.
    flags: Flags,
    file: FileSampling,
    purpose: Purpose,
    resolved: Resolved,
    /// Sampling values that `/set` gave.
    changed: BTreeSet<&'static str>,
}

impl Settings {
    /// The settings at the start; whether the model thinks decides about some defaults.
    ///
    /// # Errors
    /// A value out of its range, from a flag or from the file.
    pub fn new(
        flags: Flags,
        file: FileSampling,
        asked: Asked,
        has_switch: bool,
        thoughts: Thinking,
        sentence: String,
    ) -> anyhow::Result<Settings> {
        let purpose = Purpose::Chat { thinking: asked.thinks };
        let resolved = resolve(&flags, &file, purpose).map_err(|err| Failure::usage(err.to_string()))?;
        // A seed that was drawn stays for the whole run.
        Ok(Settings {
            thoughts,
            has_switch,
            sentence,
            asked,
            typed: flags,
            flags,
            file,
            purpose,
            resolved,
            changed: BTreeSet::new(),
        })
    }

    /// The sampling values in force.
    pub fn sampling(&self) -> &Resolved {
        &self.resolved
    }

    /// Switches thinking on or off, with the sampling values that go with it.
    pub fn think(&mut self, on: bool, conversation: &mut Conversation<'_>) -> Result<(), String> {
        self.think_as(Asked { asked: Some(on), thinks: on }, conversation)
    }

    fn think_as(&mut self, how: Asked, conversation: &mut Conversation<'_>) -> Result<(), String> {
        if !self.has_switch {
            return Err("this model has no thinking switch".to_owned());
        }
        self.purpose = Purpose::Chat { thinking: how.thinks };
        self.resolve(self.flags)?;
        conversation.sampling = self.resolved.sampling();
        conversation.thinking = how.asked;
        Ok(())
    }

    fn resolve(&mut self, flags: Flags) -> Result<(), String> {
        let resolved = resolve(&flags, &self.file, self.purpose).map_err(|err| err.to_string())?;
        let seed = if flags.seed.is_some() { resolved.seed } else { self.resolved.seed };
        self.resolved = Resolved { seed, ..resolved };
        self.flags = flags;
        Ok(())
    }

    /// Changes a setting; says what holds now.
    ///
    /// # Errors
    /// What is wrong, in words for the user.
    pub fn set(&mut self, line: &str, conversation: &mut Conversation<'_>) -> Result<String, String> {
        let (name, value) =
            line.split_once(char::is_whitespace).map_or((line, ""), |(name, value)| (name, value.trim()));
        let name = name.trim_start_matches('-');
        let Some(name) = names().find(|known| *known == name) else {
            return Err(format!("{name} is no setting; there are {}", names().collect::<Vec<_>>().join(", ")));
        };
        if value.is_empty() {
            return Err(format!("/set {name} VALUE, or /set {name} default"));
        }
        let default = value == "default";
        match name {
            "n" => conversation.limits.tokens = if default { None } else { tokens(value)? },
            "thoughts" => self.thoughts = if default { Thinking::Dim } else { word(name, value)? },
            "thinking" => match value {
                "on" => self.think(true, conversation)?,
                "off" => self.think(false, conversation)?,
                "default" => self.think_as(self.asked, conversation)?,
                _ => return Err("thinking is on, off or default".to_owned()),
            },
            "thinking-budget" => {
                let tokens = if default || value == "none" { None } else { tokens(value)? };
                let sentence = self.sentence.clone();
                conversation.limits.budget = tokens.map(|tokens| Budget { tokens, sentence });
            }
            "context-full" => conversation.context_full = if default { ContextFull::Drop } else { word(name, value)? },
            _ => {
                let flags = changed(self.flags, &self.typed, name, value)?;
                // The value is not the command line's.
                self.resolve(flags).map_err(|err| err.replace("(flag)", "(/set)"))?;
                conversation.sampling = self.resolved.sampling();
                if default {
                    self.changed.remove(name)
                } else {
                    self.changed.insert(name)
                };
            }
        }
        let row = self.rows(conversation).into_iter().find(|row| row.0 == name);
        Ok(row.map(|(name, value)| format!("{name} is {value}")).unwrap_or_default())
    }

    /// Name and value of every setting, sampling values with their source.
    fn rows(&self, conversation: &Conversation<'_>) -> Vec<(&'static str, String)> {
        let thinking = match (self.has_switch, conversation.thinking) {
            (false, _) => "as the model has it (no switch)",
            (true, None) => "as the template has it",
            (true, Some(true)) => "on",
            (true, Some(false)) => "off",
        };
        let unlimited = |n: Option<usize>, word: &str| n.map_or(word.to_owned(), |n| n.to_string());
        let value_name =
            |v: Option<clap::builder::PossibleValue>| v.map_or_else(String::new, |v| v.get_name().to_owned());
        let budget = conversation.limits.budget.as_ref().map(|budget| budget.tokens);
        let mut rows = vec![
            ("thinking", thinking.to_owned()),
            ("thoughts", value_name(self.thoughts.to_possible_value())),
            ("thinking-budget", unlimited(budget, "none")),
            ("n", unlimited(conversation.limits.tokens, "-1")),
            ("context-full", value_name(conversation.context_full.to_possible_value())),
        ];
        for (name, value, source) in self.resolved.rows() {
            let source = if self.changed.contains(name) { "/set".to_owned() } else { source.to_string() };
            rows.push((name, format!("{value}  ({source})")));
        }
        rows
    }

    /// The settings in force, a line each.
    pub fn show(&self, conversation: &Conversation<'_>) -> String {
        let rows = self.rows(conversation);
        rows.iter().map(|(name, value)| format!("{name:<18} {value}")).collect::<Vec<_>>().join("\n")
    }
}

/// A count of tokens; None for -1: as many as there are.
fn tokens(value: &str) -> Result<Option<usize>, String> {
    match value {
        "-1" => Ok(None),
        _ => number(value).map(Some),
    }
}

fn number<T: FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value} is not a number that fits there"))
}

fn word<T: ValueEnum>(name: &str, value: &str) -> Result<T, String> {
    T::from_str(value, true).map_err(|_| format!("{name} is one of {}", values(name).join(", ")))
}

/// `flags` with the one of that name set, or as it was `typed`.
fn changed(mut flags: Flags, typed: &Flags, name: &str, value: &str) -> Result<Flags, String> {
    fn choose<T: FromStr>(typed: Option<T>, value: &str) -> Result<Option<T>, String> {
        if value == "default" { Ok(typed) } else { number(value).map(Some) }
    }
    match name {
        "temp" => flags.temp = choose(typed.temp, value)?,
        "top-k" => flags.top_k = choose(typed.top_k, value)?,
        "top-p" => flags.top_p = choose(typed.top_p, value)?,
        "min-p" => flags.min_p = choose(typed.min_p, value)?,
        "repeat-penalty" => flags.repeat_penalty = choose(typed.repeat_penalty, value)?,
        "repeat-last-n" => flags.repeat_last_n = choose(typed.repeat_last_n, value)?,
        "presence-penalty" => flags.presence_penalty = choose(typed.presence_penalty, value)?,
        "frequency-penalty" => flags.frequency_penalty = choose(typed.frequency_penalty, value)?,
        _ => flags.seed = choose(typed.seed, value)?,
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwren::sampler::Source;

    #[test]
    fn every_sampling_value_can_be_set_and_is_shown() {
        let flags = Flags { temp: Some(0.5), ..Flags::default() };
        let rows = resolve(&flags, &FileSampling::default(), Purpose::Chat { thinking: true }).unwrap().rows();
        assert_eq!(rows.map(|row| row.0).into_iter().collect::<BTreeSet<_>>(), SAMPLING.into_iter().collect());
        for name in SAMPLING {
            let set = changed(flags, &flags, name, "1").unwrap();
            let rows = resolve(&set, &FileSampling::default(), Purpose::Complete).unwrap().rows();
            let row = rows.iter().find(|row| row.0 == name).unwrap();
            assert_eq!((row.1.as_str(), row.2), ("1", Source::Flag), "{name}");
            assert!(changed(flags, &flags, name, "much").is_err());
            assert_eq!(changed(set, &flags, name, "default").unwrap(), flags);
        }
    }
}
