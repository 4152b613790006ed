//! Which tokens end an answer: by the file's keys and, since many files name only one of them, by text.

/// Texts that end an answer in one model family or another, as llama.cpp lists them. The last three groups are
/// fill-in-the-middle padding, repository and file marks, after which a code model has nothing more to say.
const TEXTS: &[&str] = &[
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Whether a control or user-defined token of this text ends an answer.
pub(super) fn by_text(text: &str) -> bool {
    TEXTS.contains(&text)
}
