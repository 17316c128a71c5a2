//! Reading a policy file: TOML of exactly one shape, unknown keys refused with their place.

use std::collections::BTreeMap;
use std::ops::Range;

use casemate_canon::{Sha256, Sha384};
use casemate_composition::lock::AgentName;
use casemate_protocol::agent_token::Control;
use casemate_protocol::rcar::is_resource_path;
use serde::Deserialize;
use toml::Spanned;

use super::{
    AgentExpectations, Measurement, POLICY_BYTES_MAX, PolicyError, PolicyValues, SeptVeDisable, Smt,
    SnpExpectations, SnpTcbMin, Taint, TdxExpectations,
};
use crate::roots::Roots;
use crate::snp::SnpProduct;
use crate::tdx::TcbStatus;

/// Most days that endorsements may be old.
const COLLATERAL_AGE_DAYS_MAX: u32 = 3660;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u32>,
    platform: Platform,
    composition: Composition,
    agents: BTreeMap<Spanned<String>, Agent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Platform {
    tee: Spanned<Vec<Spanned<String>>>,
    roots: Spanned<String>,
    development_roots: Option<Spanned<Vec<Spanned<String>>>>,
    collateral_age_max_days: Spanned<u32>,
    tdx: Option<Spanned<Tdx>>,
    snp: Option<Spanned<Snp>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Tdx {
    tcb_status: Strings,
    require_sept_ve_disable: bool,
    mrtd: Strings,
    rtmr0: Strings,
    rtmr1: Strings,
    rtmr2: Strings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Snp {
    measurement: Strings,
    vmpl: Spanned<u32>,
    products: Strings,
    tcb_min: TcbMin,
    allow_smt: bool,
    crl_age_max_days: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcbMin {
    bootloader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Composition {
    digest: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Agent {
    measurement: Spanned<String>,
    secrets: Vec<Spanned<String>>,
    allow_weaker: Vec<Spanned<String>>,
    allow_tainted: bool,
}

type Strings = Spanned<Vec<Spanned<String>>>;

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
    place.platform(file)
}

/// Where in the text things are.
struct Place<'a> {
    text: &'a str,
}

impl Place<'_> {
    fn error(&self, span: &Range<usize>, what: impl Into<String>, todo: &str) -> PolicyError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        PolicyError {
            line: before.matches('\n').count().saturating_add(1),
            column: column.saturating_add(1),
            what: what.into(),
            todo: todo.to_owned(),
        }
    }

    fn platform(&self, file: File) -> Result<PolicyValues, PolicyError> {
        let platform = file.platform;
        let named = |tee: &str| platform.tee.get_ref().iter().any(|name| name.get_ref() == tee);
        for (index, tee) in platform.tee.get_ref().iter().enumerate() {
            let repeated =
                platform.tee.get_ref().iter().take(index).any(|other| other.get_ref() == tee.get_ref());
            if repeated || !matches!(tee.get_ref().as_str(), "tdx" | "snp") {
                let what = format!("tee `{}` is not known or given twice", tee.get_ref());
                return Err(self.error(&tee.span(), what, "write \"tdx\", \"snp\" or both"));
            }
        }
        if platform.tee.get_ref().is_empty() {
            return Err(self.error(
                &platform.tee.span(),
                "no tee is named",
                "write \"tdx\", \"snp\" or both",
            ));
        }
        for (tee, span) in [
            ("tdx", platform.tdx.as_ref().map(Spanned::span)),
            ("snp", platform.snp.as_ref().map(Spanned::span)),
        ] {
            match (named(tee), span) {
                (true, None) => {
                    let what = format!("tee names {tee}, and [platform.{tee}] is missing");
                    return Err(self.error(&platform.tee.span(), what, "add the table, or do not name it"));
                }
                (false, Some(span)) => {
                    let what = format!("[platform.{tee}] is given, and tee does not name {tee}");
                    return Err(self.error(&span, what, "remove the table, or name it in tee"));
                }
                _ => {}
            }
        }
        Ok(PolicyValues {
            roots: self.roots(&platform)?,
            collateral_age_max_days: self.days(&platform.collateral_age_max_days)?,
            tdx: platform.tdx.map(|tdx| self.tdx(&tdx.into_inner())).transpose()?,
            snp: platform.snp.map(|snp| self.snp(&snp.into_inner())).transpose()?,
            composition: self.digest(&file.composition.digest)?,
            agents: self.agents(file.agents)?,
        })
    }

    fn roots(&self, platform: &Platform) -> Result<Roots, PolicyError> {
        let development = platform.development_roots.as_ref().map(Spanned::span);
        match (platform.roots.get_ref().as_str(), development) {
            ("production", None) => Ok(Roots::Production),
            ("production", Some(span)) => Err(self.error(
                &span,
                "development roots are named beside roots = \"production\"",
                "remove them, or write roots = \"development\"",
            )),
            ("development", _) => {
                let named = platform.development_roots.iter().flat_map(|roots| roots.get_ref());
                let keys: Result<Vec<Sha256>, PolicyError> = named
                    .map(|text| {
                        text.get_ref().parse().map_err(|error: casemate_canon::DigestParseError| {
                            let todo =
                                "write the digest of the root's SubjectPublicKeyInfo, sha256:<64 digits>";
                            self.error(&text.span(), error.to_string(), todo)
                        })
                    })
                    .collect();
                match keys? {
                    keys if keys.is_empty() => Err(self.error(
                        &platform.roots.span(),
                        "roots is \"development\", and no development root is named",
                        "add development-roots = [\"sha256:<64 digits>\"]",
                    )),
                    keys => Ok(Roots::Development(keys)),
                }
            }
            (other, _) => Err(self.error(
                &platform.roots.span(),
                format!("roots `{other}` is not known"),
                "write \"production\" or \"development\"",
            )),
        }
    }

    fn tdx(&self, tdx: &Tdx) -> Result<TdxExpectations, PolicyError> {
        if let Some(revoked) =
            tdx.tcb_status.get_ref().iter().find(|status| status.get_ref() == TcbStatus::Revoked.name())
        {
            let what = "`Revoked` platforms are never accepted";
            return Err(self.error(
                &revoked.span(),
                what,
                "remove it; Intel does not vouch for such platforms",
            ));
        }
        let status = |text: &str| TcbStatus::ALL.into_iter().find(|status| status.name() == text);
        let required = tdx.require_sept_ve_disable;
        Ok(TdxExpectations {
            tcb_status: self.each(&tdx.tcb_status, "one of Intel's TCB status names", status)?,
            sept_ve_disable: if required { SeptVeDisable::Required } else { SeptVeDisable::NotRequired },
            mrtd: self.measurements(&tdx.mrtd)?,
            rtmr: [
                self.measurements(&tdx.rtmr0)?,
                self.measurements(&tdx.rtmr1)?,
                self.measurements(&tdx.rtmr2)?,
            ],
        })
    }

    fn snp(&self, snp: &Snp) -> Result<SnpExpectations, PolicyError> {
        if *snp.vmpl.get_ref() > 3 {
            let what = format!("vmpl {} is not possible", snp.vmpl.get_ref());
            return Err(self.error(&snp.vmpl.span(), what, "write a number from 0 to 3"));
        }
        Ok(SnpExpectations {
            measurement: self.measurements(&snp.measurement)?,
            vmpl: *snp.vmpl.get_ref(),
            products: self.each(&snp.products, "Milan, Genoa or Turin", SnpProduct::from_name)?,
            tcb_min: SnpTcbMin {
                bootloader: snp.tcb_min.bootloader,
                tee: snp.tcb_min.tee,
                snp: snp.tcb_min.snp,
                microcode: snp.tcb_min.microcode,
            },
            smt: if snp.allow_smt { Smt::Allowed } else { Smt::Refused },
            crl_age_max_days: self.days(&snp.crl_age_max_days)?,
        })
    }

    fn days(&self, days: &Spanned<u32>) -> Result<u32, PolicyError> {
        if (1..=COLLATERAL_AGE_DAYS_MAX).contains(days.get_ref()) {
            return Ok(*days.get_ref());
        }
        let todo = format!("write a number from 1 to {COLLATERAL_AGE_DAYS_MAX}");
        Err(self.error(&days.span(), format!("{} days are not possible", days.get_ref()), &todo))
    }

    fn agents(
        &self,
        agents: BTreeMap<Spanned<String>, Agent>,
    ) -> Result<BTreeMap<AgentName, AgentExpectations>, PolicyError> {
        let mut read = BTreeMap::new();
        for (name, agent) in agents {
            let parsed: AgentName = name.get_ref().parse().map_err(|error| {
                let error: casemate_composition::lock::NameError = error;
                self.error(&name.span(), error.to_string(), "write the name of an agent of the composition")
            })?;
            read.insert(parsed, self.agent(&agent)?);
        }
        Ok(read)
    }

    fn agent(&self, agent: &Agent) -> Result<AgentExpectations, PolicyError> {
        let secret = |text: &Spanned<String>| {
            if is_resource_path(text.get_ref()) {
                return Ok(text.get_ref().clone());
            }
            let what = format!("`{}` is not a resource path", text.get_ref());
            Err(self.error(&text.span(), what, "write <repository>/<type>/<tag>"))
        };
        let control = |text: &Spanned<String>| {
            Control::from_name(text.get_ref()).ok_or_else(|| {
                let names: Vec<&str> = Control::ALL.iter().map(|control| control.name()).collect();
                let what = format!("`{}` is not a control", text.get_ref());
                self.error(&text.span(), what, &format!("write one of {}", names.join(", ")))
            })
        };
        Ok(AgentExpectations {
            measurement: self.digest(&agent.measurement)?,
            secrets: agent.secrets.iter().map(secret).collect::<Result<_, _>>()?,
            allow_weaker: agent.allow_weaker.iter().map(control).collect::<Result<_, _>>()?,
            taint: if agent.allow_tainted { Taint::Allowed } else { Taint::Refused },
        })
    }

    fn digest(&self, text: &Spanned<String>) -> Result<Sha384, PolicyError> {
        text.get_ref().parse().map_err(|error: casemate_canon::DigestParseError| {
            self.error(&text.span(), error.to_string(), "write sha384:<96 digits>")
        })
    }

    fn measurements(&self, list: &Strings) -> Result<Vec<Measurement>, PolicyError> {
        self.each(list, "96 lower-case hexadecimal digits", |text| {
            let mut bytes = [0; 48];
            let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
            (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Measurement(bytes))
        })
    }

    /// Every value of a list, which must name at least one.
    fn each<T>(
        &self,
        list: &Strings,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, PolicyError> {
        let todo = format!("write {expected}");
        if list.get_ref().is_empty() {
            return Err(self.error(&list.span(), "no value is named, so nothing could pass", &todo));
        }
        list.get_ref()
            .iter()
            .map(|text| {
                read(text.get_ref()).ok_or_else(|| {
                    self.error(&text.span(), format!("`{}` is not {expected}", text.get_ref()), &todo)
                })
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
