//! `/copy`: text to the clipboard of whoever sits at the terminal.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// The longest text that terminals take by OSC 52, in bytes before base64.
const MAX_OSC: usize = 74_000;

/// Puts `text` on the clipboard; says which way it went.
///
/// A desktop's own program does it where there is a desktop; else the terminal is asked (OSC 52), which works through ssh.
///
/// # Errors
/// Text that is too long for a terminal.
pub fn copy(text: &str) -> Result<&'static str, String> {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let programs: &[(&str, &[&str])] = match (set("WAYLAND_DISPLAY"), set("DISPLAY")) {
        (true, _) => &[("wl-copy", &[])],
        (_, true) => &[("xclip", &["-selection", "clipboard"]), ("xsel", &["--clipboard", "--input"])],
        _ => &[],
    };
    if let Some((name, _)) = programs.iter().find(|(name, args)| feed(name, args, text).unwrap_or(false)) {
        return Ok(name);
    }
    if text.len() > MAX_OSC {
        return Err(format!("{} bytes are too many for the terminal's clipboard; /save writes a file", text.len()));
    }
    let sequence = format!("\x1b]52;c;{}\x07", base64(text.as_bytes()));
    let mut out = io::stderr();
    match out.write_all(sequence.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok("the terminal"),
        Err(err) => Err(err.to_string()),
    }
}

/// Runs a program with `text` on its stdin; whether it succeeded.
fn feed(name: &str, args: &[&str], text: &str) -> io::Result<bool> {
    let mut child =
        Command::new(name).args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    Ok(child.wait()?.success())
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, &b)| word | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_that_of_the_rfc() {
        let examples =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("é\u{ff}", "w6nDvw==")];
        for (text, encoded) in examples {
            assert_eq!(super::base64(text.as_bytes()), encoded);
        }
    }
}
