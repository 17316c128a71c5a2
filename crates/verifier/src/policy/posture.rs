//! `[agents.NAME.posture]`: what a policy expects of an agent's posture. Everything in it is optional and narrows.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use casemate_composition::lock::AgentName;
use casemate_protocol::posture::is_check_id;
use serde::Deserialize;
use toml::Spanned;

use super::PolicyError;
use super::place::{Place, list};

/// Stands for every other agent of the composition.
const EVERY_OTHER: &str = "*";

/// What a posture must show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostureExpectations {
    /// Agents with which it may have no file system in common, and so no inode.
    pub no_shared_inode_with: Apart,
    /// Checks of `casemate doctor` that must be `pass`.
    pub checks: BTreeSet<String>,
    /// Oldest battery of the peer probe, in seconds, from each other agent against this one, none of which may have found
    /// a leak; none where no probe is asked for.
    pub probe_age_max_seconds: Option<u64>,
    /// Attacks that may leak in such a battery, or of which nothing may be said.
    pub allow_attacks: BTreeSet<String>,
    /// Whether it must be the whole battery.
    pub whole_battery: bool,
}

/// Agents that must be apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Apart {
    /// Nothing is asked.
    #[default]
    NotAsked,
    /// Every other agent of the composition.
    FromEveryOther,
    /// These.
    From(BTreeSet<AgentName>),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Asked {
    no_shared_inode_with: Option<Spanned<Vec<Spanned<String>>>>,
    checks: Option<Spanned<Vec<Spanned<String>>>>,
    probe_age_max: Option<Spanned<String>>,
    allow_attacks: Option<Spanned<Vec<Spanned<String>>>>,
    probe_battery: Option<Spanned<String>>,
}

pub(super) fn read(place: &Place<'_>, asked: &Asked) -> Result<PostureExpectations, PolicyError> {
    let without_probe = |what: &str, span: std::ops::Range<usize>| {
        let what = format!("`{what}` says nothing without `probe-age-max`");
        place.error(&span, what, "add probe-age-max, for one \"1h\"")
    };
    if asked.probe_age_max.is_none() {
        if let Some(attacks) = &asked.allow_attacks {
            return Err(without_probe("allow-attacks", attacks.span()));
        }
        if let Some(battery) = &asked.probe_battery {
            return Err(without_probe("probe-battery", battery.span()));
        }
    }
    let attack = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        (!text.is_empty() && text.len() <= 64 && text.bytes().all(plain)).then(|| text.to_owned())
    };
    let attacks = asked
        .allow_attacks
        .as_ref()
        .map(|names| place.each(names, "an attack, as `casemate probe --only list` prints it", attack))
        .transpose()?;
    let whole_battery = match asked.probe_battery.as_ref() {
        None => false,
        Some(text) if text.get_ref() == "whole" => true,
        Some(text) => {
            let what = format!("`{}` is not a battery that can be asked for", text.get_ref());
            return Err(place.error(&text.span(), what, "write \"whole\", or leave it out for any"));
        }
    };
    Ok(PostureExpectations {
        allow_attacks: attacks.map(|names| names.into_iter().collect()).unwrap_or_default(),
        whole_battery,
        no_shared_inode_with: asked
            .no_shared_inode_with
            .as_ref()
            .map(|names| apart(place, names))
            .transpose()?
            .unwrap_or_default(),
        checks: asked
            .checks
            .as_ref()
            .map(|ids| {
                place.each(ids, "the id of a check, as `casemate doctor` prints it: D14.smt", |id| {
                    is_check_id(id).then(|| id.to_owned())
                })
            })
            .transpose()?
            .map(|ids| ids.into_iter().collect())
            .unwrap_or_default(),
        probe_age_max_seconds: asked.probe_age_max.as_ref().map(|text| age(place, text)).transpose()?,
    })
}

fn apart(place: &Place<'_>, names: &Spanned<Vec<Spanned<String>>>) -> Result<Apart, PolicyError> {
    let is_every_other = |text: &&Spanned<String>| text.get_ref() == EVERY_OTHER;
    if let Some(every) = names.get_ref().iter().find(is_every_other) {
        if names.get_ref().len() > 1 {
            let what = "`*` stands for every other agent, and others are named beside it";
            return Err(place.error(&every.span(), what, "write [\"*\"] alone, or names alone"));
        }
        return Ok(Apart::FromEveryOther);
    }
    let names = place.each(names, "names of agents, or [\"*\"]", |text| text.parse().ok())?;
    Ok(Apart::From(names.into_iter().collect()))
}

/// A number and one of `s`, `m`, `h`, `d`.
fn age(place: &Place<'_>, text: &Spanned<String>) -> Result<u64, PolicyError> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let seconds = units.into_iter().find_map(|(unit, seconds)| {
        let number = text.get_ref().strip_suffix(unit)?;
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<u64>().ok().filter(|number| plain && *number > 0)?.checked_mul(seconds)
    });
    seconds.ok_or_else(|| {
        let what = format!("`{}` is not an age", text.get_ref());
        place.error(&text.span(), what, "write a number and its unit: 90s, 30m, 1h or 7d")
    })
}

/// The table, where anything is asked.
pub(super) fn write(out: &mut String, agent: &AgentName, posture: &PostureExpectations) -> std::fmt::Result {
    if *posture == PostureExpectations::default() {
        return Ok(());
    }
    writeln!(out, "\n[agents.{agent}.posture]")?;
    match &posture.no_shared_inode_with {
        Apart::NotAsked => {}
        Apart::FromEveryOther => writeln!(out, "no-shared-inode-with = [\"{EVERY_OTHER}\"]")?,
        Apart::From(names) => writeln!(out, "no-shared-inode-with = {}", list(names))?,
    }
    if !posture.checks.is_empty() {
        writeln!(out, "checks = {}", list(&posture.checks))?;
    }
    if let Some(seconds) = posture.probe_age_max_seconds {
        writeln!(out, "probe-age-max = \"{seconds}s\"")?;
    }
    if posture.whole_battery {
        writeln!(out, "probe-battery = \"whole\"")?;
    }
    if !posture.allow_attacks.is_empty() {
        writeln!(out, "allow-attacks = {}", list(&posture.allow_attacks))?;
    }
    Ok(())
}
