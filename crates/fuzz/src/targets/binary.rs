//! Hardware evidence as bytes.

use casemate_evidence::{parse_certificate_table, parse_snp_report, parse_tdx_quote};
use casemate_testkit::{QuoteParts, SnpBody, TdBody, Tee};

use super::{BORROWING, outcome, require};
use crate::seeds::{pki, real};
use crate::{Bound, Outcome, Target, Violation};

pub(super) fn all() -> Vec<Target> {
    vec![
        Target {
            name: "tdx-quote",
            what: "casemate_evidence::parse_tdx_quote",
            seeds: quotes,
            words: &[&[4, 0], &[5, 0], &[2, 0], &[3, 0], &[4, 0, 0x75, 3, 0, 0], &[6, 0], &[0x81, 0, 0, 0]],
            run: tdx_quote,
            bound: BORROWING,
        },
        Target {
            name: "snp-report",
            what: "casemate_evidence::parse_snp_report",
            seeds: reports,
            words: &[&[2, 0, 0, 0], &[3, 0, 0, 0], &[5, 0, 0, 0], &[6, 0, 0, 0], &[1, 0, 0, 0]],
            run: snp_report,
            bound: Bound { input_bytes_max: 2048, ..BORROWING },
        },
        Target {
            name: "snp-table",
            what: "casemate_evidence::parse_certificate_table",
            seeds: tables,
            words: &[&[0; 24], &[0x63, 0xda, 0x75, 0x8d], &[0xff; 16]],
            run: snp_table,
            bound: BORROWING,
        },
    ]
}

/// A quote of version 5 around a TD report of this type.
pub(crate) fn version_5(kind: u16, more: &[u8]) -> impl FnOnce(&mut QuoteParts) {
    move |parts| {
        let body = [parts.body.as_slice(), more].concat();
        let size = u32::try_from(body.len()).unwrap_or(0).to_le_bytes();
        if let Some(version) = parts.header.first_mut() {
            *version = 5;
        }
        parts.body = [kind.to_le_bytes().as_slice(), &size, &body].concat();
    }
}

fn quotes() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    if let Ok(pki) = pki(Tee::Tdx).tdx() {
        let td = TdBody::new();
        seeds.extend(pki.quote(&td));
        seeds.extend(pki.quote_with(&td, version_5(2, &[])));
        seeds.extend(pki.quote_with(&td, version_5(3, &[0; 64])));
    }
    let padded = seeds.first().map(|quote| [quote.as_slice(), &[0; 70]].concat());
    seeds.extend(padded);
    seeds.extend(real(|path| {
        path.ends_with("quote.bin") || path.contains("tdx_quote") && path.ends_with(".dat")
    }));
    seeds
}

fn tdx_quote(input: &[u8]) -> Result<Outcome, Violation> {
    let result = parse_tdx_quote(input);
    if let Ok(quote) = &result {
        let rest = input.strip_prefix(quote.trimmed);
        require(
            rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0)),
            "what is trimmed off is not padding",
        )?;
        require(quote.trimmed.starts_with(quote.signed), "the signed bytes are not the beginning")?;
        require(parse_tdx_quote(quote.trimmed).as_ref() == Ok(quote), "the trimmed quote reads otherwise")?;
    }
    Ok(outcome(result, |quote| format!("version {} {}", quote.version, quote.qe_auth_data.is_empty())))
}

fn reports() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = pki(Tee::Snp).snp_report(&SnpBody::new()).into_iter().collect();
    seeds.extend(
        real(|path| path.contains("report") && path.ends_with(".bin"))
            .into_iter()
            .filter(|r| r.len() == 1184),
    );
    seeds
}

fn snp_report(input: &[u8]) -> Result<Outcome, Violation> {
    let result = parse_snp_report(input);
    if let Ok(report) = &result {
        require(input.starts_with(report.signed), "the signed bytes are not the beginning")?;
    }
    Ok(outcome(result, |report| format!("{:?}", report.signing_key)))
}

fn tables() -> Vec<Vec<u8>> {
    pki(Tee::Snp).snp_certificate_table().into_iter().collect()
}

fn snp_table(input: &[u8]) -> Result<Outcome, Violation> {
    let result = parse_certificate_table(input);
    if let Ok(entries) = &result {
        let total: usize = entries.iter().map(|entry| entry.content.len()).sum();
        require(total <= input.len().saturating_mul(16), "more content than the entries can hold")?;
    }
    Ok(outcome(result, |entries| format!("entries {}", "x".repeat(entries.len()))))
}
