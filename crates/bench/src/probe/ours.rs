//! Two agents of ours: a project like a user's, and compartments that its warden builds beside them for the probe.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use casemate_composition::lock::AgentName;
use casemate_probe::attack::{Attack, Through};
use casemate_probe::battery::Allowed;
use casemate_probe::target::{Guard, Kernel, Side, Streams, Target, TargetError};
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_protocol::control::{ControlRequest, Reply};
use casemate_protocol::inside::{InsideReply, InsideRequest, PROBE_CANARY_NAME, Stream, probe_canary};
use casemate_sys::descriptors::receive_packet;

use super::tree::Tree;
use crate::compartments::project::{IMAGE, Project};
use crate::compartments::{Outcome, Setup};

/// Time that the warden has for an answer.
const ANSWER_BOUND: Duration = Duration::from_secs(60);
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const REPLY_BYTES_MAX: u64 = 64 << 10;
/// Time until the warden says how a probe ended whose streams have.
const ENDED_BOUND: Duration = Duration::from_secs(10);
/// The agents.
const VICTIM: &str = "right";
const ATTACKER: &str = "left";

/// How the two are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Native,
    /// One root for both, and cores in common.
    Share,
    Gvisor,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Native, Self::Share, Self::Gvisor];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Share => "share",
            Self::Gvisor => "gvisor",
        }
    }

    const fn in_the_file(self) -> &'static str {
        match self {
            Self::Native => "{}",
            Self::Share => "{ share: kin, trust: family }",
            Self::Gvisor => "{ backend: gvisor }",
        }
    }
}

/// A box with two agents. Dropping it ends it.
pub(super) struct Agents {
    project: Project,
    way: Way,
    victim: AgentName,
    attacker: AgentName,
    in_force: BTreeSet<&'static str>,
}

impl Agents {
    pub(super) fn start(setup: &Setup, tree: &Tree, way: Way) -> Outcome<Self> {
        let mut project = Project::new(setup, &tree.tar)?;
        let memory = if way == Way::Gvisor { "256m" } else { "64m" };
        let service = |name: &str| {
            format!(
                "  {name}:\n    image: {IMAGE}\n    user: \"1000:1000\"\n    command: [/bin/busybox, sleep, \"86400\"]\n    \
                 stop_signal: SIGKILL\n    mem_limit: {memory}\n    pids_limit: 16\n    tmpfs: [\"/tmp:size=8m\"]\n    \
                 x-casemate: {}\n",
                way.in_the_file()
            )
        };
        project.services(way.name(), &[ATTACKER, VICTIM].map(service).concat(), "")?;
        project.up()?;
        let mut agents = Self {
            project,
            way,
            victim: VICTIM.parse()?,
            attacker: ATTACKER.parse()?,
            in_force: BTreeSet::new(),
        };
        agents.in_force = agents.controls()?;
        Ok(agents)
    }

    /// What the composition lets them have in common.
    pub(super) fn allowed(&self) -> Allowed {
        match self.way {
            Way::Share => Allowed { root: Some("share: kin".into()), cores: Some("trust: family".into()) },
            Way::Native | Way::Gvisor => Allowed::default(),
        }
    }

    fn socket(&self) -> PathBuf {
        self.project.state().join("run/control.sock")
    }

    fn ask(&self, request: &ControlRequest) -> Outcome<UnixStream> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(ANSWER_BOUND))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        Ok(stream)
    }

    /// Controls that the box says are in force for both.
    fn controls(&self) -> Outcome<BTreeSet<&'static str>> {
        let mut stream = self.ask(&ControlRequest::Status)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            let mut part = [0_u8; 4096];
            let count = stream.read(&mut part)?;
            if count == 0 {
                return Err("the warden went away".into());
            }
            answer.extend(part.iter().take(count));
        }
        let Reply::Status { agents, .. } = serde_json::from_slice(&answer)? else {
            return Err("the warden gave another answer".into());
        };
        let holds = |name: &AgentName, control: Control| {
            let status = agents.get(name).and_then(|agent| agent.controls.get(&control));
            matches!(status, Some(ControlStatus::Enforced | ControlStatus::EnforcedWithGaps))
        };
        let both =
            |control: &Control| [&self.victim, &self.attacker].iter().all(|name| holds(name, *control));
        Ok(Control::ALL.into_iter().filter(both).map(Control::name).collect())
    }

    /// A probe's compartment beside an agent: its streams, and the connection that it ends with.
    fn begin(&self, agent: &AgentName) -> Outcome<Streams> {
        let request = InsideRequest::Probe { agent: agent.clone() };
        let stream = self.ask(&ControlRequest::Inside(request))?;
        let (mut answer, mut descriptors) = (Vec::new(), Vec::new());
        while !answer.ends_with(b"\n") {
            let (bytes, more) = receive_packet(&stream, ANSWER_BYTES_MAX)?;
            if bytes.is_empty() || answer.len() > ANSWER_BYTES_MAX {
                return Err("the warden went away".into());
            }
            answer.extend(bytes);
            descriptors.extend(more);
        }
        let kinds = match serde_json::from_slice(&answer)? {
            Reply::Inside(InsideReply::Streams { streams }) => streams,
            _ => return Err(String::from_utf8_lossy(&answer).into_owned().into()),
        };
        let (mut input, mut output) = (None, None);
        for (kind, descriptor) in kinds.into_iter().zip(descriptors) {
            match kind {
                Stream::Input => input = Some(descriptor),
                Stream::Output => output = Some(descriptor),
                Stream::Error | Stream::Terminal => {}
            }
        }
        let (input, output) = input.zip(output).ok_or("the warden gave no streams")?;
        Ok(Streams { input, output, guard: Box::new(Beside(stream)) })
    }
}

/// A probe beside an agent, and its line to the warden.
struct Beside(UnixStream);

impl Guard for Beside {
    fn ended(&self) -> Option<i32> {
        self.0.set_read_timeout(Some(ENDED_BOUND)).ok()?;
        let mut line = String::new();
        BufReader::new(&self.0).take(REPLY_BYTES_MAX).read_line(&mut line).ok()?;
        match serde_json::from_str(&line).ok()? {
            Reply::Inside(InsideReply::Exited { status }) => Some(status),
            _ => None,
        }
    }
}

impl Target for Agents {
    fn name(&self) -> String {
        format!("two agents, {}", self.way.in_the_file())
    }

    fn start(&self, side: Side) -> Result<Streams, TargetError> {
        let agent = match side {
            Side::Victim => &self.victim,
            Side::Attacker => &self.attacker,
        };
        self.begin(agent).map_err(|error| TargetError::Start(error.to_string()))
    }

    fn kernel(&self) -> Kernel {
        if self.way == Way::Gvisor { Kernel::Sandbox } else { Kernel::Common }
    }

    /// As `casemate probe` has it.
    fn stops(&self, attack: &Attack, control: &'static str) -> Option<String> {
        let shared = self.way == Way::Share;
        let common =
            shared && (control == "cores" || (control == "private-root" && attack.through == Through::Root));
        (!common && self.in_force.contains(control)).then(|| control.to_owned())
    }

    fn box_socket(&self) -> Option<String> {
        Some(self.socket().display().to_string())
    }

    fn secret(&self) -> Option<(String, String)> {
        Some((format!("/run/secrets/{PROBE_CANARY_NAME}"), probe_canary(&self.victim)))
    }
}
