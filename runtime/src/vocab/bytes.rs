//! GPT-2's byte alphabet: every byte has a printable character, in which token texts are written.

use std::sync::LazyLock;

/// Characters of the bytes 0…255. Printable ASCII and Latin-1 stand for themselves; the other 68 bytes take
/// U+0100 and up, in order.
static CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 0x100..0x200;
    std::array::from_fn(|b| match b as u8 {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(b as u8),
        _ => next.next().and_then(char::from_u32).unwrap_or('\0'),
    })
});

/// Bytes of the characters U+0000…U+01FF.
static BYTES: LazyLock<[Option<u8>; 0x200]> = LazyLock::new(|| {
    let mut table = [None; 0x200];
    for (b, &c) in CHARS.iter().enumerate() {
        table[c as usize] = Some(b as u8);
    }
    table
});

/// The character that stands for `byte`.
pub(super) fn to_char(byte: u8) -> char {
    CHARS[byte as usize]
}

/// The byte that `c` stands for.
pub(super) fn to_byte(c: char) -> Option<u8> {
    BYTES.get(c as usize).copied().flatten()
}

/// Appends the bytes of a token's text. A text with a character outside the alphabet is kept as its UTF-8.
pub(super) fn unmap(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    for c in text.chars() {
        match to_byte(c) {
            Some(b) => out.push(b),
            None => {
                out.truncate(start);
                out.extend_from_slice(text.as_bytes());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        for b in 0..=255u8 {
            assert_eq!(to_byte(to_char(b)), Some(b));
        }
        assert_eq!(to_char(b' '), 'Ġ');
        assert_eq!(to_char(b'\n'), 'Ċ');
        assert_eq!(to_char(0x00), 'Ā');
        assert_eq!(to_char(0xad), 'Ń');
        assert_eq!(to_byte(' '), None);
        assert_eq!(to_byte('中'), None);
    }

    #[test]
    fn texts_outside_the_alphabet_stay_as_they_are() {
        let unmapped = |s| {
            let mut out = Vec::new();
            unmap(s, &mut out);
            out
        };
        assert_eq!(unmapped("Ġhello"), b" hello");
        assert_eq!(unmapped("ä½ł"), "你".as_bytes());
        assert_eq!(unmapped("Ġ 中"), "Ġ 中".as_bytes());
    }
}
