//! Shows how an image arrives: bars on a terminal, plain lines elsewhere, on standard error either way.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use casemate_canon::Sha256;
use casemate_images::{Progress, Step};
use casemate_registry::Event;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::one_line;
use crate::lines;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Bars on a terminal, lines elsewhere.
    All,
    /// Nothing but what went wrong.
    Problems,
}

/// Shows one image's way into the store.
pub(crate) struct Transfer {
    name: String,
    kind: Kind,
    state: Mutex<State>,
}

enum Kind {
    Tty(MultiProgress),
    Plain,
    Quiet,
}

#[derive(Default)]
struct State {
    sizes: BTreeMap<Sha256, u64>,
    arrived: BTreeMap<Sha256, u64>,
    parts_done: usize,
    bars: BTreeMap<Sha256, ProgressBar>,
    total: Option<ProgressBar>,
    step: Option<Step>,
}

impl Transfer {
    /// For the image with this name.
    pub(crate) fn new(name: &str, shown: Shown) -> Self {
        let kind = match shown {
            Shown::Problems => Kind::Quiet,
            Shown::All if rustix::termios::isatty(std::io::stderr()) => {
                Kind::Tty(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
            }
            Shown::All => Kind::Plain,
        };
        Self { name: one_line(name), kind, state: Mutex::default() }
    }

    /// Something happened between here and the registry.
    pub(crate) fn event(&self, event: Event) {
        let mut state = self.state();
        match event {
            Event::SourceFailed { source, error } => {
                self.say(format!("{source}: {error}; the next source is asked"));
            }
            Event::Retry { error } => self.say(format!("{error}; trying again")),
            Event::Resolved { source, blobs, present, .. } => {
                let bytes = blobs.iter().map(|(_, size)| *size).fold(0, u64::saturating_add);
                state.sizes = blobs.into_iter().collect();
                let parts = state.sizes.len();
                match &self.kind {
                    Kind::Tty(all) => {
                        state.total = Some(total_bar(all, &self.name, bytes, parts));
                    }
                    Kind::Plain if parts == 0 => self.say("nothing to fetch".to_owned()),
                    Kind::Plain => {
                        let there =
                            if present == 0 { String::new() } else { format!(", {present} are here") };
                        self.say(format!("{parts} parts, {} from {source}{there}", HumanBytes(bytes)));
                    }
                    Kind::Quiet => {}
                }
            }
            Event::Arrived { blob, bytes } => self.arrived(&mut state, blob, bytes),
            Event::Done { blob } => {
                state.parts_done = state.parts_done.saturating_add(1);
                if let Some(bar) = state.bars.remove(&blob) {
                    bar.finish_and_clear();
                }
                let (done, all) = (state.parts_done, state.sizes.len());
                let size = state.sizes.get(&blob).copied().unwrap_or(0);
                match &state.total {
                    Some(total) => total.set_message(format!("{done}/{all} parts")),
                    None if matches!(self.kind, Kind::Plain) => {
                        self.say(format!("part {done} of {all}, {}", HumanBytes(size)));
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// The store is at work.
    pub(crate) fn progress(&self, progress: Progress) {
        let mut state = self.state();
        let verb = match progress.step {
            Step::Unpack => "unpacking",
            Step::BuildRootfs => "building the root file system",
            Step::Verify => "verifying",
            _ => "storing",
        };
        let changed = state.step.replace(progress.step) != Some(progress.step);
        match &self.kind {
            Kind::Tty(all) => {
                if changed {
                    if let Some(old) = state.total.take() {
                        old.finish_and_clear();
                    }
                    state.total = Some(step_bar(all, &self.name, verb));
                }
                if let Some(bar) = &state.total {
                    bar.set_length(progress.total_bytes.unwrap_or(progress.done_bytes));
                    bar.set_position(progress.done_bytes);
                }
            }
            Kind::Plain if changed => self.say(verb.to_owned()),
            _ => {}
        }
    }

    /// Takes the bars away.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        let bars = std::mem::take(&mut state.bars);
        bars.into_values().chain(state.total.take()).for_each(|bar| bar.finish_and_clear());
    }

    fn arrived(&self, state: &mut State, blob: Sha256, bytes: u64) {
        state.arrived.insert(blob, bytes);
        let Kind::Tty(all) = &self.kind else { return };
        let size = state.sizes.get(&blob).copied().unwrap_or(bytes);
        let bar = state.bars.entry(blob).or_insert_with(|| part_bar(all, &blob, size));
        bar.set_position(bytes);
        let whole = state.arrived.values().copied().fold(0, u64::saturating_add);
        if let Some(total) = &state.total {
            total.set_position(whole);
        }
    }

    fn say(&self, text: String) {
        let line = format!("{}: {}", self.name, one_line(&text));
        match &self.kind {
            // The bars make way for it.
            Kind::Tty(all) => drop(all.println(line)),
            Kind::Plain | Kind::Quiet => lines::note(line),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn total_bar(all: &MultiProgress, name: &str, bytes: u64, parts: usize) -> ProgressBar {
    let bar = all.add(ProgressBar::new(bytes));
    style(&bar, "{spinner} {prefix}  {msg}  [{bar:24}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta}");
    bar.set_prefix(name.to_owned());
    bar.set_message(format!("0/{parts} parts"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn part_bar(all: &MultiProgress, blob: &Sha256, bytes: u64) -> ProgressBar {
    let bar = all.add(ProgressBar::new(bytes));
    style(&bar, "  {prefix}  [{bar:24}] {bytes}/{total_bytes}");
    bar.set_prefix(blob.to_hex().chars().take(12).collect::<String>());
    bar
}

fn step_bar(all: &MultiProgress, name: &str, verb: &'static str) -> ProgressBar {
    let bar = all.add(ProgressBar::new(0));
    style(&bar, "{spinner} {prefix}  {msg}  {bytes}/{total_bytes}");
    bar.set_prefix(name.to_owned());
    bar.set_message(verb);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn style(bar: &ProgressBar, template: &str) {
    // The templates are constants; a wrong one would leave indicatif's own.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
