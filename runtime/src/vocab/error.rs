//! What can be wrong with a file's tokenizer.

use qwren_quant::gguf::GgufError;
use thiserror::Error;

/// Why a vocabulary can't be built, or can't encode a text.
#[derive(Debug, Error)]
pub enum VocabError {
    /// A key has another type than it must have.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A key is not there.
    #[error("the file has no {key}; convert the model again with its tokenizer")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// Not a byte-level BPE.
    #[error("tokenizer.ggml.model is \"{0}\"; only \"gpt2\" (byte-level BPE, as Qwen3 has) is supported")]
    Model(String),
    /// Another pre-tokenizer.
    #[error("tokenizer.ggml.pre is \"{0}\"; only \"qwen2\" and \"smollm\" are supported")]
    Pre(String),
    /// One type a token is needed.
    #[error("tokenizer.ggml.token_type has {types} entries for {tokens} tokens; the file is damaged")]
    TypeCount {
        /// Entries of token_type.
        types: usize,
        /// Entries of tokens.
        tokens: usize,
    },
    /// A token type that ggml does not know.
    #[error("token {id} has type {kind}, which is none of ggml's; the file is damaged")]
    TokenType {
        /// The token.
        id: usize,
        /// Its type.
        kind: i32,
    },
    /// A token without text.
    #[error("token {id} is empty; the file is damaged")]
    EmptyToken {
        /// The token.
        id: usize,
    },
    /// One text, two ids.
    #[error("tokens {first} and {second} have the same text; the file is damaged")]
    DuplicateToken {
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
    },
    /// A merge that leads nowhere.
    #[error("merge {rank} of tokenizer.ggml.merges {reason}; the file is damaged")]
    Merge {
        /// Its place in the list.
        rank: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A key that names a token which is not there.
    #[error("{key} is {id}, but there are {tokens} tokens; the file is damaged")]
    IdOutOfRange {
        /// The key.
        key: &'static str,
        /// Its value.
        id: u32,
        /// Size of the vocabulary.
        tokens: usize,
    },
    /// Tokens of 4 GiB, or special ones of more than a MiB.
    #[error("the tokenizer's tokens are too large; the file is damaged")]
    TooLarge,
    /// Text of 4 GiB.
    #[error("a text of 4 GiB or more can't be encoded")]
    TextTooLong,
    /// A vocabulary without a token for this byte.
    #[error("the vocabulary has no token for the byte {byte:#04x}, so this text can't be encoded")]
    NoByteToken {
        /// The byte.
        byte: u8,
    },
}

impl VocabError {
    /// Whether the file is sound and only not supported.
    pub fn unsupported(&self) -> bool {
        match self {
            VocabError::Gguf(e) => e.unsupported(),
            VocabError::Model(_) | VocabError::Pre(_) => true,
            _ => false,
        }
    }
}
