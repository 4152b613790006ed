//! What may happen in a conversation, as it is kept.

use serde::{Deserialize, Serialize};

/// The format's version. A reader refuses a newer one.
pub const VERSION: u32 = 1;

/// The first line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`] of the program that began the file.
    pub version: u32,
    /// When, in UTC: `2026-11-25T18:30:00Z`.
    pub created: String,
    /// The model's name.
    pub model: String,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// What the file is; its first line.
    Conversation(Head),
    /// The system prompt from now on.
    System(Option<String>),
    /// A person's message.
    User(String),
    /// Results of tools that were called.
    Tools(Vec<String>),
    /// A piece of a thought.
    Thought(String),
    /// A piece of an answer.
    Answer(String),
    /// The answer so far was a thought.
    WasThought,
    /// The answer ended, for this reason.
    End(String),
    /// The last answer is put aside; another one follows.
    Regen,
    /// The last answer gives way to the one before it, or the last turn is taken back.
    Undo,
}
