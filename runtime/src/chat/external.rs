//! `/edit`: a message written in the user's own editor.

use std::io::Write;
use std::process::Command;

/// The text that was written, beginning from `initial`.
///
/// # Errors
/// What is wrong, in words for the user: no editor, one that failed, no text.
pub fn edit(initial: &str) -> Result<String, String> {
    let editor =
        ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let cannot = |err: std::io::Error| format!("no temporary file could be made: {err}");
    // Such files are the user's alone.
    let mut file = tempfile::Builder::new().prefix("qwren-").suffix(".md").tempfile().map_err(cannot)?;
    file.write_all(initial.as_bytes()).map_err(cannot)?;
    // The variable holds a command line, as for git: "code --wait".
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file.path()).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("the editor {editor} ended with {status}; nothing is sent")),
        Err(err) => return Err(format!("the editor {editor} can't be run: {err}")),
    }
    // Editors replace the file, so it is read by its name.
    let text =
        std::fs::read_to_string(file.path()).map_err(|err| format!("what {editor} wrote can't be read: {err}"))?;
    Ok(text.trim_end().to_owned())
}
