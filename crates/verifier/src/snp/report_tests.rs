//! Reports under a development root: every product, both kinds of keys, every version, and one defect at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use casemate_canon::Sha256;
use casemate_evidence::snp::{SNP_REPORT_BYTES, parse_snp_report};
use casemate_evidence::{PlatformBit, PolicyBit};
use casemate_testkit::{
    CLOUD, CollateralParts, DevPki, SnpBody, SnpGeneration, SnpKey, SnpPki, SnpSpec, SnpTcb, Tee,
};

use super::{Endorsed, SnpProduct, claim_all, require_expectations, verify};
use crate::collateral::SnpCollateral;
use crate::ledger::{Claim, Ledger, RuleResult, Voucher};
use crate::policy::{
    Measurement, Smt, SnpAllowance, SnpAllowances, SnpChip, SnpExpectations, SnpFirmware, SnpRequirements,
    SnpTcbMin,
};
use crate::roots::Roots;
use crate::time::UnixTime;

/// 2026-06-01T00:00:00Z.
pub(super) const NOW: u64 = 1_780_272_000;
const DAY: u64 = 86_400;
const TURIN_TCB: SnpTcb = SnpTcb { fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 5 };

/// One pair of RSA keys for all tests: they take seconds to make.
pub(super) fn pki() -> &'static DevPki {
    static PKI: OnceLock<DevPki> = OnceLock::new();
    PKI.get_or_init(|| DevPki::generate(Tee::Snp, NOW).unwrap())
}

pub(super) fn snp_pki() -> &'static SnpPki {
    pki().snp().unwrap()
}

pub(super) fn roots() -> Roots {
    Roots::Development(vec![pki().root_spki_sha256()])
}

/// Accepts these products in any version, SMT, and measurement zero, and allows nothing.
pub(super) fn expectations(products: &[SnpProduct]) -> SnpExpectations {
    let min = SnpTcbMin { fmc: 0, bootloader: 0, tee: 0, snp: 0, microcode: 0 };
    SnpExpectations {
        measurement: vec![Measurement([0; 48])],
        vmpl: 0,
        products: products.iter().map(|product| (*product, min)).collect::<BTreeMap<_, _>>(),
        smt: Smt::Allowed,
        crl_age_max_days: 30,
        allow: SnpAllowances::none(),
        require: SnpRequirements::none(),
    }
}

/// Names of the rules that failed, each once, in order.
pub(super) fn failed_rules(rules: Vec<RuleResult>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for rule in rules.into_iter().filter(|rule| !rule.passed) {
        if names.last() != Some(&rule.detail.rule) {
            names.push(rule.detail.rule);
        }
    }
    names
}

fn none() -> Vec<String> {
    Vec::new()
}

pub(super) fn collateral_of(spec: &SnpSpec) -> SnpCollateral {
    let parts = snp_pki().certify(spec).unwrap();
    SnpCollateral { ark: parts.ark, ask: parts.ask, crl: parts.crl, vek: Some(parts.vek) }
}

/// Changes what is asked for.
type Change = fn(&mut SnpRequirements);

/// A box: what its certificates say, what its report says, what is expected of it, and when.
struct Case {
    spec: SnpSpec,
    body: SnpBody,
    policy: SnpExpectations,
    now: UnixTime,
}

impl Case {
    fn new(generation: SnpGeneration, key: SnpKey) -> Self {
        let tcb = tcb(generation);
        let mut case = Self {
            spec: SnpSpec::new(snp_pki(), generation, key, tcb, NOW),
            body: SnpBody {
                generation,
                current_tcb: tcb,
                reported_tcb: tcb,
                committed_tcb: tcb,
                launch_tcb: tcb,
                ..SnpBody::new()
            },
            policy: expectations(&[product(generation)]),
            now: UnixTime(NOW),
        };
        if key == SnpKey::Vlek {
            case.body.key_info = 1 << 2;
            case.policy.allow.vlek_clouds = vec![CLOUD.into()];
        }
        case
    }

    fn genoa() -> Self {
        Self::new(SnpGeneration::Genoa, SnpKey::Vcek)
    }

    fn rules(&self, change: impl FnOnce(&mut [u8])) -> (Vec<Claim>, Vec<RuleResult>) {
        let bytes = snp_pki().report_with(&self.body, change).unwrap();
        let mut endorsed = Endorsed::verify(&collateral_of(&self.spec));
        let mut ledger = Ledger::new();
        let report = parse_snp_report(&bytes).unwrap();
        if let Ok(verified) = verify(&mut ledger, report, &[], &mut endorsed, &roots(), self.now) {
            claim_all(&mut ledger, &verified, Voucher::Simulated);
            let _recorded = require_expectations(&mut ledger, &verified, &self.policy, self.now);
        }
        ledger.into_parts()
    }

    fn failed(&self) -> Vec<String> {
        failed_rules(self.rules(|_| {}).1)
    }

    fn failed_with(&self, change: impl FnOnce(&mut [u8])) -> Vec<String> {
        failed_rules(self.rules(change).1)
    }

    fn claim(&self, name: &str) -> Option<String> {
        self.rules(|_| {}).0.into_iter().find(|claim| claim.name == name).map(|claim| claim.value)
    }

    /// Replaces the content of AMD's extension of this number.
    fn extension(&mut self, arcs: &[u32], content: Option<Vec<u8>>) {
        self.spec.extensions.retain(|(known, _)| known != arcs);
        self.spec.extensions.extend(content.map(|content| (arcs.to_vec(), content)));
    }
}

fn tcb(generation: SnpGeneration) -> SnpTcb {
    if generation == SnpGeneration::Turin { TURIN_TCB } else { casemate_testkit::TCB }
}

pub(super) fn product(generation: SnpGeneration) -> SnpProduct {
    SnpProduct::from_name(generation.name()).unwrap()
}

#[test]
fn every_product_key_and_version_is_accepted_where_nothing_is_wrong() {
    for generation in SnpGeneration::ALL {
        for key in [SnpKey::Vcek, SnpKey::Vlek] {
            let mut case = Case::new(generation, key);
            for version in 2..=5 {
                case.body.version = version;
                assert_eq!(case.failed(), none(), "{generation:?} {key:?} {version}");
            }
        }
    }
}

#[test]
fn a_later_version_is_read_and_flagged_and_accepted_only_by_name() {
    let mut case = Case::genoa();
    case.body.version = 6;
    assert_eq!(case.failed(), ["snp.report-version"]);
    assert_eq!(case.claim("report-version-known").as_deref(), Some("false"));
    assert_eq!(case.claim("processor").as_deref(), Some("family 0x19 model 0x11 stepping 0x01"));
    case.policy.allow.report_version_max = 6;
    assert_eq!(case.failed(), none());
    case.body.version = 7;
    assert_eq!(case.failed(), ["snp.report-version"]);
    let mut old = Case::genoa();
    old.body.version = 2;
    old.policy.require.report_version_min = 3;
    assert_eq!(old.failed(), ["snp.report-version"]);
}

#[test]
fn reserved_bytes_are_refused_unless_the_policy_allows_them() {
    let mut case = Case::genoa();
    for offset in [0x4c, 0x18b, 0x19f, 0x1eb, 0x1ef, 0x1f8, 0x29f] {
        assert_eq!(case.failed_with(|report| report[offset] = 1), ["snp.reserved"], "{offset:#x}");
    }
    case.policy.allow.flags.insert(SnpAllowance::ReservedBytes);
    assert_eq!(case.failed_with(|report| report[0x29f] = 1), none());
}

#[test]
fn the_processor_of_the_report_is_of_the_product_of_the_key() {
    for generation in SnpGeneration::ALL {
        let case = Case::new(generation, SnpKey::Vcek);
        for other in SnpGeneration::ALL {
            let expected = if other == generation { none() } else { vec!["snp.processor".to_owned()] };
            let failed = case.failed_with(|report| report[0x188..0x18b].copy_from_slice(&other.cpuid()));
            assert_eq!(failed, expected, "{generation:?} {other:?}");
        }
    }
    let genoa = Case::genoa();
    for bergamo_or_siena in [0xa0, 0xaf] {
        assert_eq!(genoa.failed_with(|report| report[0x189] = bergamo_or_siena), none());
    }
    assert_eq!(genoa.failed_with(|report| report[0x189] = 0x20), ["snp.processor"]);
}

#[test]
fn past_bug_10_signing_key_chain_and_identity_must_all_be_of_one_kind() {
    let vcek = Case::new(SnpGeneration::Genoa, SnpKey::Vcek);
    let vlek = Case::new(SnpGeneration::Genoa, SnpKey::Vlek);
    // The report says VCEK, and the chain is a VLEK's; and the other way round; and neither.
    for (spec, key_info) in
        [(&vlek.spec, 0), (&vcek.spec, 1 << 2), (&vcek.spec, 7 << 2), (&vlek.spec, 7 << 2)]
    {
        let mut case = Case::genoa();
        case.policy.allow.vlek_clouds = vec![CLOUD.into()];
        case.spec = spec.clone();
        case.body.key_info = key_info;
        assert_eq!(case.failed(), ["platform.chain"], "{key_info}");
    }
    // A name of one kind over the other kind's identity, under either intermediate.
    for (own, other) in [(&vcek.spec, &vlek.spec), (&vlek.spec, &vcek.spec)] {
        for change in [
            |spec: &mut SnpSpec, other: &SnpSpec| spec.vek_name.clone_from(&other.vek_name),
            |spec: &mut SnpSpec, other: &SnpSpec| spec.extensions.clone_from(&other.extensions),
            |spec: &mut SnpSpec, other: &SnpSpec| spec.ask_name.clone_from(&other.ask_name),
        ] {
            for key_info in [0, 1 << 2] {
                let mut case = Case::genoa();
                case.policy.allow.vlek_clouds = vec![CLOUD.into()];
                case.spec = own.clone();
                change(&mut case.spec, other);
                case.body.key_info = key_info;
                assert_eq!(case.failed(), ["platform.chain"]);
            }
        }
    }
}

#[test]
fn past_bug_10_an_extension_is_found_by_its_whole_identifier_only() {
    // HWID is needed, and neither a longer identifier, nor one with the same last number, nor a shorter one is it.
    for elsewhere in [vec![4, 0], vec![3, 4, 4], vec![40], vec![9, 4]] {
        let mut case = Case::genoa();
        case.extension(&[4], None);
        case.extension(&elsewhere, Some(snp_pki().hwid(SnpGeneration::Genoa)));
        assert_eq!(case.failed(), ["platform.chain"], "{elsewhere:?}");
    }
    let mut case = Case::genoa();
    case.extension(&[3, 8], None);
    case.extension(&[3, 88], Some(vec![2, 1, 0x54]));
    assert_eq!(case.failed(), ["platform.chain"], "ucodeSPL");
}

#[test]
fn every_extension_of_a_key_must_be_there_and_be_exact() {
    let hwid = snp_pki().hwid(SnpGeneration::Genoa);
    let mut cases: Vec<(&[u32], Option<Vec<u8>>)> = vec![
        (&[1], None),
        (&[1], Some(vec![2, 1, 1])),
        (&[1], Some(vec![4, 1, 0])),
        (&[2], None),
        (&[2], Some(b"\x16\x05Milan".to_vec())),
        (&[2], Some(b"\x0c\x05Genoa".to_vec())),
        (&[2], Some(b"\x16\x06Genoa".to_vec())),
        (&[2], Some(b"\x16\x06Genoa-".to_vec())),
        (&[2], Some(b"\x16\x0aGenoa-B1-X".to_vec())),
        (&[2], Some(b"\x16\x06Naples".to_vec())),
        (&[2], Some(b"Genoa".to_vec())),
        (&[4], None),
        (&[4], Some(hwid[..63].to_vec())),
        (&[4], Some([&hwid[..], &[0]].concat())),
        (&[4], Some([&[4, 64], &hwid[..], &[0]].concat())),
        (&[4], Some([&[4, 63], &hwid[..63]].concat())),
        (&[4], Some([&[3, 64], &hwid[..]].concat())),
        (&[4], Some(vec![0; 64])),
        // A key of both a chip and a cloud.
        (&[5], Some(b"\x16\x01x".to_vec())),
        // A component that Genoa does not have, and one without a meaning.
        (&[3, 9], Some(vec![2, 1, 0])),
        (&[3, 5], Some(vec![2, 1, 1])),
    ];
    for arc in [1, 2, 3, 8] {
        let spl: &'static [u32] = Box::leak(Box::new([3, arc]));
        cases.push((spl, None));
        for content in [
            &[][..],
            &[2, 0],
            &[2, 2, 0, 1],
            &[2, 1, 0x80],
            &[2, 2, 1, 0],
            &[2, 1, 0, 0],
            &[4, 1, 0],
            &[5, 0],
        ] {
            cases.push((spl, Some(content.to_vec())));
        }
    }
    for (arcs, content) in cases {
        let mut case = Case::genoa();
        case.extension(arcs, content.clone());
        assert_eq!(case.failed(), ["platform.chain"], "{arcs:?} {content:x?}");
    }
    let mut stepping = Case::genoa();
    stepping.extension(&[2], Some(b"\x16\x08Genoa-B1".to_vec()));
    assert_eq!(stepping.failed(), none());
    let mut wrapped = Case::genoa();
    wrapped.extension(&[4], Some([&[4, 64], &hwid[..]].concat()));
    assert_eq!(wrapped.failed(), none(), "HWID in an OCTET STRING");
    let mut turin = Case::new(SnpGeneration::Turin, SnpKey::Vcek);
    turin.extension(&[3, 9], None);
    assert_eq!(turin.failed(), ["platform.chain"], "Turin has fmc");
    let mut turin = Case::new(SnpGeneration::Turin, SnpKey::Vcek);
    turin.extension(&[1], Some(vec![2, 1, 0]));
    assert_eq!(turin.failed(), ["platform.chain"], "Turin has structVersion 1");
    let mut turin = Case::new(SnpGeneration::Turin, SnpKey::Vcek);
    turin.extension(&[4], Some(hwid));
    assert_eq!(turin.failed(), ["platform.chain"], "Turin has a HWID of 8 bytes");
}

#[test]
fn every_reported_component_is_the_one_of_the_certificate() {
    let components: [fn(&mut SnpTcb) -> &mut u8; 5] = [
        |tcb| &mut tcb.bootloader,
        |tcb| &mut tcb.tee,
        |tcb| &mut tcb.snp,
        |tcb| &mut tcb.microcode,
        |tcb| &mut tcb.fmc,
    ];
    for generation in SnpGeneration::ALL {
        let used = if generation == SnpGeneration::Turin { 5 } else { 4 };
        for component in &components[..used] {
            let mut case = Case::new(generation, SnpKey::Vcek);
            for tcb in [&mut case.body.reported_tcb, &mut case.body.current_tcb, &mut case.body.committed_tcb]
            {
                *component(tcb) += 1;
            }
            assert_eq!(case.failed(), ["snp.vek-tcb"], "{generation:?}");
            let mut case = Case::new(generation, SnpKey::Vcek);
            *component(&mut case.body.current_tcb) += 1;
            assert_eq!(case.failed(), ["snp.tcb-relations"]);
            case.policy.allow.flags.insert(SnpAllowance::ProvisionalFirmware);
            assert_eq!(case.failed(), none());
            let mut case = Case::new(generation, SnpKey::Vcek);
            *component(&mut case.body.committed_tcb) += 1;
            case.policy.allow.flags.insert(SnpAllowance::ProvisionalFirmware);
            assert_eq!(case.failed(), ["snp.tcb-relations"], "committed above current");
            // Current and committed below what is reported.
            let mut case = Case::new(generation, SnpKey::Vcek);
            if *component(&mut case.body.current_tcb) > 0 {
                *component(&mut case.body.current_tcb) -= 1;
                *component(&mut case.body.committed_tcb) -= 1;
                assert_eq!(case.failed(), ["snp.tcb-relations"]);
            }
            // The floor holds for what is reported and for what the guest was launched on.
            let mut case = Case::new(generation, SnpKey::Vcek);
            let min = case.policy.products.get_mut(&product(generation)).unwrap();
            let SnpTcb { mut fmc, mut bootloader, mut tee, mut snp, mut microcode } = tcb(generation);
            *min = SnpTcbMin { fmc, bootloader, tee, snp, microcode };
            *component(&mut case.body.launch_tcb) += 1;
            assert_eq!(case.failed(), none());
            let mut floor = tcb(generation);
            *component(&mut floor) += 1;
            SnpTcb { fmc, bootloader, tee, snp, microcode } = floor;
            *case.policy.products.get_mut(&product(generation)).unwrap() =
                SnpTcbMin { fmc, bootloader, tee, snp, microcode };
            assert_eq!(case.failed(), ["snp.tcb-min"], "{generation:?}");
        }
        let mut launched = Case::new(generation, SnpKey::Vcek);
        let SnpTcb { fmc, bootloader, tee, snp, microcode } = tcb(generation);
        *launched.policy.products.get_mut(&product(generation)).unwrap() =
            SnpTcbMin { fmc, bootloader, tee, snp, microcode };
        launched.body.launch_tcb.microcode -= 1;
        assert_eq!(launched.failed(), ["snp.tcb-min"]);
    }
}

#[test]
fn past_bug_12_reserved_bytes_of_each_version_are_never_part_of_it() {
    for (generation, reserved) in
        [(SnpGeneration::Milan, 2..6), (SnpGeneration::Genoa, 2..6), (SnpGeneration::Turin, 4..7)]
    {
        for field in [0x38, 0x180, 0x1e0, 0x1f0] {
            for byte in reserved.clone() {
                let case = Case::new(generation, SnpKey::Vcek);
                let failed = case.failed_with(|report| report[field + byte] = 1);
                assert_eq!(failed, ["snp.vek-tcb"], "{generation:?} {field:#x}+{byte}");
            }
        }
    }
}

#[test]
fn past_bug_12_the_report_names_the_chip_of_its_vcek() {
    for generation in SnpGeneration::ALL {
        let mut case = Case::new(generation, SnpKey::Vcek);
        assert_eq!(case.failed_with(|report| report[0x1a0] ^= 1), ["snp.chip-id"]);
        assert_eq!(case.failed_with(|report| report[0x1df] ^= 1), ["snp.chip-id"], "on Turin a zero");
        // Masked: no rule holds for want of a name.
        case.body.chip_id = Some([0; 64]);
        assert_eq!(case.failed(), ["snp.chip-id"]);
        case.policy.allow.flags.insert(SnpAllowance::MaskedChipId);
        assert_eq!(case.failed(), none());
        assert_eq!(case.claim("chip-id-masked").as_deref(), Some("true"));
        let mut hwid = [0; 64];
        for (to, from) in hwid.iter_mut().zip(snp_pki().hwid(generation)) {
            *to = from;
        }
        assert_eq!(case.claim("hwid"), Some(hex::encode(hwid)));
        // The VCEK still names the chip, and a list of chips still holds.
        case.policy.require.chips = vec![SnpChip([7; 64]), SnpChip(hwid)];
        assert_eq!(case.failed(), none());
        case.policy.require.chips = vec![SnpChip([7; 64])];
        assert_eq!(case.failed(), ["snp.chips"]);
        case.body.chip_id = None;
        assert_eq!(case.failed(), ["snp.chips"]);
        assert_eq!(case.claim("key-bound-to").as_deref(), Some("chip"));
    }
}

#[test]
fn a_vlek_needs_a_policy_that_names_its_cloud_and_is_bound_to_no_chip() {
    let mut case = Case::new(SnpGeneration::Genoa, SnpKey::Vlek);
    case.body.chip_id = Some([0; 64]);
    assert_eq!(case.failed(), none(), "a VLEK's chip is legally masked");
    assert_eq!(case.claim("key-bound-to").as_deref(), Some("cloud"));
    assert_eq!(case.claim("csp-id").as_deref(), Some(CLOUD));
    assert_eq!(case.claim("hwid"), None);
    // A list of chips cannot hold for a report without chip.
    case.policy.require.chips = vec![SnpChip([7; 64])];
    assert_eq!(case.failed(), ["snp.chips"]);
    case.body.chip_id = Some([7; 64]);
    assert_eq!(case.failed(), none());
    for clouds in [vec![], vec![CLOUD.to_uppercase()], vec![format!("{CLOUD}.")], vec!["CN=".into()]] {
        case.policy.allow.vlek_clouds = clouds;
        assert_eq!(case.failed(), ["snp.vlek-cloud"]);
    }
    case.policy.allow.vlek_clouds = vec![CLOUD.into()];
    for cloud in
        [&b"\x16\x00"[..], b"\x16\x02a\n", b"\x16\x02a\xe9", b"\x0c\x01a", b"\x16\x81\x01a", b"\x16\x02a"]
    {
        let mut odd = Case::new(SnpGeneration::Genoa, SnpKey::Vlek);
        odd.extension(&[5], Some(cloud.to_vec()));
        assert_eq!(odd.failed(), ["platform.chain"], "{cloud:x?}");
    }
}

#[test]
fn a_certificate_of_the_chain_outside_its_dates_is_refused() {
    for key in [SnpKey::Vcek, SnpKey::Vlek] {
        for level in 0..3 {
            let mut case = Case::new(SnpGeneration::Turin, key);
            case.spec.valid[level] = (NOW - 10, NOW);
            assert_eq!(case.failed(), none());
            case.spec.valid[level] = (NOW, NOW + 10);
            assert_eq!(case.failed(), none());
            case.spec.valid[level] = (NOW - 10, NOW - 1);
            assert_eq!(case.failed(), ["platform.chain"], "{key:?} {level}");
            case.spec.valid[level] = (NOW + 1, NOW + 10);
            assert_eq!(case.failed(), ["platform.chain"], "{key:?} {level}");
        }
    }
    let mut vlek = Case::new(SnpGeneration::Milan, SnpKey::Vlek);
    vlek.spec.crl_valid = (NOW, NOW + 500 * DAY);
    vlek.policy.crl_age_max_days = 500;
    vlek.now = UnixTime(NOW + 365 * DAY);
    assert_eq!(vlek.failed(), none());
    vlek.now = UnixTime(NOW + 365 * DAY + 1);
    assert_eq!(vlek.failed(), ["platform.chain"], "a VLEK is valid for one year");
}

#[test]
fn a_crl_must_be_there_be_current_and_name_neither_root_nor_intermediate() {
    let mut case = Case::genoa();
    case.spec.crl_valid = (NOW, NOW);
    assert_eq!(case.failed(), none());
    for window in [(NOW + 1, NOW + 2), (NOW - 2, NOW - 1)] {
        case.spec.crl_valid = window;
        assert_eq!(case.failed(), ["platform.crl"]);
    }
    // What AMD's list for Genoa names today is an intermediate that is not in use.
    for (revoked, expected) in [
        (vec![2, 0, 1], none()),
        (vec![2, 0, 2], vec!["platform.crl".to_owned()]),
        (vec![2, 0, 0], vec!["platform.crl".to_owned()]),
        (vec![0], none()),
    ] {
        let mut case = Case::genoa();
        case.spec.revoked = vec![vec![9, 9], revoked.clone()];
        assert_eq!(case.failed(), expected, "{revoked:?}");
    }
    let mut asvk = Case::new(SnpGeneration::Milan, SnpKey::Vlek);
    asvk.spec.revoked = vec![vec![1, 1, 1]];
    assert_eq!(asvk.failed(), ["platform.crl"]);
}

#[test]
fn past_bug_11_a_root_that_is_not_pinned_is_refused_whatever_it_calls_itself() {
    for generation in SnpGeneration::ALL {
        let case = Case::new(generation, SnpKey::Vcek);
        let mut endorsed = Endorsed::verify(&collateral_of(&case.spec));
        let bytes = snp_pki().report(&case.body).unwrap();
        for roots in [Roots::Production, Roots::Development(vec![Sha256([0; 32])])] {
            let mut ledger = Ledger::new();
            let report = parse_snp_report(&bytes).unwrap();
            assert!(verify(&mut ledger, report, &[], &mut endorsed, &roots, case.now).is_err());
            assert_eq!(failed_rules(ledger.into_parts().1), ["platform.roots"]);
        }
    }
    for change in [
        |spec: &mut SnpSpec| spec.ark_name = "ARK-Naples".into(),
        |spec: &mut SnpSpec| spec.ark_name = "ARK-Milan".into(),
        |spec: &mut SnpSpec| spec.ask_name = "SEV-Milan".into(),
        |spec: &mut SnpSpec| spec.ask_name = "SEV-VLEK-Milan".into(),
        |spec: &mut SnpSpec| spec.ask_name = "SEV-Genoa-B1".into(),
        |spec: &mut SnpSpec| spec.vek_name = "VCEK".into(),
        |spec: &mut SnpSpec| spec.vek_name = "SEV-VCEK2".into(),
    ] {
        let mut case = Case::genoa();
        change(&mut case.spec);
        assert_eq!(case.failed(), ["platform.chain"]);
    }
}

#[test]
fn a_policy_bit_that_weakens_needs_its_own_key() {
    for (bit, allowance) in [
        (PolicyBit::Debug, SnpAllowance::Debug),
        (PolicyBit::MigrationAgent, SnpAllowance::MigrationAgent),
        (PolicyBit::Cxl, SnpAllowance::Cxl),
    ] {
        let mut case = Case::genoa();
        case.body.policy |= bit.mask();
        let others = SnpAllowance::ALL.into_iter().filter(|other| *other != allowance);
        case.policy.allow.flags = others.collect();
        assert_eq!(case.failed(), ["snp.policy"], "{}", bit.name());
        case.policy.allow.flags = BTreeSet::from([allowance]);
        assert_eq!(case.failed(), none(), "{}", bit.name());
        assert_eq!(case.claim(&format!("policy.{}", bit.name())).as_deref(), Some("true"));
    }
    let mut case = Case::genoa();
    case.policy.smt = Smt::Refused;
    assert_eq!(case.failed(), ["snp.policy", "snp.platform-info"]);
    case.body.policy &= !PolicyBit::Smt.mask();
    assert_eq!(case.failed(), ["snp.platform-info"]);
    case.body.platform_info &= !PlatformBit::Smt.mask();
    assert_eq!(case.failed(), none());
    let mut always = Case::genoa();
    always.body.policy &= !PolicyBit::AlwaysOne.mask();
    always.policy.allow.flags = SnpAllowance::ALL.into_iter().collect();
    assert_eq!(always.failed(), ["snp.policy"]);
}

#[test]
fn policy_bits_without_a_meaning_need_to_be_named_one_by_one() {
    for bit in 26..64 {
        let mut case = Case::genoa();
        case.body.policy |= 1 << bit;
        assert_eq!(case.failed(), ["snp.policy"], "{bit}");
        case.policy.allow.policy_bits = !(1 << bit);
        assert_eq!(case.failed(), ["snp.policy"], "{bit}");
        case.policy.allow.policy_bits = 1 << bit;
        assert_eq!(case.failed(), none(), "{bit}");
        assert_eq!(case.claim("policy.unknown-bits"), Some(format!("{:#x}", 1_u64 << bit)));
    }
}

#[test]
fn required_bits_must_be_set() {
    let strengthening = [
        PolicyBit::SingleSocket,
        PolicyBit::MemAes256Xts,
        PolicyBit::RaplDis,
        PolicyBit::CiphertextHiding,
        PolicyBit::PageSwapDisable,
    ];
    for bit in strengthening {
        let mut case = Case::genoa();
        case.body.policy |= bit.mask();
        assert_eq!(case.failed(), none());
        case.policy.require.policy = BTreeSet::from([bit]);
        assert_eq!(case.failed(), none(), "{}", bit.name());
        case.body.policy ^= bit.mask();
        assert_eq!(case.failed(), ["snp.policy"], "{}", bit.name());
    }
    for bit in PlatformBit::ALL {
        let mut case = Case::genoa();
        case.policy.require.platform = BTreeSet::from([bit]);
        case.body.platform_info = bit.mask();
        assert_eq!(case.failed(), none(), "{}", bit.name());
        assert_eq!(case.claim(&format!("platform-info.{}", bit.name())).as_deref(), Some("true"));
        case.body.platform_info = !bit.mask();
        assert_eq!(case.failed(), ["snp.platform-info"], "{}", bit.name());
    }
}

#[test]
fn platform_information_without_a_meaning_is_a_claim_and_refuses_nothing() {
    // As a real Turin has it.
    let mut case = Case::new(SnpGeneration::Turin, SnpKey::Vcek);
    case.body.version = 5;
    case.body.platform_info = 0x65;
    assert_eq!(case.failed(), none());
    assert_eq!(case.claim("platform-info.unknown-bits").as_deref(), Some("0x40"));
    assert_eq!(case.claim("platform-info.alias-check-complete").as_deref(), Some("true"));
}

#[test]
fn past_bug_16_memory_that_was_not_checked_for_aliases_is_refused_where_the_policy_asks() {
    let mut case = Case::genoa();
    case.policy.require.platform = BTreeSet::from([PlatformBit::AliasCheckComplete]);
    assert_eq!(case.failed(), none());
    case.body.platform_info = 0x05;
    assert_eq!(case.failed(), ["snp.platform-info"]);
}

#[test]
fn past_bug_16_a_product_with_a_broken_seed_is_refused_with_the_reason() {
    let mut case = Case::new(SnpGeneration::Milan, SnpKey::Vcek);
    case.policy = expectations(&[SnpProduct::Genoa, SnpProduct::Turin]);
    let (_, rules) = case.rules(|_| {});
    let product = rules.iter().find(|rule| rule.detail.rule == "snp.product").unwrap();
    assert!(!product.passed);
    assert_eq!(product.detail.expected, "Genoa or Turin");
    assert_eq!(
        product.detail.found,
        "Milan; published attacks reach the seed of its VCEK (arXiv 2605.12990)"
    );
}

#[test]
fn firmware_versions_are_claims_and_have_a_floor() {
    let mut case = Case::genoa();
    assert_eq!(case.claim("current-firmware").as_deref(), Some("1.55.39"));
    case.body.firmware = [[40, 55, 1], [39, 55, 1]];
    assert_eq!(case.failed(), ["snp.tcb-relations"]);
    case.policy.allow.flags.insert(SnpAllowance::ProvisionalFirmware);
    assert_eq!(case.failed(), none());
    assert_eq!(case.claim("committed-firmware").as_deref(), Some("1.55.39"));
    case.body.firmware = [[40, 55, 1], [0, 0, 2]];
    assert_eq!(case.failed(), ["snp.tcb-relations"], "committed above current");
    let mut case = Case::genoa();
    for (major, minor, build, holds) in
        [(1, 55, 39, true), (1, 55, 40, false), (1, 56, 0, false), (2, 0, 0, false), (0, 255, 255, true)]
    {
        case.policy.require.firmware_min = Some(SnpFirmware { major, minor, build });
        let expected = if holds { none() } else { vec!["snp.firmware".to_owned()] };
        assert_eq!(case.failed(), expected, "{major}.{minor}.{build}");
    }
}

#[test]
fn mitigations_must_have_been_there_at_launch_and_now() {
    let mut case = Case::genoa();
    case.body.version = 5;
    case.body.mitigations = [0b011, 0b110];
    assert_eq!(case.claim("launch-mitigations").as_deref(), Some("0x3"));
    assert_eq!(case.claim("current-mitigations").as_deref(), Some("0x6"));
    for (mask, holds) in [(0b000, true), (0b010, true), (0b001, false), (0b100, false), (0b011, false)] {
        case.policy.require.mitigations = mask;
        let expected = if holds { none() } else { vec!["snp.mitigations".to_owned()] };
        assert_eq!(case.failed(), expected, "{mask:#b}");
    }
    case.body.version = 4;
    case.policy.require.mitigations = 0b010;
    assert_eq!(case.failed(), ["snp.mitigations"], "version 4 has none");
}

#[test]
fn what_the_owner_gave_is_compared_where_the_policy_names_it() {
    let mut case = Case::genoa();
    case.body.guest_svn = 4;
    case.body.key_info |= 1;
    let given = |report: &mut [u8]| {
        report[0x10..0x20].fill(1);
        report[0x20..0x30].fill(2);
        report[0xe0..0x110].fill(3);
        report[0x110..0x140].fill(4);
    };
    assert_eq!(case.failed_with(given), none());
    let own = &mut case.policy.require;
    own.guest_svn_min = 4;
    own.family_id = vec![[9; 16], [1; 16]];
    own.image_id = vec![[2; 16]];
    own.host_data = vec![[0; 32]];
    own.id_key_digest = vec![Measurement([3; 48])];
    own.author_key_digest = vec![Measurement([4; 48])];
    assert_eq!(case.failed_with(given), none());
    let changes: [(Change, &str); 6] = [
        (|require| require.host_data = vec![[1; 32]], "snp.host-data"),
        (|require| require.guest_svn_min = 5, "snp.guest-svn"),
        (|require| require.id_key_digest = vec![Measurement([4; 48])], "snp.id-key-digest"),
        (|require| require.author_key_digest = vec![Measurement([3; 48])], "snp.author-key-digest"),
        (|require| require.family_id = vec![[2; 16]], "snp.family-id"),
        (|require| require.image_id = vec![[1; 16]], "snp.image-id"),
    ];
    for (change, rule) in changes {
        let good = case.policy.require.clone();
        change(&mut case.policy.require);
        assert_eq!(case.failed_with(given), [rule]);
        case.policy.require = good;
    }
}

#[test]
fn the_digest_of_an_author_key_and_its_flag_come_together() {
    let mut case = Case::genoa();
    assert_eq!(case.failed_with(|report| report[0x110] = 1), ["snp.author-key"]);
    case.body.key_info = 1;
    assert_eq!(case.failed(), ["snp.author-key"]);
    assert_eq!(case.failed_with(|report| report[0x110] = 1), none());
}

#[test]
fn vmpl_is_the_one_that_the_policy_names_and_not_always_zero() {
    let mut case = Case::genoa();
    for (found, expected) in [(0, 0), (1, 1), (0, 1), (1, 0), (3, 2)] {
        case.body.vmpl = found;
        case.policy.vmpl = expected;
        let failed = if found == expected { none() } else { vec!["snp.vmpl".to_owned()] };
        assert_eq!(case.failed(), failed);
    }
}

#[test]
fn gap_of_sev_a_changed_signed_byte_is_refused_wherever_it_stands() {
    let case = Case::genoa();
    let bytes = snp_pki().report(&case.body).unwrap();
    let mut endorsed = Endorsed::verify(&collateral_of(&case.spec));
    for offset in 0..SNP_REPORT_BYTES {
        let mut changed = bytes.clone();
        changed[offset] ^= 1;
        let Ok(report) = parse_snp_report(&changed) else { continue };
        let mut ledger = Ledger::new();
        assert!(verify(&mut ledger, report, &[], &mut endorsed, &roots(), case.now).is_err(), "{offset:#x}");
        let failed = failed_rules(ledger.into_parts().1);
        assert_eq!(failed, ["platform.signature"], "{offset:#x}");
    }
}

#[test]
fn the_stored_collateral_of_a_development_pki_is_accepted() {
    let CollateralParts::Snp(parts) = pki().collateral() else { panic!("TDX") };
    let stored = SnpCollateral { ark: parts.ark, ask: parts.ask, crl: parts.crl, vek: Some(parts.vek) };
    let bytes = snp_pki().report(&SnpBody::new()).unwrap();
    let mut ledger = Ledger::new();
    let report = parse_snp_report(&bytes).unwrap();
    let mut endorsed = Endorsed::verify(&stored);
    assert!(verify(&mut ledger, report, &[], &mut endorsed, &roots(), UnixTime(NOW)).is_ok());
}
