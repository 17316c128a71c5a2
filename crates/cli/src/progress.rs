//! Shows how a start goes: one line per part of the box and per agent, on a terminal, as plain lines, or as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use casemate_composition::lock::AgentName;
use casemate_protocol::control::{Phase, Progress, StepState};
use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::failure::{Failure, one_line};
use crate::lines;
use crate::supervisor::Step;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    /// Moving lines on a terminal, plain lines elsewhere.
    Auto,
    /// Moving lines.
    Tty,
    /// One line when a part is done.
    Plain,
    /// One JSON object a line.
    Json,
}

/// What the warden says of an agent that ended and did what it had to.
const ENDED_WELL: &str = "status 0";

/// What is known of one agent's start.
#[derive(Debug, Clone, Default)]
struct AgentTrack {
    done: Vec<(Phase, u64)>,
    since_ms: u64,
    now: Option<Phase>,
    elapsed_ms: u64,
}

/// Shows a start.
pub(crate) struct Display {
    kind: DisplayKind,
    width: usize,
    agents: BTreeMap<AgentName, AgentTrack>,
    /// Those whose program has ended, and that have not begun to start again.
    ended: BTreeSet<AgentName>,
}

enum DisplayKind {
    Tty { all: MultiProgress, bars: BTreeMap<String, ProgressBar> },
    Plain,
    Json,
}

impl Display {
    /// For these agents.
    pub(crate) fn new(style: Style, agents: &[AgentName]) -> Self {
        let kind = match style {
            Style::Json => DisplayKind::Json,
            Style::Plain => DisplayKind::Plain,
            Style::Auto if !rustix::termios::isatty(std::io::stdout()) => DisplayKind::Plain,
            Style::Auto | Style::Tty => DisplayKind::Tty {
                all: MultiProgress::with_draw_target(ProgressDrawTarget::stdout()),
                bars: BTreeMap::new(),
            },
        };
        let width = agents.iter().map(|name| name.as_str().len()).max().unwrap_or(0).max("emulator".len());
        Self {
            kind,
            width,
            agents: agents.iter().map(|name| (name.clone(), AgentTrack::default())).collect(),
            ended: BTreeSet::new(),
        }
    }

    /// A step of the box.
    pub(crate) fn step(&mut self, step: &Step) {
        if step.done {
            self.part_done(&step.step, step.elapsed_ms, &step.detail);
        } else if matches!(self.kind, DisplayKind::Tty { .. }) {
            self.set(&step.step, "starts", Mark::Busy);
        }
    }

    /// A part of the box is done.
    pub(crate) fn part_done(&mut self, part: &str, elapsed_ms: u64, detail: &str) {
        if matches!(self.kind, DisplayKind::Json) {
            lines::print(
                json!({"type": "box", "part": part, "state": "done", "elapsed_ms": elapsed_ms, "detail": detail}),
            );
            return;
        }
        let detail = if detail.is_empty() { String::new() } else { format!("  {}", one_line(detail)) };
        self.set(part, &format!("{}{detail}", seconds(elapsed_ms)), Mark::Good);
    }

    /// A step of an agent's start.
    pub(crate) fn progress(&mut self, progress: &Progress) {
        if (progress.state, progress.phase) == (StepState::Done, Phase::Exited) {
            self.ended.insert(progress.agent.clone());
        } else {
            self.ended.remove(&progress.agent);
        }
        if matches!(self.kind, DisplayKind::Json) {
            let mut value = serde_json::to_value(progress).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("type".into(), json!("agent"));
            }
            lines::print(value);
            return;
        }
        let track = self.agents.entry(progress.agent.clone()).or_default();
        track.note(progress);
        let text = track.text();
        let name = progress.agent.as_str().to_owned();
        match (progress.state, progress.phase) {
            (StepState::Failed, phase) => {
                self.set(&name, &format!("{text}  failed at {}", phase_name(phase)), Mark::Bad);
            }
            (StepState::Done, Phase::Exited) => {
                // `status 0`: it did what it had to.
                let mark = if progress.detail == ENDED_WELL { Mark::Good } else { Mark::Bad };
                self.set(&name, &format!("{text}  ended, {}", one_line(&progress.detail)), mark);
            }
            (StepState::Done, Phase::Healthy) => self.set(&name, &text, Mark::Good),
            _ if matches!(self.kind, DisplayKind::Tty { .. }) => self.set(&name, &text, Mark::Busy),
            _ => {}
        }
    }

    /// The last line. A box of this program always stands on the emulator.
    pub(crate) fn summary(&mut self, agents: usize, elapsed: Duration, composition: &str) {
        self.finish();
        let elapsed_ms = elapsed.as_millis().try_into().unwrap_or(u64::MAX);
        let ended = self.ended.len();
        match self.kind {
            DisplayKind::Json => lines::print(
                json!({"type": "summary", "agents": agents, "ended": ended, "elapsed_ms": elapsed_ms, "composition": composition, "simulated": true}),
            ),
            _ => lines::print(format!(
                "{}, each attested as itself on simulated hardware, after {}; composition {}",
                how_many(agents.saturating_sub(ended), ended),
                seconds(elapsed_ms).trim_start(),
                shortened(composition),
            )),
        }
    }

    /// The start failed. In JSON, a line says why; elsewhere the error report does.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.finish();
        if matches!(self.kind, DisplayKind::Json) {
            lines::print(json!({
                "type": "failed", "what": failure.what, "todo": failure.todo, "refusal": failure.refusal,
                "exit_code": failure.kind.code(),
            }));
        }
    }

    /// Ends the lines of what did not come to its end, and leaves the cursor below them.
    fn finish(&mut self) {
        let width = self.width;
        if let DisplayKind::Tty { bars, .. } = &self.kind {
            for (part, bar) in bars.iter().filter(|(_, bar)| !bar.is_finished()) {
                if let Ok(style) = ProgressStyle::with_template("- {wide_msg}") {
                    bar.set_style(style);
                }
                bar.abandon_with_message(format!("{part:width$}  stopped"));
            }
        }
    }

    fn set(&mut self, part: &str, text: &str, mark: Mark) {
        let line = format!("{part:width$}  {text}", width = self.width);
        match &mut self.kind {
            DisplayKind::Tty { all, bars } => {
                let bar = bars.entry(part.to_owned()).or_insert_with(|| {
                    let bar = all.add(ProgressBar::new_spinner());
                    bar.enable_steady_tick(Duration::from_millis(100));
                    bar
                });
                let template = match mark {
                    Mark::Busy => "{spinner} {wide_msg}",
                    Mark::Good => "\u{2713} {wide_msg}",
                    Mark::Bad => "\u{2717} {wide_msg}",
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                match mark {
                    Mark::Busy => bar.set_message(line),
                    Mark::Good | Mark::Bad => bar.finish_with_message(line),
                }
            }
            DisplayKind::Plain if mark == Mark::Bad => lines::print(format!("FAIL {line}")),
            DisplayKind::Plain => lines::print(format!("ok   {line}")),
            DisplayKind::Json => {}
        }
    }
}

/// How many agents run, and how many have ended already.
fn how_many(running: usize, ended: usize) -> String {
    let running = if running == 1 { "1 agent runs".to_owned() } else { format!("{running} agents run") };
    if ended == 0 { running } else { format!("{running}, {ended} ended") }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Busy,
    Good,
    Bad,
}

impl AgentTrack {
    fn note(&mut self, progress: &Progress) {
        self.elapsed_ms = progress.elapsed_ms;
        match progress.state {
            StepState::Started => self.now = Some(progress.phase),
            StepState::Done => {
                self.done.push((progress.phase, progress.elapsed_ms.saturating_sub(self.since_ms)));
                self.now = None;
            }
            StepState::Failed => self.now = None,
        }
        if progress.state != StepState::Started || progress.phase == Phase::Rootfs {
            self.since_ms = progress.elapsed_ms;
        }
    }

    /// The time, the phase that runs, and those that are done with the time each took. What runs comes first, since a
    /// terminal cuts the end off; what took no time is left out.
    fn text(&self) -> String {
        let now = self.now.map(|phase| format!("{} \u{2026}", phase_name(phase)));
        let took = self.done.iter().filter(|(_, took_ms)| *took_ms > 0);
        let took = took.map(|(phase, took_ms)| format!("{} {took_ms} ms", phase_name(*phase)));
        let parts: Vec<String> = now.into_iter().chain(took).collect();
        format!("{}  {}", seconds(self.elapsed_ms), parts.join(" \u{b7} ")).trim_end().to_owned()
    }
}

/// The phase's name on the command line.
pub(crate) const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Rootfs => "rootfs",
        Phase::Compartment => "compartment",
        Phase::Measure => "measure",
        Phase::Attest => "attest",
        Phase::Appraise => "appraise",
        Phase::Secrets => "secrets",
        Phase::Run => "run",
        Phase::Healthy => "healthy",
        Phase::Exited => "exited",
    }
}

/// Milliseconds as seconds with three digits.
pub(crate) fn seconds(ms: u64) -> String {
    format!("{:2}.{:03} s", ms / 1000, ms % 1000)
}

/// A digest, shortened for people.
pub(crate) fn shortened(digest: &str) -> String {
    match digest.char_indices().nth(24) {
        Some((end, _)) => format!("{}\u{2026}", digest.get(..end).unwrap_or(digest)),
        None => digest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(phase: Phase, state: StepState, elapsed_ms: u64) -> Progress {
        Progress {
            agent: "a".parse().unwrap(),
            phase,
            state,
            elapsed_ms,
            detail: String::new(),
            refusal: None,
            not_executed: None,
        }
    }

    #[test]
    fn an_agents_line_names_each_phase_with_the_time_it_took() {
        let mut track = AgentTrack::default();
        for (phase, state, elapsed_ms) in [
            (Phase::Rootfs, StepState::Started, 0),
            (Phase::Rootfs, StepState::Done, 5),
            (Phase::Compartment, StepState::Started, 5),
            (Phase::Compartment, StepState::Done, 25),
            (Phase::Measure, StepState::Started, 25),
        ] {
            track.note(&progress(phase, state, elapsed_ms));
        }
        assert_eq!(track.text(), " 0.025 s  measure \u{2026} \u{b7} rootfs 5 ms \u{b7} compartment 20 ms");
        track.note(&progress(Phase::Measure, StepState::Done, 25));
        assert_eq!(track.text(), " 0.025 s  rootfs 5 ms \u{b7} compartment 20 ms");
    }

    #[test]
    fn an_agent_that_ended_does_not_count_as_one_that_runs() {
        let mut display = Display::new(Style::Json, &[]);
        display.progress(&progress(Phase::Exited, StepState::Done, 1));
        assert_eq!(display.ended.len(), 1);
        display.progress(&progress(Phase::Rootfs, StepState::Started, 2));
        assert!(display.ended.is_empty());
        assert_eq!((how_many(1, 0), how_many(0, 2)), ("1 agent runs".into(), "0 agents run, 2 ended".into()));
    }

    #[test]
    fn seconds_have_three_digits() {
        assert_eq!(seconds(61_007), "61.007 s");
    }
}
