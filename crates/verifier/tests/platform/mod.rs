//! The hardware's statement and its collateral: certificates, TCB, measurements, and what they must say.

use super::*;

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
