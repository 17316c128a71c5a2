//! The posture of each agent: what the box saw of itself, and what the agent has in common with others.
//!
//! What it is: the document behind the digest in each agent token, made anew for each. What it is not: a judge; who gets
//! evidence decides what it accepts.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use casemate_composition::lock::{AgentName, Lock, Mount};
use casemate_posture::Tree;
use casemate_posture::doctor::{self, Facts, KernelLog};
use casemate_protocol::event::Event;
use casemate_protocol::posture::{
    CheckSeen, OBSERVED_CHARS_MAX, POSTURE_TAG, Posture, ProbeBetween, ProbeSeen, Verdict,
};
use casemate_sys::observe::MountSeen;
use casemate_sys::secret_memory::Kind;

use crate::agent::blocking;
use crate::evidence::Subject;
use crate::secrets;
use crate::world::World;

/// Between two looks at the machine.
const PERIOD: Duration = Duration::from_secs(10);
/// Time for one look.
const LOOK_BOUND: Duration = Duration::from_secs(20);
/// The kernel's messages when the box began.
static LOG: OnceLock<KernelLog> = OnceLock::new();
/// Most changes that are written down in the life of a box.
const CHANGES_MAX: u32 = 256;
/// Stands for a mount that could not be looked at: who asks for agents apart refuses it.
const UNSEEN: &str = "?";

/// What is known of all agents.
#[derive(Debug, Default)]
pub(crate) struct Known {
    checks: RefCell<BTreeMap<String, CheckSeen>>,
    /// When they were made.
    checked: Cell<u64>,
    /// By who was attacked, and by whom.
    probes: RefCell<BTreeMap<(AgentName, AgentName), ProbeSeen>>,
}

impl Known {
    /// Makes the checks of the machine, and publishes them.
    pub(crate) async fn look(&self) {
        if let Some(checks) = look_now().await {
            self.publish(checks);
        }
    }

    fn publish(&self, checks: BTreeMap<String, CheckSeen>) {
        self.checks.replace(checks);
        self.checked.set(now());
    }

    /// Those that say something else than what is published.
    fn changed(&self, checks: &BTreeMap<String, CheckSeen>) -> Vec<(String, CheckSeen)> {
        let before = self.checks.borrow();
        let verdict = |seen: Option<&CheckSeen>| seen.map(|seen| seen.verdict);
        let is_new = |(id, seen): &(&String, &CheckSeen)| verdict(before.get(*id)) != verdict(Some(seen));
        checks.iter().filter(is_new).map(|(id, seen)| (id.clone(), seen.clone())).collect()
    }

    /// Remembers a battery.
    pub(crate) fn probed(&self, victim: &AgentName, attacker: &AgentName, seen: ProbeSeen) {
        self.probes.borrow_mut().insert((victim.clone(), attacker.clone()), seen);
    }

    /// The last battery of each two, by victim.
    pub(crate) fn batteries(&self) -> Vec<ProbeBetween> {
        let probes = self.probes.borrow();
        let between = |((victim, attacker), seen): (&(AgentName, AgentName), &ProbeSeen)| ProbeBetween {
            attacker: attacker.clone(),
            victim: victim.clone(),
            seen: seen.clone(),
        };
        probes.iter().map(between).collect()
    }
}

/// Looks again and again as long as the box lives. Where what changed cannot be written down, nothing is published any more:
/// checks then grow old, and the verifier refuses old ones.
pub(crate) async fn watch(world: Rc<World>) {
    let mut left = CHANGES_MAX;
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(checks) = look_now().await else { continue };
        let append =
            async |event: Event| world.notary.append(&event).await.map_err(|error| error.to_string());
        if let Err(error) = write_down(&world.posture, checks, &mut left, append).await {
            tracing::error!("checks of the machine are made no more: {error}");
            return;
        }
    }
}

/// What changed goes into the event log before evidence shows it. At most `left` changes do: the host can change what some
/// checks see as often as it likes, and evidence carries the whole log.
async fn write_down(
    known: &Known,
    checks: BTreeMap<String, CheckSeen>,
    left: &mut u32,
    append: impl AsyncFn(Event) -> Result<(), String>,
) -> Result<(), String> {
    for (check, seen) in known.changed(&checks) {
        *left = left.checked_sub(1).ok_or_else(|| format!("they changed more than {CHANGES_MAX} times"))?;
        append(Event::PostureChanged { check, verdict: seen.verdict, observed: seen.observed }).await?;
    }
    known.publish(checks);
    Ok(())
}

/// The checks of now; none where they are not made in time.
async fn look_now() -> Option<BTreeMap<String, CheckSeen>> {
    // Reads files below /proc and /sys, some of which take their time.
    let checks = tokio::time::timeout(LOOK_BOUND, blocking(checks)).await;
    checks.ok()?.ok()
}

/// The checks of the machine, by id.
fn checks() -> BTreeMap<String, CheckSeen> {
    let Ok(tree) = Tree::open(Path::new("/")) else { return BTreeMap::new() };
    let log = LOG.get_or_init(|| KernelLog::read(&tree)).clone();
    let facts = Facts::new(&tree, None, None, casemate_sys::landlock_version()).with_log(log);
    let seen = |finding: doctor::Finding| {
        let observed = finding.observed.chars().take(OBSERVED_CHARS_MAX).collect();
        (finding.id.into_owned(), CheckSeen { verdict: finding.verdict, vantage: finding.vantage, observed })
    };
    let mut checks = doctor::run_machine(&facts).into_iter().map(seen).collect();
    own_memory(&mut checks, secrets::KIND.get().copied());
    checks
}

/// What this warden has says more than what the kernel could give.
fn own_memory(checks: &mut BTreeMap<String, CheckSeen>, kind: Option<Kind>) {
    if let (Some(seen), Some(Kind::Locked)) = (checks.get_mut("D10.secret-memory"), kind) {
        seen.verdict = Verdict::Warn;
        seen.observed = "the warden got locked memory, which the kernel maps".into();
    }
}

/// Seconds since 1970, by the box's own clock.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The posture of an agent now. What its compartment and others have mounted was seen when each was built: nobody inside
/// can mount.
pub(crate) fn of(world: &World, subject: &Subject) -> Posture {
    let known = &world.posture;
    let agent = &subject.agent;
    let others = world.lock.agents.keys().filter(|name| *name != agent);
    let mounts_with = others.map(|name| {
        let mut common = planned(&world.lock, agent, name);
        if let Some(theirs) = world.mounts(name) {
            match (&*subject.mounts, &*theirs) {
                (Some(own), Some(theirs)) => common.extend(in_common(own, theirs)),
                _ => {
                    common.insert(UNSEEN.to_owned());
                }
            }
        }
        (name.clone(), common)
    });
    let probes = known.probes.borrow();
    Posture {
        casemate: POSTURE_TAG.to_owned(),
        agent: agent.clone(),
        checked: known.checked.get(),
        checks: known.checks.borrow().clone(),
        mounts_with: mounts_with.collect(),
        probes: probes
            .iter()
            .filter(|((victim, _), _)| victim == agent)
            .map(|((_, attacker), seen)| (attacker.clone(), seen.clone()))
            .collect(),
    }
}

/// What the lock gives both, whether they run or not: a root that is shared, and volumes.
fn planned(lock: &Lock, agent: &AgentName, other: &AgentName) -> BTreeSet<String> {
    let mut common = BTreeSet::new();
    if lock.shares_root_with(agent).contains(other) {
        common.insert("/".to_owned());
    }
    let mounts =
        |name: &AgentName| lock.agents.get(name).map(|entry| entry.mounts.as_slice()).unwrap_or_default();
    let volumes = |name: &AgentName| {
        mounts(name)
            .iter()
            .filter_map(|mount| match mount {
                Mount::Volume { name, target, .. } => Some((name.clone(), target.clone())),
                Mount::Tmpfs { .. } | Mount::Config { .. } => None,
            })
            .collect::<BTreeMap<_, _>>()
    };
    let theirs = volumes(other);
    common.extend(volumes(agent).into_iter().filter(|(name, _)| theirs.contains_key(name)).map(|(_, at)| at));
    common
}

/// Own mount points behind which there is a file that the other reaches, too.
fn in_common(own: &[MountSeen], theirs: &[MountSeen]) -> BTreeSet<String> {
    let both = |one: &MountSeen| theirs.iter().any(|other| one.overlaps(other));
    own.iter().filter(|mount| both(mount)).map(|mount| mount.target.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_protocol::posture::Vantage;

    fn seen(verdict: Verdict) -> BTreeMap<String, CheckSeen> {
        let seen = CheckSeen { verdict, vantage: Vantage::HostClaimed, observed: String::new() };
        BTreeMap::from([("D14.smt".to_owned(), seen)])
    }

    #[tokio::test]
    async fn a_change_is_written_down_before_it_is_shown_and_only_so_often() {
        let (known, mut left, written) = (Known::default(), CHANGES_MAX, Cell::new(0));
        let shown = || known.checks.borrow().get("D14.smt").map(|seen| seen.verdict);
        let append = async |_| {
            written.set(written.get() + 1);
            Ok(())
        };
        let turns = [Verdict::Pass, Verdict::Fail];
        for verdict in turns.iter().cycle().take(256) {
            write_down(&known, seen(*verdict), &mut left, append).await.unwrap();
            assert_eq!(shown(), Some(*verdict));
            // The same once more is no change.
            write_down(&known, seen(*verdict), &mut left, append).await.unwrap();
        }
        assert_eq!(written.get(), 256);
        known.checked.set(7);
        let refused = write_down(&known, seen(Verdict::Pass), &mut left, append).await;
        assert!(refused.unwrap_err().contains("more than 256 times"));
        // It is neither written nor shown, and what is shown stays as old as it is.
        assert_eq!((written.get(), shown(), known.checked.get()), (256, Some(Verdict::Fail), 7));
    }

    #[test]
    fn memory_for_secrets_is_what_the_warden_got_and_not_what_the_kernel_could_give() {
        let pass =
            CheckSeen { verdict: Verdict::Pass, vantage: Vantage::GuestObserved, observed: "Y".into() };
        let mut checks = BTreeMap::from([("D10.secret-memory".to_owned(), pass)]);
        // The check has this name: another one would be left as it is.
        assert!(super::checks().contains_key("D10.secret-memory"));
        own_memory(&mut checks, Some(Kind::Secret));
        assert_eq!(checks["D10.secret-memory"].verdict, Verdict::Pass);
        own_memory(&mut checks, Some(Kind::Locked));
        assert_eq!(checks["D10.secret-memory"].verdict, Verdict::Warn);
    }

    #[tokio::test]
    async fn what_the_log_does_not_take_is_not_shown() {
        let (known, mut left) = (Known::default(), CHANGES_MAX);
        let full = async |_| Err("the log is full".to_owned());
        assert!(write_down(&known, seen(Verdict::Pass), &mut left, full).await.is_err());
        assert!(known.checks.borrow().is_empty());
    }
}
