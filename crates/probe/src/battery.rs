//! The battery: every attack in a target, with its controls.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::attack::{Args, Attack, Kind, Length, Through, now};
use crate::attacks::ALL;
use crate::matrix::Row;
use crate::plain::{Plain, User};
use crate::run::{Pair, Seen, Victim};
use crate::target::{Probe, Side, Target, TargetError};
use crate::verdict::{Evidence, Verdict};

/// A channel is held to be silent where nothing was heard in as many runs.
const CHANNEL_RUNS: usize = 4;

/// Time for probes that ended to be gone, and between two tries to start others.
const AGAIN_BOUND: Duration = Duration::from_secs(10);
const AGAIN_POLL: Duration = Duration::from_millis(200);

/// Which attacks are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The short battery or all.
    pub length: Length,
    /// These alone; none named means all of that length.
    pub only: Vec<String>,
}

impl Choice {
    /// The attacks.
    pub fn attacks(&self) -> impl Iterator<Item = &'static Attack> {
        ALL.iter().copied().filter(|attack| match self.only.is_empty() {
            true => self.length == Length::Full || attack.length == Length::Short,
            false => self.only.iter().any(|name| name == attack.name),
        })
    }
}

/// What in a composition lets two agents have something in common, by what attacks go through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// One root.
    pub root: Option<String>,
    /// Cores.
    pub cores: Option<String>,
}

impl Allowed {
    fn by(&self, through: Through) -> Option<String> {
        match through {
            // Volumes are not in the probe's compartments: what two have in common of them is told, not tried.
            Through::Kernel | Through::Disk => None,
            Through::Root => self.root.clone(),
            Through::Cores => self.cores.clone(),
        }
    }
}

/// The controls, played once for all targets of a run.
pub struct Battery {
    choice: Choice,
    box_socket: String,
    // Dropped in this order: processes end before what they are in.
    pairs: Vec<Pair>,
    plain: Vec<Plain>,
    seen: BTreeMap<&'static str, (Seen, Option<Seen>)>,
    runs: u64,
}

impl Battery {
    /// With `program` as the probe and a socket of the box that no agent may use.
    ///
    /// # Errors
    /// [`TargetError`] where plain processes cannot be started: there would be no positive control.
    pub fn new(choice: Choice, program: &Path, box_socket: &Path) -> Result<Self, TargetError> {
        let plain = vec![Plain::of(program, User::Nobody)?, Plain::of(program, User::Root)?];
        let pairs = plain.iter().map(|plain| pair(plain)).collect::<Result<_, _>>()?;
        let box_socket = box_socket.display().to_string();
        Ok(Self { choice, box_socket, plain, pairs, seen: BTreeMap::new(), runs: 0 })
    }

    /// Goes on with other attacks: what plain processes have shown stays known.
    pub fn choose(&mut self, choice: Choice) {
        self.choice = choice;
    }

    /// Plays the battery in `target`. `told` hears of each row as it is known.
    ///
    /// # Errors
    /// [`TargetError`] where the target cannot be started.
    pub fn run(
        &mut self,
        target: &dyn Target,
        allowed: &Allowed,
        told: &mut dyn FnMut(&Row),
    ) -> Result<Vec<Row>, TargetError> {
        let mut pair = pair(target)?;
        let mut args = self.args(target);
        if args.file.is_empty() {
            args.file = pair.victim.file()?;
        }
        let mut rows = Vec::new();
        let attacks: Vec<&'static Attack> = self.choice.attacks().collect();
        for attack in attacks {
            let (control, idle) = self.control(attack)?;
            let begun = Instant::now();
            let played = self.play(&mut pair, attack, &args);
            let (verdict, seen, target_idle) = match played {
                Ok((seen, target_idle)) => {
                    let evidence = Evidence {
                        control: control.clone(),
                        idle: idle.clone(),
                        target: seen.clone(),
                        target_idle: target_idle.clone(),
                    };
                    let verdict = Verdict::judge(attack, target, &evidence, allowed.by(attack.through));
                    (verdict, seen, target_idle)
                }
                Err(error) => {
                    // Whatever became of the probes: others take their place, once they have ended.
                    drop(pair);
                    pair = pair_again(target)?;
                    let why = error.to_string();
                    (Verdict::Inconclusive { why: why.clone() }, Seen::NotPlayed(why), None)
                }
            };
            let row = Row::of(
                attack,
                verdict,
                &control,
                idle.as_ref(),
                &seen,
                target_idle.as_ref(),
                begun.elapsed(),
            );
            told(&row);
            rows.push(row);
            if pair.is_spent {
                drop(pair);
                pair = pair_again(target)?;
            }
        }
        Ok(rows)
    }

    /// The attack in the target: a channel until it is heard, at most [`CHANNEL_RUNS`] times; and, where there is an
    /// effect, with an idle victim.
    fn play(
        &mut self,
        pair: &mut Pair,
        attack: &Attack,
        args: &Args,
    ) -> Result<(Seen, Option<Seen>), TargetError> {
        let needs_file = attack.through == Through::Root;
        if needs_file && args.file.is_empty() {
            return Ok((
                Seen::NotPlayed("the victim's root has no file that is worth watching".into()),
                None,
            ));
        }
        let mut seen = pair.play(attack, &self.marked(args), Victim::Acts)?;
        for _ in 1..CHANNEL_RUNS {
            // Others on this machine may have drowned it.
            if matches!(seen, Seen::Heard(heard) if !heard.is_signal()) {
                seen = pair.play(attack, &self.marked(args), Victim::Acts)?;
            }
        }
        // Harm by an attacker that is no more counts as it is: it cannot be tried again.
        if !seen.is_signal() || pair.is_spent {
            return Ok((seen, None));
        }
        if matches!(seen, Seen::Felt(_)) {
            // Once may be chance.
            seen = pair.play(attack, &self.marked(args), Victim::Acts)?;
            if !seen.is_signal() || pair.is_spent {
                return Ok((seen, None));
            }
        }
        let idle = match attack.kind {
            Kind::Surface { .. } => None,
            _ => Some(pair.play(attack, &self.marked(args), Victim::Idle)?),
        };
        Ok((seen, idle))
    }

    /// The positive control and its negative one: the first user for whom the attack works.
    fn control(&mut self, attack: &'static Attack) -> Result<(Seen, Option<Seen>), TargetError> {
        if let Some(known) = self.seen.get(attack.name) {
            return Ok(known.clone());
        }
        let mut last = (Seen::NotPlayed("nobody tried".into()), None);
        for place in 0..self.plain.len() {
            let Some(plain) = self.plain.get(place) else { break };
            if matches!(attack.kind, Kind::Exhaust { .. }) && !plain.is_bounded() {
                // It would take from the machine what agents beside it need.
                break;
            }
            let args = self.args(plain);
            // Each run has its own mark: what an earlier one left behind must not help.
            let runs: Vec<Args> = (0..CHANNEL_RUNS).map(|_| self.marked(&args)).collect();
            let idle = self.marked(&args);
            let Some(pair) = self.pairs.get_mut(place) else { break };
            let played = control_run(pair, attack, &runs).and_then(|seen| {
                let idle = match (seen.is_signal(), attack.kind) {
                    (false, _) | (_, Kind::Surface { .. }) => None,
                    _ => Some(pair.play(attack, &idle, Victim::Idle)?),
                };
                Ok((seen, idle))
            });
            last = match played {
                Ok(played) => played,
                Err(error) => {
                    let again = self.plain.get(place).map(|plain| self::pair(plain)).transpose()?;
                    if let (Some(old), Some(again)) = (self.pairs.get_mut(place), again) {
                        *old = again;
                    }
                    (Seen::NotPlayed(error.to_string()), None)
                }
            };
            if last.0.is_signal() {
                break;
            }
        }
        self.seen.insert(attack.name, last.clone());
        Ok(last)
    }

    fn args(&self, target: &dyn Target) -> Args {
        let (secret_path, secret) = target.secret().unwrap_or_default();
        Args {
            file: target.file().unwrap_or_default(),
            folder: target.folder().unwrap_or_default(),
            small: target.small().unwrap_or_default(),
            secret_path,
            secret,
            box_socket: target.box_socket().unwrap_or_else(|| self.box_socket.clone()),
            ..Args::default()
        }
    }

    /// With a mark and a seed that no other run has.
    fn marked(&mut self, args: &Args) -> Args {
        self.runs = self.runs.saturating_add(1);
        let time = now().checked_add(Duration::from_nanos(self.runs)).unwrap_or_default();
        let seed = u64::try_from(time.as_nanos() & u128::from(u64::MAX)).unwrap_or(1);
        let mark = format!("p{}x{}", std::process::id(), self.runs);
        // Neighbouring seeds begin alike.
        Args { mark, seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), ..args.clone() }
    }
}

/// A channel is played until it is heard, at most once for each of `runs`; all else once.
fn control_run(pair: &mut Pair, attack: &Attack, runs: &[Args]) -> Result<Seen, TargetError> {
    let mut seen = Seen::NotPlayed("nobody tried".into());
    for args in runs {
        seen = pair.play(attack, args, Victim::Acts)?;
        if !matches!(seen, Seen::Heard(heard) if !heard.is_signal()) {
            break;
        }
    }
    Ok(seen)
}

/// Likewise, after others: it may take a moment until what they ran in is gone.
fn pair_again(target: &dyn Target) -> Result<Pair, TargetError> {
    let begun = Instant::now();
    loop {
        match pair(target) {
            Err(TargetError::Start(_)) if begun.elapsed() < AGAIN_BOUND => std::thread::sleep(AGAIN_POLL),
            outcome => return outcome,
        }
    }
}

fn pair(target: &dyn Target) -> Result<Pair, TargetError> {
    let victim = Probe::start(target, Side::Victim)?;
    let attacker = Probe::start(target, Side::Attacker)?;
    Ok(Pair { victim, attacker, is_spent: false })
}
