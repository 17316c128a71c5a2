//! A box whose warden builds the probe's compartments, and what is read of them from outside.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use casemate_composition::rules::{LANDLOCK_RULES, SECCOMP_RULES};
use casemate_protocol::control::{ControlRequest, Reply};
use casemate_protocol::inside::{InsideReply, InsideRequest, Stream};
use casemate_sys::descriptors::receive_packet;
use casemate_sys::seccomp;
use casemate_sys::spec::Spec;

use super::rows::Without;
use super::{file, in_force};
use crate::project::Project;

/// Time for the warden's answer, and longest one.
const ANSWER_BOUND: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// `CAP_CHOWN`, number 0, to `CAP_SYS_ADMIN`, number 21 (linux/capability.h).
const CHOWN_TO_SYS_ADMIN: u64 = 0x3f_ffff;

/// The box.
pub(super) struct Place<'a> {
    project: &'a Project,
    pub(super) in_force: BTreeSet<String>,
}

/// A probe's compartment, which ends with the connection.
pub(super) struct Standing {
    pub(super) input: OwnedFd,
    pub(super) output: OwnedFd,
    pub(super) connection: UnixStream,
}

impl<'a> Place<'a> {
    pub(super) fn of(project: &'a Project) -> Self {
        Self { project, in_force: in_force(project) }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.project.project_dir().join("run/control.sock")
    }

    /// Has the warden build one beside an agent.
    pub(super) fn build(&self, agent: &str) -> Result<Standing, String> {
        let name = agent.parse().unwrap();
        let mut connection = UnixStream::connect(self.socket()).map_err(|error| error.to_string())?;
        connection.set_read_timeout(Some(ANSWER_BOUND)).unwrap();
        let mut line =
            serde_json::to_vec(&ControlRequest::Inside(InsideRequest::Probe { agent: name })).unwrap();
        line.push(b'\n');
        connection.write_all(&line).map_err(|error| error.to_string())?;
        let (mut answer, mut descriptors) = (Vec::new(), Vec::new());
        while !answer.ends_with(b"\n") {
            let (bytes, more) =
                receive_packet(&connection, ANSWER_BYTES_MAX).map_err(|error| error.to_string())?;
            if bytes.is_empty() {
                return Err("the warden went away".into());
            }
            answer.extend(bytes);
            descriptors.extend(more);
        }
        let Ok(Reply::Inside(InsideReply::Streams { streams })) = serde_json::from_slice(&answer) else {
            return Err(String::from_utf8_lossy(&answer).into_owned());
        };
        assert_eq!(streams, [Stream::Input, Stream::Output]);
        let [input, output] = <[OwnedFd; 2]>::try_from(descriptors).unwrap();
        Ok(Standing { input, output, connection })
    }

    /// The first process of the probe's compartment beside an agent.
    pub(super) fn first_process(&self, agent: &str) -> i32 {
        let group = format!("/{}/{agent}~probe\n", self.project.owner().box_name);
        let is_first = |pid: &i32| {
            let read =
                |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let numbers = read("status");
            let inner =
                numbers.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last());
            inner == Some("1") && read("cgroup").contains(&group)
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let found: Vec<i32> = pids.filter(is_first).collect();
        let [first] = found.as_slice() else { panic!("first processes beside {agent}: {found:?}") };
        *first
    }

    /// Waits until a program in the probe's compartment beside an agent has all capabilities that its first process lacks: a row that
    /// takes their absence away must have taken it away.
    pub(super) fn wait_for_capabilities(&self, agent: &str) -> Result<(), String> {
        let group = format!("/{}/{agent}~probe\n", self.project.owner().box_name);
        let end = Instant::now() + ANSWER_BOUND;
        let has = |pid: &str| {
            let read =
                |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let status = read("status");
            let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
            let all = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
            read("comm").trim() == "probe"
                && all & CHOWN_TO_SYS_ADMIN == CHOWN_TO_SYS_ADMIN
                && read("cgroup").contains(&group)
        };
        while Instant::now() < end {
            let entries = std::fs::read_dir("/proc").unwrap().flatten();
            if entries.filter_map(|entry| entry.file_name().into_string().ok()).any(|pid| has(&pid)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the attacker has no capabilities".into())
    }

    /// A command in the compartment of `own`, as the warden would have it, but for the control groups of `without`. Gives its file.
    pub(super) fn specification(&self, without: &Without, own: i32, other: i32) -> PathBuf {
        let text = |file: &str| std::fs::read_to_string(format!("/proc/{own}/{file}")).unwrap();
        let map = text("uid_map");
        let writable = ["/dev/shm", "/tmp"];
        let mut landlock = Vec::new();
        for line in LANDLOCK_RULES.lines().map(str::trim) {
            match line.strip_suffix("@writable") {
                Some(access) => landlock.extend(writable.map(|target| format!("{access}{target}"))),
                None if line.is_empty() || line.starts_with('#') => {}
                None => landlock.push(line.to_owned()),
            }
        }
        let spec = Spec {
            uid_base: map.split_whitespace().nth(1).unwrap().parse().unwrap(),
            uid: without.user,
            gid: without.user,
            join: 1,
            staging: "/".into(),
            cgroup_join: join_files(own, other, without.groups),
            command: vec!["/run/casemate/probe".into()],
            environment: vec!["PATH=/usr/bin:/bin".into()],
            working_dir: "/".into(),
            oom_score_adj: text("oom_score_adj").trim().parse().unwrap(),
            seccomp: seccomp::compile(SECCOMP_RULES).unwrap(),
            landlock,
            ..Spec::default()
        };
        let path = file(self.project);
        std::fs::write(&path, spec.encode()).unwrap();
        path
    }
}

/// Files by which one joins the control groups of `own`, but for those that control one of `theirs`.
fn join_files(own: i32, other: i32, theirs: &[&str]) -> Vec<String> {
    let groups = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let lines = text.lines().map(|line| {
            let mut parts = line.splitn(3, ':').skip(1).map(str::to_owned);
            (parts.next().unwrap(), parts.next().unwrap())
        });
        lines.filter(|(_, path)| path.contains("/casemate/")).collect::<Vec<_>>()
    };
    let of_other = groups(other);
    let mut files = Vec::new();
    for (kind, path) in groups(own) {
        let taken = theirs.iter().any(|wanted| kind.is_empty() || kind.split(',').any(|one| one == *wanted));
        let found = of_other.iter().find(|(other_kind, _)| taken && *other_kind == kind);
        let path = found.map_or(&path, |(_, path)| path);
        let hierarchy = kind.split(',').next().unwrap();
        files.push(format!("/sys/fs/cgroup/{hierarchy}{path}/cgroup.procs"));
    }
    assert!(!files.is_empty(), "no control groups");
    files
}
