//! Which claims stand in which layer, and which gaps are named.

use casemate_evidence::EventType;
use casemate_protocol::Refusal;

use super::*;

fn claim(part: &'static str, name: &str, value: &str, voucher: Voucher) -> Claim {
    Claim { part, name: name.into(), value: value.into(), voucher }
}

fn hardware(name: &str, value: &str) -> Claim {
    claim("platform", name, value, Voucher::Hardware)
}

fn rule(name: &str, passed: bool) -> RuleResult {
    RuleResult { passed, detail: Refusal::new(name, "e", "f") }
}

fn layer<'a>(layers: &'a [Layer<'_>], name: &str) -> &'a Layer<'a> {
    layers.iter().find(|layer| layer.name == name).unwrap()
}

fn gaps(layers: &[Layer<'_>], name: &str) -> String {
    layer(layers, name).not_covered.join("\n")
}

#[test]
fn nothing_is_covered_where_nothing_was_verified() {
    let allegation = [claim("platform", "mrtd", "aa", Voucher::HostClaimed)];
    let rules = [rule("platform.roots", false)];
    for subject in [Subject::Agent, Subject::Hardware, Subject::Vtpm] {
        let layers = layers(subject, &allegation, &rules, &[]);
        assert_eq!(layers.len(), 1);
        assert!(layers[0].covered.is_empty());
        assert!(layers[0].not_covered[0].starts_with("anything: "));
    }
}

#[test]
fn claims_stand_from_the_hardware_up_with_what_became_of_them() {
    let claims = [
        hardware("simulated", "false"),
        hardware("tee", "tdx"),
        hardware("mrtd", "aa"),
        hardware("rtmr0", "bb"),
        hardware("rtmr1", "cc"),
        hardware("rtmr3", "dd"),
        claim("box", "composition", "sha384:1", Voucher::Hardware),
        claim("agent", "measurement", "sha384:2", Voucher::MeasuredRuntime),
    ];
    let rules = [rule("tdx.mrtd", true), rule("tdx.rtmr1", false), rule("agent.measurement", true)];
    let layers = layers(Subject::Agent, &claims, &rules, &[]);
    assert_eq!(layers.iter().map(|layer| layer.name).collect::<Vec<_>>(), LAYERS);
    let of = |name| {
        let covered = layer(&layers, name).covered.iter();
        covered.map(|one| (one.claim.name.as_str(), one.compared)).collect::<Vec<_>>()
    };
    assert_eq!(of("hardware"), [("simulated", Compared::ReadOnly), ("tee", Compared::ReadOnly)]);
    assert_eq!(of("firmware"), [("mrtd", Compared::Holds), ("rtmr0", Compared::ReadOnly)]);
    assert_eq!(of("kernel"), [("rtmr1", Compared::Fails)]);
    assert_eq!(of("composition"), [("rtmr3", Compared::ReadOnly), ("composition", Compared::ReadOnly)]);
    assert_eq!(of("agent"), [("measurement", Compared::Holds)]);
    assert!(gaps(&layers, "composition").contains("rtmr3: read, but the policy asks for no value"));
}

#[test]
fn a_measurement_of_the_agent_is_not_that_of_the_platform() {
    let claims = [hardware("simulated", "false"), hardware("measurement", "aa")];
    let rules = [rule("agent.measurement", false)];
    let layers = layers(Subject::Agent, &claims, &rules, &[]);
    assert_eq!(layer(&layers, "firmware").covered[0].compared, Compared::ReadOnly);
}

#[test]
fn a_raw_quote_covers_no_warden_composition_or_agent() {
    let claims = [hardware("simulated", "false"), hardware("tee", "tdx"), hardware("rtmr3", "00")];
    let layers = layers(Subject::Hardware, &claims, &[rule("tdx.rtmr3", true)], &[]);
    assert_eq!(gaps(&layers, "warden"), "that a warden runs: this statement is not of a box");
    assert!(gaps(&layers, "composition").starts_with("any composition: "));
    assert!(!gaps(&layers, "composition").contains("rtmr3"));
    assert!(gaps(&layers, "agent").starts_with("any agent: "));
}

#[test]
fn the_gaps_of_sev_snp_are_named() {
    let claims = [
        hardware("simulated", "false"),
        hardware("tee", "snp"),
        hardware("chip-id", &"0".repeat(128)),
        hardware("signing-key", "vlek"),
        hardware("host-data", "aa"),
    ];
    let layers = layers(Subject::Agent, &claims, &[rule("composition.launch-binding", true)], &[]);
    assert!(gaps(&layers, "hardware").contains("its identity is masked"));
    assert!(gaps(&layers, "hardware").contains("chip-id: read, but the policy asks for no value"));
    assert!(gaps(&layers, "hardware").contains("a VLEK is the provider's key"));
    assert!(gaps(&layers, "kernel").contains("only where the measured firmware checks it"));
    assert!(gaps(&layers, "composition").contains("no register that grows"));
    assert!(!gaps(&layers, "composition").contains("host-data"));
}

#[test]
fn zero_registers_of_azure_and_debugging_are_named() {
    let zero = "0".repeat(96);
    let claims: Vec<Claim> = [("simulated", "false"), ("tee", "tdx"), ("debug", "true")]
        .into_iter()
        .chain(["rtmr0", "rtmr1", "rtmr2"].into_iter().map(|name| (name, zero.as_str())))
        .map(|(name, value)| hardware(name, value))
        .collect();
    let all = layers(Subject::Hardware, &claims, &[], &[]);
    assert!(gaps(&all, "firmware").contains("RTMR0 is zero"));
    assert!(gaps(&all, "kernel").contains("RTMR1 and RTMR2 are zero"));
    assert!(gaps(&all, "kernel").contains("no boot log was read"));
    assert!(gaps(&all, "hardware").contains("open to the host"));
    assert!(!gaps(&layers(Subject::Vtpm, &claims, &[], &[]), "kernel").contains("vTPM, whose quote"));
}

#[test]
fn events_of_a_boot_log_are_counted_by_what_binds_them() {
    let row = |label| BootLogRow {
        number: 1,
        index: 1,
        register: None,
        event_type: EventType::SEPARATOR,
        bank: None,
        digest: vec![],
        label,
        text: String::new(),
    };
    let claims = [hardware("simulated", "false"), hardware("tee", "tdx")];
    let gap = |labels: &[EventLabel]| {
        let rows: Vec<BootLogRow> = labels.iter().map(|label| row(*label)).collect();
        gaps(&layers(Subject::Hardware, &claims, &[], &rows), "kernel")
    };
    assert_eq!(
        gap(&[EventLabel::DigestBound, EventLabel::DataBound, EventLabel::NotExtended]),
        "of 3 boot events 1 are bound by their digest alone, not by name and data, and 1 by nothing"
    );
    assert_eq!(gap(&[EventLabel::DataBound, EventLabel::ContentBound]), "");
}

#[test]
fn simulated_hardware_is_no_hardware() {
    let claims = [claim("platform", "simulated", "true", Voucher::Simulated)];
    let layers = layers(Subject::Agent, &claims, &[], &[]);
    assert!(gaps(&layers, "hardware").starts_with("any hardware: "));
}

#[test]
fn registers_of_a_tpm_stand_where_they_are_measured_and_are_compared_by_number() {
    for (name, expected) in [
        ("vtpm.pcr.sha256.0", "firmware"),
        ("vtpm.pcr.sha384.7", "firmware"),
        ("vtpm.pcr.sha256.8", "kernel"),
        ("boot-log.rtmr1.sha384", "kernel"),
        ("vtpm.clock-ms", "hardware"),
    ] {
        assert_eq!(layer_of(&hardware(name, "x")), expected, "{name}");
    }
    let claims =
        [hardware("vtpm.key", "k"), hardware("vtpm.pcr.sha256.1", "a"), hardware("vtpm.pcr.sha256.11", "b")];
    let named = RuleResult { passed: true, detail: Refusal::new("vtpm.pcr", "PCR 1 of sha256 is a", "a") };
    let layers = layers(Subject::Vtpm, &claims, &[named], &[]);
    assert_eq!(layer(&layers, "firmware").covered[0].compared, Compared::Holds);
    assert_eq!(layer(&layers, "kernel").covered[0].compared, Compared::ReadOnly);
}

#[test]
fn a_tpm_that_the_host_runs_is_said_to_be_the_hosts() {
    let claims = [claim("platform", "vtpm.key", "k", Voucher::HostClaimed)];
    let layers = layers(Subject::Vtpm, &claims, &[], &[]);
    assert!(gaps(&layers, "hardware").starts_with("any hardware against the host: "));
}

#[test]
fn every_rule_of_the_table_is_documented() {
    let documented = include_str!("../../../../../docs/verification.md");
    for (claim, rules) in RULES {
        for rule in rules {
            assert!(documented.contains(&format!("`{rule}`")), "{claim}: `{rule}`");
        }
    }
}

#[test]
fn a_claim_of_snp_is_compared_by_the_rule_that_reads_it() {
    for (name, its) in [
        ("chip-id", "snp.chips"),
        ("chip-id", "snp.chip-id"),
        ("csp-id", "snp.vlek-cloud"),
        ("policy.debug", "snp.policy"),
    ] {
        let claims = [hardware("simulated", "false"), hardware(name, "x")];
        for (passed, compared) in [(true, Compared::Holds), (false, Compared::Fails)] {
            let layers = layers(Subject::Hardware, &claims, &[rule(its, passed)], &[]);
            assert_eq!(layer(&layers, "hardware").covered[1].compared, compared, "{name} {its}");
        }
    }
}

#[test]
fn a_guest_that_the_host_may_read_is_said_to_be_open() {
    for name in ["debug", "policy.debug", "open-to-host"] {
        for (value, open) in [("true", true), ("false", false)] {
            let claims = [hardware("simulated", "false"), hardware(name, value)];
            let layers = layers(Subject::Hardware, &claims, &[], &[]);
            assert_eq!(gaps(&layers, "hardware").contains("open to the host"), open, "{name} {value}");
        }
    }
}

#[test]
fn a_report_that_speaks_for_a_tpm_answers_no_challenge() {
    let key = [hardware("vtpm.key", "k"), hardware("tee", "snp")];
    let says = |subject, claims: &[Claim]| {
        gaps(&layers(subject, claims, &[], &[]), "hardware").contains("only the TPM's quote answers")
    };
    assert!(says(Subject::Vtpm, &key));
    assert!(!says(Subject::Vtpm, &key[..1]), "no hardware speaks for it");
    assert!(!says(Subject::Hardware, &key));
}
