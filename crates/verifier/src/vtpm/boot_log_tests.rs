//! TPM quotes with the event log of the firmware beside them.

use casemate_canon::Sha256;
use casemate_evidence::{EventType, TpmHash};
use casemate_protocol::cmw::Platform;
use casemate_protocol::vtpm::{AkEvidence, Pcr, Vtpm};

use super::synthetic::{ATTRIBUTES, Padding, Signer, attest};
use crate::appraise::{Binding, appraise_platform};
use crate::boot_log::builder::LogBuilder;
use crate::boot_log::{EventLabel, RegisterKind};
use crate::collateral::Collateral;
use crate::ledger::Voucher;
use crate::policy::Policy;
use crate::time::UnixTime;
use crate::verified_collateral::VerifiedCollateral;
use crate::{PlatformAppraisal, Refused};

const NOW: UnixTime = UnixTime(1_780_272_000);
const NONCE: &[u8] = b"thirty-two bytes of a challenge.";
const LOADER: &[u8] = b"a boot loader";

fn log() -> LogBuilder {
    LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sha1, TpmHash::Sha256])
        .event(0, EventType::NO_ACTION, b"StartupLocality\0\x00")
        .event(0, EventType::S_CRTM_VERSION, b"1\0")
        .event(4, EventType::EFI_ACTION, b"Calling EFI Application from Boot Option")
        .event(4, EventType::SEPARATOR, &[0; 4])
        .measure(4, EventType::EFI_BOOT_SERVICES_APPLICATION, LOADER, &[0; 32])
}

/// A TPM with these registers quotes 0 and 4 in both banks, or in those given.
fn appraised(
    machine: &LogBuilder,
    banks: &[TpmHash],
    log: Option<&[u8]>,
    registers: &str,
) -> Result<PlatformAppraisal, Refused> {
    let signer = Signer::p256();
    let pcrs: Vec<Pcr> = machine.measured_with(|measured| {
        let of = |bank: TpmHash| {
            let values = measured.values.iter().filter(move |value| value.bank == bank);
            values.filter(|value| matches!(value.number, 0 | 4))
        };
        let values = banks.iter().flat_map(|bank| of(*bank));
        values.map(|of| Pcr { bank: of.bank, index: of.number, digest: of.value.to_vec() }).collect()
    });
    let value = |index: u8| {
        let of = |pcr: &&Pcr| pcr.bank == TpmHash::Sha256 && pcr.index == index;
        pcrs.iter().find(of).map_or_else(|| "00".repeat(32), |pcr| hex::encode(&pcr.digest))
    };
    let area = signer.area(ATTRIBUTES, None);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, LOADER);
    let policy = format!(
        r#"version = 1
[platform]
tee = ["vtpm"]
roots = "production"
collateral-age-max-days = 30
[platform.vtpm]
bank = "sha256"
[platform.vtpm.pcr]
0 = ["{}"]
4 = ["{}"]
[platform.vtpm.owner]
areas = ["{}"]
[boot-log]
required = true
registers = [{registers}]
expect = [{{ register = "pcr4", event = "EV_EFI_BOOT_SERVICES_APPLICATION", digests = ["{}"] }}]
"#,
        value(0),
        value(4),
        Sha256::of(&area),
        hex::encode(digest),
    );
    let policy = Policy::parse(&policy).unwrap_or_else(|error| panic!("{error}: {policy}"));
    let message = attest(NONCE, &pcrs, TpmHash::Sha256);
    let signature = signer.sign(&message, TpmHash::Sha256, Padding::Ssa);
    let platform = Platform::Vtpm(Vtpm { message, signature, pcrs, ak: AkEvidence::Key(area) });
    let mut none = VerifiedCollateral::verify(&Collateral { tdx: None, snp: None });
    let binding = Binding::ExtraData(NONCE.to_vec());
    appraise_platform(&platform, log, &binding, &policy, &mut none, NOW)
}

fn failed(outcome: Result<PlatformAppraisal, Refused>) -> Vec<String> {
    let rules = outcome.unwrap_err().rules;
    rules.into_iter().filter(|rule| !rule.passed).map(|rule| rule.detail.rule).collect()
}

const BOTH: [TpmHash; 2] = [TpmHash::Sha1, TpmHash::Sha256];
const REGISTERS: &str = r#""pcr0", "pcr4""#;

#[test]
fn a_quote_with_the_log_of_its_boot_passes_and_its_events_are_labelled() {
    let appraisal = appraised(&log(), &BOTH, Some(&log().bytes), REGISTERS).unwrap();
    let labels: Vec<EventLabel> = appraisal.boot_log().iter().map(|row| row.label).collect();
    let expected = [
        EventLabel::NotExtended,
        EventLabel::DataBound,
        EventLabel::DataBound,
        EventLabel::DataBound,
        EventLabel::DigestBound,
    ];
    assert_eq!(labels, expected);
    assert!(appraisal.boot_log().iter().all(|row| row.bank == Some(TpmHash::Sha256)));
    let claim = appraisal.claims().into_iter().find(|claim| claim.name == "boot-log.pcr4.sha256").unwrap();
    let value = "2 data-bound, 0 content-bound, 1 digest-bound, 0 data-mismatch";
    assert_eq!((claim.value.as_str(), claim.voucher), (value, Voucher::Hardware));
}

#[test]
fn a_quote_is_refused_for_its_log_alone() {
    let refused = |log: Option<&[u8]>| failed(appraised(&self::log(), &BOTH, log, REGISTERS));
    assert_eq!(refused(None), ["boot-log.present"]);
    assert_eq!(refused(Some(b"no log")), ["boot-log.format"]);
    // One event more than was extended, of a register that is judged; then of one that is not quoted.
    let more = log().event(0, EventType::SEPARATOR, &[0; 4]);
    assert_eq!(refused(Some(&more.bytes)), ["boot-log.pcr0", "boot-log.pcr0"]);
    let more = log().event(9, EventType::IPL, b"a kernel");
    assert!(appraised(&log(), &BOTH, Some(&more.bytes), REGISTERS).is_ok());
    let other = failed(appraised(&log(), &BOTH, Some(&more.bytes), r#""pcr0", "pcr4", "pcr9""#));
    assert_eq!(other, ["boot-log.pcr9"]);
}

#[test]
fn a_quote_of_sha1_alone_binds_no_log() {
    let refused = appraised(&log(), &[TpmHash::Sha1], Some(&log().bytes), REGISTERS).unwrap_err();
    assert!(refused.boot_log.iter().all(|row| row.bank == Some(TpmHash::Sha1)));
    let rules = failed(Err(refused));
    let of_log: Vec<&String> = rules.iter().filter(|rule| rule.starts_with("boot-log.")).collect();
    assert_eq!(of_log, ["boot-log.pcr0", "boot-log.pcr4", "boot-log.expect", "boot-log.unlisted"]);
}
