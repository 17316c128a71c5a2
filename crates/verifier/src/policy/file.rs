//! Reading a policy file: TOML of exactly one shape, unknown keys refused with their place.

use std::collections::BTreeMap;

use casemate_canon::Sha256;
use serde::Deserialize;
use toml::Spanned;

use super::place::Place;
use super::{POLICY_BYTES_MAX, PolicyError, PolicyValues, agents, boot_log, snp, tdx, vtpm};
use crate::roots::Roots;

const TEE_TODO: &str = "write one or more of \"tdx\", \"snp\" and \"vtpm\"";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    version: Spanned<u32>,
    platform: Platform,
    boot_log: Option<boot_log::Table>,
    composition: Option<Spanned<agents::Composition>>,
    agents: Option<Spanned<BTreeMap<Spanned<String>, agents::Agent>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Platform {
    tee: Spanned<Vec<Spanned<String>>>,
    roots: Spanned<String>,
    development_roots: Option<Spanned<Vec<Spanned<String>>>>,
    collateral_age_max_days: Spanned<u32>,
    bundle_signers: Option<Spanned<Vec<Spanned<String>>>>,
    tdx: Option<Spanned<tdx::Table>>,
    snp: Option<Spanned<snp::Table>>,
    vtpm: Option<Spanned<vtpm::Table>>,
}

/// The values of the policy in `text`.
pub(super) fn parse(text: &str) -> Result<PolicyValues, PolicyError> {
    let place = Place { text };
    if text.len() > POLICY_BYTES_MAX {
        let what = format!("policy of {} bytes, at most {POLICY_BYTES_MAX} allowed", text.len());
        return Err(place.error(&(0..0), what, "remove what is not a policy"));
    }
    let file: File = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        place.error(&span, error.message().to_owned(), "write every key of docs/policy.md, and no other")
    })?;
    if *file.version.get_ref() != 1 {
        let what = format!("version {} is not known", file.version.get_ref());
        return Err(place.error(&file.version.span(), what, "write version = 1"));
    }
    read(&place, file)
}

fn read(place: &Place<'_>, file: File) -> Result<PolicyValues, PolicyError> {
    let platform = file.platform;
    let named = |tee: &str| platform.tee.get_ref().iter().any(|name| name.get_ref() == tee);
    for (index, tee) in platform.tee.get_ref().iter().enumerate() {
        let repeated =
            platform.tee.get_ref().iter().take(index).any(|other| other.get_ref() == tee.get_ref());
        if repeated || !matches!(tee.get_ref().as_str(), "tdx" | "snp" | "vtpm") {
            let what = format!("tee `{}` is not known or given twice", tee.get_ref());
            return Err(place.error(&tee.span(), what, TEE_TODO));
        }
    }
    if platform.tee.get_ref().is_empty() {
        return Err(place.error(&platform.tee.span(), "no tee is named", TEE_TODO));
    }
    for (tee, span) in [
        ("tdx", platform.tdx.as_ref().map(Spanned::span)),
        ("snp", platform.snp.as_ref().map(Spanned::span)),
        ("vtpm", platform.vtpm.as_ref().map(Spanned::span)),
    ] {
        match (named(tee), span) {
            (true, None) => {
                let what = format!("tee names {tee}, and [platform.{tee}] is missing");
                return Err(place.error(&platform.tee.span(), what, "add the table, or do not name it"));
            }
            (false, Some(span)) => {
                let what = format!("[platform.{tee}] is given, and tee does not name {tee}");
                return Err(place.error(&span, what, "remove the table, or name it in tee"));
            }
            _ => {}
        }
    }
    Ok(PolicyValues {
        roots: read_roots(place, &platform)?,
        collateral_age_max_days: place.days(&platform.collateral_age_max_days)?,
        bundle_signers: read_signers(place, platform.bundle_signers.as_ref())?,
        tdx: platform.tdx.map(|table| tdx::read(place, table.get_ref())).transpose()?,
        snp: platform.snp.map(|table| snp::read(place, table.get_ref())).transpose()?,
        vtpm: platform.vtpm.map(|table| vtpm::read(place, &table)).transpose()?,
        boot_log: file.boot_log.map(|table| boot_log::read(place, &table)).transpose()?,
        composition: agents::read(place, file.composition, file.agents)?,
    })
}

/// Names of keys. A list that is there and empty would ask for nothing while it looks as if it did.
fn read_signers(
    place: &Place<'_>,
    signers: Option<&Spanned<Vec<Spanned<String>>>>,
) -> Result<Vec<Sha256>, PolicyError> {
    const TODO: &str = "write the digest of a signer's SubjectPublicKeyInfo, sha256:<64 digits>";
    let Some(signers) = signers else { return Ok(Vec::new()) };
    if signers.get_ref().is_empty() {
        return Err(place.error(&signers.span(), "no value is named, so nothing could pass", TODO));
    }
    let read = |text: &Spanned<String>| {
        text.get_ref().parse().map_err(|error: casemate_canon::DigestParseError| {
            place.error(&text.span(), error.to_string(), TODO)
        })
    };
    signers.get_ref().iter().map(read).collect()
}

fn read_roots(place: &Place<'_>, platform: &Platform) -> Result<Roots, PolicyError> {
    let development = platform.development_roots.as_ref().map(Spanned::span);
    match (platform.roots.get_ref().as_str(), development) {
        ("production", None) => Ok(Roots::Production),
        ("production", Some(span)) => Err(place.error(
            &span,
            "development roots are named beside roots = \"production\"",
            "remove them, or write roots = \"development\"",
        )),
        ("development", _) => {
            let named = platform.development_roots.iter().flat_map(|roots| roots.get_ref());
            let keys: Result<Vec<Sha256>, PolicyError> = named
                .map(|text| {
                    text.get_ref().parse().map_err(|error: casemate_canon::DigestParseError| {
                        let todo = "write the digest of the root's SubjectPublicKeyInfo, sha256:<64 digits>";
                        place.error(&text.span(), error.to_string(), todo)
                    })
                })
                .collect();
            match keys? {
                keys if keys.is_empty() => Err(place.error(
                    &platform.roots.span(),
                    "roots is \"development\", and no development root is named",
                    "add development-roots = [\"sha256:<64 digits>\"]",
                )),
                keys => Ok(Roots::Development(keys)),
            }
        }
        (other, _) => Err(place.error(
            &platform.roots.span(),
            format!("roots `{other}` is not known"),
            "write \"production\" or \"development\"",
        )),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
