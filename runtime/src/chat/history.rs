//! The conversation: the system prompt and whole turns. It changes by records alone, so that what a file of records
//! holds and what was on the screen are the same.

use serde_json::{Value, json};

use super::store::Record;

/// What an answer is given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A person's message.
    User(String),
    /// Results of the tools that the answer before called, in order.
    Tools(Vec<String>),
}

/// What the model said. A stopped answer is kept as far as it got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The thought before the answer.
    pub thought: String,
    /// The answer.
    pub text: String,
}

/// A message and the answers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What was asked.
    pub asked: Asked,
    /// The answer; None while it is still to come.
    pub reply: Option<Reply>,
    /// Answers that `/regen` put aside, the oldest first.
    pub earlier: Vec<Reply>,
}

impl Turn {
    /// The message of a person, empty for results of tools.
    pub fn message(&self) -> &str {
        match &self.asked {
            Asked::User(text) => text,
            Asked::Tools(_) => "",
        }
    }
}

/// What was said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    system: Option<String>,
    turns: Vec<Turn>,
    /// The oldest turns that no longer go to the model.
    left: usize,
}

impl History {
    /// An empty conversation.
    pub fn new(system: Option<String>) -> History {
        History { system, ..History::default() }
    }

    /// Lets a record happen. One that makes no sense here (an answer to nothing) changes nothing.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Conversation(_) | Record::End(_) => {}
            Record::System(text) => self.system.clone_from(text),
            Record::User(text) => self.push(Asked::User(text.clone())),
            Record::Tools(results) => self.push(Asked::Tools(results.clone())),
            Record::Thought(text) => self.reply(|reply| reply.thought.push_str(text)),
            Record::Answer(text) => self.reply(|reply| reply.text.push_str(text)),
            Record::WasThought => self.reply(|reply| {
                let text = std::mem::take(&mut reply.text);
                reply.thought.push_str(&text);
            }),
            Record::Regen => {
                if let Some(turn) = self.turns.last_mut() {
                    turn.earlier.extend(turn.reply.take());
                }
            }
            Record::Undo => match self.turns.last_mut() {
                Some(turn) if !turn.earlier.is_empty() => turn.reply = turn.earlier.pop(),
                _ => {
                    self.turns.pop();
                    self.left = self.left.min(self.turns.len().saturating_sub(1));
                }
            },
        }
    }

    fn push(&mut self, asked: Asked) {
        self.turns.push(Turn { asked, reply: None, earlier: Vec::new() });
    }

    fn reply(&mut self, change: impl FnOnce(&mut Reply)) {
        if let Some(turn) = self.turns.last_mut() {
            change(turn.reply.get_or_insert_default());
        }
    }

    /// The records from which this conversation follows; answers that were put aside are not among them.
    pub fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.system.iter().map(|text| Record::System(Some(text.clone()))).collect();
        for turn in &self.turns {
            records.push(match &turn.asked {
                Asked::User(text) => Record::User(text.clone()),
                Asked::Tools(results) => Record::Tools(results.clone()),
            });
            if let Some(reply) = &turn.reply {
                if !reply.thought.is_empty() {
                    records.push(Record::Thought(reply.thought.clone()));
                }
                records.push(Record::Answer(reply.text.clone()));
            }
        }
        records
    }

    /// What the model is told before the conversation.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// The last turn.
    pub fn last(&self) -> Option<&Turn> {
        self.turns.last()
    }

    /// All turns, those that left the context too.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// How many of the oldest turns left the context.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Keeps the oldest turn that is still there from the model, never the last one. False when only that is left.
    pub fn leave_oldest(&mut self) -> bool {
        let more = self.turns.len() > self.left + 1;
        self.left += usize::from(more);
        more
    }

    /// The messages as a chat template wants them. With `open` the last turn's answer, which goes on, is left out.
    pub fn messages(&self, open: bool) -> Vec<Value> {
        let mut messages: Vec<Value> = Vec::new();
        messages.extend(self.system.iter().map(|text| json!({"role": "system", "content": text})));
        let shown = &self.turns[self.left..];
        for (i, turn) in shown.iter().enumerate() {
            match &turn.asked {
                Asked::User(text) => messages.push(json!({"role": "user", "content": text})),
                Asked::Tools(results) => {
                    messages.extend(results.iter().map(|text| json!({"role": "tool", "content": text})))
                }
            }
            let goes_on = open && i + 1 == shown.len();
            if let Some(reply) = turn.reply.as_ref().filter(|_| !goes_on) {
                messages.push(json!({"role": "assistant", "content": reply.text.trim()}));
            }
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(history: &mut History, user: &str, answer: &str) {
        history.apply(&Record::User(user.to_owned()));
        // As it streams.
        answer.chars().for_each(|c| history.apply(&Record::Answer(c.to_string())));
        history.apply(&Record::End("eos".to_owned()));
    }

    fn talk() -> History {
        let mut history = History::new(Some("Be brief.".into()));
        (1..=3).for_each(|n| say(&mut history, &format!("q{n}"), &format!("a{n}")));
        history
    }

    fn contents(history: &History) -> Vec<String> {
        history.messages(false).iter().map(|m| m["content"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn messages_keep_their_order() {
        let mut history = talk();
        history.apply(&Record::User("q4".into()));
        assert_eq!(contents(&history), ["Be brief.", "q1", "a1", "q2", "a2", "q3", "a3", "q4"]);
        assert_eq!(history.messages(false)[0]["role"], "system");
        assert_eq!(history.messages(false)[2]["role"], "assistant");
        history.apply(&Record::Answer(" half ".into()));
        assert_eq!(contents(&history).last().unwrap(), "half");
        assert_eq!(history.messages(true).last().unwrap()["content"], "q4", "an answer that goes on is no message yet");
        history.apply(&Record::Tools(vec!["r1".into(), "r2".into()]));
        let roles: Vec<Value> = history.messages(false).iter().rev().take(2).map(|m| m["role"].clone()).collect();
        assert_eq!(roles, ["tool", "tool"]);
    }

    #[test]
    fn x6_whole_turns_leave_and_the_system_prompt_stays() {
        let mut history = talk();
        assert!(history.leave_oldest() && history.leave_oldest());
        assert_eq!(contents(&history), ["Be brief.", "q3", "a3"]);
        assert!(!history.leave_oldest());
        assert_eq!((history.turns().len(), history.left()), (3, 2));
        (0..2).for_each(|_| history.apply(&Record::Undo));
        assert_eq!(contents(&history), ["Be brief.", "q1", "a1"], "the last turn always goes to the model");
    }

    #[test]
    fn undo_takes_back_the_last_thing_that_happened_to_the_last_turn() {
        let mut history = talk();
        history.apply(&Record::Regen);
        assert_eq!(history.last().unwrap().reply, None);
        history.apply(&Record::Answer("b3".into()));
        assert_eq!(contents(&history).last().unwrap(), "b3");
        history.apply(&Record::Undo);
        assert_eq!(contents(&history).last().unwrap(), "a3", "the answer before comes back");
        history.apply(&Record::Undo);
        assert_eq!(contents(&history), ["Be brief.", "q1", "a1", "q2", "a2"]);
    }

    #[test]
    fn thoughts_are_kept_apart() {
        let mut history = History::default();
        history.apply(&Record::User("q".into()));
        history.apply(&Record::Answer("hm".into()));
        history.apply(&Record::WasThought);
        history.apply(&Record::Answer("yes".into()));
        let reply = history.last().unwrap().reply.clone().unwrap();
        assert_eq!((reply.thought.as_str(), reply.text.as_str()), ("hm", "yes"));
        assert_eq!(contents(&history), ["q", "yes"]);
    }

    #[test]
    fn records_give_the_conversation_again_and_nonsense_gives_none() {
        let history = talk();
        let mut again = History::default();
        history.records().iter().for_each(|record| again.apply(record));
        assert_eq!(again, history);
        let mut empty = History::default();
        for record in [Record::Answer("a".into()), Record::Undo, Record::Regen, Record::WasThought] {
            empty.apply(&record);
        }
        assert_eq!(empty, History::default());
        assert!(empty.messages(true).is_empty());
    }
}
