//! Whole appraisals under a development root: what is accepted, and for every rule something that it refuses.

mod agents;
mod box_claims;
mod past_bugs;
mod platform;
mod posture;
mod reuse;
mod tdx_quotes;
mod world;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_canon::{Sha256, Sha384};
use casemate_composition::lock::{Backend, BackendKind};
use casemate_protocol::agent_token::{AGENT_TOKEN_TYP, Control, ControlStatus};
use casemate_protocol::cmw::Platform;
use casemate_protocol::ear::{Ear, Tier};
use casemate_protocol::event::{EdgeChange, Event};
use casemate_protocol::jwk::{ALG_ECDH, ALG_ES256, EcJwk};
use casemate_protocol::posture::{Battery, Posture, ProbeSeen, Verdict};
use casemate_testkit::{CollateralSpec, DevPki, Revoked, Tee};
use casemate_verifier::{
    AddedEdges, Apart, Challenge, Measurement, Policy, PostureExpectations, Roots, SeptVeDisable, Smt,
    SnpCollateral, SnpProduct, Taint, TcbStatus, TdxCollateral, UnixTime, VerifiedCollateral, Voucher,
    appraise, collateral_dates, name_collateral,
};
use world::{NOW, World, agent, collateral_of, enforced, header, name, new_key, pki};

const BOTH: [Tee; 2] = [Tee::Tdx, Tee::Snp];

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn accepts_good_evidence_and_says_that_it_is_simulated() {
    for tee in BOTH {
        let world = World::new(tee);
        let appraisal = world.appraise().unwrap_or_else(|refused| panic!("{tee}: {}", refused.first()));
        assert_eq!(appraisal.agent(), &name("researcher"));
        assert_eq!(appraisal.agent_key(), &world.token.cnf.jwk);
        assert!(appraisal.rules().iter().all(|rule| rule.passed));
        let platform = appraisal.claims().iter().filter(|claim| claim.part == "platform");
        assert!(platform.clone().count() > 10);
        assert!(platform.into_iter().all(|claim| claim.voucher == Voucher::Simulated));
        assert!(appraisal.claims().iter().all(|claim| claim.voucher != Voucher::Hardware));
        let ear = appraisal.ear();
        assert_eq!((ear.iat, ear.exp), (NOW.0, NOW.0 + 300));
        let nonce = URL_SAFE_NO_PAD.encode(world.nonce.as_str());
        assert_eq!((ear.status, ear.eat_nonce.as_ref()), (Tier::Warning, Some(&nonce)));
        for part in ["platform", "agent/researcher"] {
            let submodule = &ear.submods[part];
            assert_eq!(submodule.status, Tier::Warning, "{part}");
            assert_eq!(submodule.attester_claims["simulated"]["value"], true, "{part}");
            assert_eq!(submodule.policy_ids, [world.policy().id().to_string()]);
            assert_eq!(submodule.verifier_claims["time"], NOW.to_string());
            assert_eq!(submodule.verifier_claims["nonce"], world.nonce.as_str());
            assert_eq!(submodule.verifier_claims["roots"], "development");
        }
        assert!(!ear.submods["platform"].trustworthiness.contains_key("hardware"));
    }
}

/// The result of a refusal.
#[expect(clippy::unwrap_used, reason = "a test helper")]
fn refused_ear(world: &World) -> Ear {
    world.appraise().unwrap_err().ear(&world.policy(), Challenge::Nonce(&world.nonce), world.now)
}

#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test helper")]
fn rules_failed(ear: &Ear, part: &str) -> Vec<String> {
    let rules = ear.submods[part].verifier_claims["rules-failed"].as_array().unwrap();
    rules.iter().map(|rule| rule["rule"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_result_of_a_refused_platform_affirms_nothing_and_repeats_no_claim() {
    for tee in BOTH {
        let mut world = World::new(tee);
        world.nonce = "another-nonce".parse().unwrap();
        let ear = refused_ear(&world);
        assert_eq!(ear.status, Tier::Contraindicated);
        assert_eq!(ear.tee_pubkey, None);
        assert_eq!(ear.submods.keys().collect::<Vec<_>>(), ["platform"]);
        let platform = &ear.submods["platform"];
        assert_eq!(platform.status, Tier::Contraindicated);
        assert_eq!(
            platform.trustworthiness.clone().into_iter().collect::<Vec<_>>(),
            [("instance-identity".to_owned(), 97)]
        );
        assert!(platform.attester_claims.is_empty());
        assert_eq!(rules_failed(&ear, "platform"), ["nonce", "nonce"]);
        assert_eq!(platform.verifier_claims["nonce"], "another-nonce");
    }
}

#[test]
fn the_result_for_a_statement_without_a_root_says_that_its_cryptography_failed() {
    for tee in BOTH {
        let mut world = World::new(tee);
        world.policy.roots = Roots::Production;
        let ear = refused_ear(&world);
        assert_eq!(ear.submods["platform"].trustworthiness, [("hardware".to_owned(), 99)].into());
        assert!(ear.submods["platform"].attester_claims.is_empty());
        assert_eq!(ear.submods["platform"].verifier_claims["roots"], "production");
    }
}

#[test]
fn the_result_for_a_refused_agent_keeps_what_holds_of_its_platform() {
    for tee in BOTH {
        let mut world = World::new(tee);
        world.composition().agents.get_mut(&name("researcher")).unwrap().measurement = Sha384::of(b"other");
        let ear = refused_ear(&world);
        assert_eq!(ear.status, Tier::Contraindicated);
        assert_eq!(ear.submods["platform"].status, Tier::Warning);
        assert!(ear.submods["platform"].attester_claims.contains_key("tee"));
        let agent = &ear.submods["agent/researcher"];
        assert_eq!(agent.trustworthiness, [("executables".to_owned(), 96)].into());
        assert!(agent.attester_claims.is_empty());
        assert_eq!(rules_failed(&ear, "agent/researcher"), ["agent.measurement"]);
        assert_eq!(rules_failed(&ear, "platform"), Vec::<String>::new());
    }
}

#[test]
fn a_result_names_the_collateral_that_it_rests_on() {
    let world = World::new(Tee::Tdx);
    let mut ear = world.appraise().unwrap().ear().clone();
    name_collateral(&mut ear, &collateral_dates(&world.collateral));
    for submodule in ear.submods.values() {
        let parts = submodule.verifier_claims["collateral"].as_array().unwrap();
        assert_eq!(parts.len(), 7);
        assert_eq!(parts[3]["part"], "tdx.tcb_info");
        let bytes = &world.collateral.tdx.as_ref().unwrap().tcb_info;
        assert_eq!(parts[3]["sha256"], hex::encode(casemate_canon::Sha256::of(bytes).0));
        assert_eq!(parts[3]["until"], UnixTime(NOW.0 + casemate_testkit::COLLATERAL_SECONDS).to_string());
    }
}

#[test]
fn grants_only_what_the_policy_gives_this_agent() {
    let world = World::new(Tee::Tdx);
    let appraisal = world.appraise().unwrap();
    let (resource, agent, key) = appraisal.grant("desk/secret/api_token").unwrap().into_parts();
    assert_eq!((resource.as_str(), agent), ("desk/secret/api_token", name("researcher")));
    assert_eq!(key, world.token.cnf.jwk);
    let refusal = appraisal.grant("desk/secret/signing_key").unwrap_err();
    assert_eq!(refusal.rule, "agent.secrets");
    assert!(refusal.expected.contains("desk/secret/api_token"));
    assert_eq!(refusal.found, "desk/secret/signing_key");
}

#[test]
fn simulated_evidence_is_refused_under_production_roots() {
    for (tee, vendor) in [(Tee::Tdx, "Intel SGX Root CA"), (Tee::Snp, "AMD ARK-Genoa")] {
        let world = World::new(tee);
        let policy = world.policy().with_production_roots();
        let mut collateral = VerifiedCollateral::verify(&world.collateral);
        let refused = appraise(&world.evidence(), &world.nonce, &policy, &mut collateral, NOW).unwrap_err();
        let first = refused.first();
        assert_eq!(first.rule, "platform.roots", "{tee}");
        assert!(first.expected.contains(vendor), "{}", first.expected);
        assert!(first.found.contains("development root"), "{}", first.found);
        assert!(first.found.contains(&world.pki.root_spki_sha256().to_string()), "{}", first.found);
        assert!(refused.claims.iter().all(|claim| claim.voucher == Voucher::HostClaimed));
    }
}

#[test]
fn a_development_root_that_the_policy_does_not_name_is_refused() {
    for tee in BOTH {
        let mut world = World::new(tee);
        world.policy.roots = Roots::Development(vec![casemate_canon::Sha256::of(b"another root")]);
        assert_eq!(world.failed(), ["platform.roots"], "{tee}");
    }
}

#[test]
fn evidence_for_another_nonce_is_refused() {
    for tee in BOTH {
        let mut world = World::new(tee);
        let evidence = world.evidence();
        world.nonce = "another-nonce".parse().unwrap();
        let refused = world.appraise_evidence(&evidence).unwrap_err();
        let first = refused.first();
        assert_eq!((first.rule.as_str(), first.expected.as_str()), ("nonce", "another-nonce"));
        assert_eq!(first.found, "nonce-for-this-appraisal");
    }
    let mut world = World::new(Tee::Tdx);
    world.token.eat_nonce = "another-nonce".parse().unwrap();
    assert_eq!(world.failed(), ["nonce"]);
    let mut world = World::new(Tee::Tdx);
    world.claims.nonce = "another-nonce".parse().unwrap();
    world.bind_claims();
    assert_eq!(world.failed(), ["nonce"]);
}

#[test]
fn platform_evidence_must_be_readable_and_of_a_tee_that_the_policy_names() {
    let world = World::new(Tee::Tdx);
    let cut = |evidence: &mut casemate_protocol::cmw::Evidence| match &mut evidence.platform {
        Platform::Tdx { quote } => quote.truncate(100),
        Platform::Snp { report, .. } => report.truncate(100),
        Platform::Vtpm(_) => panic!("of another kind"),
    };
    assert_eq!(world.failed_with(cut), ["tdx.quote"]);
    let snp = World::new(Tee::Snp);
    assert_eq!(snp.failed_with(cut), ["snp.report"]);
    // A TPM alone says nothing of a box, whatever its quote is worth.
    let tpm = |evidence: &mut casemate_protocol::cmw::Evidence| {
        let ak = casemate_protocol::vtpm::AkEvidence::Key(vec![]);
        let vtpm = casemate_protocol::vtpm::Vtpm { message: vec![], signature: vec![], pcrs: vec![], ak };
        evidence.platform = Platform::Vtpm(vtpm);
    };
    assert_eq!(world.failed_with(tpm), ["platform.tee"]);
    let mut world = World::new(Tee::Tdx);
    world.policy.snp = snp.policy.snp.clone();
    world.policy.tdx = None;
    assert_eq!(world.failed(), ["platform.tee"]);
    let mut world = World::new(Tee::Tdx);
    world.collateral.tdx = None;
    assert_eq!(world.failed(), ["collateral.present"]);
}

#[test]
fn a_changed_hardware_statement_is_refused_by_its_signature() {
    for tee in BOTH {
        let world = World::new(tee);
        let failed = world.failed_with(|evidence| match &mut evidence.platform {
            Platform::Tdx { quote } => quote[48 + 136] ^= 1,
            Platform::Snp { report, .. } => report[0x90] ^= 1,
            Platform::Vtpm(_) => panic!("of another kind"),
        });
        assert_eq!(failed, ["platform.signature"], "{tee}");
    }
}

#[test]
fn a_rendered_policy_reads_back_the_same() {
    for tee in BOTH {
        let world = World::new(tee);
        let text = Policy::render(&world.policy);
        assert_eq!(Policy::parse(&text).unwrap().values(), &world.policy, "{text}");
        let mut values = world.policy.clone();
        values.roots = Roots::Production;
        if let Some(tdx) = &mut values.tdx {
            tdx.mrtd.push(Measurement([0xab; 48]));
            tdx.tcb_status =
                TcbStatus::ALL.into_iter().filter(|status| *status != TcbStatus::Revoked).collect();
            tdx.sept_ve_disable = SeptVeDisable::NotRequired;
        }
        let text = Policy::render(&values);
        assert_eq!(Policy::parse(&text).unwrap().values(), &values, "{text}");
    }
}
