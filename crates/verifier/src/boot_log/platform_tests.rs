//! Real quotes with their logs, through the whole appraisal of a platform.

use std::collections::BTreeSet;
use std::path::Path;

use casemate_evidence::{EventType, TpmHash, parse_boot_log, parse_tdx_quote};
use casemate_protocol::cmw::Platform;

use super::label::EventLabel;
use super::register::Register;
use crate::collateral::Collateral;
use crate::ledger::Voucher;
use crate::policy::{
    BootLogExpectations, BootLogPresence, DataMismatch, ExpectedEvents, Policy, PolicyValues,
};
use crate::roots::Roots;
use crate::tdx::vector_tests::{collateral, expectations};
use crate::time::UnixTime;
use crate::verified_collateral::VerifiedCollateral;
use crate::{Binding, PlatformAppraisal, Refused, appraise_platform};
use casemate_testkit::vectors;

const CCEL: &str = "go-tdx-guest/testing/testdata/ccel/ccel_data.dat";
const QUOTE: &str = "go-tdx-guest/testing/testdata/ccel/cos-113-tdx-quote.dat";
const REPEATED_SEPARATOR: &str = "go-eventlog/testdata/eventlogs/ccel/cos-113-intel-tdx-dupe-separator.bin";

fn register(name: &str) -> Register {
    Register::from_name(name).unwrap()
}

/// What a policy for this boot says: loader and boot loader of RTMR1, and every event of RTMR2.
fn asked(log: &[u8]) -> BootLogExpectations {
    let log = parse_boot_log(log).unwrap();
    let digests = |index: u32, event: EventType| -> BTreeSet<Vec<u8>> {
        let of = log.events().filter(|found| found.index == index && found.event_type == event);
        of.map(|event| event.digests.get(TpmHash::Sha384).unwrap().to_vec()).collect()
    };
    let entry = |name: &str, index, event| ExpectedEvents {
        register: register(name),
        event,
        digests: digests(index, event),
    };
    BootLogExpectations {
        presence: BootLogPresence::Required,
        registers: ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].map(register).into(),
        expect: vec![
            entry("rtmr1", 2, EventType::EFI_BOOT_SERVICES_APPLICATION),
            entry("rtmr2", 3, EventType::IPL),
        ],
        allow_unlisted: BTreeSet::new(),
        data_mismatch: DataMismatch::Refused,
    }
}

fn appraise(
    folder: &Path,
    log: Option<&[u8]>,
    asked: Option<BootLogExpectations>,
) -> Result<PlatformAppraisal, Refused> {
    let quote = vectors::read(folder, QUOTE);
    let body = parse_tdx_quote(&quote).unwrap().body;
    let values = PolicyValues {
        roots: Roots::Production,
        collateral_age_max_days: 30,
        bundle_signers: Vec::new(),
        tdx: Some(expectations(&body)),
        snp: None,
        vtpm: None,
        boot_log: asked,
        composition: None,
    };
    let policy = Policy::parse(&Policy::render(&values)).unwrap();
    assert_eq!(*policy.values(), values);
    let set = collateral(folder, "_assembled/S6-automata-00806f-2025-06.json");
    let mut verified = VerifiedCollateral::verify(&Collateral { tdx: Some(set), snp: None });
    let binding = Binding::ReportData(*body.report_data);
    let now = UnixTime::from_rfc3339("2025-06-30T00:00:00Z").unwrap();
    appraise_platform(&Platform::Tdx { quote: quote.clone() }, log, &binding, &policy, &mut verified, now)
}

fn failed(refused: &Refused) -> Vec<&str> {
    refused.rules.iter().filter(|rule| !rule.passed).map(|rule| rule.detail.rule.as_ref()).collect()
}

#[test]
fn a_real_platform_with_its_log_passes_a_policy_that_lists_its_boot() {
    let test = "a_real_platform_with_its_log_passes_a_policy_that_lists_its_boot";
    let Some(folder) = vectors::folder(test) else { return };
    let log = vectors::read(&folder, CCEL);
    let appraisal = appraise(&folder, Some(&log), Some(asked(&log))).unwrap();
    assert_eq!(appraisal.boot_log().len(), 43);
    let rules = appraisal.rules().into_iter().filter(|rule| rule.detail.rule.starts_with("boot-log."));
    assert_eq!(rules.count(), 11);
    let claim = appraisal.claims().into_iter().find(|claim| claim.name == "boot-log.rtmr2.sha384").unwrap();
    assert_eq!(claim.voucher, Voucher::Hardware);
}

#[test]
fn a_real_platform_is_refused_for_its_log_alone() {
    let Some(folder) = vectors::folder("a_real_platform_is_refused_for_its_log_alone") else { return };
    let log = vectors::read(&folder, CCEL);
    let none = appraise(&folder, None, Some(asked(&log))).unwrap_err();
    assert_eq!(failed(&none), ["boot-log.present"]);
    let repeated = vectors::read(&folder, REPEATED_SEPARATOR);
    let refused = appraise(&folder, Some(&repeated), Some(asked(&log))).unwrap_err();
    let rules = ["boot-log.rtmr0", "boot-log.rtmr1", "boot-log.expect", "boot-log.unlisted"];
    assert_eq!(failed(&refused), rules);
    assert_eq!(refused.boot_log.iter().filter(|row| row.label == EventLabel::DataBound).count(), 0);
    // One event of one register that the policy does not list.
    let mut other = asked(&log);
    other.expect[1].digests.pop_first();
    let refused = appraise(&folder, Some(&log), Some(other)).unwrap_err();
    assert_eq!(failed(&refused), ["boot-log.expect", "boot-log.unlisted"]);
}

#[test]
fn a_log_that_no_policy_asks_for_is_shown_and_said_to_be_unjudged() {
    let test = "a_log_that_no_policy_asks_for_is_shown_and_said_to_be_unjudged";
    let Some(folder) = vectors::folder(test) else { return };
    let log = vectors::read(&folder, REPEATED_SEPARATOR);
    let appraisal = appraise(&folder, Some(&log), None).unwrap();
    assert_eq!(appraisal.boot_log().len(), 43);
    let claim = appraisal.claims().into_iter().find(|claim| claim.name == "boot-log").unwrap();
    assert_eq!(claim.value, "not judged: the policy has no [boot-log]");
    assert_eq!(claim.voucher, Voucher::HostClaimed);
    assert!(appraise(&folder, None, None).unwrap().boot_log().is_empty());
    assert!(appraise(&folder, Some(b"no log"), None).unwrap().boot_log().is_empty());
}
