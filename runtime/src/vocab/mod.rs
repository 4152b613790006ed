//! The tokenizer, rebuilt from a GGUF file alone: the byte-level BPE of Qwen2 and of SmolLM.
//!
//! Text → special tokens cut out ([`Specials`]) → normal form and pieces (`split.rs`) → bytes and merges (`bpe.rs`) → ids.

mod bpe;
mod bytes;
mod ends;
mod error;
mod split;

pub use error::VocabError;

use aho_corasick::{AhoCorasick, MatchKind};
use bpe::{Bpe, Scratch};
use qwren_quant::gguf::Header;
use split::{PreTokenizer, Splitter};
use std::borrow::Cow;

/// Bytes of all special tokens together; Qwen3's have some 400. The automaton that finds them takes up to a hundred
/// times as much.
const MAX_SPECIALS: usize = 1 << 20;

/// What becomes of special tokens' texts inside a text that is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// They become the special tokens: for templates and raw completion.
    Parse,
    /// They are text like any other: for what a person typed.
    Plain,
}

/// ggml's token types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Unknown,
    /// Structure, such as `<|im_end|>`; never shown.
    Control,
    /// Added to the vocabulary as a whole, such as `<think>`; shown.
    UserDefined,
    /// A row of the embedding that has no token.
    Unused,
    Byte,
}

impl Kind {
    fn from_ggml(id: usize, kind: i32) -> Result<Kind, VocabError> {
        Ok(match kind {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return Err(VocabError::TokenType { id, kind }),
        })
    }

    /// Found in text as a whole, before any merge.
    fn special(self) -> bool {
        matches!(self, Kind::Control | Kind::UserDefined | Kind::Unknown)
    }
}

/// A vocabulary with what is needed to encode and decode.
pub struct Vocab {
    /// The tokens' bytes, one after the other; token i ends at `ends[i]`.
    text: Vec<u8>,
    ends: Vec<u32>,
    kinds: Vec<Kind>,
    bpe: Bpe,
    splitter: Splitter,
    /// Finds special tokens; pattern i is token `special_ids[i]`.
    specials: AhoCorasick,
    special_ids: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    add_bos: bool,
    end_ids: Vec<u32>,
}

impl Vocab {
    /// Reads the `tokenizer.ggml.*` keys of a file.
    ///
    /// # Errors
    /// A tokenizer that is not Qwen2's ([`VocabError::unsupported`]), keys that are missing or contradict each other.
    pub fn from_gguf(h: &Header) -> Result<Vocab, VocabError> {
        let missing = |key| VocabError::Missing { key };
        let model = h.str("tokenizer.ggml.model")?.ok_or(missing("tokenizer.ggml.model"))?;
        if model != "gpt2" {
            return Err(VocabError::Model(model.escape_debug().to_string()));
        }
        let pre = h.str("tokenizer.ggml.pre")?.ok_or(missing("tokenizer.ggml.pre"))?;
        let pre = PreTokenizer::named(pre).ok_or_else(|| VocabError::Pre(pre.escape_debug().to_string()))?;
        let tokens = h.strings("tokenizer.ggml.tokens")?.ok_or(missing("tokenizer.ggml.tokens"))?;
        let merges = h.strings("tokenizer.ggml.merges")?.ok_or(missing("tokenizer.ggml.merges"))?;
        let mut vocab = Vocab::new(pre, tokens, h.i32s("tokenizer.ggml.token_type")?, merges)?;
        let id = |key: &'static str| -> Result<Option<u32>, VocabError> {
            match h.u32(key)? {
                Some(id) if id as usize >= tokens.len() => {
                    Err(VocabError::IdOutOfRange { key, id, tokens: tokens.len() })
                }
                id => Ok(id),
            }
        };
        vocab.bos = id("tokenizer.ggml.bos_token_id")?;
        vocab.eos = id("tokenizer.ggml.eos_token_id")?;
        vocab.pad = id("tokenizer.ggml.padding_token_id")?;
        vocab.add_bos = h.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(false);
        for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            vocab.end_ids.extend(id(key)?);
        }
        vocab.end_ids.extend(vocab.eos);
        vocab.end_ids.sort_unstable();
        vocab.end_ids.dedup();
        Ok(vocab)
    }

    /// A vocabulary without bos, eos and pad. `types` are ggml's, one a token; without them a token is special if
    /// its text ends answers.
    fn new(
        pre: PreTokenizer,
        tokens: &[String],
        types: Option<&[i32]>,
        merges: &[String],
    ) -> Result<Vocab, VocabError> {
        let kinds = match types {
            Some(types) if types.len() != tokens.len() => {
                return Err(VocabError::TypeCount { types: types.len(), tokens: tokens.len() });
            }
            Some(types) => {
                types.iter().enumerate().map(|(id, &kind)| Kind::from_ggml(id, kind)).collect::<Result<Vec<_>, _>>()?
            }
            None => tokens
                .iter()
                .map(|t| match ends::by_text(t) {
                    true => Kind::Control,
                    false => Kind::Normal,
                })
                .collect(),
        };
        let bpe = Bpe::new(tokens, &kinds, merges)?;
        let mut text = Vec::with_capacity(tokens.iter().map(String::len).sum());
        let mut ends = Vec::with_capacity(tokens.len());
        for (token, kind) in tokens.iter().zip(&kinds) {
            match kind {
                Kind::Normal | Kind::Byte => bytes::unmap(token, &mut text),
                Kind::Control | Kind::UserDefined | Kind::Unknown => {
                    text.extend_from_slice(token.as_bytes());
                }
                Kind::Unused => {}
            }
            ends.push(u32::try_from(text.len()).map_err(|_| VocabError::TooLarge)?);
        }
        let special_ids: Vec<u32> = (0..kinds.len() as u32).filter(|&id| kinds[id as usize].special()).collect();
        if special_ids.iter().map(|&id| tokens[id as usize].len()).sum::<usize>() > MAX_SPECIALS {
            return Err(VocabError::TooLarge);
        }
        let specials = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(special_ids.iter().map(|&id| &tokens[id as usize]))
            .map_err(|_| VocabError::TooLarge)?;
        let end_ids = special_ids.iter().copied().filter(|&id| ends::by_text(&tokens[id as usize])).collect();
        Ok(Vocab {
            text,
            ends,
            kinds,
            bpe,
            splitter: Splitter::new(pre),
            specials,
            special_ids,
            bos: None,
            eos: None,
            pad: None,
            add_bos: false,
            end_ids,
        })
    }

    /// Number of tokens, unused ones included.
    #[expect(clippy::len_without_is_empty, reason = "a vocabulary is never asked for that")]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The ids of `text`, as the model was trained on them. No bos is added.
    ///
    /// # Errors
    /// A vocabulary that lacks the token of a byte; text of 4 GiB and more.
    pub fn encode(&self, text: &str, special: Specials) -> Result<Vec<u32>, VocabError> {
        match special {
            Specials::Parse => self.encode_around_specials(text, Cow::Borrowed),
            Specials::Plain => {
                let mut ids = Vec::with_capacity(text.len() / 3);
                self.encode_plain(text, &mut Scratch::default(), &mut ids)?;
                Ok(ids)
            }
        }
    }

    fn encode_plain(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) -> Result<(), VocabError> {
        let text = self.splitter.normalize(text);
        if u32::try_from(text.len()).is_err() {
            return Err(VocabError::TextTooLong);
        }
        for piece in self.splitter.pieces(&text) {
            self.bpe.encode(piece.as_bytes(), scratch, ids)?;
        }
        Ok(())
    }

    /// The ids of rendered text: its special tokens are parsed, and `mark`, wherever else it stands, is left out.
    pub(crate) fn encode_marked(&self, text: &str, mark: char) -> Result<Vec<u32>, VocabError> {
        self.encode_around_specials(text, |part| Cow::Owned(part.replace(mark, "")))
    }

    fn encode_around_specials<'a>(
        &self,
        text: &'a str,
        clean: impl Fn(&'a str) -> Cow<'a, str>,
    ) -> Result<Vec<u32>, VocabError> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut scratch = Scratch::default();
        let mut at = 0;
        for found in self.specials.find_iter(text) {
            self.encode_plain(&clean(&text[at..found.start()]), &mut scratch, &mut ids)?;
            ids.push(self.special_ids[found.pattern().as_usize()]);
            at = found.end();
        }
        self.encode_plain(&clean(&text[at..]), &mut scratch, &mut ids)?;
        Ok(ids)
    }

    /// The special tokens with their texts.
    pub(crate) fn specials(&self) -> impl Iterator<Item = (u32, &str)> {
        self.special_ids.iter().filter_map(|&id| Some((id, std::str::from_utf8(self.piece(id)).ok()?)))
    }

    /// The bytes that a token stands for; a special token's text. Empty for unused ids and those out of range.
    pub fn piece(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else {
            return &[];
        };
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..end as usize]
    }

    /// The text of `ids`, special tokens included. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.piece(id));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The token that stands for exactly `text`; a special one rather than an ordinary one.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        let is = |&id: &u32| !text.is_empty() && self.piece(id) == text.as_bytes();
        self.special_ids.iter().copied().find(is).or_else(|| (0..self.len() as u32).find(is))
    }

    /// Whether the token is found in text as a whole: control tokens and those added by users (`<think>`).
    pub fn is_special(&self, id: u32) -> bool {
        self.kinds.get(id as usize).is_some_and(|kind| kind.special())
    }

    /// Whether the token is structure that is never shown, such as `<|im_end|>`.
    pub fn is_control(&self, id: u32) -> bool {
        matches!(self.kinds.get(id as usize), Some(Kind::Control | Kind::Unknown))
    }

    /// The file's end token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The file's start token. Qwen3 names one and does not use it.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The file's padding token.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Whether a prompt starts with [`Vocab::bos`]; false for Qwen3.
    pub fn add_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// Whether generation is over when the model picks this token.
    pub fn ends_answer(&self, id: u32) -> bool {
        self.end_ids.binary_search(&id).is_ok()
    }

    /// The tokens that end an answer, ascending.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }
}

#[cfg(test)]
pub(crate) mod tests;
