//! One attack, once, between two probes: what was seen.

use std::time::{Duration, Instant};

use crate::attack::{Args, Attack, Kind, now};
use crate::channel::{Heard, bits};
use crate::target::{Probe, TargetError};
use crate::wire::{self, Role};

/// Time for one part of an attack.
const PART_BOUND: Duration = Duration::from_secs(12);
/// Time from the order to begin until the first slot.
const BEGIN: Duration = Duration::from_millis(30);
/// How much slower a victim must be that something is held to be wrong with it, and by how much at least.
const SLOWER: f64 = 2.5;
const SLOWER_US_MIN: f64 = 300.0;

/// What was seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// The attacker got this.
    Got(String),
    /// The attacker got nothing, for this reason.
    Nothing(String),
    /// A channel was measured.
    Heard(Heard),
    /// A victim was measured before and during the attack.
    Felt(Felt),
    /// A part could not be played, for this reason.
    NotPlayed(String),
}

/// What a victim of exhaustion felt.
#[derive(Debug, Clone, PartialEq)]
pub struct Felt {
    /// Median time of what it needs, before and during the attack, in microseconds.
    pub before_us: f64,
    /// Likewise.
    pub during_us: f64,
    /// Share of what it needs that it did not get during the attack.
    pub failed: f64,
    /// Why it did not.
    pub why: String,
    /// What the attacker held.
    pub held: String,
}

impl Felt {
    /// Whether the victim lost something.
    #[must_use]
    pub fn is_harm(&self) -> bool {
        self.failed > FAILED_MAX
            || (self.during_us > self.before_us * SLOWER && self.during_us - self.before_us > SLOWER_US_MIN)
    }
}

impl Seen {
    /// Whether the attack had an effect.
    #[must_use]
    pub fn is_signal(&self) -> bool {
        match self {
            Self::Got(_) => true,
            Self::Nothing(_) | Self::NotPlayed(_) => false,
            Self::Heard(heard) => heard.is_signal(),
            Self::Felt(felt) => felt.is_harm(),
        }
    }

    /// In few words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Got(what) => format!("got {what}"),
            Self::Nothing(why) => format!("nothing: {why}"),
            Self::NotPlayed(why) => why.clone(),
            Self::Heard(heard) => format!(
                "{:.0} bit/s, {:.1} % wrong ({:.1} touched, {:.1} idle)",
                heard.bits_a_second(),
                heard.wrong * 100.0,
                heard.touched,
                heard.idle
            ),
            Self::Felt(felt) => {
                let failed = match felt.why.is_empty() {
                    true => String::new(),
                    false => format!(", {:.0} % refused ({})", felt.failed * 100.0, felt.why),
                };
                format!("{:.0} us, {:.0} us under attack{failed}", felt.before_us, felt.during_us)
            }
        }
    }
}

/// Whether the victim acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Acts,
    /// The negative control.
    Idle,
}

/// Both probes of a target.
pub(crate) struct Pair {
    pub(crate) victim: Probe,
    pub(crate) attacker: Probe,
    /// The attacker is no more, and its end is part of what was seen: nothing more can be played.
    pub(crate) is_spent: bool,
}

/// Share of what a victim needs that may be refused to it.
const FAILED_MAX: f64 = 0.1;
/// Why nothing is said of a victim beside an attacker that was killed.
const ENDED: &str = "the attacker was killed with all that it ran in, by its own limit or not, and the victim was looked at after it";

impl Pair {
    /// Plays `attack` once.
    pub(crate) fn play(&mut self, attack: &Attack, args: &Args, victim: Victim) -> Result<Seen, TargetError> {
        let seen = match attack.kind {
            Kind::Reach { .. } => self.reach(attack, args, victim),
            Kind::Surface { .. } => self.take(attack, args),
            Kind::OneShot { bits, .. } => self.one_shot(attack, args, victim, bits),
            Kind::Slots { bits, .. } => self.slots(attack, args, victim, bits),
            Kind::Exhaust { .. } => self.exhaust(attack, args, victim),
        }?;
        if !self.is_spent {
            let ended = self.attacker.end();
            self.outlives(attack, ended)?;
        }
        self.victim.end()?;
        Ok(seen)
    }

    /// What of exhaustion came to an end when the attacker was killed with all that it ran in: none of it is left, and a victim
    /// that it harmed tells.
    fn outlives<T>(
        &mut self,
        attack: &Attack,
        outcome: Result<T, TargetError>,
    ) -> Result<Option<T>, TargetError> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(attack.kind, Kind::Exhaust { .. }) && self.attacker.was_killed(&error) => {
                self.is_spent = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn reach(&mut self, attack: &Attack, args: &Args, victim: Victim) -> Result<Seen, TargetError> {
        let mut args = args.clone();
        if victim == Victim::Acts {
            match begin(&mut self.victim, Role::Victim, attack, &args)? {
                Ok(told) => args.told = told,
                Err(why) => return Ok(Seen::NotPlayed(format!("the victim: {why}"))),
            }
        }
        self.take(attack, &args)
    }

    fn take(&mut self, attack: &Attack, args: &Args) -> Result<Seen, TargetError> {
        self.attacker.say(&wire::run(Role::Attacker, attack.name, args))?;
        let words = self.attacker.hear(attack.name, PART_BOUND)?;
        let text = || words.get(1).cloned().unwrap_or_default();
        match words.first().map(String::as_str) {
            Some("got") => Ok(Seen::Got(text())),
            Some("nothing" | "cannot") => Ok(Seen::Nothing(text())),
            Some("gone") => Ok(Seen::Nothing("the kernel ended the attacker".into())),
            _ => Err(unknown(attack, &words)),
        }
    }

    fn one_shot(
        &mut self,
        attack: &Attack,
        args: &Args,
        victim: Victim,
        count: usize,
    ) -> Result<Seen, TargetError> {
        let begun = Instant::now();
        if let Err(why) = begin(&mut self.attacker, Role::Attacker, attack, args)? {
            return Ok(Seen::Nothing(why));
        }
        if let Err(why) = begin(&mut self.victim, role(victim), attack, args)? {
            return Ok(Seen::NotPlayed(format!("the victim: {why}")));
        }
        self.attacker.say("say\tgo")?;
        // A bit costs all of it: forgetting, sending and looking.
        self.samples(attack, args, count, Some(begun))
    }

    fn slots(
        &mut self,
        attack: &Attack,
        args: &Args,
        victim: Victim,
        count: usize,
    ) -> Result<Seen, TargetError> {
        if let Err(why) = begin(&mut self.victim, role(victim), attack, args)? {
            return Ok(Seen::NotPlayed(format!("the victim: {why}")));
        }
        if let Err(why) = begin(&mut self.attacker, Role::Attacker, attack, args)? {
            return Ok(Seen::Nothing(why));
        }
        let begin = now().saturating_add(BEGIN).as_nanos();
        self.victim.say(&format!("say\t{begin}"))?;
        self.attacker.say(&format!("say\t{begin}"))?;
        self.samples(attack, args, count, None)
    }

    fn samples(
        &mut self,
        attack: &Attack,
        args: &Args,
        count: usize,
        begun: Option<Instant>,
    ) -> Result<Seen, TargetError> {
        let words = self.attacker.hear(attack.name, PART_BOUND)?;
        match words.as_slice() {
            [word, took, samples] if word == "samples" => {
                let samples: Option<Vec<f64>> = samples.split(',').map(|one| one.parse().ok()).collect();
                let told = took.parse().ok().map(Duration::from_micros);
                let took = begun.map(|begun| begun.elapsed()).or(told);
                let heard = samples.zip(took).and_then(|(s, t)| Heard::of(&bits(count, args.seed), &s, t));
                heard.map(Seen::Heard).ok_or_else(|| unknown(attack, &words))
            }
            [word, why] if word == "cannot" => Ok(Seen::Nothing(why.clone())),
            [word] if word == "gone" => Ok(Seen::Nothing("the kernel ended the attacker".into())),
            _ => Err(unknown(attack, &words)),
        }
    }

    fn exhaust(&mut self, attack: &Attack, args: &Args, victim: Victim) -> Result<Seen, TargetError> {
        if let Err(why) = begin(&mut self.victim, Role::Victim, attack, args)? {
            return Ok(Seen::NotPlayed(format!("the victim: {why}")));
        }
        let Some(before) = self.beats(attack)? else {
            return Ok(Seen::NotPlayed("the victim ends without any attack: it has too little of it".into()));
        };
        let mut held = String::new();
        if victim == Victim::Acts {
            let said = self.attacker.say(&wire::run(Role::Attacker, attack.name, args));
            let heard = said.and_then(|()| self.attacker.hear(attack.name, PART_BOUND));
            let words = self.outlives(attack, heard)?.unwrap_or_else(|| vec!["held".into(), ENDED.into()]);
            let text = || words.get(1).cloned().unwrap_or_default();
            held = match words.first().map(String::as_str) {
                Some("held") => text(),
                Some("gone") => "the kernel ended the attacker".into(),
                Some("cannot") => return Ok(Seen::Nothing(text())),
                _ => return Err(unknown(attack, &words)),
            };
        }
        let during = self.beats(attack)?;
        let ended =
            || Beats { failed: 1.0, median_us: before.median_us, why: "the kernel ended the victim".into() };
        let during = during.unwrap_or_else(ended);
        if before.failed > FAILED_MAX {
            return Ok(Seen::NotPlayed(format!("the victim lacks it without any attack: {}", before.why)));
        }
        let Beats { failed, median_us, why } = during;
        if self.is_spent && failed <= FAILED_MAX {
            // What it took is free again when the victim is asked, and SIGKILL tells nobody's reason.
            return Ok(Seen::NotPlayed(ENDED.into()));
        }
        Ok(Seen::Felt(Felt { before_us: before.median_us, during_us: median_us, failed, why, held }))
    }

    /// None where the victim ended.
    fn beats(&mut self, attack: &Attack) -> Result<Option<Beats>, TargetError> {
        self.victim.say("say\tbeat")?;
        let words = self.victim.hear(attack.name, PART_BOUND)?;
        match words.as_slice() {
            [word, failed, all, median, why] if word == "beats" => {
                let number = |text: &String| text.parse::<f64>().ok();
                let numbers = number(failed).zip(number(all)).zip(number(median));
                let ((failed, all), median_us) = numbers.ok_or_else(|| unknown(attack, &words))?;
                Ok(Some(Beats { failed: failed / all.max(1.0), median_us, why: why.clone() }))
            }
            [word] if word == "gone" => Ok(None),
            _ => Err(unknown(attack, &words)),
        }
    }
}

struct Beats {
    failed: f64,
    median_us: f64,
    why: String,
}

const fn role(victim: Victim) -> Role {
    match victim {
        Victim::Acts => Role::Victim,
        Victim::Idle => Role::Idle,
    }
}

/// Lets a probe begin its part: what it tells the other one, or why it cannot.
fn begin(
    probe: &mut Probe,
    role: Role,
    attack: &Attack,
    args: &Args,
) -> Result<Result<String, String>, TargetError> {
    probe.say(&wire::run(role, attack.name, args))?;
    let words = probe.hear(attack.name, PART_BOUND)?;
    let text = || words.get(1).cloned().unwrap_or_default();
    match words.first().map(String::as_str) {
        Some("ready" | "done") => Ok(Ok(text())),
        Some("cannot") => Ok(Err(text())),
        Some("gone") => Ok(Err("the kernel ended it".into())),
        _ => Err(unknown(attack, &words)),
    }
}

fn unknown(attack: &Attack, words: &[String]) -> TargetError {
    TargetError::Protocol { doing: attack.name.to_owned(), found: wire::word(&words.join(" ")) }
}
