//! `casemate probe`: tries attacks from one agent on another, in compartments like theirs.

mod declared;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use casemate_composition::lock::{AgentName, BackendKind, Lock};
use casemate_probe::attack::{Attack, Length, Through};
use casemate_probe::attacks;
use casemate_probe::battery::{Allowed, Battery, Choice};
use casemate_probe::matrix::{self, Row, summary};
use casemate_probe::target::{Guard, Kernel, Side, Streams, Target, TargetError};
use casemate_probe::verdict::Verdict;
use casemate_protocol::agent_token::{Control, ControlStatus};
use casemate_protocol::control::{ControlRequest, Reply};
use casemate_protocol::inside::{InsideReply, InsideRequest, PROBE_CANARY_NAME, probe_canary};
use casemate_protocol::posture::{self, ProbeSeen};
use clap::Args;
use serde::Serialize;

use self::declared::Declared;
use crate::cli::Global;
use crate::control;
use crate::failure::{Failure, Outcome};
use crate::follow::chosen_agents;
use crate::inputs;
use crate::inside::{self, Visit};
use crate::lines;
use crate::programs::Program;
use crate::project::Project;

/// Time until the warden says how a probe ended whose streams have.
const ENDED_WAIT_MAX: Duration = Duration::from_secs(10);

/// What `probe` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate probe researcher writer",
    after_help = "The box builds two compartments beside the agents, by what the lock says of them, with the box's own probe as \
        their program and without the agents' environment, volumes, edges and secrets; the event log says so, and the matrix names \
        the edges and volumes that the composition lets two agents have in common. Each attack is \
        also tried between two plain processes, where it must work, and with a victim that does nothing, where it \
        must not; else nothing is said of it. docs/residual-surface.md says how to read the verdicts.\n\nIt ends with 1 \
        where something leaks that neither the composition nor --accept allows."
)]
pub(crate) struct ProbeArgs {
    /// The attacker, then the victim [default: all pairs, both ways]
    #[arg(num_args = 0..=2, value_names = ["ATTACKER", "VICTIM"])]
    agents: Vec<AgentName>,
    /// The short battery: access, interfaces and the quick channels
    #[arg(long)]
    short: bool,
    /// Only this attack; repeat for each. `--only list` names them
    #[arg(long, value_name = "ATTACK")]
    only: Vec<String>,
    /// A leak that is known and accepted; repeat for each
    #[arg(long, value_name = "ATTACK")]
    accept: Vec<String>,
}

/// Two agents.
struct Agents<'a> {
    project: &'a Project,
    attacker: AgentName,
    victim: AgentName,
    kernel: Kernel,
    allowed: Allowed,
    /// Controls that are in force for both.
    in_force: BTreeSet<&'static str>,
    /// Both have volumes, which are not in the probe's compartments.
    on_one_disk: bool,
}

/// A probe beside an agent, and its line to the warden.
struct Beside(Visit);

impl Guard for Beside {
    fn ended(&self) -> Option<i32> {
        self.0.status_within(Some(ENDED_WAIT_MAX)).ok()
    }
}

impl Target for Agents<'_> {
    fn name(&self) -> String {
        format!("{} on {}", self.attacker, self.victim)
    }

    fn start(&self, side: Side) -> Result<Streams, TargetError> {
        let agent = match side {
            Side::Victim => self.victim.clone(),
            Side::Attacker => self.attacker.clone(),
        };
        let told = |failure: Failure| TargetError::Start(format!("{}; {}", failure.what, failure.todo));
        let (visit, streams) = inside::begin(self.project, InsideRequest::Probe { agent }).map_err(told)?;
        let both = streams.input.zip(streams.output);
        let (input, output) = both.ok_or_else(|| TargetError::Start("the warden gave no streams".into()))?;
        Ok(Streams { input, output, guard: Box::new(Beside(visit)) })
    }

    fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Named is what stands between the two: not a root or cores that they have in common.
    fn stops(&self, attack: &Attack, control: &'static str) -> Option<String> {
        let common = match (control, attack.through) {
            ("private-root", Through::Root) => self.allowed.root.is_some(),
            ("cores", _) => self.allowed.cores.is_some(),
            // What they write to in memory is apart; what they write to on the disk was not tried.
            (_, Through::Disk) => self.on_one_disk,
            _ => false,
        };
        (!common && self.in_force.contains(control)).then(|| control.to_owned())
    }

    fn secret(&self) -> Option<(String, String)> {
        Some((format!("/run/secrets/{PROBE_CANARY_NAME}"), probe_canary(&self.victim)))
    }
}

/// What the battery came to between two agents.
#[derive(Serialize)]
struct Pair {
    attacker: AgentName,
    victim: AgentName,
    took_ms: u64,
    attacks: Vec<Row>,
    /// What the composition lets them have in common, and the battery leaves alone.
    declared_not_tried: Vec<Declared>,
}

/// Plays the battery.
pub(crate) fn run(global: &Global, args: &ProbeArgs) -> Outcome {
    let choice = choice(args)?;
    if args.only.iter().any(|name| name == "list") {
        let row = |attack: &Attack| vec![attack.name.to_owned(), attack.title.to_owned()];
        lines::print_table(&attacks::ALL.iter().map(|attack| row(attack)).collect::<Vec<_>>());
        return Ok(0);
    }
    let project = Project::find(global)?;
    let chosen = chosen_agents(&project, &args.agents)?;
    let lock = inputs::read_lock(&project.lock_file())?;
    let pairs = pairs(&args.agents, &chosen)?;
    let environment = |error: TargetError| {
        Failure::environment(error, "look at `casemate ps`, and run `casemate probe` as root")
    };
    let mut battery =
        Battery::new(choice, &Program::Probe.path()?, &project.control_socket()).map_err(environment)?;
    let mut all = Vec::new();
    for (attacker, victim) in pairs {
        let allowed = allowed(&lock, &attacker, &victim);
        let kernel = kernel(&lock, &attacker);
        let in_force = in_force(&project, [&attacker, &victim])?;
        let on_one_disk = declared::both_on_disk(&lock, &attacker, &victim);
        let target = Agents { project: &project, attacker, victim, kernel, allowed, in_force, on_one_disk };
        if !global.json {
            lines::print(format!("{}:", target.name()));
        }
        let begun = Instant::now();
        let told = &mut |row: &Row| {
            if !global.json {
                lines::print(format!("  {:<24} {}", row.attack, row.verdict));
            }
        };
        let attacks = battery.run(&target, &target.allowed, told).map_err(environment)?;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !global.json {
            lines::print(format!("  {} ({} s)", summary(&attacks), took_ms / 1000));
        }
        let declared_not_tried = declared::between(&lock, &target.attacker, &target.victim);
        if !global.json {
            tell_declared(&declared_not_tried);
        }
        // Single attacks are no battery.
        if args.only.is_empty() {
            tell_the_box(&target, args, &attacks)?;
        }
        let Agents { attacker, victim, .. } = target;
        all.push(Pair { attacker, victim, took_ms, attacks, declared_not_tried });
    }
    if global.json {
        lines::print(serde_json::to_string(&all).unwrap_or_default());
    } else if all.len() > 1 {
        let column = |pair: &Pair| format!("{} on {}", pair.attacker, pair.victim);
        let columns: Vec<(String, &[Row])> =
            all.iter().map(|pair| (column(pair), pair.attacks.as_slice())).collect();
        lines::print("");
        lines::print_table(&matrix::table(&columns));
    }
    judge(&all, &args.accept)
}

fn tell_declared(declared: &[Declared]) {
    for channel in declared {
        lines::print(format!("  allowed by composition, declared, not tried: {channel}"));
    }
}

fn choice(args: &ProbeArgs) -> Outcome<Choice> {
    let unknown = |name: &&String| *name != "list" && attacks::by_name(name).is_none();
    if let Some(name) = args.only.iter().chain(&args.accept).find(unknown) {
        return Err(Failure::input(
            format!("no attack is named {name}"),
            "see their names with `casemate probe --only list`",
        ));
    }
    let length = if args.short { Length::Short } else { Length::Full };
    Ok(Choice { length, only: args.only.clone() })
}

/// Attacker and victim; where none are named, all pairs.
fn pairs(named: &[AgentName], all: &[AgentName]) -> Outcome<Vec<(AgentName, AgentName)>> {
    match named {
        [attacker, victim] if attacker == victim => {
            Err(Failure::input("an agent is no peer of its own", "name two agents"))
        }
        [attacker, victim] => Ok(vec![(attacker.clone(), victim.clone())]),
        [_] => Err(Failure::input("one agent is named", "name two: the attacker, then the victim; or none")),
        _ => {
            let with = |one: &AgentName| {
                let others = all.iter().filter(|other| *other != one).cloned().collect::<Vec<_>>();
                others.into_iter().map(|other| (one.clone(), other)).collect::<Vec<_>>()
            };
            let pairs: Vec<_> = all.iter().flat_map(with).collect();
            if pairs.is_empty() {
                return Err(Failure::input("this composition has one agent", "a peer needs another"));
            }
            Ok(pairs)
        }
    }
}

/// Puts it into the victim's posture, and so into its evidence.
fn tell_the_box(target: &Agents<'_>, args: &ProbeArgs, rows: &[Row]) -> Outcome<()> {
    let with = |verdict: &str| {
        rows.iter().filter(|row| row.verdict.name() == verdict).map(|row| row.attack.to_owned()).collect()
    };
    let seen = ProbeSeen {
        ended: 0,
        battery: if args.short { posture::Battery::Short } else { posture::Battery::Whole },
        blocked: with("blocked"),
        allowed: with("allowed"),
        leaks: with("leak"),
        inconclusive: with("inconclusive"),
    };
    let (attacker, victim) = (target.attacker.clone(), target.victim.clone());
    let request = ControlRequest::Inside(InsideRequest::Probed { attacker, victim, seen });
    match control::ask(target.project, &request)? {
        Reply::Inside(InsideReply::Noted) => Ok(()),
        _ => Err(control::unexpected_reply()),
    }
}

/// Controls that the box says are in force for all of these agents.
fn in_force(project: &Project, names: [&AgentName; 2]) -> Outcome<BTreeSet<&'static str>> {
    let Reply::Status { agents, .. } = control::ask(project, &ControlRequest::Status)? else {
        return Err(control::unexpected_reply());
    };
    let holds = |name: &AgentName, control: Control| {
        let status = agents.get(name).and_then(|agent| agent.controls.get(&control));
        matches!(status, Some(ControlStatus::Enforced | ControlStatus::EnforcedWithGaps))
    };
    let for_all = |control: &Control| names.iter().all(|name| holds(name, *control));
    Ok(Control::ALL.into_iter().filter(for_all).map(Control::name).collect())
}

/// Whose kernel answers the attacker.
fn kernel(lock: &Lock, attacker: &AgentName) -> Kernel {
    match lock.agents.get(attacker).map(|agent| agent.backend.kind()) {
        Some(BackendKind::Gvisor) => Kernel::Sandbox,
        _ => Kernel::Common,
    }
}

/// What the composition lets the two have in common.
fn allowed(lock: &Lock, attacker: &AgentName, victim: &AgentName) -> Allowed {
    let group = lock.agents.get(victim).and_then(|agent| agent.share.as_ref());
    let shared = lock.shares_root_with(victim).contains(attacker);
    let trust = |name: &AgentName| lock.agents.get(name).map(|agent| agent.trust.clone());
    let same = trust(attacker).filter(|group| Some(group) == trust(victim).as_ref());
    Allowed {
        root: group.filter(|_| shared).map(|group| format!("share: {group}")),
        cores: same.map(|group| format!("trust: {group}")),
    }
}

fn judge(pairs: &[Pair], accepted: &[String]) -> Outcome {
    let mut leaks = Vec::new();
    for pair in pairs {
        for row in pair.attacks.iter().filter(|row| row.leaks() && !accepted.iter().any(|a| a == row.attack))
        {
            let Verdict::Leak { signal } = &row.verdict else { continue };
            leaks.push(format!("{} of {} on {}: {signal}", row.attack, pair.attacker, pair.victim));
        }
    }
    match leaks.as_slice() {
        [] => Ok(0),
        found => {
            let refusal = casemate_protocol::Refusal::new(
                "probe.leak",
                "no leak but those that the composition or --accept allows",
                found.join("; "),
            );
            Err(Failure::refused(
                format!("{} leaks", found.len()),
                refusal,
                "docs/residual-surface.md says what each means; accept one by name with --accept",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<AgentName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn pairs_are_those_named_or_all_both_ways() {
        let all = names(&["a", "b", "c"]);
        assert_eq!(pairs(&[], &all).unwrap().len(), 6);
        assert_eq!(pairs(&names(&["c", "a"]), &all).unwrap(), [(all[2].clone(), all[0].clone())]);
        for wrong in [&["a"][..], &["a", "a"]] {
            assert!(pairs(&names(wrong), &all).is_err(), "{wrong:?}");
        }
        assert!(pairs(&[], &names(&["a"])).is_err());
    }
}
