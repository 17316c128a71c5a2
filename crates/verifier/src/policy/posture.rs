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
}

pub(super) fn read(place: &Place<'_>, asked: &Asked) -> Result<PostureExpectations, PolicyError> {
    Ok(PostureExpectations {
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
    Ok(())
}
