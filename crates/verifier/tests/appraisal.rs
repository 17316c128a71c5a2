//! Whole appraisals under a development root: what is accepted, and for every rule something that it refuses.

mod past_bugs;
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
fn revoked_certificates_are_refused() {
    let cases = [
        (Tee::Tdx, Revoked::Leaf, "platform.crl"),
        (Tee::Tdx, Revoked::Intermediate, "platform.crl"),
        (Tee::Tdx, Revoked::CollateralSigner, "tdx.tcb-info"),
        (Tee::Snp, Revoked::Intermediate, "platform.crl"),
    ];
    for (tee, revoked, rule) in cases {
        let mut world = World::new(tee);
        let spec = CollateralSpec { revoked, ..CollateralSpec::at(NOW.0) };
        world.collateral = collateral_of(pki(tee).collateral_with(&spec).unwrap());
        assert_eq!(world.failed(), [rule], "{tee} {revoked:?}");
    }
}

#[test]
fn collateral_that_is_stale_early_or_old_is_refused() {
    const DAY: u64 = 86_400;
    let with = |issued_at: u64, next_update: u64| {
        let mut world = World::new(Tee::Tdx);
        let spec = CollateralSpec { issued_at, next_update, ..CollateralSpec::at(NOW.0) };
        world.collateral = collateral_of(pki(Tee::Tdx).collateral_with(&spec).unwrap());
        world
    };
    assert_eq!(with(NOW.0 - 2 * DAY, NOW.0 - DAY).failed(), ["platform.crl"]);
    assert_eq!(with(NOW.0 + DAY, NOW.0 + 2 * DAY).failed(), ["platform.crl"]);
    assert_eq!(with(NOW.0 - 30 * DAY, NOW.0 + DAY).failed(), none());
    assert_eq!(with(NOW.0 - 31 * DAY, NOW.0 + DAY).failed(), ["collateral.age"]);
    // Fresh CRLs beside stale documents: the documents have rules of their own.
    let stale = with(NOW.0 - 2 * DAY, NOW.0 - DAY).collateral.tdx.unwrap();
    let mut world = World::new(Tee::Tdx);
    world.collateral.tdx.as_mut().unwrap().tcb_info = stale.tcb_info;
    assert_eq!(world.failed(), ["tdx.tcb-info"]);
    let mut world = World::new(Tee::Tdx);
    world.collateral.tdx.as_mut().unwrap().qe_identity = stale.qe_identity;
    assert_eq!(world.failed(), ["tdx.qe-identity"]);
}

#[test]
fn the_crl_of_amd_has_an_age_of_its_own() {
    const DAY: u64 = 86_400;
    let failed = |age_seconds: u64, max_days: u32| {
        let mut world = World::new(Tee::Snp);
        let spec = CollateralSpec {
            issued_at: NOW.0 - age_seconds,
            next_update: NOW.0 + 300 * DAY,
            ..CollateralSpec::at(NOW.0)
        };
        world.collateral = collateral_of(pki(Tee::Snp).collateral_with(&spec).unwrap());
        world.policy.collateral_age_max_days = 1;
        world.policy.snp.as_mut().unwrap().crl_age_max_days = max_days;
        world.failed()
    };
    assert_eq!(failed(20 * DAY, 20), none());
    assert_eq!(failed(20 * DAY + 1, 20), ["collateral.age"]);
    assert_eq!(failed(20 * DAY, 1), ["collateral.age"]);
    assert_eq!(failed(399 * DAY, 400), none());
}

#[test]
fn a_trust_domain_without_sept_ve_disable_needs_a_policy_that_says_so() {
    let mut world = World::new(Tee::Tdx);
    assert_eq!(world.failed(), none());
    world.td.td_attributes = [0; 8];
    assert_eq!(world.failed(), ["tdx.sept-ve-disable"]);
    world.policy.tdx.as_mut().unwrap().sept_ve_disable = SeptVeDisable::NotRequired;
    assert_eq!(world.failed(), none());
}

#[test]
fn a_log_that_was_not_reached_leaves_the_platform_unjudged() {
    let world = World::new(Tee::Tdx);
    let mut evidence = world.evidence();
    evidence.agent_token = b"not.a.token".to_vec();
    evidence.event_log = b"not a log".to_vec();
    let refused = world.appraise_evidence(&evidence).unwrap_err();
    let ear = refused.ear(&world.policy(), Challenge::Nonce(&world.nonce), world.now);
    let platform = &ear.submods["platform"];
    assert_eq!((platform.status, platform.trustworthiness.len()), (Tier::None, 0));
    assert!(platform.attester_claims.is_empty());
    assert_eq!(ear.status, Tier::Contraindicated);
}

#[test]
fn a_quote_without_a_field_for_service_domains_is_not_said_to_have_a_good_one() {
    let appraisal = World::new(Tee::Tdx).appraise().unwrap();
    let rule = appraisal.rules().iter().find(|rule| rule.detail.rule == "tdx.service-td").unwrap();
    assert!(rule.passed);
    assert_eq!(rule.detail.found, "a report without the field");
}

#[test]
fn controls_with_gaps_need_a_policy_that_names_each() {
    let mut world = World::new(Tee::Tdx);
    for status in world.token.controls.values_mut() {
        *status = ControlStatus::EnforcedWithGaps;
    }
    let Event::AgentLaunched { controls, .. } = &mut world.events[1] else { panic!() };
    *controls = world.token.controls.clone();
    world.seal();
    let refused = world.appraise().unwrap_err().first();
    assert_eq!(
        (refused.rule.as_str(), refused.expected.as_str()),
        ("agent.controls", "every control enforced")
    );
    assert!(refused.found.contains("landlock enforced-with-gaps"), "{}", refused.found);
    world.composition().agents.get_mut(&name("researcher")).unwrap().allow_weaker =
        Control::ALL.into_iter().collect();
    let appraisal = world.appraise().unwrap();
    let rule = appraisal.rules().iter().find(|rule| rule.detail.rule == "agent.controls").unwrap();
    assert!(rule.detail.found.contains("accepted: "), "{}", rule.detail.found);
}

#[test]
fn no_rule_that_holds_says_only_that_it_found_such_a_thing() {
    for tee in BOTH {
        let appraisal = World::new(tee).appraise().unwrap();
        for rule in appraisal.rules() {
            assert!(!rule.detail.found.starts_with("such "), "{:?}", rule.detail);
        }
    }
}

#[test]
fn collateral_of_another_authority_or_in_the_wrong_place_is_refused() {
    let other = DevPki::generate(Tee::Tdx, NOW.0).unwrap();
    let other = collateral_of(other.collateral()).tdx.unwrap();
    let failed = |change: fn(&mut TdxCollateral, &TdxCollateral)| {
        let mut world = World::new(Tee::Tdx);
        change(world.collateral.tdx.as_mut().unwrap(), &other);
        world.failed()
    };
    assert_eq!(failed(|own, other| own.root_ca_crl = other.root_ca_crl.clone()), ["platform.crl"]);
    assert_eq!(failed(|own, other| own.pck_crl = other.pck_crl.clone()), ["platform.crl"]);
    assert_eq!(failed(|own, other| own.pck_crl_chain = other.pck_crl_chain.clone()), ["platform.crl"]);
    assert_eq!(failed(|own, _| own.pck_crl = own.root_ca_crl.clone()), ["platform.crl"]);
    assert_eq!(failed(|own, _| own.root_ca_crl = own.pck_crl.clone()), ["platform.crl"]);
    assert_eq!(failed(|own, other| own.tcb_info = other.tcb_info.clone()), ["tdx.tcb-info"]);
    assert_eq!(failed(|own, other| own.tcb_info_chain = other.tcb_info_chain.clone()), ["tdx.tcb-info"]);
    assert_eq!(failed(|own, other| own.qe_identity = other.qe_identity.clone()), ["tdx.qe-identity"]);
    assert_eq!(
        failed(|own, other| own.qe_identity_chain = other.qe_identity_chain.clone()),
        ["tdx.qe-identity"]
    );
    assert_eq!(failed(|own, _| own.tcb_info_chain = own.pck_crl_chain.clone()), ["tdx.tcb-info"]);
    assert_eq!(failed(|own, _| own.tcb_info = own.qe_identity.clone()), ["tdx.tcb-info"]);
    assert_eq!(failed(|own, _| own.tcb_info_chain.clear()), ["tdx.tcb-info"]);
    assert_eq!(failed(|own, _| own.pck_crl_chain.clear()), ["platform.crl"]);
    // Another authority's chain beside our quote, quote and all else being its own.
    let everything = failed(|own, other| *own = other.clone());
    assert_eq!(everything, ["platform.crl"]);
}

#[test]
fn snp_collateral_of_another_authority_is_refused() {
    let other = DevPki::generate(Tee::Snp, NOW.0).unwrap();
    let other = collateral_of(other.collateral()).snp.unwrap();
    let failed = |change: fn(&mut SnpCollateral, &SnpCollateral)| {
        let mut world = World::new(Tee::Snp);
        change(world.collateral.snp.as_mut().unwrap(), &other);
        world.failed()
    };
    assert_eq!(failed(|own, other| own.ark = other.ark.clone()), ["platform.roots"]);
    assert_eq!(failed(|own, other| own.ask = other.ask.clone()), ["platform.chain"]);
    assert_eq!(failed(|own, other| own.crl = other.crl.clone()), ["platform.crl"]);
    assert_eq!(failed(|own, _| own.crl.clear()), ["platform.crl"]);
    // The key's certificate comes with the evidence; only without it is the bundle's looked at.
    assert_eq!(failed(|own, other| own.vek = other.vek.clone()), none());
    assert_eq!(failed(|own, _| own.vek = None), none());
    let without_table = |evidence: &mut casemate_protocol::cmw::Evidence| {
        if let Platform::Snp { certificates, .. } = &mut evidence.platform {
            certificates.clear();
        }
    };
    let mut world = World::new(Tee::Snp);
    assert_eq!(world.failed_with(without_table), none());
    world.collateral.snp.as_mut().unwrap().vek = None;
    assert_eq!(world.failed_with(without_table), ["platform.chain"]);
    world.collateral.snp.as_mut().unwrap().vek = other.vek;
    assert_eq!(world.failed_with(without_table), ["platform.chain"]);
}

#[test]
fn certificates_outside_their_validity_are_refused() {
    for tee in BOTH {
        for now in [NOW.0 + 11 * 365 * 86_400, NOW.0 - 86_400] {
            let mut world = World::new(tee);
            world.now = UnixTime(now);
            assert_eq!(world.failed().first().map(String::as_str), Some("platform.chain"), "{tee} {now}");
        }
    }
}

#[test]
fn every_tcb_status_that_the_policy_does_not_name_is_refused() {
    let changes: [fn(&mut CollateralSpec); 3] = [
        |spec| spec.platform_status = "OutOfDate".into(),
        |spec| spec.module_status = "OutOfDate".into(),
        |spec| spec.qe_status = "OutOfDate".into(),
    ];
    for change in changes {
        let status = TcbStatus::OutOfDate;
        let mut spec = CollateralSpec::at(NOW.0);
        change(&mut spec);
        let mut world = World::new(Tee::Tdx);
        world.collateral = collateral_of(pki(Tee::Tdx).collateral_with(&spec).unwrap());
        assert_eq!(world.failed().first().map(String::as_str), Some("tdx.tcb-status"), "{status}");
        let expected = world.policy.tdx.as_mut().unwrap();
        expected.tcb_status = vec![status];
        expected.allow_advisories = ["CASEMATE-DEV-0001".to_owned()].into();
        assert_eq!(world.failed(), none(), "{status}");
    }
    // No policy can name this one.
    let spec = CollateralSpec { qe_status: "Revoked".into(), ..CollateralSpec::at(NOW.0) };
    let mut world = World::new(Tee::Tdx);
    world.collateral = collateral_of(pki(Tee::Tdx).collateral_with(&spec).unwrap());
    assert_eq!(world.failed(), ["tdx.tcb-status"]);
    world.policy.tdx.as_mut().unwrap().tcb_status = vec![TcbStatus::Revoked];
    assert!(Policy::parse(&Policy::render(&world.policy)).is_err());
    let spec = CollateralSpec { platform_status: "Splendid".into(), ..CollateralSpec::at(NOW.0) };
    let mut world = World::new(Tee::Tdx);
    world.collateral = collateral_of(pki(Tee::Tdx).collateral_with(&spec).unwrap());
    assert_eq!(world.failed(), ["tdx.tcb-info"]);
}

#[test]
fn an_accepted_status_does_not_accept_its_advisories() {
    let spec = CollateralSpec { platform_status: "OutOfDate".into(), ..CollateralSpec::at(NOW.0) };
    let mut world = World::new(Tee::Tdx);
    world.collateral = collateral_of(pki(Tee::Tdx).collateral_with(&spec).unwrap());
    world.policy.tdx.as_mut().unwrap().tcb_status = vec![TcbStatus::OutOfDate];
    assert_eq!(world.failed(), ["tdx.advisories"]);
}

#[test]
fn an_older_release_of_tcb_information_is_refused() {
    let mut world = World::new(Tee::Tdx);
    world.policy.tdx.as_mut().unwrap().tcb_evaluation_min = 19;
    assert_eq!(world.failed(), ["tdx.tcb-evaluation"]);
}

#[test]
fn a_trust_domain_with_other_measurements_or_attributes_is_refused() {
    let failed = |change: fn(&mut World)| {
        let mut world = World::new(Tee::Tdx);
        change(&mut world);
        world.failed()
    };
    assert_eq!(failed(|world| world.td.mrtd = [1; 48]), ["tdx.mrtd"]);
    assert_eq!(failed(|world| world.td.rtmr[0] = [1; 48]), ["tdx.rtmr0"]);
    assert_eq!(failed(|world| world.td.rtmr[1] = [1; 48]), ["tdx.rtmr1"]);
    assert_eq!(failed(|world| world.td.rtmr[2] = [1; 48]), ["tdx.rtmr2"]);
    assert_eq!(failed(|world| world.td.td_attributes[0] |= 1), ["tdx.td-attributes"]);
    assert_eq!(failed(|world| world.td.td_attributes[0] |= 0x10), ["tdx.td-attributes"]);
    assert_eq!(failed(|world| world.td.td_attributes[3] |= 0x20), ["tdx.td-attributes"]);
    assert_eq!(failed(|world| world.td.td_attributes[4] |= 1), ["tdx.td-attributes"]);
    assert_eq!(failed(|world| world.td.xfam = [0; 8]), ["tdx.xfam"]);
    assert_eq!(failed(|world| world.td.mrsignerseam = [1; 48]), ["tdx.module"]);
    assert_eq!(failed(|world| world.td.seam_attributes = [1; 8]), ["tdx.module"]);
    assert_eq!(failed(|world| world.td.tee_tcb_svn[1] = 0x7f), ["tdx.module"]);
    assert_eq!(failed(|world| world.td.tee_tcb_svn[2] = 0), ["tdx.tcb-status"]);
}

#[test]
fn a_quoting_enclave_that_does_not_match_is_refused() {
    let failed = |change: fn(&mut casemate_testkit::QuoteParts)| {
        let world = World::new(Tee::Tdx);
        let quote = world.pki.tdx().unwrap().quote_with(&world.td, change).unwrap();
        world.failed_with(|evidence| evidence.platform = Platform::Tdx { quote })
    };
    assert_eq!(failed(|_| {}), none());
    assert_eq!(failed(|parts| parts.qe_report[320] ^= 1), ["tdx.qe-report-data"]);
    assert_eq!(failed(|parts| parts.qe_report[383] ^= 1), ["tdx.qe-report-data"]);
    assert_eq!(failed(|parts| parts.qe_report[16] ^= 1), ["tdx.qe-identity"]);
    assert_eq!(failed(|parts| parts.qe_report[48] ^= 2), ["tdx.qe-identity"]);
    assert_eq!(failed(|parts| parts.qe_report[128] ^= 1), ["tdx.qe-identity"]);
    assert_eq!(failed(|parts| parts.qe_report[256] ^= 1), ["tdx.qe-identity"]);
    assert_eq!(failed(|parts| parts.qe_report[258..260].fill(0)), ["tdx.tcb-status"]);
    assert_eq!(failed(|parts| parts.certification_type = 7), ["tdx.quote"]);
    assert_eq!(failed(|parts| parts.inner_certification_type = 3), ["tdx.quote"]);
    assert_eq!(failed(|parts| parts.chain = b"-----BEGIN CERTIFICATE-----".to_vec()), ["platform.chain"]);
}

#[test]
fn a_version_5_quote_is_judged_with_what_only_it_says() {
    let world = World::new(Tee::Tdx);
    let failed = |tee_tcb_svn2: [u8; 16], mr_service_td: [u8; 48]| {
        let frame = |parts: &mut casemate_testkit::QuoteParts| {
            parts.header[0] = 5;
            let mut body = [3_u16.to_le_bytes().as_slice(), &648_u32.to_le_bytes()].concat();
            body.extend_from_slice(&parts.body);
            body.extend(tee_tcb_svn2);
            body.extend(mr_service_td);
            parts.body = body;
        };
        let quote = world.pki.tdx().unwrap().quote_with(&world.td, frame).unwrap();
        world.failed_with(|evidence| evidence.platform = Platform::Tdx { quote })
    };
    let svn = world.td.tee_tcb_svn;
    assert_eq!(failed(svn, [0; 48]), none());
    assert_eq!(failed(svn, [1; 48]), ["tdx.service-td"]);
    assert_eq!(failed([0; 16], [0; 48]), ["tdx.tcb-status"]);
}

#[test]
fn an_snp_report_with_other_measurements_or_policy_is_refused() {
    let failed = |change: fn(&mut World)| {
        let mut world = World::new(Tee::Snp);
        change(&mut world);
        world.failed()
    };
    let expected = |world: &mut World| world.policy.snp.clone().unwrap();
    assert_eq!(failed(|world| world.snp.measurement = [1; 48]), ["snp.measurement"]);
    assert_eq!(failed(|world| world.snp.vmpl = 1), ["snp.vmpl"]);
    assert_eq!(failed(|world| world.snp.policy |= 1 << 19), ["snp.policy"]);
    assert_eq!(failed(|world| world.snp.policy |= 1 << 18), ["snp.policy"]);
    assert_eq!(failed(|world| world.snp.policy &= !(1 << 17)), ["snp.policy"]);
    assert_eq!(failed(|world| world.snp.reported_tcb.snp += 1), ["snp.vek-tcb"]);
    assert_eq!(failed(|world| world.snp.committed_tcb.snp += 1), ["snp.tcb-relations"]);
    let mut world = World::new(Tee::Snp);
    let mut snp = expected(&mut world);
    snp.products.get_mut(&SnpProduct::Genoa).unwrap().microcode = 0xff;
    snp.smt = Smt::Refused;
    world.policy.snp = Some(snp.clone());
    assert_eq!(world.failed(), ["snp.tcb-min", "snp.policy", "snp.platform-info"]);
    let min = snp.products.remove(&SnpProduct::Genoa).unwrap();
    snp.products.insert(SnpProduct::Milan, min);
    snp.smt = Smt::Allowed;
    world.policy.snp = Some(snp);
    assert_eq!(world.failed(), ["snp.product"]);
}

#[test]
fn an_snp_report_that_does_not_fit_its_key_is_refused() {
    let failed = |change: fn(&mut [u8])| {
        let world = World::new(Tee::Snp);
        let changed = world.pki.snp().unwrap().report_with(&world.snp, change).unwrap();
        world.failed_with(|evidence| {
            if let Platform::Snp { report, .. } = &mut evidence.platform {
                *report = changed;
            }
        })
    };
    assert_eq!(failed(|_| {}), none());
    assert_eq!(failed(|report| report[0x1a0] ^= 1), ["snp.chip-id"]);
    assert_eq!(failed(|report| report[0x1a0..0x1e0].fill(0)), ["snp.chip-id"]);
    assert_eq!(failed(|report| report[0x182] = 1), ["snp.vek-tcb"]);
    assert_eq!(failed(|report| report[0x48] = 1), ["snp.author-key"]);
    assert_eq!(failed(|report| report[0x110] = 1), ["snp.author-key"]);
    assert_eq!(failed(|report| report[0x48] = 4), ["platform.chain"]);
    assert_eq!(failed(|report| report[0x48] = 7 << 2), ["platform.chain"]);
    assert_eq!(failed(|report| report[0x189] = 0x01), ["snp.processor"]);
}

#[test]
fn box_claims_that_are_not_bound_or_not_canonical_are_refused() {
    for tee in BOTH {
        let world = World::new(tee);
        let failed = world.failed_with(|evidence| evidence.box_claims.push(b' '));
        assert_eq!(failed, ["box.report-data", "box.claims"], "{tee}");
        let failed = world.failed_with(|evidence| evidence.box_claims.clear());
        assert_eq!(failed, ["box.report-data", "box.claims"], "{tee}");
    }
    let mut world = World::new(Tee::Tdx);
    world.claims.casemate = "box/2".into();
    world.bind_claims();
    assert_eq!(world.failed(), ["box.claims"]);
}

#[test]
fn another_composition_is_refused_by_binding_and_by_policy() {
    for tee in BOTH {
        let mut world = World::new(tee);
        world.td.mrconfigid = [0; 48];
        world.snp.host_data = [0; 32];
        assert_eq!(world.failed(), ["composition.launch-binding"], "{tee}");
        let mut world = World::new(tee);
        world.composition().digest = Sha384::ZERO;
        assert_eq!(world.failed(), ["composition.digest"], "{tee}");
    }
}

#[test]
fn an_argument_changed_after_the_policy_was_written_is_refused_with_both_measurements() {
    let mut world = World::new(Tee::Tdx);
    let expected = world.token.measurement;
    let changed = agent("research.py --leak");
    world.lock.agents.insert(name("researcher"), changed.clone());
    let measurement = changed.measurement().unwrap();
    world.claims.composition = world.lock.digest().unwrap();
    world.token.proof = world.lock.proof(&name("researcher")).unwrap().unwrap();
    world.token.measurement = measurement;
    world.config = casemate_canon::to_canonical_json(&changed).unwrap();
    world.events = vec![
        Event::CompositionLoaded { composition: world.claims.composition, warden: "0.1.0".into() },
        Event::AgentLaunched { agent: name("researcher"), instance: 1, measurement, controls: enforced() },
    ];
    world.seal();
    let refused = world.appraise().unwrap_err();
    let rule = refused.rules.iter().find(|rule| rule.detail.rule == "agent.measurement").unwrap();
    assert_eq!(rule.detail.expected, expected.to_string());
    assert_eq!(rule.detail.found, measurement.to_string());
    assert_eq!(world.failed(), ["composition.digest", "agent.measurement"]);
}

#[test]
fn a_log_that_does_not_replay_is_refused() {
    let world = World::new(Tee::Tdx);
    let failed = world.failed_with(|evidence| evidence.event_log.push(b'\n'));
    assert_eq!(failed, ["log.chain"]);
    let failed = world.failed_with(|evidence| evidence.event_log.insert(0, b' '));
    assert_eq!(failed, ["log.chain"]);
    let failed = world.failed_with(|evidence| evidence.event_log.truncate(20));
    assert_eq!(failed, ["log.chain"]);
    let failed = world.failed_with(|evidence| evidence.event_log.clear());
    assert_eq!(failed, ["log.box-head", "log.head", "log.composition", "log.agent-launched"]);
    let mut world = World::new(Tee::Tdx);
    world.td.rtmr[3] = [1; 48];
    assert_eq!(world.failed(), ["log.rtmr3"]);
    let mut world = World::new(Tee::Tdx);
    world.token.log_count += 1;
    assert_eq!(world.failed(), ["log.head"]);
    for tee in BOTH {
        let mut world = World::new(tee);
        world.events_in_box_claims = 0;
        world.seal();
        assert_eq!(world.failed(), ["log.box-head"], "{tee}");
    }
}

#[test]
fn a_log_may_be_longer_than_when_the_box_reported() {
    let mut world = World::new(Tee::Tdx);
    world.events_in_box_claims = 1;
    world.seal();
    assert_eq!(world.failed(), none());
    world.events.push(Event::AgentStarted { agent: name("researcher"), instance: 1 });
    world.seal();
    assert_eq!(world.failed(), none());
}

#[test]
fn the_log_must_load_this_composition_once_and_first() {
    let mut world = World::new(Tee::Tdx);
    world.events.remove(0);
    world.events_in_box_claims = 1;
    world.seal();
    assert_eq!(world.failed(), ["log.composition"]);
    let mut world = World::new(Tee::Tdx);
    world.events.push(world.events[0].clone());
    world.seal();
    assert_eq!(world.failed(), ["log.composition"]);
    let mut world = World::new(Tee::Tdx);
    world.events[0] = Event::CompositionLoaded { composition: Sha384::ZERO, warden: "0.1.0".into() };
    world.seal();
    assert_eq!(world.failed(), ["log.composition"]);
}

#[test]
fn the_log_must_show_this_launch_of_the_agent() {
    let with = |change: fn(&mut World)| {
        let mut world = World::new(Tee::Tdx);
        change(&mut world);
        world.seal();
        world.failed()
    };
    assert_eq!(with(|world| world.token.instance = 2), ["log.agent-launched"]);
    assert_eq!(with(|world| world.token.controls.clear()), ["agent.controls", "log.agent-launched"]);
    let never = with(|world| {
        world.events.truncate(1);
        world.events_in_box_claims = 1;
    });
    assert_eq!(never, ["log.agent-launched"]);
    let ended = |world: &mut World| {
        world.events.push(Event::AgentExited { agent: name("researcher"), instance: 1, status: 0 });
    };
    assert_eq!(with(ended), ["log.agent-launched"]);
    let started_again = |world: &mut World| {
        let Event::AgentLaunched { agent, measurement, controls, .. } = world.events[1].clone() else {
            panic!()
        };
        world.events.push(Event::AgentExited { agent: agent.clone(), instance: 1, status: 1 });
        world.events.push(Event::AgentLaunched { agent, instance: 2, measurement, controls });
    };
    assert_eq!(with(started_again), ["log.agent-launched"]);
    let other = |world: &mut World| {
        let Event::AgentLaunched { measurement, .. } = &mut world.events[1] else { panic!() };
        *measurement = Sha384::ZERO;
    };
    assert_eq!(with(other), ["log.agent-launched"]);
}

#[test]
fn tainted_agents_are_refused_unless_the_policy_allows_it() {
    let taint = || Event::AgentTainted { agent: name("researcher"), by: "exec".into() };
    let mut world = World::new(Tee::Tdx);
    world.token.tainted = true;
    world.events.push(taint());
    world.seal();
    assert_eq!(world.failed(), ["agent.taint"]);
    world.composition().agents.get_mut(&name("researcher")).unwrap().taint = Taint::Allowed;
    assert_eq!(world.failed(), none());
    // The two need not be the same: the box itself may know more than its log says, and the worse of both counts.
    let mut frank = World::new(Tee::Tdx);
    frank.token.tainted = true;
    frank.composition().agents.get_mut(&name("researcher")).unwrap().taint = Taint::Allowed;
    let appraisal = frank.appraise().unwrap();
    let rule = appraisal.rules().iter().find(|rule| rule.detail.rule == "agent.taint").unwrap();
    assert_eq!(rule.detail.expected, "tainted or not, and no taint in the log that the token hides");
    assert_eq!(rule.detail.found, "tainted, as the token says and the log does not");
    // A token that hides what the log shows is refused either way.
    world.token.tainted = false;
    assert_eq!(world.failed(), ["agent.taint"]);
    let mut world = World::new(Tee::Tdx);
    world.events.push(Event::AgentTainted { agent: name("scribe"), by: "exec".into() });
    world.seal();
    assert_eq!(world.failed(), none());
}

#[test]
fn edges_that_were_opened_by_hand_are_refused_unless_the_policy_allows_them() {
    let changed =
        |agent: &str, to: &str, change| Event::PolicyChanged { agent: name(agent), to: to.into(), change };
    let with = |events: &[Event]| {
        let mut world = World::new(Tee::Tdx);
        world.events.extend_from_slice(events);
        world.seal();
        world
    };
    let added = changed("researcher", "paste.example:443", EdgeChange::Added);
    let closed = changed("researcher", "paste.example:443", EdgeChange::Denied);
    let mut world = with(std::slice::from_ref(&added));
    assert_eq!(world.failed(), ["agent.edges"]);
    world.composition().agents.get_mut(&name("researcher")).unwrap().added_edges = AddedEdges::Allowed;
    assert_eq!(world.failed(), none());
    // It was open while this instance ran: that it is closed now does not undo it.
    assert_eq!(with(&[added, closed]).failed(), ["agent.edges"]);
    // Who is called by somebody that its composition does not name.
    assert_eq!(with(&[changed("scribe", "researcher:80", EdgeChange::Added)]).failed(), ["agent.edges"]);
    // Fewer edges than declared, and edges of others, are no matter of this agent.
    for event in [
        changed("researcher", "scribe:80", EdgeChange::Denied),
        changed("researcher", "scribe:80", EdgeChange::Restored),
        changed("scribe", "paste.example:443", EdgeChange::Added),
    ] {
        assert_eq!(with(&[event]).failed(), none());
    }
}

#[test]
fn an_edge_that_was_closed_before_the_agents_launch_is_not_held_against_it() {
    let changed =
        |change| Event::PolicyChanged { agent: name("researcher"), to: "paste.example:443".into(), change };
    let mut world = World::new(Tee::Tdx);
    world.events.splice(1..1, [changed(EdgeChange::Added), changed(EdgeChange::Denied)]);
    world.seal();
    assert_eq!(world.failed(), none());
    let mut open = World::new(Tee::Tdx);
    open.events.insert(1, changed(EdgeChange::Added));
    open.seal();
    assert_eq!(open.failed(), ["agent.edges"]);
}

#[test]
fn every_control_must_be_enforced_unless_the_policy_names_it() {
    let with = |status: Option<ControlStatus>| {
        let mut world = World::new(Tee::Tdx);
        match status {
            Some(status) => world.token.controls.insert(Control::Landlock, status),
            None => world.token.controls.remove(&Control::Landlock),
        };
        let Event::AgentLaunched { controls, .. } = &mut world.events[1] else { panic!() };
        *controls = world.token.controls.clone();
        world.seal();
        world
    };
    let weaker = [ControlStatus::EnforcedWithGaps, ControlStatus::NotEnforced, ControlStatus::Unknown];
    for status in weaker.map(Some).into_iter().chain([None]) {
        let mut world = with(status);
        assert_eq!(world.failed(), ["agent.controls"], "{status:?}");
        let researcher = world.composition().agents.get_mut(&name("researcher")).unwrap();
        researcher.allow_weaker.insert(Control::Landlock);
        assert_eq!(world.failed(), none(), "{status:?}");
        let ear = world.appraise().unwrap().ear().clone();
        assert_eq!(ear.submods["agent/researcher"].trustworthiness["configuration"], 32);
    }
}

#[test]
fn a_control_that_not_every_machine_has_is_told_and_in_force_where_the_policy_asks() {
    let with = |control: Control, status: Option<ControlStatus>| {
        let mut world = World::new(Tee::Tdx);
        match status {
            Some(status) => world.token.controls.insert(control, status),
            None => world.token.controls.remove(&control),
        };
        let Event::AgentLaunched { controls, .. } = &mut world.events[1] else { panic!() };
        *controls = world.token.controls.clone();
        world.seal();
        world
    };
    for control in [Control::Speculation, Control::CoreScheduling, Control::DenyWriteExecute] {
        let mut world = with(control, Some(ControlStatus::NotEnforced));
        assert_eq!(world.failed(), none(), "{control:?}");
        let ear = world.appraise().unwrap().ear().clone();
        assert_eq!(ear.submods["agent/researcher"].trustworthiness.get("configuration"), None);
        let researcher = world.composition().agents.get_mut(&name("researcher")).unwrap();
        researcher.require_controls.insert(control);
        assert_eq!(world.failed(), ["agent.controls"], "{control:?}");
        // Evidence that does not speak of it is refused by everybody.
        assert_eq!(with(control, None).failed(), ["agent.controls"], "{control:?}");
    }
}

#[test]
fn a_control_that_the_policy_asks_for_is_without_gaps_whatever_the_backend_promises() {
    for (control, promised) in [
        (Control::Landlock, ControlStatus::NotEnforced),
        (Control::Proc, ControlStatus::EnforcedWithGaps),
        (Control::NoPrivileges, ControlStatus::EnforcedWithGaps),
    ] {
        let mut world = World::new(Tee::Tdx);
        world.token.backend = Backend::Gvisor { runsc: Sha256::ZERO };
        world.token.controls.insert(control, promised);
        let Event::AgentLaunched { controls, .. } = &mut world.events[1] else { panic!() };
        *controls = world.token.controls.clone();
        world.seal();
        let researcher = world.composition().agents.get_mut(&name("researcher")).unwrap();
        researcher.backends.insert(BackendKind::Gvisor);
        // The configuration is the one of a native agent.
        assert_eq!(world.failed(), ["agent.config"], "{control:?}");
        let researcher = world.composition().agents.get_mut(&name("researcher")).unwrap();
        researcher.require_controls.insert(control);
        assert_eq!(world.failed(), ["agent.config", "agent.controls"], "{control:?}");
    }
}

#[test]
fn an_agent_that_its_lock_entry_puts_on_processors_is_there() {
    for (status, in_order) in [
        (ControlStatus::EnforcedWithGaps, true),
        (ControlStatus::NotEnforced, false),
        (ControlStatus::Unknown, false),
    ] {
        let mut world = World::new(Tee::Tdx);
        world.token.controls.insert(Control::Cores, status);
        let Event::AgentLaunched { controls, .. } = &mut world.events[1] else { panic!() };
        *controls = world.token.controls.clone();
        world.seal();
        assert_eq!(world.failed(), none(), "{status:?}");
        let mut entry: casemate_composition::lock::Agent = serde_json::from_slice(&world.config).unwrap();
        entry.limits.cpuset = Some([0].into());
        world.config = casemate_canon::to_canonical_json(&entry).unwrap();
        // The configuration is not the measured one any more.
        let expected: &[&str] =
            if in_order { &["agent.config"] } else { &["agent.config", "agent.controls"] };
        assert_eq!(world.failed(), expected, "{status:?}");
    }
}

#[test]
fn an_agent_must_belong_to_the_composition_and_be_the_one_it_shows() {
    let mut world = World::new(Tee::Tdx);
    world.token.proof.path[0] = Sha384::ZERO;
    assert_eq!(world.failed(), ["agent.membership"]);
    let mut world = World::new(Tee::Tdx);
    world.config = casemate_canon::to_canonical_json(&agent("other.py")).unwrap();
    assert_eq!(world.failed(), ["agent.config"]);
    let mut world = World::new(Tee::Tdx);
    world.config.push(b'\n');
    assert_eq!(world.failed(), ["agent.config"]);
    let mut world = World::new(Tee::Tdx);
    world.composition().agents.clear();
    assert_eq!(world.failed(), ["agent.name"]);
    let mut world = World::new(Tee::Tdx);
    world.token.sub = name("scribe");
    let expected = ["agent.membership", "agent.name", "agent.posture", "log.agent-launched"];
    assert_eq!(world.failed(), expected);
}

#[test]
fn an_agent_key_must_be_a_point_for_key_agreement() {
    let mut world = World::new(Tee::Tdx);
    world.token.cnf.jwk.alg = ALG_ES256.into();
    assert_eq!(world.failed(), ["agent.key"]);
    let mut world = World::new(Tee::Tdx);
    world.token.cnf.jwk.y = world.token.cnf.jwk.x.clone();
    assert_eq!(world.failed(), ["agent.key"]);
}

#[test]
fn a_token_by_another_key_or_of_another_form_is_refused() {
    let mut world = World::new(Tee::Tdx);
    world.box_key = new_key();
    assert_eq!(world.failed(), ["agent.token"]);
    let mut world = World::new(Tee::Tdx);
    world.token.eat_profile = "tag:example.com,2026:other".into();
    assert_eq!(world.failed(), ["agent.profile"]);
    let world = World::new(Tee::Tdx);
    let payload = serde_json::to_string(&world.token).unwrap();
    let failed = |header: &str, payload: &str| {
        world.failed_with(|evidence| evidence.agent_token = world.sign(header, payload.as_bytes()))
    };
    assert_eq!(failed(&header(), &payload), none());
    let repeated = payload.replacen('{', r#"{"tainted":false,"#, 1);
    assert_eq!(failed(&header(), &repeated), ["agent.token"]);
    let repeated = payload.replacen(r#""controls":{"#, r#""controls":{"landlock":"enforced","#, 1);
    assert_eq!(failed(&header(), &repeated), ["agent.token"]);
    let unknown = payload.replacen('{', r#"{"admin":true,"#, 1);
    assert_eq!(failed(&header(), &unknown), ["agent.token"]);
    for bad in [
        r#"{"typ":"eat+jwt","alg":"none"}"#,
        r#"{"typ":"JWT","alg":"ES256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"typ":"eat+jwt","alg":"ES256","crit":["b64"],"b64":false}"#,
        r#"{"typ":"eat+jwt","alg":"ES256","jwk":{}}"#,
        r#"{"typ":"eat+jwt","alg":"ES256","alg":"ES256"}"#,
        "[]",
    ] {
        assert_eq!(failed(bad, &payload), ["agent.token"], "{bad}");
    }
}

#[test]
fn a_token_whose_objects_are_written_as_arrays_is_refused() {
    let world = World::new(Tee::Tdx);
    let failed = |header: &str, payload: &serde_json::Value| {
        let payload = serde_json::to_vec(payload).unwrap();
        world.failed_with(|evidence| evidence.agent_token = world.sign(header, &payload))
    };
    let good = serde_json::to_value(&world.token).unwrap();
    assert_eq!(failed(&header(), &good), none());
    assert_eq!(failed(r#"["eat+jwt","ES256"]"#, &good), ["agent.token"]);
    let token = &world.token;
    let whole = serde_json::json!([
        token.eat_profile,
        token.eat_nonce,
        token.iat,
        token.sub,
        token.instance,
        token.measurement,
        token.proof,
        token.backend,
        token.controls,
        token.tainted,
        token.log_head,
        token.log_count,
        token.cnf
    ]);
    assert_eq!(failed(&header(), &whole), ["agent.token"]);
    let mut inner = good.clone();
    inner["proof"] = serde_json::json!([token.proof.index, token.proof.size, token.proof.path]);
    assert_eq!(failed(&header(), &inner), ["agent.token"]);
    let mut inner = good;
    inner["cnf"] = serde_json::json!([token.cnf.jwk]);
    assert_eq!(failed(&header(), &inner), ["agent.token"]);
}

#[test]
fn signed_documents_with_a_member_twice_are_refused() {
    let mut world = World::new(Tee::Tdx);
    let twice = |document: &[u8], member: &str| {
        let text = std::str::from_utf8(document).unwrap();
        let at = text.find(member).unwrap() + member.len();
        let end = at + text[at..].find(',').unwrap() + 1;
        let pair = &text[at - member.len()..end];
        text.replacen(pair, &format!("{pair}{pair}"), 1).into_bytes()
    };
    let tdx = world.collateral.tdx.as_mut().unwrap();
    // Of members that are not read, which the types do not look at.
    let level = r#""tcbDate":"#;
    tdx.tcb_info = twice(&tdx.tcb_info, level);
    let refused = world.appraise().unwrap_err().first();
    assert_eq!(refused.rule, "tdx.tcb-info");
    assert!(refused.found.contains("given twice"), "{}", refused.found);
}

#[test]
fn nothing_beyond_the_platform_is_read_where_no_root_stands_behind_it() {
    for tee in BOTH {
        let mut world = World::new(tee);
        world.policy.roots = Roots::Development(vec![casemate_canon::Sha256::of(b"another root")]);
        let failed = world.failed_with(|evidence| {
            evidence.event_log = vec![b'x'; 1 << 20];
            evidence.box_claims.clear();
            evidence.agent_token.clear();
        });
        assert_eq!(failed, ["platform.roots"], "{tee}");
    }
}

#[test]
fn nothing_is_affirmed_of_what_is_simulated() {
    for tee in BOTH {
        let appraisal = World::new(tee).appraise().unwrap();
        for (part, submodule) in &appraisal.ear().submods {
            assert!(submodule.trustworthiness.values().all(|value| *value >= 32), "{tee} {part}");
            assert_eq!(submodule.status, Tier::Warning, "{tee} {part}");
            let written = serde_json::to_value(submodule).unwrap();
            assert_eq!(written.get("ear_trustworthiness_vector"), None, "{tee} {part}");
        }
    }
}

#[test]
fn a_jws_is_verified_over_the_bytes_received() {
    let world = World::new(Tee::Tdx);
    let key = world.claims.box_key.clone();
    let token = world.sign(&header(), b"payload");
    let verify = |token: &[u8]| {
        casemate_verifier::verify_jwt(token, AGENT_TOKEN_TYP, &key).map_err(|refusal| refusal.rule)
    };
    assert_eq!(verify(&token), Ok(b"payload".to_vec()));
    for length in 0..token.len() {
        assert!(verify(&token[..length]).is_err(), "{length}");
    }
    let mut longer = token.clone();
    longer.extend(b".x");
    assert_eq!(verify(&longer), Err("jwt.form".into()));
    let with_padding = [token.as_slice(), b"="].concat();
    assert_eq!(verify(&with_padding), Err("jwt.form".into()));
    let other_header = world.sign(r#"{"alg":"ES256","typ":"eat+jwt"}"#, b"payload");
    assert_eq!(verify(&other_header), Ok(b"payload".to_vec()));
    let mixed = [
        other_header.split(|b| *b == b'.').next().unwrap(),
        &token[token.iter().position(|b| *b == b'.').unwrap()..],
    ]
    .concat();
    assert_eq!(verify(&mixed), Err("jwt.signature".into()));
    let mut wrong_key = key.clone();
    wrong_key.x = wrong_key.y.clone();
    let rule = |typ: &str, key: &EcJwk| casemate_verifier::verify_jwt(&token, typ, key).unwrap_err().rule;
    assert_eq!(rule(AGENT_TOKEN_TYP, &wrong_key), "jwt.signature");
    assert_eq!(rule("JWT", &key), "jwt.header");
    let for_agreement = EcJwk { alg: ALG_ECDH.into(), ..key.clone() };
    assert_eq!(rule(AGENT_TOKEN_TYP, &for_agreement), "jwt.key");
    let long = vec![b'a'; casemate_verifier::JWT_BYTES_MAX + 1];
    assert_eq!(verify(&long), Err("jwt.form".into()));
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

#[test]
fn a_posture_that_is_not_the_tokens_is_refused_by_everybody() {
    let mut world = World::new(Tee::Tdx);
    world.posture.checked += 1;
    assert_eq!(world.failed(), ["agent.posture"]);
    let mut world = World::new(Tee::Tdx);
    world.posture.agent = name("writer");
    world.seal();
    assert_eq!(world.failed(), ["agent.posture"]);
    let mut world = World::new(Tee::Tdx);
    world.posture.casemate = "casemate posture 2".into();
    world.seal();
    assert_eq!(world.failed(), ["agent.posture"]);
}

fn asking(change: impl Fn(&mut PostureExpectations), seen: impl Fn(&mut Posture)) -> Vec<String> {
    let mut world = World::new(Tee::Tdx);
    let composition = world.composition();
    assert!(composition.agents.contains_key(&name("researcher")));
    composition.agents.entry(name("researcher")).and_modify(|agent| change(&mut agent.posture));
    seen(&mut world.posture);
    world.seal();
    world.failed()
}

#[test]
fn agents_that_a_policy_wants_apart_have_no_file_system_in_common() {
    let every: fn(&mut PostureExpectations) = |asked| asked.no_shared_inode_with = Apart::FromEveryOther;
    let writer: fn(&mut PostureExpectations) =
        |asked| asked.no_shared_inode_with = Apart::From([name("scribe")].into());
    let shares = |posture: &mut Posture| {
        posture.mounts_with.insert(name("scribe"), ["/data".to_owned()].into());
    };
    for asked in [every, writer] {
        assert_eq!(asking(asked, |_| {}), none());
        assert_eq!(asking(asked, shares), ["posture.inode"]);
    }
    // Nobody asks: shown, and no reason to refuse.
    assert_eq!(asking(|_| {}, shares), none());
    // An agent that was not compared is not apart.
    let forgets = |posture: &mut Posture| drop(posture.mounts_with.remove(&name("scribe")));
    assert_eq!(asking(writer, forgets), ["posture.inode"]);
    assert_eq!(asking(every, forgets), ["posture.compared"]);
}

#[test]
fn a_check_that_a_policy_names_must_pass_and_be_there() {
    let smt: fn(&mut PostureExpectations) = |asked| {
        asked.checks.insert("D14.smt".into());
    };
    assert_eq!(asking(smt, |_| {}), none());
    for verdict in [Verdict::Warn, Verdict::Fail, Verdict::Unknown, Verdict::NotApplicable] {
        let found = asking(smt, |posture| {
            posture.checks.get_mut("D14.smt").unwrap().verdict = verdict;
        });
        assert_eq!(found, ["posture.check"], "{verdict:?}");
    }
    assert_eq!(asking(smt, |posture| posture.checks.clear()), ["posture.check"]);
    assert_eq!(asking(smt, |posture| posture.checked -= 121), ["posture.check"]);
    assert_eq!(asking(smt, |posture| posture.checked += 1), ["posture.check"]);
    assert_eq!(asking(|_| {}, |posture| posture.checked -= 121), none());
}

#[test]
fn a_probe_that_a_policy_asks_for_is_young_and_without_a_leak() {
    let hour: fn(&mut PostureExpectations) = |asked| asked.probe_age_max_seconds = Some(3600);
    let probe = |change: fn(&mut ProbeSeen)| {
        asking(hour, |posture| {
            let mut probe = ProbeSeen {
                ended: NOW.0 - 3600,
                battery: Battery::Short,
                blocked: ["trace".to_owned()].into(),
                allowed: BTreeSet::new(),
                leaks: BTreeSet::new(),
                inconclusive: BTreeSet::new(),
            };
            posture.probes.insert(name("planner"), probe.clone());
            change(&mut probe);
            posture.probes.insert(name("scribe"), probe);
        })
    };
    assert_eq!(probe(|_| {}), none());
    assert_eq!(probe(|probe| probe.ended -= 1), ["posture.probe"]);
    assert_eq!(probe(|probe| probe.ended = NOW.0 + 1), ["posture.probe"]);
    assert_eq!(probe(|probe| probe.leaks = ["trace".to_owned()].into()), ["posture.probe"]);
    assert_eq!(probe(|probe| probe.blocked.clear()), ["posture.probe"]);
    assert_eq!(probe(|probe| probe.inconclusive = ["trace".to_owned()].into()), ["posture.probe"]);
    // Attacks that the policy names may leak or tell nothing; and it may ask for the whole battery.
    let both = |change: fn(&mut PostureExpectations)| {
        asking(
            |asked| {
                asked.probe_age_max_seconds = Some(60);
                change(asked);
            },
            |posture| {
                for other in ["planner", "scribe"] {
                    let probe = ProbeSeen {
                        ended: NOW.0,
                        battery: Battery::Short,
                        blocked: ["signal".to_owned()].into(),
                        allowed: BTreeSet::new(),
                        leaks: ["trace".to_owned()].into(),
                        inconclusive: ["perf".to_owned()].into(),
                    };
                    posture.probes.insert(name(other), probe);
                }
            },
        )
    };
    assert_eq!(both(|_| {}), ["posture.probe"]);
    assert_eq!(both(|asked| asked.allow_attacks = ["trace".to_owned()].into()), ["posture.probe"]);
    assert_eq!(both(|asked| asked.allow_attacks = ["trace".to_owned(), "perf".to_owned()].into()), none());
    let whole = both(|asked| {
        asked.allow_attacks = ["trace".to_owned(), "perf".to_owned()].into();
        asked.whole_battery = true;
    });
    assert_eq!(whole, ["posture.probe"]);
    assert_eq!(asking(hour, |_| {}), ["posture.probe"], "none from the other agent");
}
