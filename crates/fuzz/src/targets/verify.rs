//! Whole verifications: one field of valid evidence, of collateral or of a policy is changed, and the verdict must turn.
//!
//! The tables below name every field. A changed field of kind [`Kind::Signed`] must refuse. One of kind
//! [`Kind::Spelling`] may be accepted only where it still spells the same bytes. One of kind [`Kind::Unused`] is read by
//! nobody: nothing is asked but that it ends.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use casemate_protocol::cmw::{Evidence, Platform};
use casemate_testkit::{TdxPki, Tee};
use casemate_verifier::{
    Binding, Collateral, Measurement, Policy, TdxCollateral, UnixTime, VerifiedCollateral, appraise,
    appraise_platform,
};

use serde_json::value::RawValue;

use super::binary::version_5;
use super::policy_fields::Row;
use super::{documents, policy_fields};
use crate::choices::Choices;
use crate::world::World;
use crate::{Bound, Outcome, Target, Violation};

/// The verifier keeps what it verified; a PKI and its evidence are made once.
const BOUND: Bound = Bound {
    input_bytes_max: 64,
    allocation_bytes: 4 << 20,
    allocation_bytes_per_input_byte: 0,
    time_us: 100_000,
    time_ns_per_input_byte: 0,
};

pub(super) fn all() -> Vec<Target> {
    vec![Target {
        name: "verify",
        what: "casemate_verifier::appraise and appraise_platform: one field changed, the verdict must turn",
        seeds: || (0..=u8::MAX).map(|first| vec![first, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).collect(),
        words: &[&[0xff; 4], &[1; 4]],
        run,
        bound: BOUND,
    }]
}

/// What a change of a field may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It refuses.
    Signed,
    /// It refuses, unless the part still spells the same.
    Spelling(Spelling),
    /// Zeros after the end of what was trimmed: they are nobody's, and the verdict stays.
    Padding,
    /// Anything: nobody reads it.
    Unused,
}

/// How a part may be written otherwise without saying anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// PEM: white space, and zeros at its end.
    Pem,
    /// A signed document: white space around it, and the case of its signature's digits.
    Document,
    /// An event log: the end of its last line may be left out.
    Log,
}

impl Spelling {
    fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Pem => pem_bytes(bytes),
            Self::Document => document_bytes(bytes),
            Self::Log => bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec(),
        }
    }
}

/// A field of a part, by its place.
#[derive(Debug, Clone)]
struct Field {
    name: &'static str,
    at: usize,
    length: usize,
    kind: Kind,
}

/// Valid evidence with everything that its verdict rests on.
struct Case {
    name: &'static str,
    evidence: Evidence,
    platform: Vec<Field>,
    certificates: Vec<Field>,
    world: World,
    policy: Policy,
}

thread_local! {
    /// Verified collateral by case, kept as a broker would keep it.
    static WARM: RefCell<Vec<VerifiedCollateral>> = const { RefCell::new(Vec::new()) };
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let tdx = |kind: u16, more: &'static [u8]| {
        move |pki: &TdxPki, world: &World| pki.quote_with(&world.td, version_5(kind, more))
    };
    let mut cases = Vec::new();
    cases.extend(tdx_case("tdx-v4", 4, |pki, world| pki.quote(&world.td)));
    cases.extend(tdx_case("tdx-v5-10", 2, tdx(2, &[])));
    cases.extend(tdx_case("tdx-v5-15", 3, |pki, world| {
        let svn2 = [world.td.tee_tcb_svn.as_slice(), &[0; 48]].concat();
        pki.quote_with(&world.td, move |parts| version_5(3, &svn2)(parts))
    }));
    cases.extend(tdx_case("tdx-v5-15-ex", 5, |pki, world| {
        let more = [world.td.tee_tcb_svn.as_slice(), &[0; 48 + 237]].concat();
        pki.quote_with(&world.td, move |parts| version_5(4, &more)(parts))
    }));
    cases.push(snp_case());
    cases
});

fn tdx_case<E>(
    name: &'static str,
    layout: u16,
    quote: impl FnOnce(&TdxPki, &World) -> Result<Vec<u8>, E>,
) -> Option<Case> {
    let world = World::new(Tee::Tdx);
    let quote = quote(world.pki.tdx().ok()?, &world).ok()?;
    let mut evidence = world.evidence();
    let platform = quote_fields(&quote, layout);
    evidence.platform = Platform::Tdx { quote };
    let policy = world.policy();
    Some(Case { name, evidence, platform, certificates: Vec::new(), world, policy })
}

fn snp_case() -> Case {
    let mut world = World::new(Tee::Snp);
    // The VCEK comes with the evidence, so that what is changed there cannot be made good by the collateral.
    if let Some(snp) = &mut world.collateral.snp {
        snp.vek = None;
    }
    let mut evidence = world.evidence();
    let table = certificates(&mut evidence.platform).map_or_else(Vec::new, |table| table_fields(table));
    let policy = world.policy();
    Case { name: "snp-v3", evidence, platform: report_fields(), certificates: table, world, policy }
}

/// Fields of these lengths, one after the other.
fn consecutive(begin: usize, fields: &[(&'static str, usize)]) -> Vec<Field> {
    let mut at = begin;
    let mut placed = Vec::new();
    for (name, length) in fields {
        placed.push(Field { name, at, length: *length, kind: Kind::Signed });
        at += length;
    }
    placed
}

/// Intel TDX DCAP quoting library API, quote format, with layout 4 for version 4, 5 for body type 4 of version 5, else
/// its body type.
fn quote_fields(quote: &[u8], layout: u16) -> Vec<Field> {
    const HEADER: &[(&str, usize)] = &[
        ("version", 2),
        ("attestation key type", 2),
        ("tee type", 4),
        ("reserved", 4),
        ("qe vendor", 16),
        ("user data", 20),
    ];
    const BODY_FRAME: &[(&str, usize)] = &[("body type", 2), ("body size", 4)];
    const BODY: &[(&str, usize)] = &[
        ("tee_tcb_svn", 16),
        ("mrseam", 48),
        ("mrsignerseam", 48),
        ("seam attributes", 8),
        ("td attributes", 8),
        ("xfam", 8),
        ("mrtd", 48),
        ("mrconfigid", 48),
        ("mrowner", 48),
        ("mrownerconfig", 48),
        ("rtmr0", 48),
        ("rtmr1", 48),
        ("rtmr2", 48),
        ("rtmr3", 48),
        ("report data", 64),
    ];
    const BODY_15: &[(&str, usize)] = &[("tee_tcb_svn2", 16), ("mrservicetd", 48)];
    const BODY_15_EX: &[(&str, usize)] =
        &[("tee_tcb_svn2", 16), ("mrservicetd", 48), ("rest of the body", 237)];
    const SIGNATURE: &[(&str, usize)] = &[
        ("signature data length", 4),
        ("signature", 64),
        ("attestation key", 64),
        ("certification type", 2),
        ("certification length", 4),
        ("qe cpusvn", 16),
        ("qe miscselect", 4),
        ("qe reserved 1", 28),
        ("qe attributes", 16),
        ("qe mrenclave", 32),
        ("qe reserved 2", 32),
        ("qe mrsigner", 32),
        ("qe reserved 3", 96),
        ("qe isvprodid", 2),
        ("qe isvsvn", 2),
        ("qe reserved 4", 60),
        ("qe report data", 64),
        ("qe report signature", 64),
        ("qe authentication length", 2),
        ("qe authentication data", 32),
        ("inner certification type", 2),
        ("inner certification length", 4),
    ];
    let frame: &[_] = if layout == 4 { &[] } else { BODY_FRAME };
    let more = match layout {
        3 => BODY_15,
        5 => BODY_15_EX,
        _ => &[],
    };
    let mut fields = consecutive(0, &[HEADER, frame, BODY, more, SIGNATURE].concat());
    let at = fields.last().map_or(0, |last| last.at + last.length);
    let length = quote.len().saturating_sub(at);
    fields.push(Field { name: "pck chain", at, length, kind: Kind::Spelling(Spelling::Pem) });
    fields
}

/// AMD 56860, table "ATTESTATION_REPORT Structure".
fn report_fields() -> Vec<Field> {
    consecutive(
        0,
        &[
            ("version", 4),
            ("guest svn", 4),
            ("policy", 8),
            ("family id", 16),
            ("image id", 16),
            ("vmpl", 4),
            ("signature algorithm", 4),
            ("current tcb", 8),
            ("platform info", 8),
            ("key info", 4),
            ("reserved 1", 4),
            ("report data", 64),
            ("measurement", 48),
            ("host data", 32),
            ("id key digest", 48),
            ("author key digest", 48),
            ("report id", 32),
            ("report id of the migration agent", 32),
            ("reported tcb", 8),
            ("cpuid", 3),
            ("reserved 2", 21),
            ("chip id", 64),
            ("committed tcb", 8),
            ("current version", 4),
            ("committed version", 4),
            ("launch tcb", 8),
            ("launch mitigations", 8),
            ("current mitigations", 8),
            ("reserved 3", 152),
            ("signature r", 48),
            ("signature r, above 384 bits", 24),
            ("signature s", 48),
            ("signature s, above 384 bits", 24),
            ("signature reserved", 368),
        ],
    )
}

/// The table of the development PKI: ARK, ASK, VCEK, end. Only the VCEK is read; the others stand in the collateral.
fn table_fields(table: &[u8]) -> Vec<Field> {
    let entry = |number: usize| {
        let word = |at: usize| {
            let bytes = table.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
            usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(0)
        };
        (word(number * 24 + 16), word(number * 24 + 20))
    };
    let unused = |name, at, length| Field { name, at, length, kind: Kind::Unused };
    let (ark, ask, vcek) = (entry(0), entry(1), entry(2));
    let mut fields =
        consecutive(48, &[("guid of the vcek", 16), ("offset of the vcek", 4), ("length of the vcek", 4)]);
    fields.extend([
        unused("entries of ark and ask", 0, 48),
        unused("ark", ark.0, ark.1),
        unused("ask", ask.0, ask.1),
        Field { name: "vcek", at: vcek.0, length: vcek.1, kind: Kind::Signed },
    ]);
    fields
}

/// What PEM spells: its text without white space and without zeros at its end.
fn pem_bytes(pem: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(pem) {
        Ok(text) => text
            .trim_end_matches('\0')
            .chars()
            .filter(|c| !c.is_whitespace())
            .collect::<String>()
            .into_bytes(),
        Err(_) => pem.to_vec(),
    }
}

/// What a document spells: its members with their values as they are written, since the signature is over those. Around
/// them there may be white space, and the case of the signature's digits is nobody's.
fn document_bytes(document: &[u8]) -> Vec<u8> {
    let Ok(members) = serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(document) else {
        return document.to_vec();
    };
    let written = members.iter().map(|(name, value)| match name.as_str() {
        "signature" => format!("{name}:{}", value.get().to_ascii_lowercase()),
        _ => format!("{name}:{value}"),
    });
    written.collect::<Vec<_>>().join(",").into_bytes()
}

fn run(input: &[u8]) -> Result<Outcome, Violation> {
    let mut choices = Choices::new(input);
    let Some(case) = choices.pick(&CASES) else { return Err(Violation("no case could be made".into())) };
    let (what, verdict) = match choices.byte() % 8 {
        0..=2 => change_platform(case, &mut choices),
        3 => change_part(case, &mut choices),
        4 | 5 => change_collateral(case, &mut choices),
        6 => change_policy(case, &mut choices),
        _ => change_question(case, &mut choices),
    }?;
    Ok(Outcome(format!("read {} {what} {verdict}", case.name)))
}

/// Changes one field in place, the whole by cutting or lengthening it, or nothing at all.
fn change_platform(case: &Case, choices: &mut Choices<'_>) -> Result<(String, String), Violation> {
    let mut evidence = case.evidence.clone();
    let table = choices.byte().is_multiple_of(4) && !case.certificates.is_empty();
    let fields = if table { &case.certificates } else { &case.platform };
    let bytes = if table { certificates(&mut evidence.platform) } else { statement(&mut evidence.platform) };
    let Some(bytes) = bytes else { return Err(Violation("a statement of another kind".into())) };
    let before = bytes.clone();
    let (name, kind) = match choices.byte() % 16 {
        0 => {
            let length = choices.below(bytes.len());
            bytes.truncate(length);
            ("cut", if table { Kind::Unused } else { Kind::Signed })
        }
        1 => {
            bytes.extend(std::iter::repeat_n(0, 1 + choices.below(2000)));
            // Clouds pad quotes with zeros; nothing pads a report.
            ("zeros added", if case.name.starts_with("tdx") || table { Kind::Padding } else { Kind::Signed })
        }
        2 => {
            bytes.extend([0, 1 + choices.byte() % 255]);
            ("bytes added", if table { Kind::Unused } else { Kind::Signed })
        }
        _ => match choices.pick(fields) {
            Some(field) => {
                change_bytes(bytes, field, choices);
                (field.name, field.kind)
            }
            None => return Err(Violation("no fields".into())),
        },
    };
    if *bytes == before {
        return Ok((name.into(), "same".into()));
    }
    let same = spells_the_same(kind, &before, bytes);
    judge(case, name, same, verdict(case, &evidence, choices))
}

/// The quote or report of a statement.
fn statement(platform: &mut Platform) -> Option<&mut Vec<u8>> {
    if let Platform::Tdx { quote } = platform {
        Some(quote)
    } else if let Platform::Snp { report, .. } = platform {
        Some(report)
    } else {
        None
    }
}

/// The certificate table of a statement.
fn certificates(platform: &mut Platform) -> Option<&mut Vec<u8>> {
    if let Platform::Snp { certificates, .. } = platform { Some(certificates) } else { None }
}

/// Whether the verdict must stay (`Some(true)`), must turn (`Some(false)`), or may be either.
fn spells_the_same(kind: Kind, before: &[u8], after: &[u8]) -> Option<bool> {
    match kind {
        Kind::Signed => Some(false),
        Kind::Spelling(spelling) if spelling.of(before) != spelling.of(after) => Some(false),
        Kind::Padding => Some(true),
        Kind::Spelling(_) | Kind::Unused => None,
    }
}

fn change_bytes(bytes: &mut [u8], field: &Field, choices: &mut Choices<'_>) {
    let Some(field) = bytes.get_mut(field.at..field.at + field.length) else { return };
    let at = choices.below(field.len());
    match choices.byte() % 6 {
        0..=2 => {
            let bit = 1 << (choices.byte() % 8);
            if let Some(byte) = field.get_mut(at) {
                *byte ^= bit;
            }
        }
        3 => field.fill(0),
        4 => field.fill(0xff),
        _ => {
            let new = choices.byte();
            if let Some(byte) = field.get_mut(at) {
                *byte = new;
            }
        }
    }
}

/// Changes a byte of a part that the warden made, or its length.
fn change_part(case: &Case, choices: &mut Choices<'_>) -> Result<(String, String), Violation> {
    let mut evidence = case.evidence.clone();
    let (name, part, kind) = match choices.byte() % 4 {
        0 => ("box claims", &mut evidence.box_claims, Kind::Signed),
        1 => ("event log", &mut evidence.event_log, Kind::Spelling(Spelling::Log)),
        2 => ("agent token", &mut evidence.agent_token, Kind::Signed),
        _ => ("agent configuration", &mut evidence.agent_config, Kind::Signed),
    };
    let before = part.clone();
    change_whole(part, choices);
    if *part == before {
        return Ok((name.into(), "same".into()));
    }
    let same = spells_the_same(kind, &before, part);
    judge(case, name, same, verdict(case, &evidence, choices))
}

fn change_whole(part: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let whole = Field { name: "", at: 0, length: part.len(), kind: Kind::Signed };
    match choices.byte() % 8 {
        0 => part.truncate(choices.below(part.len())),
        1 => part.push(choices.byte()),
        2 => {
            let at = choices.below(part.len() + 1);
            part.insert(at, choices.byte());
        }
        3 if !part.is_empty() => {
            let at = choices.below(part.len());
            part.remove(at);
        }
        _ => change_bytes(part, &whole, choices),
    }
}

fn change_collateral(case: &Case, choices: &mut Choices<'_>) -> Result<(String, String), Violation> {
    let mut collateral = case.world.collateral.clone();
    let choice = choices.byte();
    let (name, part, kind): (_, &mut Vec<u8>, _) = match (&mut collateral.tdx, &mut collateral.snp) {
        (Some(tdx), _) => match choice % 9 {
            0 => ("root crl", &mut tdx.root_ca_crl, Kind::Signed),
            1 => ("pck crl", &mut tdx.pck_crl, Kind::Signed),
            2 => ("pck crl chain", &mut tdx.pck_crl_chain, Kind::Spelling(Spelling::Pem)),
            3 => ("tcb info", &mut tdx.tcb_info, Kind::Spelling(Spelling::Document)),
            4 => ("tcb info chain", &mut tdx.tcb_info_chain, Kind::Spelling(Spelling::Pem)),
            5 => ("qe identity", &mut tdx.qe_identity, Kind::Spelling(Spelling::Document)),
            6 => ("qe identity chain", &mut tdx.qe_identity_chain, Kind::Spelling(Spelling::Pem)),
            _ => return change_document(case, tdx, choices),
        },
        (None, Some(snp)) => match choice % 3 {
            0 => ("ark", &mut snp.ark, Kind::Signed),
            1 => ("ask", &mut snp.ask, Kind::Signed),
            _ => ("ark crl", &mut snp.crl, Kind::Signed),
        },
        (None, None) => return Err(Violation("no collateral".into())),
    };
    let before = part.clone();
    change_whole(part, choices);
    if *part == before {
        return Ok((name.into(), "same".into()));
    }
    let same = spells_the_same(kind, &before, part);
    judge(case, name, same, cold_verdict(case, &collateral))
}

fn change_document(
    case: &Case,
    collateral: &TdxCollateral,
    choices: &mut Choices<'_>,
) -> Result<(String, String), Violation> {
    let changed = case.world.pki.tdx().ok().and_then(|pki| documents::change(pki, collateral, choices));
    let Some(changed) = changed else { return Err(Violation("a document cannot be changed".into())) };
    let collateral = Collateral { tdx: Some(changed.collateral), snp: None };
    judge(case, &changed.name, changed.accepted, cold_verdict(case, &collateral))
}

fn change_policy(case: &Case, choices: &mut Choices<'_>) -> Result<(String, String), Violation> {
    let rendered = Policy::render(case.policy.values());
    let Some((row, text)) = policy_fields::change(&rendered, case.world.pki.tee(), choices) else {
        return Ok(("a key that the policy does not have".into(), String::new()));
    };
    judge_policy(case, row, &text)
}

fn judge_policy(case: &Case, row: &Row, text: &str) -> Result<(String, String), Violation> {
    let policy = Policy::parse(text)
        .map_err(|error| Violation(format!("policy with another {}: {error}", row.name())))?;
    let verdict = warm(case, |collateral| {
        appraise(&case.evidence, &case.world.nonce, &policy, collateral, case.world.now)
            .map(drop)
            .map_err(|refused| refused.first().rule)
    });
    judge(case, row.name(), row.accepted, verdict)
}

/// Another nonce, another time, or a statement by itself with another binding.
fn change_question(case: &Case, choices: &mut Choices<'_>) -> Result<(String, String), Violation> {
    const DAY: u64 = 86_400;
    let world = &case.world;
    let mut policy = case.policy.clone();
    let (name, must, nonce, now) = match choices.byte() % 6 {
        0 => ("another nonce", Some(false), "a-nonce-of-another-appraisal".parse().ok(), world.now),
        1 => {
            let later = 31 + u64::from(choices.byte());
            ("too late", Some(false), None, UnixTime(world.now.0 + later * DAY))
        }
        2 => {
            let earlier = 1 + u64::from(choices.byte());
            ("too early", Some(false), None, UnixTime(world.now.0.saturating_sub(earlier * DAY)))
        }
        3 => ("a little later", Some(true), None, UnixTime(world.now.0 + u64::from(choices.byte()) * 60)),
        4 => {
            policy = policy.with_production_roots();
            ("production roots", Some(false), None, world.now)
        }
        _ => return change_binding(case, choices),
    };
    let nonce = nonce.unwrap_or_else(|| world.nonce.clone());
    let verdict = warm(case, |collateral| {
        appraise(&case.evidence, &nonce, &policy, collateral, now)
            .map(drop)
            .map_err(|refused| refused.first().rule)
    });
    judge(case, name, must, verdict)
}

/// The statement alone, for these 64 bytes of report data.
fn change_binding(case: &Case, choices: &mut Choices<'_>) -> Result<(String, String), Violation> {
    let world = &case.world;
    let mut values = world.policy.clone();
    values.composition = None;
    if let Some(tdx) = &mut values.tdx {
        tdx.rtmr3 = vec![Measurement(world.td.rtmr.last().copied().unwrap_or([0; 48]))];
        tdx.mrconfigid = vec![Measurement(world.td.mrconfigid)];
    }
    let Ok(policy) = Policy::parse(&Policy::render(&values)) else {
        return Err(Violation("the policy for a platform alone cannot be read".into()));
    };
    let mut expected = world.td.report_data;
    let mask = choices.byte();
    if let Some(byte) = expected.get_mut(choices.below(64)) {
        *byte ^= mask;
    }
    let binding = Binding::ReportData(expected);
    let verdict = warm(case, |collateral| {
        appraise_platform(&case.evidence.platform, None, &binding, &policy, collateral, world.now)
            .map(drop)
            .map_err(|r| r.first().rule)
    });
    judge(case, "report data expected", Some(mask == 0), verdict)
}

/// The verdict with collateral that was verified before, or, one time in four, with collateral verified now.
fn verdict(case: &Case, evidence: &Evidence, choices: &mut Choices<'_>) -> Result<(), String> {
    let judged = |collateral: &mut VerifiedCollateral| {
        let world = &case.world;
        appraise(evidence, &world.nonce, &case.policy, collateral, world.now)
            .map(drop)
            .map_err(|refused| refused.first().rule)
    };
    if choices.byte().is_multiple_of(4) {
        return judged(&mut VerifiedCollateral::verify(&case.world.collateral));
    }
    warm(case, judged)
}

fn cold_verdict(case: &Case, collateral: &Collateral) -> Result<(), String> {
    let world = &case.world;
    appraise(
        &case.evidence,
        &world.nonce,
        &case.policy,
        &mut VerifiedCollateral::verify(collateral),
        world.now,
    )
    .map(drop)
    .map_err(|refused| refused.first().rule)
}

fn warm<T>(
    case: &Case,
    judged: impl FnOnce(&mut VerifiedCollateral) -> Result<T, String>,
) -> Result<T, String> {
    WARM.with_borrow_mut(|kept| {
        if kept.is_empty() {
            kept.extend(CASES.iter().map(|case| VerifiedCollateral::verify(&case.world.collateral)));
        }
        let place = CASES.iter().position(|other| other.name == case.name).unwrap_or(0);
        kept.get_mut(place).map_or_else(|| Err("no collateral".into()), judged)
    })
}

fn judge(
    case: &Case,
    field: &str,
    accepted: Option<bool>,
    verdict: Result<(), String>,
) -> Result<(String, String), Violation> {
    match (accepted, &verdict) {
        (Some(false), Ok(())) => Err(Violation(format!("{}: accepted with another {field}", case.name))),
        (Some(true), Err(rule)) => {
            Err(Violation(format!("{}: refused by {rule} for {field}, which is nobody's", case.name)))
        }
        _ => Ok((field.to_owned(), verdict.map_or_else(|rule| rule, |()| "accepted".into()))),
    }
}

/// Every case as it was made must be accepted, else nothing above means anything.
#[cfg(test)]
mod tests {
    use super::documents::Change;
    use super::*;

    #[test]
    fn every_case_is_accepted_before_it_is_changed() {
        for case in CASES.iter() {
            let fresh = cold_verdict(case, &case.world.collateral);
            assert_eq!(fresh, Ok(()), "{}", case.name);
            for _ in 0..2 {
                let again = warm(case, |collateral| {
                    appraise(&case.evidence, &case.world.nonce, &case.policy, collateral, case.world.now)
                        .map(drop)
                        .map_err(|refused| refused.first().rule)
                });
                assert_eq!(again, Ok(()), "{}", case.name);
            }
        }
        assert_eq!(CASES.len(), 5);
    }

    #[test]
    fn the_tables_cover_every_byte_of_quote_report_and_table() {
        for case in CASES.iter() {
            let mut platform = case.evidence.platform.clone();
            let table = certificates(&mut platform).cloned().unwrap_or_default();
            let statement = statement(&mut platform).unwrap();
            for (bytes, fields) in [(&*statement, &case.platform), (&table, &case.certificates)] {
                let mut covered = vec![false; bytes.len()];
                for field in fields {
                    covered[field.at..field.at + field.length].fill(true);
                }
                // The table's last entry is 24 zeros.
                let missed = covered.iter().filter(|covered| !**covered).count();
                assert_eq!(
                    missed,
                    if bytes.len() == table.len() { table.len().min(24) } else { 0 },
                    "{}",
                    case.name
                );
            }
        }
    }

    fn verdict_of(case: &Case, evidence: &Evidence) -> Result<(), String> {
        warm(case, |collateral| {
            appraise(evidence, &case.world.nonce, &case.policy, collateral, case.world.now)
                .map(drop)
                .map_err(|refused| refused.first().rule)
        })
    }

    #[test]
    fn every_signed_field_of_every_statement_turns_the_verdict() {
        for case in CASES.iter() {
            for field in case.platform.iter().filter(|field| field.kind == Kind::Signed) {
                for at in [field.at, field.at + field.length / 2, field.at + field.length - 1] {
                    let mut evidence = case.evidence.clone();
                    statement(&mut evidence.platform).unwrap()[at] ^= 1;
                    assert!(verdict_of(case, &evidence).is_err(), "{} `{}` at {at}", case.name, field.name);
                }
            }
        }
    }

    #[test]
    fn zero_padding_keeps_the_verdict_of_a_quote_and_turns_that_of_a_report() {
        for case in CASES.iter() {
            let mut evidence = case.evidence.clone();
            statement(&mut evidence.platform).unwrap().extend([0; 307]);
            assert_eq!(verdict_of(case, &evidence).is_ok(), case.name.starts_with("tdx"), "{}", case.name);
        }
    }

    #[test]
    fn every_member_of_intels_documents_is_judged_after_its_signature() {
        let case = &CASES[0];
        let tdx = case.world.collateral.tdx.as_ref().unwrap();
        let pki = case.world.pki.tdx().unwrap();
        let (mut tried, mut must) = (0, 0);
        for document in documents::DOCUMENTS {
            for pointer in documents::pointers(&documents::inner(tdx, document).unwrap()) {
                // One component speaks for sixteen.
                if pointer.contains("components/") && !pointer.contains("components/5") {
                    continue;
                }
                for how in [Change::Removed, Change::Twice, Change::Another, Change::Retyped] {
                    let changed = documents::changed(pki, tdx, document, &pointer, how).unwrap();
                    let collateral = Collateral { tdx: Some(changed.collateral), snp: None };
                    judge(case, &changed.name, changed.accepted, cold_verdict(case, &collateral)).unwrap();
                    tried += 1;
                    must += usize::from(changed.accepted.is_some());
                }
            }
        }
        assert!(tried > 250 && must > 180, "{tried} {must}");
    }

    #[test]
    fn every_expectation_of_a_policy_decides() {
        for (case, at_least) in [(&CASES[0], 26), (&CASES[4], 12)] {
            let rendered = Policy::render(case.policy.values());
            let mut applied = 0;
            for row in policy_fields::rows(case.world.pki.tee()) {
                if let Some(text) = row.apply(&rendered) {
                    assert_ne!(text, rendered, "{}", row.name());
                    judge_policy(case, row, &text).unwrap();
                    applied += 1;
                }
            }
            assert!(applied >= at_least, "{}: {applied}", case.name);
        }
    }
}
