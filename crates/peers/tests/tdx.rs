//! Our verdicts on Intel TDX and those of `dcap-qvl`, case by case. What differs must stand in
//! `casemate_peers::differences`, with who is right and why.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::path::PathBuf;

use casemate_peers::comparison::{Comparison, Verdict};
use casemate_peers::differences::Peer;
use casemate_peers::ours::{self, Outcome, Trust};
use casemate_peers::tdx_cases::{QUOTES, SETS, SGX_QUOTES, SGX_SET, Window, readable, region, windows};
use casemate_peers::vectors::{self, TdxSet};
use casemate_peers::{intel, tdx_cases};
use casemate_testkit::{CollateralParts, CollateralSpec, DevPki, QuoteParts, Revoked, TdBody, Tee};
use dcap_qvl::QuoteCollateralV3;

/// The folder of vectors. Without it a test says so by name and does not run; where CI is set it fails.
fn folder(test: &str) -> Option<PathBuf> {
    let folder = vectors::folder();
    if folder.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test}: vectors absent");
        eprintln!("{test}: not run: vectors absent");
    }
    folder
}

/// Rules by which a policy judges what was verified, and for which `dcap-qvl` has a policy of its own that is not run
/// here: its `verify` alone accepts every status.
const STATUS_RULES: [&str; 6] = [
    "tdx.tcb-status",
    "tdx.advisories",
    "tdx.tcb-date",
    "tdx.tcb-evaluation",
    "collateral.age",
    "tdx.platform-properties",
];

/// Status and advisories, or the first rule that did not hold and that is not about the status.
fn ours_verdict(outcome: &Outcome) -> Verdict {
    let Some(status) = outcome.claim("tcb-status").filter(|_| outcome.is_verified()) else {
        return Err(outcome.first_failed().to_owned());
    };
    if status == "Revoked" {
        // No policy can accept it.
        return Err("tdx.tcb-status".into());
    }
    match outcome.failed.iter().find(|failed| !STATUS_RULES.contains(&failed.rule.as_str())) {
        Some(failed) => Err(failed.rule.clone()),
        None => Ok(told(status, outcome.claim("tcb-advisories").unwrap_or_default().split_whitespace())),
    }
}

fn theirs_verdict(verdict: intel::Verdict) -> Verdict {
    verdict.map(|(status, advisories)| told(&status, advisories.iter().map(String::as_str)))
}

fn told<'a>(status: &str, advisories: impl Iterator<Item = &'a str>) -> String {
    let mut advisories: Vec<&str> = advisories.collect();
    advisories.sort_unstable();
    advisories.dedup();
    format!("{status} [{}]", advisories.join(" "))
}

fn finish(comparison: Comparison) {
    let (compared, different) = comparison.finish().unwrap_or_else(|problems| panic!("{problems}"));
    println!("{compared} cases, {different} differ as the table says");
}

/// Both verdicts on one quote with production roots.
fn add(comparison: &mut Comparison, case: &str, quote: &[u8], set: &TdxSet, now: u64) {
    let mut handle = ours::tdx_handle(&set.ours, Trust::Production, now);
    let ours = ours::appraise_tdx(quote, &mut handle, Trust::Production, now).unwrap();
    let theirs = intel::verify(quote, &set.peer, now);
    comparison.add(case, &format!("at {now}"), &ours_verdict(&ours), &theirs_verdict(theirs));
}

#[test]
fn agrees_on_every_real_quote_with_every_collateral_at_every_edge_of_its_time() {
    let name = "agrees_on_every_real_quote_with_every_collateral_at_every_edge_of_its_time";
    let Some(folder) = folder(name) else { return };
    let mut comparison = Comparison::new(Peer::DcapQvl, "vectors/");
    let windows = windows(&folder).unwrap();
    for quote_file in QUOTES {
        let quote = vectors::read(&folder, quote_file).unwrap();
        for set_name in SETS {
            let set = TdxSet::read(&folder, &format!("_assembled/{set_name}.json")).unwrap();
            let Window { from, until } = windows[set_name];
            for now in [from - 1, from, tdx_cases::middle(from, until), until, until + 1] {
                add(&mut comparison, &format!("{quote_file}/{set_name}"), &quote, &set, now);
                // One real file has text after its quote; what is before it is looked at as well.
                if readable(&quote) != quote {
                    let case = format!("{quote_file}/{set_name}/cut");
                    add(&mut comparison, &case, readable(&quote), &set, now);
                }
            }
        }
    }
    for quote_file in SGX_QUOTES {
        let quote = vectors::read(&folder, quote_file).unwrap();
        let set = TdxSet::read(&folder, &format!("_assembled/{}", SGX_SET.0)).unwrap();
        add(&mut comparison, &format!("sgx/{quote_file}"), &quote, &set, SGX_SET.1);
    }
    finish(comparison);
}

#[test]
fn agrees_on_the_cases_that_its_own_generator_makes() {
    let Some(folder) = folder("agrees_on_the_cases_that_its_own_generator_makes") else { return };
    // A day after they were made.
    const NOW: u64 = 1_795_338_879 + 86_400;
    let root = vectors::read(&folder, "dcap-qvl-generated/root_ca.der").unwrap();
    let trust = Trust::Development(vectors::spki_sha256(&root).unwrap());
    let mut comparison = Comparison::new(Peer::DcapQvl, "generated/");
    let samples = folder.join("dcap-qvl-generated/samples");
    let mut count = 0;
    for entry in std::fs::read_dir(&samples).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        count += 1;
        let case = path.file_name().unwrap().to_string_lossy().into_owned();
        let quote = vectors::read(&path, "quote.bin").unwrap();
        let set = TdxSet::from_json(
            &serde_json::from_slice(&vectors::read(&path, "collateral.json").unwrap()).unwrap(),
        )
        .unwrap();
        let mut handle = ours::tdx_handle(&set.ours, trust, NOW);
        let ours = ours::appraise_tdx(&quote, &mut handle, trust, NOW).unwrap();
        let theirs = intel::verify_under(&root, &quote, &set.peer, NOW);
        comparison.add(&case, "", &ours_verdict(&ours), &theirs_verdict(theirs));
    }
    assert_eq!(count, 54);
    finish(comparison);
}

#[test]
fn agrees_on_real_quotes_with_any_one_byte_changed() {
    let Some(folder) = folder("agrees_on_real_quotes_with_any_one_byte_changed") else { return };
    let mut comparison = Comparison::new(Peer::DcapQvl, "byte/");
    for (name, quote_file) in [
        ("v4", "_extracted/dstack-quote-report.quote.bin"),
        ("v5", "go-tdx-guest/testing/testdata/quote_v5_sample.dat"),
    ] {
        let good = vectors::read(&folder, quote_file).unwrap();
        let set = TdxSet::read(&folder, "_assembled/S2-phala-90c06f-2026-02.json").unwrap();
        let now = 1_772_707_803;
        // Everything is known already: what was remembered must not let a changed quote through.
        let mut handle = ours::tdx_handle(&set.ours, Trust::Production, now);
        let outcome = ours::appraise_tdx(&good, &mut handle, Trust::Production, now).unwrap();
        assert!(outcome.is_accepted(), "{outcome:?}");
        let mut changed = good.clone();
        for offset in 0..good.len() {
            let part = region(&good, offset);
            for mask in [0x01, 0x80] {
                changed[offset] ^= mask;
                let ours = ours::appraise_tdx(&changed, &mut handle, Trust::Production, now).unwrap();
                let theirs = intel::verify(&changed, &set.peer, now);
                let detail = format!("offset {offset} xor {mask:#x}");
                comparison.add(
                    &format!("{name}/{part}"),
                    &detail,
                    &ours_verdict(&ours),
                    &theirs_verdict(theirs),
                );
                changed[offset] ^= mask;
                if part == "pck-chain" || part == "padding" {
                    break;
                }
            }
        }
        for (case, changed) in [
            ("cut", good[..good.len() - 1].to_vec()),
            ("zero-after", [good.as_slice(), &[0; 100]].concat()),
            ("one-after", [good.as_slice(), &[1]].concat()),
            ("text-after", [good.as_slice(), b"\nEOF\n"].concat()),
        ] {
            let ours = ours::appraise_tdx(&changed, &mut handle, Trust::Production, now).unwrap();
            let theirs = intel::verify(&changed, &set.peer, now);
            comparison.add(&format!("{name}/{case}"), "", &ours_verdict(&ours), &theirs_verdict(theirs));
        }
    }
    finish(comparison);
}

type Member = (&'static str, fn(&mut QuoteCollateralV3) -> Bytes<'_>);

enum Bytes<'a> {
    Text(&'a mut String),
    Binary(&'a mut Vec<u8>),
}

impl Bytes<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Changes one bit, so that text stays text.
    fn flip(self, offset: usize) {
        match self {
            Self::Binary(bytes) => bytes[offset] ^= 1,
            Self::Text(text) => {
                let mut bytes = std::mem::take(text).into_bytes();
                bytes[offset] ^= 1;
                *text = String::from_utf8(bytes).unwrap();
            }
        }
    }
}

const MEMBERS: [Member; 9] = [
    ("pck-crl-issuer-chain", |set| Bytes::Text(&mut set.pck_crl_issuer_chain)),
    ("root-ca-crl", |set| Bytes::Binary(&mut set.root_ca_crl)),
    ("pck-crl", |set| Bytes::Binary(&mut set.pck_crl)),
    ("tcb-info-issuer-chain", |set| Bytes::Text(&mut set.tcb_info_issuer_chain)),
    ("tcb-info", |set| Bytes::Text(&mut set.tcb_info)),
    ("tcb-info-signature", |set| Bytes::Binary(&mut set.tcb_info_signature)),
    ("qe-identity-issuer-chain", |set| Bytes::Text(&mut set.qe_identity_issuer_chain)),
    ("qe-identity", |set| Bytes::Text(&mut set.qe_identity)),
    ("qe-identity-signature", |set| Bytes::Binary(&mut set.qe_identity_signature)),
];

#[test]
fn agrees_on_real_collateral_with_one_byte_changed() {
    let Some(folder) = folder("agrees_on_real_collateral_with_one_byte_changed") else { return };
    /// Every byte would be tens of thousands of cases; a prime step meets every kind of place.
    const STEP: usize = 7;
    let mut comparison = Comparison::new(Peer::DcapQvl, "collateral-byte/");
    let quote = vectors::read(&folder, "_extracted/dstack-quote-report.quote.bin").unwrap();
    let good = TdxSet::read(&folder, "_assembled/S2-phala-90c06f-2026-02.json").unwrap().peer;
    let now = 1_772_707_803;
    for (name, member) in MEMBERS {
        let length = member(&mut good.clone()).len();
        for offset in (0..length).step_by(STEP) {
            let mut peer = good.clone();
            member(&mut peer).flip(offset);
            let set = TdxSet { ours: vectors::ours(&peer), peer };
            let part = tdx_cases::certificate_of_chain(&good, name, offset);
            add(&mut comparison, &format!("{name}{part}"), &quote, &set, now);
        }
    }
    finish(comparison);
}

/// A development PKI with what both verifiers need of it.
struct World {
    pki: DevPki,
    root: Vec<u8>,
    trust: Trust,
}

const NOW: u64 = 1_795_000_000;

impl World {
    fn new() -> Self {
        let pki = DevPki::generate(Tee::Tdx, NOW).unwrap();
        let CollateralParts::Tdx(parts) = pki.collateral() else { unreachable!() };
        let root = vectors::pem_certificates(&parts.tcb_info_chain).unwrap().pop().unwrap();
        let trust = Trust::Development(pki.root_spki_sha256());
        Self { pki, root, trust }
    }

    fn good_set(&self) -> TdxSet {
        self.set(&CollateralSpec::at(NOW))
    }

    fn set(&self, spec: &CollateralSpec) -> TdxSet {
        let CollateralParts::Tdx(parts) = self.pki.collateral_with(spec).unwrap() else { unreachable!() };
        vectors::both(&parts)
    }

    /// Collateral in one of whose documents `from` is `to`, correctly signed.
    fn edited(&self, document: &str, from: &str, to: &str) -> TdxSet {
        let CollateralParts::Tdx(mut parts) = self.pki.collateral() else { unreachable!() };
        let place = if document == "tcbInfo" { &mut parts.tcb_info } else { &mut parts.qe_identity };
        let (text, _) = vectors::take_apart(place);
        assert!(text.contains(from), "{from} is not in {text}");
        let text = text.replacen(from, to, 1);
        *place = self.pki.tdx().unwrap().sign_document(document, text.as_bytes()).unwrap();
        vectors::both(&parts)
    }

    fn quote(&self, change: impl FnOnce(&mut QuoteParts)) -> Vec<u8> {
        self.pki.tdx().unwrap().quote_with(&TdBody::new(), change).unwrap()
    }

    fn add(&self, comparison: &mut Comparison, case: &str, quote: &[u8], set: &TdxSet, now: u64) {
        let mut handle = ours::tdx_handle(&set.ours, self.trust, now);
        let ours = ours::appraise_tdx(quote, &mut handle, self.trust, now).unwrap();
        let theirs = intel::verify_under(&self.root, quote, &set.peer, now);
        comparison.add(case, "", &ours_verdict(&ours), &theirs_verdict(theirs));
    }
}

/// Offsets in the body of a version 4 quote (TD report 1.0) and in the QE report.
mod at {
    pub(crate) const TEE_TCB_SVN: usize = 0;
    pub(crate) const MRSIGNERSEAM: usize = 64;
    pub(crate) const SEAM_ATTRIBUTES: usize = 112;
    pub(crate) const TD_ATTRIBUTES: usize = 120;
    pub(crate) const XFAM: usize = 128;
    pub(crate) const QE_MISCSELECT: usize = 16;
    pub(crate) const QE_ATTRIBUTES: usize = 48;
    pub(crate) const QE_MRSIGNER: usize = 128;
    pub(crate) const QE_ISVPRODID: usize = 256;
    pub(crate) const QE_ISVSVN: usize = 258;
    pub(crate) const QE_REPORT_DATA: usize = 320;
}

#[test]
fn agrees_on_quotes_with_one_field_changed_and_signed_again() {
    let world = World::new();
    let set = world.good_set();
    let mut comparison = Comparison::new(Peer::DcapQvl, "field/");
    let mut add = |case: &str, quote: &[u8]| world.add(&mut comparison, case, quote, &set, NOW);
    add("good", &world.quote(|_| {}));
    for bit in 0..64 {
        let flip = |bytes: &mut [u8], at: usize| bytes[at + bit / 8] ^= 1 << (bit % 8);
        add(&format!("td-attributes/{bit}"), &world.quote(|parts| flip(&mut parts.body, at::TD_ATTRIBUTES)));
        add(&format!("xfam/{bit}"), &world.quote(|parts| flip(&mut parts.body, at::XFAM)));
        add(
            &format!("seam-attributes/{bit}"),
            &world.quote(|parts| flip(&mut parts.body, at::SEAM_ATTRIBUTES)),
        );
    }
    for bit in 0..128 {
        let flip = |bytes: &mut [u8]| bytes[at::QE_ATTRIBUTES + bit / 8] ^= 1 << (bit % 8);
        add(&format!("qe-attributes/{bit}"), &world.quote(|parts| flip(&mut parts.qe_report)));
    }
    add("mrsignerseam", &world.quote(|parts| parts.body[at::MRSIGNERSEAM] = 1));
    for (component, svn) in
        [(0, 0), (0, 2), (0, 4), (0, 255), (1, 0), (1, 2), (1, 3), (1, 255), (2, 0), (2, 255)]
    {
        let case = format!("tee-tcb-svn/{component}/{svn}");
        add(&case, &world.quote(|parts| parts.body[at::TEE_TCB_SVN + component] = svn));
    }
    add("qe-miscselect", &world.quote(|parts| parts.qe_report[at::QE_MISCSELECT] ^= 1));
    add("qe-mrsigner", &world.quote(|parts| parts.qe_report[at::QE_MRSIGNER] ^= 1));
    add("qe-isvprodid", &world.quote(|parts| parts.qe_report[at::QE_ISVPRODID] ^= 1));
    for svn in [0, 3, 5, 255] {
        add(&format!("qe-isvsvn/{svn}"), &world.quote(|parts| parts.qe_report[at::QE_ISVSVN] = svn));
    }
    add("qe-report-data/lower", &world.quote(|parts| parts.qe_report[at::QE_REPORT_DATA + 31] ^= 1));
    add("qe-report-data/upper", &world.quote(|parts| parts.qe_report[at::QE_REPORT_DATA + 32] ^= 1));
    for offset in 0..48 {
        let part = region_of_header(offset);
        add(&format!("header/{part}"), &world.quote(|parts| parts.header[offset] ^= 1));
    }
    for kind in [0, 1, 2, 3, 4, 5, 7] {
        add(&format!("outer-type/{kind}"), &world.quote(|parts| parts.certification_type = kind));
    }
    for kind in [0, 1, 2, 3, 4, 6, 7] {
        add(&format!("inner-type/{kind}"), &world.quote(|parts| parts.inner_certification_type = kind));
    }
    finish(comparison);
}

fn region_of_header(offset: usize) -> &'static str {
    match offset {
        0..2 => "version",
        2..4 => "attestation-key-type",
        4..8 => "tee-type",
        8..12 => "reserved",
        12..28 => "qe-vendor",
        _ => "user-data",
    }
}

#[test]
fn agrees_on_authentication_data_and_chains_of_other_lengths() {
    use casemate_peers::tdx_cases::bind;
    let world = World::new();
    let set = world.good_set();
    let mut comparison = Comparison::new(Peer::DcapQvl, "lengths/");
    let mut add = |case: &str, quote: &[u8]| world.add(&mut comparison, case, quote, &set, NOW);
    for length in [0, 1, 31, 32, 33, 64, 1000] {
        let quote = world.quote(|parts| {
            parts.qe_auth_data = vec![7; length];
            bind(parts);
        });
        add(&format!("qe-auth-data/{length}"), &quote);
    }
    add("chain/no-zero", &world.quote(|parts| parts.chain.truncate(parts.chain.len() - 1)));
    add("chain/many-zeros", &world.quote(|parts| parts.chain.extend([0; 8])));
    add(
        "chain/text-after",
        &world.quote(|parts| {
            parts.chain.pop();
            parts.chain.extend(b"text\n");
        }),
    );
    add("chain/text-before", &world.quote(|parts| parts.chain.splice(0..0, *b"text\n").for_each(drop)));
    add("chain/empty", &world.quote(|parts| parts.chain.clear()));
    let cut = |keep: &[usize]| {
        world.quote(|parts| {
            let text = String::from_utf8(std::mem::take(&mut parts.chain)).unwrap();
            const BEGIN: &str = "-----BEGIN";
            let all: Vec<String> = text
                .trim_end_matches('\0')
                .split(BEGIN)
                .skip(1)
                .map(|body| format!("{BEGIN}{body}"))
                .collect();
            parts.chain = keep.iter().map(|index| all[*index].as_str()).collect::<String>().into_bytes();
        })
    };
    add("chain/without-root", &cut(&[0, 1]));
    add("chain/leaf-alone", &cut(&[0]));
    add("chain/other-order", &cut(&[0, 2, 1]));
    add("chain/root-first", &cut(&[2, 1, 0]));
    add("chain/leaf-twice", &cut(&[0, 0, 1, 2]));
    add("chain/root-twice", &cut(&[0, 1, 2, 2]));
    finish(comparison);
}

#[test]
fn agrees_on_reports_of_version_5() {
    use casemate_peers::tdx_cases::version_5;
    let world = World::new();
    let set = world.good_set();
    let mut comparison = Comparison::new(Peer::DcapQvl, "v5/");
    let mut add = |case: &str, quote: &[u8]| world.add(&mut comparison, case, quote, &set, NOW);
    let good_svn = casemate_testkit::TEE_TCB_SVN;
    let tail = |svn2: [u8; 16], service: u8| [svn2.as_slice(), &[service; 48]].concat();
    for (case, kind, size, tail) in [
        ("type-1", 1, 384, vec![]),
        ("type-2", 2, 584, vec![]),
        ("type-3", 3, 648, tail(good_svn, 0)),
        ("type-4", 4, 885, [tail(good_svn, 0), vec![0; 237]].concat()),
        ("type-5", 5, 584, vec![]),
        ("type-3/short", 3, 584, vec![]),
        ("type-3/size-of-another", 3, 584, tail(good_svn, 0)),
        ("type-2/longer", 2, 648, tail(good_svn, 0)),
        ("type-3/service-td", 3, 648, tail(good_svn, 1)),
        ("type-4/service-td", 4, 885, [tail(good_svn, 1), vec![0; 237]].concat()),
        ("type-4/tail-set", 4, 885, [tail(good_svn, 0), vec![1; 237]].concat()),
    ] {
        add(case, &world.quote(|parts| version_5(parts, kind, size, &tail)));
    }
    for (component, svn) in [(0, 0), (0, 2), (0, 4), (0, 255), (1, 0), (1, 2), (1, 3), (2, 0), (2, 255)] {
        let mut other = good_svn;
        other[component] = svn;
        let case = format!("svn2/{component}/{svn}");
        add(&case, &world.quote(|parts| version_5(parts, 3, 648, &tail(other, 0))));
        let launched = format!("svn1/{component}/{svn}");
        add(
            &launched,
            &world.quote(|parts| {
                version_5(parts, 3, 648, &tail(good_svn, 0));
                // Type and size stand before the report.
                parts.body[6 + at::TEE_TCB_SVN + component] = svn;
            }),
        );
    }
    finish(comparison);
}

#[test]
fn agrees_on_how_statuses_combine() {
    const PLATFORM: [&str; 8] = [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "Revoked",
        "SomethingElse",
    ];
    let world = World::new();
    let quote = world.quote(|_| {});
    let mut comparison = Comparison::new(Peer::DcapQvl, "status/");
    for platform in PLATFORM {
        for module in PLATFORM {
            for qe in PLATFORM {
                let mut spec = CollateralSpec::at(NOW);
                spec.platform_status = platform.into();
                spec.module_status = module.into();
                spec.qe_status = qe.into();
                let case = format!("platform {platform}, module {module}, qe {qe}");
                world.add(&mut comparison, &case, &quote, &world.set(&spec), NOW);
            }
        }
    }
    finish(comparison);
}

#[test]
fn agrees_on_dates_and_revocations_of_collateral() {
    let world = World::new();
    let quote = world.quote(|_| {});
    let mut comparison = Comparison::new(Peer::DcapQvl, "collateral/");
    let good = CollateralSpec::at(NOW);
    for (case, now) in [
        ("a-second-before", good.issued_at - 1),
        ("first-second", good.issued_at),
        ("last-second", good.next_update),
        ("a-second-after", good.next_update + 1),
        ("before-the-certificates", NOW - 86_400),
        ("after-the-certificates", NOW + 11 * 365 * 86_400),
    ] {
        world.add(&mut comparison, case, &quote, &world.set(&good), now);
    }
    for (case, revoked) in [
        ("revoked/leaf", Revoked::Leaf),
        ("revoked/intermediate", Revoked::Intermediate),
        ("revoked/collateral-signer", Revoked::CollateralSigner),
    ] {
        let set = world.set(&CollateralSpec { revoked, ..CollateralSpec::at(NOW) });
        world.add(&mut comparison, case, &quote, &set, NOW);
    }
    let other = World::new();
    let theirs = other.good_set();
    type Swap = (&'static str, fn(&mut QuoteCollateralV3, &QuoteCollateralV3));
    let swaps: [Swap; 6] = [
        ("foreign/root-ca-crl", |to, from| to.root_ca_crl.clone_from(&from.root_ca_crl)),
        ("foreign/pck-crl", |to, from| to.pck_crl.clone_from(&from.pck_crl)),
        ("foreign/pck-crl-issuer-chain", |to, from| {
            to.pck_crl_issuer_chain.clone_from(&from.pck_crl_issuer_chain);
        }),
        ("foreign/tcb-info-issuer-chain", |to, from| {
            to.tcb_info_issuer_chain.clone_from(&from.tcb_info_issuer_chain);
        }),
        ("empty/pck-crl-issuer-chain", |to, _| to.pck_crl_issuer_chain.clear()),
        ("swapped/crls", |to, _| std::mem::swap(&mut to.root_ca_crl, &mut to.pck_crl)),
    ];
    for (case, change) in swaps {
        let mut peer = world.good_set().peer;
        change(&mut peer, &theirs.peer);
        let set = TdxSet { ours: vectors::ours(&peer), peer };
        world.add(&mut comparison, case, &quote, &set, NOW);
    }
    finish(comparison);
}

#[test]
fn agrees_on_documents_of_another_content_that_are_correctly_signed() {
    let world = World::new();
    let quote = world.quote(|_| {});
    let mut comparison = Comparison::new(Peer::DcapQvl, "document/");
    for (case, document, from, to) in [
        ("tcb-info/pceid", "tcbInfo", r#""pceId":"0000""#, r#""pceId":"0001""#),
        ("tcb-info/fmspc", "tcbInfo", r#""fmspc":"CA5E00000001""#, r#""fmspc":"CA5E00000002""#),
        ("tcb-info/fmspc-lower-case", "tcbInfo", r#""fmspc":"CA5E00000001""#, r#""fmspc":"ca5e00000001""#),
        ("tcb-info/id", "tcbInfo", r#""id":"TDX","issue"#, r#""id":"SGX","issue"#),
        ("tcb-info/version-2", "tcbInfo", r#""version":3"#, r#""version":2"#),
        ("tcb-info/version-4", "tcbInfo", r#""version":3"#, r#""version":4"#),
        ("tcb-info/type", "tcbInfo", r#""tcbType":0"#, r#""tcbType":1"#),
        ("tcb-info/unknown-member", "tcbInfo", r#""tcbType":0"#, r#""tcbType":0,"extra":{"a":[1]}"#),
        ("tcb-info/member-twice", "tcbInfo", r#""tcbType":0"#, r#""tcbType":0,"tcbType":0"#),
        ("tcb-info/unknown-member-twice", "tcbInfo", r#""tcbType":0"#, r#""tcbType":0,"extra":1,"extra":2"#),
        ("tcb-info/space", "tcbInfo", r#""tcbType":0"#, r#""tcbType" : 0"#),
        ("tcb-info/no-module-identities", "tcbInfo", r#""tdxModuleIdentities""#, r#""others""#),
        ("tcb-info/no-module", "tcbInfo", r#""tdxModule":"#, r#""otherModule":"#),
        ("tcb-info/module-id-lower-case", "tcbInfo", r#""id":"TDX_01""#, r#""id":"tdx_01""#),
        ("tcb-info/date-with-zone", "tcbInfo", r#"Z","pceId""#, r#"+00:00","pceId""#),
        ("tcb-info/date-with-fraction", "tcbInfo", r#"Z","nextUpdate""#, r#".5Z","nextUpdate""#),
        ("tcb-info/tcb-date", "tcbInfo", r#""tcbDate":"2026-08-12T00:00:00Z""#, r#""tcbDate":"some day""#),
        (
            "tcb-info/levels-empty",
            "tcbInfo",
            r#""tcbLevels":[{"tcb":{"pcesvn""#,
            r#""tcbLevels":[],"older":[{"tcb":{"pcesvn""#,
        ),
        ("tcb-info/pcesvn-too-high", "tcbInfo", r#""pcesvn":13"#, r#""pcesvn":14"#),
        (
            "tcb-info/component-too-high",
            "tcbInfo",
            r#""sgxtcbcomponents":[{"svn":4}"#,
            r#""sgxtcbcomponents":[{"svn":5}"#,
        ),
        ("qe-identity/id", "enclaveIdentity", r#""id":"TD_QE""#, r#""id":"QE""#),
        ("qe-identity/version-1", "enclaveIdentity", r#""version":2"#, r#""version":1"#),
        ("qe-identity/version-3", "enclaveIdentity", r#""version":2"#, r#""version":3"#),
        ("qe-identity/space", "enclaveIdentity", r#""isvprodid":2"#, r#""isvprodid" : 2"#),
        ("qe-identity/member-twice", "enclaveIdentity", r#""isvprodid":2"#, r#""isvprodid":2,"isvprodid":2"#),
        ("qe-identity/isvsvn-too-high", "enclaveIdentity", r#""isvsvn":4"#, r#""isvsvn":5"#),
        ("qe-identity/no-levels", "enclaveIdentity", r#""tcbLevels""#, r#""levels""#),
        ("qe-identity/mask-open", "enclaveIdentity", r#""attributesMask":"FB"#, r#""attributesMask":"FF"#),
    ] {
        world.add(&mut comparison, case, &quote, &world.edited(document, from, to), NOW);
    }
    finish(comparison);
}
