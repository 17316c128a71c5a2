//! What the top level declares besides services: volumes, configs, secrets, and what it says to relying parties.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::interpolate::{looks_secret, warn_of_secret};
use crate::keys;
use crate::lock::{AgentName, Volume};
use crate::problem::{At, Findings, printable};
use crate::units;
use crate::yaml::Node;

use super::{RelyingParty, is_plain_name, read};

/// Sizes that a volume may have: the smallest has room for a journal.
const VOLUME_BYTES: RangeInclusive<u64> = 16 << 20..=16 << 40;

/// A named volume as written.
#[derive(Debug, Clone)]
pub(crate) struct WrittenVolume {
    /// Its name in the box.
    pub(crate) name: AgentName,
    size_bytes: Option<u64>,
}

impl WrittenVolume {
    /// What the lock says of it.
    pub(crate) const fn lock_entry(&self) -> Volume {
        Volume { size_bytes: self.size_bytes }
    }
}

/// `volumes` by key.
pub(super) fn volumes(node: &Node, f: &mut Findings<'_>) -> BTreeMap<AgentName, WrittenVolume> {
    let mut volumes: BTreeMap<AgentName, WrittenVolume> = BTreeMap::new();
    for member in read::mapping(node, "volumes", f) {
        let (mut name, mut size) = (None, None);
        if !member.node.is_null() {
            read::walk(&keys::VOLUME, &member.node, f, |f, key, member| match key {
                "driver_opts" => volume_size(&keys::VOLUME_OPTIONS, &member.node, &mut size, f),
                "x-casemate" => volume_size(&keys::VOLUME_X_CASEMATE, &member.node, &mut size, f),
                _ => {
                    let wanted = "1 to 63 of a-z, 0-9, `-` and `_`";
                    name = read::parsed(&member.node, key, wanted, f, |text| text.parse::<AgentName>().ok());
                }
            });
        }
        let Ok(key) = member.key.parse::<AgentName>() else {
            let what =
                format!("volume name `{}` is not made of a-z, 0-9, `-` and `_`", printable(&member.key));
            f.problem(member.key_place, what, "rename the volume");
            continue;
        };
        let place = name.as_ref().map_or(member.key_place, |name| name.place);
        let name = name.map_or_else(|| key.clone(), |name| name.value);
        if let Some((other, _)) = volumes.iter().find(|(_, known)| known.name == name) {
            let what = format!("volumes `{other}` and `{key}` have one name, `{name}`");
            f.problem(place, what, "give each its own name, or keep one of the two");
        }
        volumes.insert(key, WrittenVolume { name, size_bytes: size.map(|at| at.value) });
    }
    volumes
}

/// The size in a table that has no other key of effect. Two tables may say it; they must agree.
fn volume_size(table: &keys::Table, node: &Node, size: &mut Option<At<u64>>, f: &mut Findings<'_>) {
    read::walk(table, node, f, |f, key, member| {
        let wanted = "a size from 16m to 16t, such as 10g";
        let read = read::parsed(&member.node, key, wanted, f, |text| {
            units::bytes(text).filter(|bytes| VOLUME_BYTES.contains(bytes))
        });
        let Some(new) = read else { return };
        match size {
            Some(old) if old.value != new.value => {
                let what = "`driver_opts` and `x-casemate` say different sizes";
                f.problem(new.place, what, "keep one of the two");
            }
            _ => *size = Some(new),
        }
    });
}

/// `configs`: key, and the content; none where it already has its problem.
pub(super) fn configs(
    node: &Node,
    environment: &BTreeMap<String, String>,
    f: &mut Findings<'_>,
) -> BTreeMap<String, Option<String>> {
    let mut configs = BTreeMap::new();
    for member in read::mapping(node, "configs", f) {
        let mut contents: Vec<Option<String>> = Vec::new();
        let mut refused = false;
        if !member.node.is_null() {
            read::walk(&keys::CONFIG, &member.node, f, |f, key, member| match key {
                "content" => {
                    contents.push(read::scalar(&member.node, key, f).map(|(text, _)| text.to_owned()))
                }
                _ => contents.push(from_environment(&member.node, key, environment, f)),
            });
            refused = read::mapping(&member.node, "config", f).iter().any(|member| member.key == "external");
        }
        let name = printable(&member.key);
        if contents.len() > 1 {
            let what = format!("config `{name}` has two contents");
            f.problem(member.key_place, what, "keep one of `content`, `file` and `environment`");
        } else if contents.is_empty() && !refused {
            let what = format!("config `{name}` has no content");
            f.problem(member.key_place, what, "write content: \"...\", or file: ./path");
        }
        if !is_plain_name(&member.key) {
            let what = format!("config name `{name}` is not 1 to 64 of a-z, A-Z, 0-9, `_`, `-` and `.`");
            f.problem(member.key_place, what, "rename the config");
        }
        configs.insert(member.key.clone(), contents.pop().flatten());
    }
    configs
}

fn from_environment(
    node: &Node,
    key: &str,
    environment: &BTreeMap<String, String>,
    f: &mut Findings<'_>,
) -> Option<String> {
    let name = read::text(node, key, f)?;
    let value = environment.get(&name).cloned();
    if looks_secret(&name) && value.as_ref().is_some_and(|value| !value.is_empty()) {
        warn_of_secret(&name, node.place, f);
    }
    if value.is_none() {
        f.problem(
            node.place,
            format!("variable `{}` is not set", printable(&name)),
            "set it, or write `content`",
        );
    }
    value
}

/// `x-casemate`.
pub(super) fn relying_party(node: &Node, f: &mut Findings<'_>) -> RelyingParty {
    let mut all = RelyingParty::default();
    read::walk(&keys::TOP_X_CASEMATE, node, f, |f, key, member| match key {
        "policy" => {
            let wanted = "the path of a policy file below the project directory, such as policy.toml";
            let read = read::parsed(&member.node, key, wanted, f, |text| {
                let ok = (1..=1024).contains(&text.len()) && !text.chars().any(char::is_control);
                // A file of somebody else must not choose a policy elsewhere, nor where one is written.
                let ok = ok && !text.starts_with(['/', '~']) && text.split('/').all(|part| part != "..");
                ok.then(|| text.to_owned())
            });
            all.policy = read.map(|at| at.value);
        }
        _ => {
            let wanted = "whole days from 1d to 3650d, such as 30d: collateral is dated by days";
            let read = read::parsed(&member.node, key, wanted, f, |text| {
                let days = units::natural(text.strip_suffix('d')?)?;
                u32::try_from(days).ok().filter(|days| (1..=3650).contains(days))
            });
            all.collateral_days_max = read.map(|at| at.value);
        }
    });
    all
}

/// `secrets`: key, and the broker's name.
pub(super) fn secrets(node: &Node, f: &mut Findings<'_>) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    for member in read::mapping(node, "secrets", f) {
        let (mut external, mut name, mut other) = (None, None, false);
        if !member.node.is_null() {
            read::walk(&keys::SECRET, &member.node, f, |f, key, member| match key {
                "external" => external = read::truth(&member.node, key, f),
                _ => name = read::text(&member.node, key, f),
            });
            other = read::mapping(&member.node, "secret", f)
                .iter()
                .any(|member| matches!(member.key.as_str(), "file" | "environment"));
        }
        // A secret from a file or a variable already has its problem.
        if external != Some(true) && !other {
            let what = format!("secret `{}` is not external", printable(&member.key));
            f.problem(member.key_place, what, "write external: true: secrets come from the broker");
        }
        let name = name.unwrap_or_else(|| member.key.clone());
        if !is_plain_name(&name) {
            let what = format!(
                "secret name `{}` is not 1 to 64 of a-z, A-Z, 0-9, `_`, `-` and `.`",
                printable(&name)
            );
            f.problem(member.key_place, what, "rename the secret");
        }
        secrets.insert(member.key.clone(), name);
    }
    secrets
}
