//! A vocabulary as the grammar engine sees it.

use std::collections::HashSet;
use std::sync::Arc;

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::vocab::{Specials, Vocab};

/// Tokens of more bytes are never chosen in a grammar: the trie has room for a depth of 1,024. Qwen3's longest has 128.
const MAX_TOKEN: usize = 1000;

/// The vocabulary with the trie of its tokens' bytes.
pub(super) struct Tokens {
    vocab: Arc<Vocab>,
    trie: TokTrie,
}

impl Tokens {
    /// None if no token ends an answer.
    pub(super) fn new(vocab: &Arc<Vocab>) -> Option<Tokens> {
        let ends = vocab.end_ids();
        let eos = vocab.eos().or(ends.first().copied())?;
        let mut seen = HashSet::new();
        let mut word = |id: u32| -> Vec<u8> {
            let piece = vocab.piece(id);
            // A second token of the same bytes adds nothing.
            if piece.len() > MAX_TOKEN || !seen.insert((piece, vocab.is_special(id))) {
                return Vec::new();
            }
            // A special token is not its text: a grammar that wants the letters gets letters.
            let marker: &[u8] = if vocab.is_special(id) { &[TokTrie::SPECIAL_TOKEN_MARKER] } else { &[] };
            [marker, piece].concat()
        };
        let words: Vec<Vec<u8>> = (0..vocab.len() as u32).map(&mut word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocab.len() as u32, eos), &words);
        let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(ends) };
        Some(Tokens { vocab: Arc::clone(vocab), trie })
    }
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let encode = |text: &str| {
            // What can't be encoded as a text is spelled by the trie.
            self.vocab.encode(text, Specials::Plain).unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        };
        self.trie.tokenize_with_greedy_fallback(bytes, encode)
    }
}
