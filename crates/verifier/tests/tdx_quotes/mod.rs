//! TDX quotes by themselves: versions and bodies, and what a policy must say before an unusual trust domain passes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot build its world fails")]

use casemate_protocol::cmw::Platform;
use casemate_testkit::{CollateralSpec, TEE_TCB_SVN, TdBody, Tee};
use casemate_verifier::{
    Binding, Challenge, Measurement, PlatformAppraisal, PlatformProperty, Policy, PolicyValues, Refused,
    TcbStatus, TdAttributes, UnixTime, VerifiedCollateral, appraise_platform,
};

use crate::world::{NOW, World, collateral_of, pki};

/// A quote of version 5 with this body type and these bytes after the fields of TD report 1.0.
fn quote_v5(body: &TdBody, body_type: u16, later: &[u8]) -> Vec<u8> {
    let pki = pki(Tee::Tdx).tdx().unwrap();
    pki.quote_with(body, |parts| {
        parts.header[0] = 5;
        let size = u32::try_from(parts.body.len() + later.len()).unwrap();
        let framed = [&body_type.to_le_bytes()[..], &size.to_le_bytes(), &parts.body, later].concat();
        parts.body = framed;
    })
    .unwrap()
}

/// A policy for the platform alone.
fn policy() -> PolicyValues {
    PolicyValues { composition: None, ..World::new(Tee::Tdx).policy }
}

fn appraise(quote: Vec<u8>, values: &PolicyValues) -> Result<PlatformAppraisal, Refused> {
    let policy = Policy::parse(&Policy::render(values)).unwrap();
    let mut collateral = VerifiedCollateral::verify(&collateral_of(pki(Tee::Tdx).collateral()));
    let binding = Binding::ReportData([7; 64]);
    appraise_platform(&Platform::Tdx { quote }, None, &binding, &policy, &mut collateral, NOW)
}

fn failed(quote: Vec<u8>, values: &PolicyValues) -> Vec<String> {
    let rules = match appraise(quote, values) {
        Ok(_) => return Vec::new(),
        Err(refused) => refused.rules,
    };
    rules.into_iter().filter(|rule| !rule.passed).map(|rule| rule.detail.rule).collect()
}

fn body() -> TdBody {
    TdBody { report_data: [7; 64], ..TdBody::new() }
}

fn quote(body: &TdBody) -> Vec<u8> {
    pki(Tee::Tdx).tdx_quote(body).unwrap()
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn every_version_and_body_type_passes_by_itself() {
    let later = [&TEE_TCB_SVN[..], &[0; 48]].concat();
    let extended = [later.as_slice(), &[0; 237]].concat();
    let quotes = [
        quote(&body()),
        quote_v5(&body(), 2, &[]),
        quote_v5(&body(), 3, &later),
        quote_v5(&body(), 4, &extended),
    ];
    for quote in quotes {
        assert_eq!(failed(quote, &policy()), none());
    }
}

#[test]
fn report_data_must_be_equal_in_all_its_bytes() {
    for offset in [0, 31, 32, 63] {
        let mut other = body();
        other.report_data[offset] ^= 1;
        assert_eq!(failed(quote(&other), &policy()), ["platform.report-data"], "{offset}");
    }
}

#[test]
fn a_quote_has_no_extra_data_to_bind() {
    let text = Policy::parse(&Policy::render(&policy())).unwrap();
    let mut collateral = VerifiedCollateral::verify(&collateral_of(pki(Tee::Tdx).collateral()));
    let statement = Platform::Tdx { quote: quote(&body()) };
    let binding = Binding::ExtraData(vec![7; 64]);
    let refused = appraise_platform(&statement, None, &binding, &text, &mut collateral, NOW).unwrap_err();
    assert_eq!(refused.first().rule, "platform.report-data");
}

#[test]
fn a_service_trust_domain_passes_only_where_it_is_named() {
    let service = [0x5d; 48];
    let at_creation = [&TEE_TCB_SVN[..], &service].concat();
    let since = [&TEE_TCB_SVN[..], &[0; 48], &[0; 181], &service, &[0; 8]].concat();
    let mut named = policy();
    named.tdx.as_mut().unwrap().mrservicetd = vec![Measurement([0; 48]), Measurement(service)];
    for (body_type, later) in [(3, at_creation), (4, since)] {
        let quote = quote_v5(&body(), body_type, &later);
        assert_eq!(failed(quote.clone(), &policy()), ["tdx.service-td"], "{body_type}");
        assert_eq!(failed(quote, &named), none(), "{body_type}");
    }
    // One that must be there is missed where the report has no field for it.
    named.tdx.as_mut().unwrap().mrservicetd = vec![Measurement(service)];
    assert_eq!(failed(quote(&body()), &named), ["tdx.service-td"]);
}

#[test]
fn a_module_updated_under_a_trust_domain_is_judged_by_both_versions() {
    // Launched under a module that is out of date, running under one that is not.
    let mut launched = body();
    launched.tee_tcb_svn[0] = 5;
    let later = [&TEE_TCB_SVN[..], &[0; 48]].concat();
    let refused = appraise(quote_v5(&launched, 3, &later), &policy()).unwrap_err();
    assert_eq!(refused.first().rule, "tdx.tcb-status");
    assert!(refused.first().found.starts_with("TDRelaunchAdvised"), "{}", refused.first());
}

#[test]
fn a_relaunch_hides_no_quoting_enclave_that_is_out_of_date() {
    let mut launched = body();
    launched.tee_tcb_svn[0] = 5;
    let later = [&TEE_TCB_SVN[..], &[0; 48]].concat();
    let mut values = policy();
    let tdx = values.tdx.as_mut().unwrap();
    tdx.tcb_status = vec![TcbStatus::UpToDate, TcbStatus::TdRelaunchAdvised];
    tdx.allow_advisories = ["CASEMATE-DEV-0001".to_owned()].into();
    let policy = Policy::parse(&Policy::render(&values)).unwrap();
    let statement = Platform::Tdx { quote: quote_v5(&launched, 3, &later) };
    let binding = Binding::ReportData([7; 64]);
    let status = |qe_status: &str| {
        let spec = CollateralSpec { qe_status: qe_status.into(), ..CollateralSpec::at(NOW.0) };
        let parts = pki(Tee::Tdx).collateral_with(&spec).unwrap();
        let mut collateral = VerifiedCollateral::verify(&collateral_of(parts));
        let result = appraise_platform(&statement, None, &binding, &policy, &mut collateral, NOW);
        result.map(|_| ()).map_err(|refused| refused.first().rule)
    };
    assert_eq!(status("UpToDate"), Ok(()));
    assert_eq!(status("OutOfDate"), Err("tdx.tcb-status".to_owned()));
}

#[test]
fn limits_that_let_nothing_pass_do_not_read_back_as_no_limit() {
    let changes: [fn(&mut casemate_verifier::TdxExpectations); 4] = [
        |tdx| tdx.mrseam = Some(Vec::new()),
        |tdx| tdx.fmspc = Some([].into()),
        |tdx| tdx.ppid = Some([].into()),
        |tdx| tdx.allow_advisories = ["A-1\"]\nallow-attributes = [\"debug".to_owned()].into(),
    ];
    for change in changes {
        let mut values = policy();
        change(values.tdx.as_mut().unwrap());
        assert!(Policy::parse(&Policy::render(&values)).is_err());
    }
}

#[test]
fn an_old_crl_of_the_root_is_refused_where_its_age_is_limited() {
    let spec = CollateralSpec { issued_at: NOW.0 - 10 * 86_400, ..CollateralSpec::at(NOW.0) };
    let parts = pki(Tee::Tdx).collateral_with(&spec).unwrap();
    let mut collateral = VerifiedCollateral::verify(&collateral_of(parts));
    let mut rule = |days| {
        let mut values = policy();
        values.tdx.as_mut().unwrap().root_crl_age_max_days = days;
        let policy = Policy::parse(&Policy::render(&values)).unwrap();
        let statement = Platform::Tdx { quote: quote(&body()) };
        let binding = Binding::ReportData([7; 64]);
        let result = appraise_platform(&statement, None, &binding, &policy, &mut collateral, NOW);
        result.err().map(|refused| refused.first().found)
    };
    assert_eq!(rule(None), None);
    assert_eq!(rule(Some(10)), None);
    assert!(rule(Some(9)).unwrap().starts_with("CRL of the root"));
}

#[test]
fn each_register_and_owner_field_of_a_quote_by_itself_must_be_expected() {
    type Change = fn(&mut TdBody);
    let changes: [(Change, &str); 8] = [
        (|body| body.mrtd = [1; 48], "tdx.mrtd"),
        (|body| body.rtmr[0] = [1; 48], "tdx.rtmr0"),
        (|body| body.rtmr[1] = [1; 48], "tdx.rtmr1"),
        (|body| body.rtmr[2] = [1; 48], "tdx.rtmr2"),
        (|body| body.rtmr[3] = [1; 48], "tdx.rtmr3"),
        (|body| body.mrconfigid = [1; 48], "tdx.mrconfigid"),
        (|body| body.mrowner = [1; 48], "tdx.mrowner"),
        (|body| body.mrownerconfig = [1; 48], "tdx.mrownerconfig"),
    ];
    for (change, rule) in changes {
        let mut changed = body();
        change(&mut changed);
        assert_eq!(failed(quote(&changed), &policy()), [rule]);
    }
}

#[test]
fn unusual_attributes_pass_only_where_they_are_named_and_debug_never_affirms() {
    let cases: [(usize, u8, &str); 5] = [
        (0, 0x01, "debug"),
        (0, 0x70, "profiling"),
        (3, 0x20, "migratable"),
        (7, 0x80, "perfmon"),
        (4, 1, "bit-32"),
    ];
    for (byte, bits, name) in cases {
        let mut changed = body();
        changed.td_attributes[byte] |= bits;
        assert_eq!(failed(quote(&changed), &policy()), ["tdx.td-attributes"], "{name}");
        let mut named = policy();
        named.tdx.as_mut().unwrap().allow_attributes = TdAttributes::from_name(name).unwrap();
        assert_eq!(failed(quote(&changed), &named), none(), "{name}");
    }
    let mut unknown = body();
    unknown.xfam[7] = 0x40;
    assert_eq!(failed(quote(&unknown), &policy()), ["tdx.xfam"]);
    let mut named = policy();
    named.tdx.as_mut().unwrap().allow_xfam = 1 << 62;
    assert_eq!(failed(quote(&unknown), &named), none());
}

#[test]
fn platforms_can_be_limited_to_families_chips_and_properties() {
    let narrowed = |change: fn(&mut casemate_verifier::TdxExpectations)| {
        let mut values = policy();
        change(values.tdx.as_mut().unwrap());
        failed(quote(&body()), &values)
    };
    assert_eq!(narrowed(|tdx| tdx.fmspc = Some([casemate_testkit::FMSPC].into())), none());
    assert_eq!(narrowed(|tdx| tdx.fmspc = Some([[9; 6]].into())), ["tdx.platform-family"]);
    assert_eq!(narrowed(|tdx| tdx.ppid = Some([[9; 16]].into())), ["tdx.platform-id"]);
    assert_eq!(narrowed(|tdx| tdx.mrseam = Some(vec![Measurement([0x5e; 48])])), none());
    assert_eq!(narrowed(|tdx| tdx.mrseam = Some(vec![Measurement([1; 48])])), ["tdx.mrseam"]);
    let all: fn(&mut casemate_verifier::TdxExpectations) =
        |tdx| tdx.refuse_platform = PlatformProperty::ALL.into();
    let quote = quote(&body());
    let mut values = policy();
    all(values.tdx.as_mut().unwrap());
    let found: Vec<String> = appraise(quote, &policy())
        .unwrap()
        .claims()
        .iter()
        .filter(|claim| PlatformProperty::ALL.iter().any(|property| property.name() == claim.name))
        .map(|claim| claim.value.clone())
        .collect();
    let refused = narrowed(all) == ["tdx.platform-properties"];
    assert_eq!(refused, found.iter().any(|value| value != "false"), "{found:?}");
}

#[test]
fn an_older_tcb_level_is_refused_by_its_date() {
    let mut values = policy();
    values.tdx.as_mut().unwrap().tcb_date_min = Some(UnixTime(NOW.0 * 2));
    assert_eq!(failed(quote(&body()), &values), ["tdx.tcb-date"]);
}

#[test]
fn the_result_for_a_platform_alone_is_simulated_and_names_no_agent() {
    let values = policy();
    let appraisal = appraise(quote(&body()), &values).unwrap();
    let text = Policy::parse(&Policy::render(&values)).unwrap();
    let ear = appraisal.ear(&text, Challenge::ReportData(&[7; 64]), NOW);
    assert_eq!(ear.submods.keys().collect::<Vec<_>>(), ["platform"]);
    assert!(appraisal.claims().iter().any(|claim| claim.name == "simulated" && claim.value == "true"));
}
