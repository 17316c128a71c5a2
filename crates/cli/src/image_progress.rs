//! Shows how an import of an image goes: a bar on a terminal, a line for each step elsewhere. Both go to
//! standard error, so that standard output has the result alone.

use casemate_images::{Progress, Step};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Global;
use crate::inputs::bytes_text;
use crate::lines;

/// Shows the steps of one image.
pub(crate) struct ImageDisplay {
    kind: Kind,
    last: Option<Progress>,
}

enum Kind {
    /// A moving bar.
    Bar(ProgressBar),
    /// One line when a step is done.
    Lines,
    /// Nothing: whoever reads JSON reads the result.
    Silent,
}

impl ImageDisplay {
    /// A bar where standard error is a terminal.
    pub(crate) fn new(global: &Global) -> Self {
        let kind = if global.json {
            Kind::Silent
        } else if rustix::termios::isatty(std::io::stderr()) {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            Kind::Bar(bar)
        } else {
            Kind::Lines
        };
        Self { kind, last: None }
    }

    /// Takes one report.
    pub(crate) fn report(&mut self, progress: Progress) {
        if self.last.is_some_and(|last| last.step != progress.step) {
            self.end_step();
        }
        self.last = Some(progress);
        if let Kind::Bar(bar) = &self.kind {
            bar.set_message(text_of(&progress));
            bar.tick();
        }
    }

    /// Ends the last step and takes the bar away.
    pub(crate) fn finish(&mut self) {
        self.end_step();
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }

    fn end_step(&mut self) {
        if let (Kind::Lines, Some(last)) = (&self.kind, self.last.take()) {
            lines::note(text_of(&last));
        }
    }
}

/// `unpack 2/3 layers, 1.2 MB of 3.4 MB`.
fn text_of(progress: &Progress) -> String {
    const CELLS: u64 = 20;
    let step = match progress.step {
        Step::Read => "read",
        Step::Import => "import",
        Step::Unpack => "unpack",
        Step::BuildRootfs => "build root file system",
        Step::Verify => "verify",
        _ => "work",
    };
    let layers = match progress.total_layers {
        0 => String::new(),
        total => format!(" {}/{total} layers,", progress.done_layers),
    };
    let done = bytes_text(progress.done_bytes);
    match progress.total_bytes {
        Some(total) if total > progress.done_bytes => {
            let cells = u128::from(progress.done_bytes) * u128::from(CELLS) / u128::from(total);
            let cells = usize::try_from(cells).unwrap_or(0);
            let bar: String = (0..20).map(|cell| if cell < cells { '#' } else { '.' }).collect();
            format!("{step}{layers} [{bar}] {done} of {}", bytes_text(total))
        }
        _ => format!("{step}{layers} {done}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_step_layers_and_bytes() {
        let half = Progress {
            step: Step::Unpack,
            done_bytes: 1_000_000,
            total_bytes: Some(2_000_000),
            done_layers: 1,
            total_layers: 3,
        };
        assert_eq!(text_of(&half), "unpack 1/3 layers, [##########..........] 1.0 MB of 2.0 MB");
        let done = Progress { done_bytes: 2_000_000, done_layers: 3, ..half };
        assert_eq!(text_of(&done), "unpack 3/3 layers, 2.0 MB");
        let unknown = Progress { total_bytes: None, total_layers: 0, step: Step::BuildRootfs, ..half };
        assert_eq!(text_of(&unknown), "build root file system 1.0 MB");
    }
}
