//! Certificates, chains and CRLs, through the dates that the verifier reads of each part of collateral.

use casemate_endorsements::{certificate_der, crl_der, snp_chain_der};
use casemate_testkit::{CollateralParts, SnpCollateralParts, TdxCollateralParts, Tee};
use casemate_verifier::{
    Collateral, SnpCollateral, TdxCollateral, collateral_dates, collateral_facts, pck_facts, vek_product,
};

use super::outcome;
use crate::seeds::{pki, real};
use crate::{Bound, Outcome, Target, Violation};

/// A certificate's name is copied, and a CRL's serial numbers are listed.
const BOUND: Bound = Bound {
    input_bytes_max: 40 << 10,
    allocation_bytes: 64 << 10,
    allocation_bytes_per_input_byte: 8,
    time_us: 5_000,
    time_ns_per_input_byte: 500,
};

/// Identifiers of algorithms, extensions and times, and openings.
const WORDS: &[&[u8]] = &[
    b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
    b"\x06\x03\x55\x1d\x13",
    b"\x06\x03\x55\x1d\x0f",
    b"\x06\x03\x55\x04\x03",
    b"\x01\x01\xff",
    b"\x17\x0d260601000000Z",
    b"\x18\x0f20260601000000Z",
    b"\x02\x01\x02",
    b"\xa3\x82",
    b"\x30\x80",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x04\x00",
    b"\x03\x01\x00",
];

pub(super) fn all() -> Vec<Target> {
    vec![
        Target {
            name: "x509",
            what: "casemate_verifier: a certificate",
            seeds: certificates,
            words: WORDS,
            run: |input| part("snp.ark", &snp(input.to_vec(), Vec::new())),
            bound: BOUND,
        },
        Target {
            name: "crl",
            what: "casemate_verifier: a CRL",
            seeds: crls,
            words: WORDS,
            run: |input| part("snp.crl", &snp(Vec::new(), input.to_vec())),
            bound: BOUND,
        },
        Target {
            name: "pem",
            what: "casemate_verifier: a chain of certificates in PEM",
            seeds: chains,
            words: &[
                b"-----BEGIN CERTIFICATE-----",
                b"-----END CERTIFICATE-----",
                b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
                b"\0",
                b"====",
                b"\r\n",
                b"\xc2\xa0",
            ],
            run: |input| part("tdx.pck_crl_chain", &tdx(input.to_vec())),
            bound: Bound { input_bytes_max: 160 << 10, ..BOUND },
        },
        Target {
            name: "facts",
            what: "casemate_verifier: pck_facts, vek_product, collateral_facts; endorsements' forms of certificates",
            seeds: || [certificates(), chains()].concat(),
            words: WORDS,
            run: facts,
            bound: Bound { allocation_bytes_per_input_byte: 16, ..BOUND },
        },
    ]
}

fn facts(input: &[u8]) -> Result<Outcome, Violation> {
    let pck = outcome(pck_facts(input), |facts| format!("{:?}", facts.ca));
    let vek = outcome(vek_product(input), |product| product.to_string());
    let forms = [certificate_der(input).is_some(), crl_der(input).is_ok(), snp_chain_der(input).is_some()];
    let facts = collateral_facts(&snp(input.to_vec(), input.to_vec())).len();
    Ok(Outcome(format!("{} / {} / {forms:?} {}", pck.0, vek.0, facts > 0)))
}

fn part(name: &str, collateral: &Collateral) -> Result<Outcome, Violation> {
    let parts = collateral_dates(collateral);
    let part = parts.into_iter().find(|part| part.name == name);
    let part = part.ok_or_else(|| Violation(format!("no dates of {name}")))?;
    Ok(Outcome(match part.dates {
        Ok((from, until)) => format!("read, {}", if from <= until { "in order" } else { "out of order" }),
        Err(error) => error.to_string(),
    }))
}

fn snp(ark: Vec<u8>, crl: Vec<u8>) -> Collateral {
    Collateral { tdx: None, snp: Some(SnpCollateral { ark, ask: Vec::new(), crl, vek: None }) }
}

fn tdx(chain: Vec<u8>) -> Collateral {
    let none = Vec::new;
    let tdx = TdxCollateral {
        root_ca_crl: none(),
        pck_crl: none(),
        pck_crl_chain: chain,
        tcb_info: none(),
        tcb_info_chain: none(),
        qe_identity: none(),
        qe_identity_chain: none(),
    };
    Collateral { tdx: Some(tdx), snp: None }
}

fn tdx_parts() -> TdxCollateralParts {
    match pki(Tee::Tdx).collateral() {
        CollateralParts::Tdx(parts) => parts,
        CollateralParts::Snp(_) => TdxCollateralParts::default(),
    }
}

fn snp_parts() -> SnpCollateralParts {
    match pki(Tee::Snp).collateral() {
        CollateralParts::Snp(parts) => parts,
        CollateralParts::Tdx(_) => SnpCollateralParts::default(),
    }
}

fn certificates() -> Vec<Vec<u8>> {
    let SnpCollateralParts { ark, ask, vek, .. } = snp_parts();
    let mut seeds = vec![ark, ask, vek];
    seeds.extend(real(|path| path.ends_with(".der") && !path.contains("crl")));
    seeds
}

fn crls() -> Vec<Vec<u8>> {
    let TdxCollateralParts { root_ca_crl, pck_crl, .. } = tdx_parts();
    let mut seeds = vec![root_ca_crl, pck_crl, snp_parts().crl];
    seeds.extend(real(|path| path.contains("crl") && path.ends_with(".der")));
    seeds
}

fn chains() -> Vec<Vec<u8>> {
    let TdxCollateralParts { pck_crl_chain, tcb_info_chain, .. } = tdx_parts();
    let mut seeds = vec![pck_crl_chain, tcb_info_chain];
    seeds.extend(pki(Tee::Tdx).tdx().map(|pki| pki.pck_chain_pem().into_bytes()));
    seeds.extend(real(|path| path.ends_with(".pem")));
    seeds
}
