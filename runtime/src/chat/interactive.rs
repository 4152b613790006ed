//! The loop at a terminal: read a line, do what it says, until somebody leaves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

use super::args::Args;
use super::conversation::Conversation;
use super::editor::{Line, Prompt};
use super::settings::Settings;
use super::store::state_folder;
use super::talk::{Next, Talk};
use super::terminal_guard::TerminalGuard;
use crate::console::{Console, moves_cursor};
use crate::exit::Exit;
use crate::report;
use crate::signals::{Interrupt, Second};

const PROMPT: &str = "> ";

/// Talks until the user leaves; ends with 0, or 130 after Ctrl-C twice.
pub fn run(
    conversation: &mut Conversation<'_>,
    settings: Settings,
    args: &Args,
    console: Console,
) -> anyhow::Result<Exit> {
    let _guard = TerminalGuard::new()?;
    conversation.rest();
    console.note("/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves");
    if args.private {
        console.note("private: neither the conversation nor what you type is kept");
    }
    let history = state_folder().filter(|_| !args.private).map(|folder| folder.join("history"));
    let prompt = Prompt::new(history.as_deref())?;
    // From the first listener on the signal never ends the program, not even between the editor and an answer.
    drop(Interrupt::listen(Second::Ignored)?);
    let mut talk = Talk::new(conversation, settings, console, prompt);
    if args.resume.is_some() {
        talk.show_last()?;
    }
    let mut warned = false;
    let mut initial = String::new();
    // On a terminal that can't move the cursor lines are read as they come, and Ctrl-C is a signal that nobody else obeys.
    let plain = !moves_cursor();
    let at_prompt = Arc::new(AtomicBool::new(false));
    if plain {
        flag::register_conditional_shutdown(SIGINT, Exit::Interrupted as i32, Arc::clone(&at_prompt))?;
    }
    let exit = loop {
        at_prompt.store(true, Ordering::Relaxed);
        let line = talk.prompt.read(PROMPT, &std::mem::take(&mut initial))?;
        at_prompt.store(false, Ordering::Relaxed);
        match line {
            Line::End => break Exit::Done,
            Line::Interrupt { empty: true } if warned => break Exit::Interrupted,
            Line::Interrupt { empty } => {
                warned = empty;
                talk.forget_edit();
                if empty {
                    console.line("Ctrl-C again leaves, as does Ctrl-D; /help lists the commands");
                }
            }
            Line::Text(line) => {
                warned = false;
                match talk.take(&line)? {
                    Next::Line => {}
                    Next::Edit(text) => initial = text,
                    Next::Leave => break Exit::Done,
                }
            }
        }
    };
    if let Some(id) = talk.conversation.chronicle.id() {
        let model = shell_word(&args.run.model.model);
        console.note(format_args!("this conversation is kept: qwren chat -m {model} --resume {id}"));
    }
    if talk.conversation.totals.chosen > 0 {
        console.note(report::rates_text(&talk.conversation.totals));
    }
    Ok(exit)
}

/// A path as a shell takes it for one word.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        let word = |path: &str| shell_word(Path::new(path));
        assert_eq!(word("../Qwen3-4B.q4_k_m.gguf"), "../Qwen3-4B.q4_k_m.gguf");
        assert_eq!(word("my models/it's $HOME.gguf"), r"'my models/it'\''s $HOME.gguf'");
    }
}
