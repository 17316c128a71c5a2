//! Reference values, and the policy that follows from them and a lock.

use std::collections::{BTreeMap, BTreeSet};

use casemate_canon::Sha256;
use casemate_composition::Lock;
use casemate_composition::lock::Agent;
use casemate_protocol::agent_token::Control;
use casemate_verifier::{
    AddedEdges, AgentExpectations, CompositionExpectations, Measurement, Policy, PolicyValues,
    PostureExpectations, Roots, Smt, SnpAllowances, SnpExpectations, SnpProduct, SnpRequirements, SnpTcbMin,
    Taint, TdxExpectations,
};
use serde::Deserialize;

use crate::failure::{Failure, Outcome};
use crate::inputs;

/// Oldest endorsements that a new policy accepts: Intel issues TCB information anew every 30 days.
const COLLATERAL_AGE_MAX_DAYS: u32 = 30;
/// Oldest CRL of AMD that a new policy accepts for real hardware: AMD issues one for about a year; some more for the
/// days between two.
const AMD_CRL_AGE_MAX_DAYS: u32 = 400;

/// Lowest `tcbEvaluationDataNumber` that a new policy accepts: Intel's release of early 2026. Raise it with Intel's.
const TCB_EVALUATION_MIN: u32 = 18;

/// Values of one box, as the emulator or a build of the box's image gives them.
#[derive(Debug, Deserialize)]
#[serde(tag = "tee", rename_all = "kebab-case", deny_unknown_fields)]
enum ReferenceValues {
    /// A TDX box.
    #[serde(rename_all = "kebab-case")]
    Tdx {
        /// Hexadecimal digits, 48 bytes; so are all measurements.
        mrtd: String,
        rtmr0: String,
        rtmr1: String,
        rtmr2: String,
        /// Only for simulated hardware.
        development_root: Option<Sha256>,
    },
    /// An SEV-SNP box.
    #[serde(rename_all = "kebab-case")]
    Snp {
        measurement: String,
        vmpl: u32,
        product: String,
        /// Lowest security versions; needed for real hardware.
        tcb_min: Option<TcbMin>,
        /// Needed for a product whose keys published attacks reach.
        allow_extractable_seed: Option<bool>,
        /// Only for simulated hardware.
        development_root: Option<Sha256>,
    },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct TcbMin {
    /// Turin only.
    fmc: Option<u8>,
    bootloader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

/// A policy file, and whether it names development roots.
pub(crate) struct RenderedPolicy {
    /// The file.
    pub(crate) text: String,
    /// Digests of the development roots' keys; none where the vendors' roots are asked for.
    pub(crate) development_roots: Vec<Sha256>,
}

/// What is asked of the controls of each agent, besides what every policy asks.
pub(crate) struct ControlsAsked {
    /// Those that may be weaker.
    pub(crate) allow_weaker: BTreeSet<Control>,
    /// Those that must be in force although not every machine or agent has them.
    pub(crate) require: BTreeSet<Control>,
}

/// The policy file for a composition on a box with these reference values.
pub(crate) fn render_policy(lock: &Lock, reference: &[u8], asked: &ControlsAsked) -> Outcome<RenderedPolicy> {
    let unusable = |what: String| {
        Failure::input(
            format!("reference values: {what}"),
            "use the file that the build of the box's image wrote",
        )
    };
    let values: ReferenceValues = serde_json::from_slice(reference)
        .map_err(|error| unusable(format!("{}:{}: {error}", error.line(), error.column())))?;
    let (tdx, snp, root) = expectations(values).map_err(unusable)?;
    let policy = PolicyValues {
        roots: root.map_or(Roots::Production, |root| Roots::Development(vec![root])),
        collateral_age_max_days: COLLATERAL_AGE_MAX_DAYS,
        bundle_signers: Vec::new(),
        tdx,
        snp,
        vtpm: None,
        boot_log: None,
        composition: Some(CompositionExpectations {
            digest: inputs::digest(lock)?,
            agents: lock
                .agents
                .iter()
                .map(|(name, agent)| Ok((name.clone(), expectations_of(agent, asked)?)))
                .collect::<Outcome<BTreeMap<_, _>>>()?,
        }),
    };
    Ok(RenderedPolicy { text: Policy::render(&policy), development_roots: root.into_iter().collect() })
}

type Expectations = (Option<TdxExpectations>, Option<SnpExpectations>, Option<Sha256>);

fn expectations(values: ReferenceValues) -> Result<Expectations, String> {
    match values {
        ReferenceValues::Tdx { mrtd, rtmr0, rtmr1, rtmr2, development_root } => {
            let rtmr = [measurement(&rtmr0)?, measurement(&rtmr1)?, measurement(&rtmr2)?];
            let tdx = TdxExpectations::strict(measurement(&mrtd)?, rtmr, TCB_EVALUATION_MIN);
            Ok((Some(tdx), None, development_root))
        }
        ReferenceValues::Snp {
            measurement: launch,
            vmpl,
            product,
            tcb_min,
            allow_extractable_seed,
            development_root,
        } => {
            let product = SnpProduct::from_name(&product)
                .ok_or_else(|| "`product` is not Milan, Genoa or Turin".to_owned())?;
            if let Some(why) = product.weakness()
                && allow_extractable_seed != Some(true)
            {
                return Err(format!("{product} is refused without `allow-extractable-seed`: {why}"));
            }
            // Simulated chips have no versions worth a bound; real ones must have one.
            let tcb_min = match (tcb_min, development_root) {
                (Some(min), _) => min,
                (None, Some(_)) => {
                    let fmc = (product == SnpProduct::Turin).then_some(0);
                    TcbMin { fmc, bootloader: 0, tee: 0, snp: 0, microcode: 0 }
                }
                (None, None) => return Err("`tcb-min` is missing".into()),
            };
            let snp = SnpExpectations {
                measurement: vec![measurement(&launch)?],
                vmpl,
                products: BTreeMap::from([(product, lowest(product, tcb_min)?)]),
                smt: if development_root.is_some() { Smt::Allowed } else { Smt::Refused },
                crl_age_max_days: match development_root {
                    Some(_) => COLLATERAL_AGE_MAX_DAYS,
                    None => AMD_CRL_AGE_MAX_DAYS,
                },
                allow: SnpAllowances::none(),
                require: SnpRequirements::none(),
            };
            Ok((None, Some(snp), development_root))
        }
    }
}

/// Turin has one component more than the others.
fn lowest(product: SnpProduct, min: TcbMin) -> Result<SnpTcbMin, String> {
    let TcbMin { fmc, bootloader, tee, snp, microcode } = min;
    match (product, fmc) {
        (SnpProduct::Turin, None) => Err("`fmc` of `tcb-min` is missing".into()),
        (SnpProduct::Milan | SnpProduct::Genoa, Some(_)) => Err(format!("{product} has no `fmc`")),
        (_, fmc) => Ok(SnpTcbMin { fmc: fmc.unwrap_or(0), bootloader, tee, snp, microcode }),
    }
}

fn measurement(text: &str) -> Result<Measurement, String> {
    let wrong = || format!("`{}` is not 96 lower-case hexadecimal digits", crate::failure::one_line(text));
    // The digest type has the one spelling that is allowed.
    let digest: casemate_canon::Sha384 = format!("sha384:{text}").parse().map_err(|_| wrong())?;
    Ok(Measurement(digest.0))
}

fn expectations_of(agent: &Agent, asked: &ControlsAsked) -> Outcome<AgentExpectations> {
    let measurement = agent.measurement().map_err(|error| {
        Failure::input(format!("lock: {error}"), "use smaller numbers in the Compose file")
    })?;
    Ok(AgentExpectations {
        measurement,
        backends: [agent.backend.kind()].into(),
        secrets: agent.secrets.iter().map(|secret| secret.resource.clone()).collect(),
        allow_weaker: asked.allow_weaker.clone(),
        require_controls: asked.require.clone(),
        posture: PostureExpectations::default(),
        taint: Taint::Refused,
        added_edges: AddedEdges::Refused,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tdx(extra: &str) -> String {
        let zero = "0".repeat(96);
        format!(
            r#"{{"tee":"tdx","mrtd":"{zero}","rtmr0":"{zero}","rtmr1":"{zero}","rtmr2":"{zero}"{extra}}}"#
        )
    }

    fn read(text: &str) -> Result<Expectations, String> {
        serde_json::from_str(text).map_err(|error| error.to_string()).and_then(expectations)
    }

    #[test]
    fn values_without_a_development_root_are_for_production() {
        assert_eq!(read(&tdx("")).unwrap().2, None);
        let root = format!(r#","development-root":"sha256:{}""#, "1".repeat(64));
        assert!(read(&tdx(&root)).unwrap().2.is_some());
    }

    #[test]
    fn real_snp_hardware_needs_lowest_versions() {
        let zero = "0".repeat(96);
        let text = format!(r#"{{"tee":"snp","measurement":"{zero}","vmpl":0,"product":"Genoa"}}"#);
        assert_eq!(read(&text).unwrap_err(), "`tcb-min` is missing");
        let with = |product: &str, more: &str| {
            let components = format!(r#"{more}"bootloader":1,"tee":2,"snp":3,"microcode":4"#);
            let other = format!(r#""product":"{product}","tcb-min":{{{components}}}"#);
            read(&text.replace(r#""product":"Genoa""#, &other))
        };
        assert!(with("Genoa", "").is_ok());
        assert_eq!(with("Genoa", r#""fmc":1,"#).unwrap_err(), "Genoa has no `fmc`");
        assert_eq!(with("Turin", "").unwrap_err(), "`fmc` of `tcb-min` is missing");
        let (_, turin, _) = with("Turin", r#""fmc":1,"#).unwrap();
        assert_eq!(turin.unwrap().products[&SnpProduct::Turin].fmc, 1);
        let refused = with("Milan", "").unwrap_err();
        assert!(refused.starts_with("Milan is refused without `allow-extractable-seed`"), "{refused}");
        let allowed = read(&text.replace(
            r#""product":"Genoa""#,
            r#""product":"Milan","allow-extractable-seed":true,
               "tcb-min":{"bootloader":1,"tee":2,"snp":3,"microcode":4}"#,
        ));
        assert!(allowed.unwrap().1.unwrap().products.contains_key(&SnpProduct::Milan));
    }

    #[test]
    fn refuses_unknown_members_and_short_measurements() {
        assert!(read(&tdx(r#","extra":1"#)).is_err());
        assert!(read(&tdx("").replacen("00", "", 1)).unwrap_err().contains("96 lower-case"));
    }
}
