//! Byte-pair encoding of one piece: the bytes' tokens, merged pair by pair, the lowest rank first.
//!
//! The merge table lives here as pairs of ids (4 MB for Qwen3); the strings of the file are not kept.

use super::{Kind, VocabError, bytes};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// No neighbour; no token.
const NONE: u32 = u32::MAX;

/// The merges, by id.
pub(super) struct Bpe {
    /// Token of each single byte, or [`NONE`].
    bytes: [u32; 256],
    /// (left, right) → (rank, merged).
    merges: HashMap<(u32, u32), (u32, u32)>,
}

/// Buffers of [`Bpe::encode`], to be used again for the next piece.
#[derive(Default)]
pub(super) struct Scratch {
    symbols: Vec<Symbol>,
    /// Candidates: rank in the upper half, position of the left symbol in the lower.
    queue: BinaryHeap<Reverse<u64>>,
}

/// A token of the piece; a doubly linked list in one array. A symbol that was merged into its left neighbour has id
/// [`NONE`].
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
}

impl Bpe {
    /// Resolves `merges` ("left right", in order of rank) against the tokens that ordinary text can have.
    pub(super) fn new(tokens: &[String], kinds: &[Kind], merges: &[String]) -> Result<Bpe, VocabError> {
        let mut ids: HashMap<&str, u32> = HashMap::with_capacity(tokens.len());
        for (id, (text, kind)) in tokens.iter().zip(kinds).enumerate() {
            if *kind == Kind::Unused {
                continue;
            }
            if text.is_empty() {
                return Err(VocabError::EmptyToken { id });
            }
            if let Some(first) = ids.insert(text, id as u32) {
                return Err(VocabError::DuplicateToken { first, second: id as u32 });
            }
        }
        let mut joined = String::new();
        let mut table = HashMap::with_capacity(merges.len());
        for (rank, merge) in merges.iter().enumerate() {
            let bad = |reason| VocabError::Merge { rank, reason };
            // A space ends the left half unless it is the left half's own first character.
            let space = merge
                .char_indices()
                .skip(1)
                .find(|&(_, c)| c == ' ')
                .map(|(i, _)| i)
                .ok_or(bad("has no second half"))?;
            let (left, right) = (&merge[..space], &merge[space + 1..]);
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let id = |text: &str| ids.get(text).copied();
            let left = id(left).ok_or(bad("has a left half that is no token"))?;
            let right = id(right).ok_or(bad("has a right half that is no token"))?;
            // In Qwen's files merge r makes token 256 + r; to look there first saves a third of the look-ups.
            let guess = rank + 256;
            let merged = match tokens.get(guess) {
                Some(text) if *text == joined && kinds[guess] == Kind::Normal => guess as u32,
                _ => id(&joined).ok_or(bad("makes no token"))?,
            };
            if matches!(kinds[merged as usize], Kind::Control | Kind::Unknown) {
                return Err(bad("makes a control token"));
            }
            if table.insert((left, right), (rank as u32, merged)).is_some() {
                return Err(bad("stands there twice"));
            }
        }
        Ok(Bpe {
            bytes: std::array::from_fn(|b| {
                let mut utf8 = [0; 4];
                let text: &str = bytes::to_char(b as u8).encode_utf8(&mut utf8);
                ids.get(text).copied().unwrap_or(NONE)
            }),
            merges: table,
        })
    }

    /// Appends the tokens of `piece`. Time n log n in its bytes.
    pub(super) fn encode(&self, piece: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<(), VocabError> {
        let Scratch { symbols, queue } = scratch;
        symbols.clear();
        queue.clear();
        for (i, &byte) in piece.iter().enumerate() {
            let id = self.bytes[byte as usize];
            if id == NONE {
                return Err(VocabError::NoByteToken { byte });
            }
            symbols.push(Symbol { id, prev: (i as u32).wrapping_sub(1), next: i as u32 + 1 });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        for at in 1..symbols.len() {
            self.offer(symbols, queue, at as u32 - 1);
        }
        while let Some(Reverse(top)) = queue.pop() {
            let (rank, at) = ((top >> 32) as u32, top as u32);
            // The pair may have changed since it was queued.
            let Some((now, merged)) = self.pair(symbols, at) else {
                continue;
            };
            if now != rank {
                continue;
            }
            let right = symbols[at as usize].next;
            let after = symbols[right as usize].next;
            symbols[right as usize].id = NONE;
            symbols[at as usize].id = merged;
            symbols[at as usize].next = after;
            if after != NONE {
                symbols[after as usize].prev = at;
            }
            let before = symbols[at as usize].prev;
            if before != NONE {
                self.offer(symbols, queue, before);
            }
            self.offer(symbols, queue, at);
        }
        out.extend(symbols.iter().map(|s| s.id).filter(|&id| id != NONE));
        Ok(())
    }

    /// Rank and result of merging the symbol at `at` with its right neighbour.
    fn pair(&self, symbols: &[Symbol], at: u32) -> Option<(u32, u32)> {
        let left = symbols[at as usize];
        let right = symbols.get(left.next as usize)?;
        self.merges.get(&(left.id, right.id)).copied()
    }

    fn offer(&self, symbols: &[Symbol], queue: &mut BinaryHeap<Reverse<u64>>, at: u32) {
        if let Some((rank, _)) = self.pair(symbols, at) {
            queue.push(Reverse(u64::from(rank) << 32 | u64::from(at)));
        }
    }
}
