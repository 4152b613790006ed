//! The conversation: the system prompt and whole turns.

use serde_json::{Value, json};

/// A message and the answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What the user said.
    pub user: String,
    /// What the model said, without thoughts; None while it is still to come. A stopped answer is kept as far as it got.
    pub answer: Option<String>,
}

/// What was said so far.
#[derive(Debug, Default)]
pub struct History {
    system: Option<String>,
    turns: Vec<Turn>,
}

impl History {
    /// An empty conversation.
    pub fn new(system: Option<String>) -> History {
        History { system, turns: Vec::new() }
    }

    /// Adds a message that waits for its answer.
    pub fn ask(&mut self, user: String) {
        self.turns.push(Turn { user, answer: None });
    }

    /// Completes the last turn.
    pub fn answer(&mut self, text: String) {
        if let Some(turn) = self.turns.last_mut() {
            turn.answer = Some(text);
        }
    }

    /// Drops the last turn's answer, so that it can be given again. False when there is no turn.
    pub fn reopen(&mut self) -> bool {
        self.turns.last_mut().map(|turn| turn.answer = None).is_some()
    }

    /// Takes the last turn back.
    pub fn undo(&mut self) -> Option<Turn> {
        self.turns.pop()
    }

    /// Forgets all turns; the system prompt stays.
    pub fn clear(&mut self) {
        self.turns.clear();
    }

    /// Drops the oldest turn, never the last one. False when only that is left.
    pub fn drop_oldest(&mut self) -> bool {
        let more = self.turns.len() > 1;
        if more {
            self.turns.remove(0);
        }
        more
    }

    /// Turns held.
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// The messages as a chat template wants them.
    pub fn messages(&self) -> Vec<Value> {
        let system = self.system.iter().map(|text| json!({"role": "system", "content": text}));
        let turns = self.turns.iter().flat_map(|turn| {
            let user = json!({"role": "user", "content": turn.user});
            let answer = turn.answer.as_ref().map(|text| json!({"role": "assistant", "content": text}));
            std::iter::once(user).chain(answer)
        });
        system.chain(turns).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk() -> History {
        let mut history = History::new(Some("Be brief.".into()));
        for n in 1..=3 {
            history.ask(format!("q{n}"));
            history.answer(format!("a{n}"));
        }
        history
    }

    fn contents(history: &History) -> Vec<String> {
        history.messages().iter().map(|m| m["content"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn messages_keep_their_order() {
        let mut history = talk();
        history.ask("q4".into());
        assert_eq!(contents(&history), ["Be brief.", "q1", "a1", "q2", "a2", "q3", "a3", "q4"]);
        assert_eq!(history.messages()[0]["role"], "system");
        assert_eq!(history.messages()[2]["role"], "assistant");
    }

    #[test]
    fn x6_whole_turns_leave_and_the_system_prompt_stays() {
        let mut history = talk();
        assert!(history.drop_oldest() && history.drop_oldest());
        assert_eq!(contents(&history), ["Be brief.", "q3", "a3"]);
        assert!(!history.drop_oldest());
        assert_eq!(history.len(), 1);
    }

    #[test]
    fn undo_and_regen_touch_the_last_turn_only() {
        let mut history = talk();
        assert_eq!(history.undo().unwrap().user, "q3");
        assert!(history.reopen());
        assert_eq!(contents(&history), ["Be brief.", "q1", "a1", "q2"]);
        history.clear();
        assert!(!history.reopen() && history.undo().is_none());
        assert_eq!(contents(&history), ["Be brief."]);
    }
}
