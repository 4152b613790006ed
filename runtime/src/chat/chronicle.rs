//! What happens in a conversation: it changes the history, and is kept on disk before anybody sees it.

use std::io;
use std::path::Path;

use super::history::History;
use super::store::{self, Journal, Loaded, Record};
use crate::console::Console;

/// The history and the file behind it.
pub struct Chronicle {
    history: History,
    journal: Journal,
    console: Console,
    /// Tokens of the last answer as the model gave them; empty where only its text is known.
    tokens: Vec<u32>,
    /// Answers so far, each with random numbers of its own.
    answers: u64,
}

impl Chronicle {
    /// An empty conversation.
    pub fn new(system: Option<String>, journal: Journal, console: Console) -> Chronicle {
        Chronicle { history: History::new(system), journal, console, tokens: Vec::new(), answers: 0 }
    }

    /// A conversation that goes on.
    pub fn resumed(loaded: Loaded, journal: Journal, console: Console) -> Chronicle {
        let Loaded { history, answers, .. } = loaded;
        Chronicle { history, journal, console, tokens: Vec::new(), answers }
    }

    /// Lets a record happen. When it can't be kept the conversation goes on without, and the user is told once.
    pub fn happen(&mut self, record: Record) {
        self.history.apply(&record);
        match record {
            Record::Thought(_) | Record::Answer(_) | Record::WasThought => {}
            Record::End(_) => self.answers += 1,
            _ => self.tokens.clear(),
        }
        if let Err(err) = self.journal.write(&record, &self.history) {
            self.console.line(format_args!("[this conversation can't be saved ({err}); it goes on unsaved]"));
        }
    }

    /// What was said.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Keeps the oldest turn from the model; see [`History::leave_oldest`].
    pub fn leave_oldest(&mut self) -> bool {
        self.history.leave_oldest()
    }

    /// Begins a conversation with the same system prompt, in a file of its own.
    pub fn start_anew(&mut self) {
        self.replace(History::new(self.history.system().map(str::to_owned)));
    }

    /// Goes on with another conversation, in a file of its own.
    pub fn replace(&mut self, history: History) {
        self.journal.start_anew();
        self.history = history;
        self.tokens.clear();
    }

    /// The name under which the conversation is kept, if it is.
    pub fn id(&self) -> Option<&str> {
        self.journal.id()
    }

    /// Writes the conversation to a file of the user's choice, a [`store::target`].
    ///
    /// # Errors
    /// When it can't be written, or is the one in which the conversation is being kept.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let own = self.journal.path().and_then(|own| own.canonicalize().ok());
        if own.is_some() && own == path.canonicalize().ok() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this conversation is kept there as it goes"));
        }
        store::save(path, &self.history, self.journal.model())
    }

    /// Tokens of the last answer as the model gave them; empty where only its text is known.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Notes the tokens of the answer that was given.
    pub fn set_tokens(&mut self, tokens: Vec<u32>) {
        self.tokens = tokens;
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.answers
    }
}
