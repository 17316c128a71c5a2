//! How long roots and compartments took to build, as the warden tells whoever watches.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use casemate_protocol::control::{ControlRequest, Phase, Progress, Reply, StepState};

use crate::lines;
use crate::project::Project;

/// The warden tells all that was at once, then waits for more: after this time nothing comes.
const QUIET: Duration = Duration::from_millis(500);

/// Milliseconds from the begin of an agent's root to the end of its compartment, at its last start. What the warden does
/// not tell is not there.
pub(super) fn build_ms(project: &Project) -> BTreeMap<String, u64> {
    let mut times = Times::default();
    let told = || -> std::io::Result<BufReader<UnixStream>> {
        let mut stream = UnixStream::connect(project.control_socket())?;
        stream.set_read_timeout(Some(QUIET))?;
        stream.set_write_timeout(Some(QUIET))?;
        let mut line = serde_json::to_vec(&ControlRequest::Watch)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        Ok(BufReader::new(stream))
    };
    let Ok(mut reader) = told() else { return BTreeMap::new() };
    while let Ok(Some(line)) = lines::next_line(&mut reader) {
        if let Ok(Reply::Progress(step)) = serde_json::from_slice(&line) {
            times.add(&step);
        }
    }
    times.built
}

#[derive(Default)]
struct Times {
    begun: BTreeMap<String, u64>,
    built: BTreeMap<String, u64>,
}

impl Times {
    fn add(&mut self, step: &Progress) {
        let agent = step.agent.to_string();
        match (step.phase, step.state) {
            (Phase::Rootfs, StepState::Started) => {
                self.built.remove(&agent);
                self.begun.insert(agent, step.elapsed_ms);
            }
            (Phase::Compartment, StepState::Done) => {
                if let Some(begun) = self.begun.remove(&agent) {
                    self.built.insert(agent, step.elapsed_ms.saturating_sub(begun));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_start_counts_and_one_that_failed_does_not() {
        let step = |phase, state, elapsed_ms| Progress {
            agent: "a".parse().unwrap(),
            phase,
            state,
            elapsed_ms,
            detail: String::new(),
            refusal: None,
            not_executed: None,
        };
        let mut times = Times::default();
        times.add(&step(Phase::Rootfs, StepState::Started, 5));
        times.add(&step(Phase::Rootfs, StepState::Done, 8));
        times.add(&step(Phase::Compartment, StepState::Done, 25));
        assert_eq!(times.built, [("a".to_owned(), 20)].into());
        times.add(&step(Phase::Rootfs, StepState::Started, 0));
        assert!(times.built.is_empty());
        times.add(&step(Phase::Compartment, StepState::Failed, 3));
        assert!(times.built.is_empty());
    }
}
