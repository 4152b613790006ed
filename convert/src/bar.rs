//! How far the work is, on standard error if that is a terminal; else nothing.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qwren_convert::write::Progress;

use crate::report::printable;

/// Bytes of the output, their rate, the time left, and the tensor at hand. What does not fit into the line is cut.
const WORK: &str = "{bar:16} {percent:>3} %  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}";
/// Tensors of an earlier run say nothing of the rate.
const KEPT: &str = "{bar:16} {percent:>3} %  {bytes}/{total_bytes}  checking what is there  {wide_msg}";

/// A progress bar.
pub struct Bar {
    bar: ProgressBar,
    work: ProgressStyle,
}

impl Bar {
    /// A bar of `bytes` bytes; a hidden one unless `shown`.
    pub fn new(shown: bool, bytes: u64) -> Bar {
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Bar { bar: ProgressBar::with_draw_target(Some(bytes), target).with_style(style(KEPT)), work: style(WORK) }
    }

    /// Some bytes more.
    pub fn step(&self, step: Progress) {
        if step.kept {
            self.bar.inc(step.bytes);
            // Rate and time left count from here.
            self.bar.reset_eta();
        } else {
            self.bar.set_style(self.work.clone());
            self.bar.inc(step.bytes);
        }
        self.bar.set_message(printable(step.tensor, false));
    }

    /// Takes it away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
