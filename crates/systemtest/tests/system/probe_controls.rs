//! What each control stops, by taking it away from one attacker and from nothing else.
//!
//! The box builds both of the probe's compartments as always. The attacker then runs beside the first one: by the box's own launcher, with
//! the same filter, rules, limits and capabilities, but for what a row takes away (`src/bin/beside.rs`). What leaks in its place is what
//! that control alone stops; what stays blocked has another control behind it, and the row names it. The table is in
//! docs/residual-surface.md; this test fails where one of both changes.

mod place;
mod rows;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use casemate_probe::attack::{Attack, Length};
use casemate_probe::battery::{Allowed, Battery, Choice};
use casemate_probe::matrix::Row;
use casemate_probe::target::{Guard, Side, Streams, Target, TargetError};
use casemate_probe::verdict::Verdict;
use casemate_protocol::agent_token::Control;
use casemate_protocol::inside::{PROBE_CANARY_NAME, probe_canary};

use self::place::{Place, Standing};
use self::rows::{QUICK, Without, rows};
use crate::project::{Project, agent, dist};

/// The table.
const DOCUMENT: &str = include_str!("../../../../docs/residual-surface.md");
/// Most runs of a row: others on this machine may drown a channel.
const RUNS: usize = 4;

/// Attacks that others on this machine may drown: a processor that is busy anyway tells little.
const DROWNED: [&str; 2] = ["cpu-contention", "exhaust-cpu"];

/// Two of the probe's compartments, and an attacker beside the first.
struct Beside<'a> {
    place: &'a Place<'a>,
    without: &'a Without,
}

/// The compartment ends with the connection.
struct Connected {
    _connection: UnixStream,
}

impl Guard for Connected {}

/// Ends the attacker before the compartments that it is in.
struct InBoth {
    attacker: Child,
    _standing: Standing,
}

impl Guard for InBoth {}

impl Drop for InBoth {
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
                Ok(Streams { input, output, guard: Box::new(Connected { _connection: connection }) })
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
                if self.without.user == 0 {
                    self.place.wait_for_capabilities("left").map_err(failed)?;
                }
                let input = OwnedFd::from(attacker.stdin.take().unwrap());
                let output = OwnedFd::from(attacker.stdout.take().unwrap());
                Ok(Streams { input, output, guard: Box::new(InBoth { attacker, _standing: standing }) })
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
    for without in rows() {
        if let Some(reason) = without.cannot(&place) {
            println!("not run: an attacker without {}: {reason}", without.name);
            continue;
        }
        let rows = play(&mut battery, &place, &without);
        let leaks = |name: &str| rows.iter().any(|row| row.leaks() && row.attack == name);
        if let Some(name) = without.leaks.iter().find(|name| DROWNED.contains(name) && !leaks(name)) {
            println!("not run: an attacker without {}: others on this machine drown {name}", without.name);
            continue;
        }
        let line = line(&without, &rows);
        if !DOCUMENT.contains(&line) || rows.iter().any(|row| without.is_wrong(row)) {
            wrong.push(line);
        }
    }
    project.down();
    assert!(wrong.is_empty(), "docs/residual-surface.md and the test say otherwise:\n{}", wrong.join("\n"));
}

/// The attacks of a row, those again that are not as they should be.
fn play(battery: &mut Battery, place: &Place<'_>, without: &Without) -> Vec<Row> {
    let target = Beside { place, without };
    let mut names: Vec<String> = without.tried.iter().map(|name| (*name).to_owned()).collect();
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..RUNS {
        battery.choose(Choice { length: Length::Full, only: names.clone() });
        let played = battery.run(&target, &Allowed::default(), &mut |_| ()).unwrap();
        rows.retain(|row| !names.iter().any(|name| name == row.attack));
        rows.extend(played);
        names = rows.iter().filter(|row| without.is_wrong(row)).map(|row| row.attack.to_owned()).collect();
        if names.is_empty() {
            break;
        }
    }
    let place_of = |row: &Row| without.tried.iter().position(|name| *name == row.attack);
    rows.sort_by_key(place_of);
    for row in &rows {
        println!("without {}: {}: {} ({})", without.name, row.attack, row.verdict, row.seen);
    }
    rows
}

impl Without {
    fn is_wrong(&self, row: &Row) -> bool {
        row.leaks() != self.leaks.contains(&row.attack)
    }

    /// Why this machine cannot show it.
    fn cannot(&self, place: &Place<'_>) -> Option<&'static str> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
        let away = |control: &Control| !place.in_force.contains(control.name());
        match self {
            Self { groups: [_, ..], .. } if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => {
                Some("control groups of version 2 are one for all that they control")
            }
            Self { leaks: ["core-dumps"], .. } if limit == Some(0) => {
                Some("this machine allows no core files")
            }
            _ if self.away.iter().any(away) => Some("it is not in force on this machine"),
            _ => None,
        }
    }
}

/// A line of the table: the control, what leaks without it, and what else stops the rest.
fn line(without: &Without, rows: &[Row]) -> String {
    let quoted = |row: &Row| format!("`{}`", row.attack);
    let leaks: Vec<String> = rows.iter().filter(|row| row.leaks()).map(quoted).collect();
    let mut also: Vec<(String, Vec<String>)> = Vec::new();
    for row in rows.iter().filter(|row| !row.leaks()) {
        let by = match &row.verdict {
            Verdict::Blocked { control } => format!("also `{control}`"),
            _ => "nothing is said".to_owned(),
        };
        match also.iter_mut().find(|(known, _)| *known == by) {
            Some((_, attacks)) => attacks.push(quoted(row)),
            None => also.push((by, vec![quoted(row)])),
        }
    }
    let mut also: Vec<String> =
        also.into_iter().map(|(by, attacks)| format!("{by}: {}", attacks.join(", "))).collect();
    if without.tried == QUICK && leaks.is_empty() {
        also = vec![format!("all {} that were tried", rows.len())];
    }
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
