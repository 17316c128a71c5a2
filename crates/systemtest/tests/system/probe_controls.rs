//! What each control stops, by taking it away from one attacker and from nothing else.
//!
//! The box builds both of the probe's compartments as always. The attacker then runs beside the first one: by the box's own launcher, with
//! the same filter, rules, limits and capabilities, but for what a row takes away (`src/bin/beside.rs`). What leaks in its place is what
//! that control alone stops; what stays blocked has another control behind it, and the row names it. The table is in
//! docs/residual-surface.md; this test fails where one of both changes.

mod place;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use casemate_probe::attack::{Attack, Length};
use casemate_probe::battery::{Allowed, Battery, Choice};
use casemate_probe::matrix::Row;
use casemate_probe::target::{Side, Streams, Target, TargetError};
use casemate_probe::verdict::Verdict;
use casemate_protocol::agent_token::Control;
use casemate_protocol::inside::{PROBE_CANARY_NAME, probe_canary};

use self::place::{Place, Standing};
use crate::project::{Project, agent, dist};

/// The table.
const DOCUMENT: &str = include_str!("../../../../docs/residual-surface.md");
/// Most runs of a row: others on this machine may drown a channel.
const RUNS: usize = 4;

/// What is taken away from the attacker.
struct Without {
    /// As the table has it.
    name: &'static str,
    /// Namespaces that are the victim's.
    kinds: &'static str,
    /// Calls of the launcher that do nothing.
    calls: &'static str,
    /// Control groups that are the victim's, by what they control.
    groups: &'static [&'static str],
    /// Inner user of the attacker.
    user: u32,
    /// Controls that are not in force then.
    away: &'static [Control],
    /// Attacks that this control is said to stop.
    tried: &'static [&'static str],
    /// Those of them that nothing else stops.
    leaks: &'static [&'static str],
}

/// An inner user other than the agent's: it can end no process of the probe that the box has built beside it.
const OTHER_USER: u32 = 1001;
/// The agent's.
const AGENT_USER: u32 = 1000;

const NOTHING: Without = Without {
    name: "nothing",
    kinds: "-",
    calls: "-",
    groups: &[],
    user: OTHER_USER,
    away: &[],
    tried: &[],
    leaks: &[],
};

const PROCESSES: &[&str] = &[
    "see-process",
    "read-environment",
    "read-memory",
    "trace",
    "signal",
    "steal-descriptor",
    "sealing-keys",
];
const FILES: &[&str] = &[
    "path-socket",
    "shared-memory-file",
    "temporary-file",
    "file-lock",
    "watch-file",
    "peer-secret",
    "peer-evidence",
    "missing-names",
    "free-space",
    "exhaust-disk",
];
const CALLS: &[&str] = &[
    "user-namespace",
    "io-uring",
    "userfaultfd",
    "bpf",
    "perf",
    "kernel-log",
    "fanotify",
    "clone-mount",
    "enter-namespace",
    "open-by-handle",
    "mincore",
    "key-calls",
    "keyring",
    "socket-families",
    "process-count",
    "trace",
    "read-memory",
    "steal-descriptor",
];

/// What somebody with capabilities might do.
const PRIVILEGED: &[&str] = &[
    "see-process",
    "read-environment",
    "read-memory",
    "trace",
    "steal-descriptor",
    "peer-secret",
    "box-socket",
    "sealing-keys",
    "device-nodes",
    "bpf",
    "perf",
    "kernel-log",
    "clone-mount",
    "enter-namespace",
    "open-by-handle",
];

/// Numbers of calls (linux, syscall_64.tbl): capset 126, prctl 157, keyctl 250, prlimit64 302, seccomp 317, landlock_restrict_self 446.
fn rows() -> Vec<Without> {
    vec![
        Without { name: "nothing", tried: ALL, ..NOTHING },
        Without {
            name: "pid namespace",
            kinds: "pid",
            away: &[Control::Namespaces],
            tried: PROCESSES,
            ..NOTHING
        },
        Without {
            name: "network namespace",
            kinds: "net",
            away: &[Control::Namespaces],
            tried: &["abstract-socket", "loopback-tcp", "foreign-tcp", "list-sockets", "peer-evidence"],
            leaks: &["loopback-tcp", "foreign-tcp", "list-sockets"],
            ..NOTHING
        },
        Without {
            name: "IPC namespace",
            kinds: "ipc",
            away: &[Control::Namespaces],
            tried: &["system-v-memory", "message-queue"],
            leaks: &["system-v-memory"],
            ..NOTHING
        },
        Without {
            name: "mount namespace",
            kinds: "mnt",
            away: &[Control::Namespaces, Control::PrivateRoot],
            tried: FILES,
            leaks: &[
                "shared-memory-file",
                "temporary-file",
                "file-lock",
                "watch-file",
                "missing-names",
                "free-space",
                "exhaust-disk",
            ],
            ..NOTHING
        },
        Without {
            name: "user namespace, same ids",
            kinds: "user",
            user: AGENT_USER,
            away: &[Control::UserNamespace],
            tried: &[
                "see-process",
                "read-environment",
                "signal",
                "trace",
                "keyring",
                "path-socket",
                "temporary-file",
                "shared-memory-file",
                "peer-secret",
                "exhaust-inotify",
                "exhaust-pipes",
                "exhaust-keys",
                "exhaust-processes",
            ],
            leaks: &["exhaust-inotify", "exhaust-pipes"],
            ..NOTHING
        },
        Without {
            name: "time, UTS and cgroup namespace",
            kinds: "time,uts,cgroup",
            away: &[Control::Namespaces],
            tried: ALL,
            ..NOTHING
        },
        Without {
            name: "system call filter",
            calls: "317:0:1,317:1:0",
            away: &[Control::Seccomp],
            tried: CALLS,
            leaks: &[
                "user-namespace",
                "io-uring",
                "userfaultfd",
                "fanotify",
                "mincore",
                "key-calls",
                "socket-families",
                "process-count",
            ],
            ..NOTHING
        },
        Without {
            name: "Landlock",
            calls: "446",
            away: &[Control::Landlock],
            tried: &["signal", "abstract-socket", "device-nodes"],
            ..NOTHING
        },
        Without {
            name: "session keyring",
            calls: "250",
            away: &[Control::Keyring],
            tried: &["keyring", "list-keys", "key-calls"],
            ..NOTHING
        },
        Without {
            name: "limit of core dumps",
            calls: "302:1:4:3:0",
            away: &[Control::NoPrivileges],
            tried: &["core-dumps"],
            leaks: &["core-dumps"],
            ..NOTHING
        },
        Without {
            name: "empty capability sets, as inner root",
            calls: "126,157:0:24",
            user: 0,
            away: &[Control::NoPrivileges],
            tried: PRIVILEGED,
            ..NOTHING
        },
        Without {
            name: "limits of the control group",
            groups: &["memory", "pids"],
            away: &[Control::CgroupLimits],
            tried: &["exhaust-processes", "exhaust-memory", "exhaust-sockets"],
            leaks: &["exhaust-processes", "exhaust-sockets", "exhaust-memory"],
            ..NOTHING
        },
        Without {
            name: "cores",
            groups: &["cpuset"],
            away: &[Control::Cores],
            tried: &["cpu-contention", "exhaust-cpu"],
            leaks: &["cpu-contention"],
            ..NOTHING
        },
        Without {
            name: "cores, share of CPU time",
            groups: &["cpuset", "cpu"],
            away: &[Control::Cores, Control::CgroupCpu],
            tried: &["exhaust-cpu"],
            leaks: &["exhaust-cpu"],
            ..NOTHING
        },
        Without {
            name: "pid and user namespace",
            kinds: "pid,user",
            user: AGENT_USER,
            away: &[Control::Namespaces, Control::UserNamespace],
            tried: PROCESSES,
            leaks: &["see-process", "read-environment"],
            ..NOTHING
        },
        Without {
            name: "pid and user namespace, Landlock",
            kinds: "pid,user",
            calls: "446",
            user: AGENT_USER,
            away: &[Control::Namespaces, Control::UserNamespace, Control::Landlock],
            tried: &["signal"],
            leaks: &["signal"],
            ..NOTHING
        },
        Without {
            name: "pid and user namespace, system call filter",
            kinds: "pid,user",
            calls: "317:0:1,317:1:0",
            user: AGENT_USER,
            away: &[Control::Namespaces, Control::UserNamespace, Control::Seccomp],
            tried: &["read-memory", "trace", "steal-descriptor"],
            leaks: &["read-memory", "trace", "steal-descriptor"],
            ..NOTHING
        },
        Without {
            name: "mount and user namespace",
            kinds: "mnt,user",
            user: AGENT_USER,
            away: &[Control::Namespaces, Control::UserNamespace, Control::PrivateRoot],
            tried: &["path-socket", "peer-secret", "peer-evidence"],
            leaks: &["path-socket", "peer-secret", "peer-evidence"],
            ..NOTHING
        },
        Without {
            name: "network namespace, Landlock",
            kinds: "net",
            calls: "446",
            away: &[Control::Namespaces, Control::Landlock],
            tried: &["abstract-socket"],
            leaks: &["abstract-socket"],
            ..NOTHING
        },
        Without {
            name: "IPC namespace, system call filter",
            kinds: "ipc",
            calls: "317:0:1,317:1:0",
            away: &[Control::Namespaces, Control::Seccomp],
            tried: &["message-queue"],
            leaks: &["message-queue"],
            ..NOTHING
        },
        Without {
            name: "user namespace, system call filter",
            kinds: "user",
            calls: "317:0:1,317:1:0",
            user: AGENT_USER,
            away: &[Control::UserNamespace, Control::Seccomp],
            tried: &["keyring", "exhaust-keys"],
            leaks: &["keyring", "exhaust-keys"],
            ..NOTHING
        },
    ]
}

/// Attacks with another agent's compartment that are quick.
const ALL: &[&str] = &[
    "see-process",
    "read-environment",
    "read-memory",
    "trace",
    "signal",
    "steal-descriptor",
    "abstract-socket",
    "path-socket",
    "loopback-tcp",
    "foreign-tcp",
    "list-sockets",
    "shared-memory-file",
    "temporary-file",
    "system-v-memory",
    "message-queue",
    "keyring",
    "list-keys",
    "file-lock",
    "watch-file",
    "peer-secret",
    "peer-evidence",
    "sealing-keys",
    "box-socket",
    "core-dumps",
    "global-files",
    "free-space",
    "exhaust-inotify",
];

/// Two of the probe's compartments, and an attacker beside the first.
struct Beside<'a> {
    place: &'a Place<'a>,
    without: &'a Without,
}

/// Ends the attacker before the compartments that it is in.
struct Guard {
    attacker: Child,
    _standing: Standing,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.attacker.kill();
        let _ = self.attacker.wait();
    }
}

impl Target for Beside<'_> {
    fn name(&self) -> String {
        format!("an attacker without {}", self.without.name)
    }

    fn start(&self, side: Side) -> Result<Streams, TargetError> {
        let failed = |error: String| TargetError::Start(error);
        match side {
            Side::Victim => {
                let standing = self.place.build("right").map_err(failed)?;
                let Standing { input, output, connection } = standing;
                Ok(Streams { input, output, guard: Box::new(connection) })
            }
            Side::Attacker => {
                let standing = self.place.build("left").map_err(failed)?;
                let (own, other) = (self.place.first_process("left"), self.place.first_process("right"));
                let specification = self.place.specification(self.without, own, other);
                let mut command = Command::new(env!("CARGO_BIN_EXE_systemtest-beside"));
                command.arg(dist().join("casemate-launcher")).arg(specification);
                command.args([own.to_string(), other.to_string()]);
                command.args([self.without.kinds, self.without.calls]);
                let mut attacker = command
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .map_err(|e| failed(e.to_string()))?;
                let input = OwnedFd::from(attacker.stdin.take().unwrap());
                let output = OwnedFd::from(attacker.stdout.take().unwrap());
                Ok(Streams { input, output, guard: Box::new(Guard { attacker, _standing: standing }) })
            }
        }
    }

    fn stops(&self, _: &Attack, control: &'static str) -> Option<String> {
        let is_away = self.without.away.iter().any(|away| away.name() == control);
        (!is_away && self.place.in_force.contains(control)).then(|| control.to_owned())
    }

    fn box_socket(&self) -> Option<String> {
        Some(self.place.socket().display().to_string())
    }

    fn secret(&self) -> Option<(String, String)> {
        Some((format!("/run/secrets/{PROBE_CANARY_NAME}"), probe_canary(&"right".parse().unwrap())))
    }
}

#[test]
fn each_control_is_taken_away_from_one_attacker_and_the_table_says_what_leaks_then() {
    let services =
        ["left", "right"].map(|name| agent(name, &["say here", "wait"], "tmpfs: [\"/tmp:size=8m\"]"));
    let project = Project::ready("probe-controls", &services.concat(), &[]);
    project.up();
    let place = Place::of(&project);
    let nothing = Choice { length: Length::Full, only: Vec::new() };
    let mut battery = Battery::new(nothing, &dist().join("casemate-probe"), &place.socket()).unwrap();
    let mut wrong = Vec::new();
    let only = std::env::var("CASEMATE_ROW").unwrap_or_default();
    for without in rows().into_iter().filter(|row| row.name.contains(&only)) {
        let target = Beside { place: &place, without: &without };
        let mut names: Vec<String> = without.tried.iter().map(|name| (*name).to_owned()).collect();
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..RUNS {
            battery.choose(Choice { length: Length::Full, only: names.clone() });
            let played = battery.run(&target, &Allowed::default(), &mut |_| ()).unwrap();
            rows.retain(|row| !names.iter().any(|name| name == row.attack));
            rows.extend(played);
            // Again what is not as it should be.
            names = rows
                .iter()
                .filter(|row| row.leaks() != without.leaks.contains(&row.attack))
                .map(|row| row.attack.to_owned())
                .collect();
            if names.is_empty() {
                break;
            }
        }
        for row in &rows {
            println!("{}: {}: {} [{}] {} ms", without.name, row.attack, row.verdict, row.seen, row.took_ms);
        }
        let line = line(&without, &rows);
        println!("{line}");
        if !DOCUMENT.contains(&line) || !names.is_empty() {
            wrong.push(line);
        }
    }
    project.down();
    assert!(wrong.is_empty(), "docs/residual-surface.md and the test say otherwise:\n{}", wrong.join("\n"));
}

/// A line of the table: the control, what leaks without it, and what else stops the rest.
fn line(without: &Without, rows: &[Row]) -> String {
    let leaks: Vec<String> =
        rows.iter().filter(|row| row.leaks()).map(|row| format!("`{}`", row.attack)).collect();
    let mut also: Vec<(String, Vec<String>)> = Vec::new();
    for row in rows.iter().filter(|row| !row.leaks()) {
        let by = match &row.verdict {
            Verdict::Blocked { control } => format!("also `{control}`"),
            _ => "nothing is said".to_owned(),
        };
        match also.iter_mut().find(|(known, _)| *known == by) {
            Some((_, attacks)) => attacks.push(format!("`{}`", row.attack)),
            None => also.push((by, vec![format!("`{}`", row.attack)])),
        }
    }
    let also: Vec<String> =
        also.into_iter().map(|(by, attacks)| format!("{by}: {}", attacks.join(", "))).collect();
    let or_none =
        |list: &[String], between: &str| if list.is_empty() { "none".to_owned() } else { list.join(between) };
    format!("| {} | {} | {} |", without.name, or_none(&leaks, ", "), or_none(&also, "; "))
}

/// Names of controls in force for both agents.
fn in_force(project: &Project) -> BTreeSet<String> {
    let status = project.ps();
    let holds = |agent: &str, control: Control| {
        let status = status["agents"][agent]["controls"][control.name()].as_str().unwrap_or_default();
        status.starts_with("enforced")
    };
    let both = |control: &Control| ["left", "right"].iter().all(|agent| holds(agent, *control));
    Control::ALL.into_iter().filter(both).map(|control| control.name().to_owned()).collect()
}

/// The launcher's file of one attacker.
fn file(project: &Project) -> PathBuf {
    project.file("specification")
}
