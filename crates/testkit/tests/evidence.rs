//! What the testkit makes, taken apart by other parsers and checked signature by signature.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PSS_2048_8192_SHA384,
    UnparsedPublicKey, VerificationAlgorithm,
};
use casemate_evidence::{CertificateKind, parse_certificate_table, parse_snp_report, parse_tdx_quote};
use casemate_testkit::{
    CollateralParts, CollateralSpec, DevPki, FMSPC, PkiError, Revoked, SnpBody, SnpCollateralParts,
    SnpGeneration, TCB, TDX_ROOT_COMMON_NAME, TdBody, TdxCollateralParts, Tee,
};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode as _, Encode as _};

/// 2026-11-22T00:00:00Z.
const NOW: u64 = 1_795_305_600;

fn tdx() -> &'static DevPki {
    static PKI: OnceLock<DevPki> = OnceLock::new();
    PKI.get_or_init(|| DevPki::generate(Tee::Tdx, NOW).unwrap())
}

fn snp() -> &'static DevPki {
    static PKI: OnceLock<DevPki> = OnceLock::new();
    PKI.get_or_init(|| DevPki::generate(Tee::Snp, NOW).unwrap())
}

fn tdx_collateral(pki: &DevPki) -> TdxCollateralParts {
    match pki.collateral() {
        CollateralParts::Tdx(parts) => parts,
        CollateralParts::Snp(_) => panic!("SNP collateral from a TDX PKI"),
    }
}

fn snp_collateral(pki: &DevPki) -> SnpCollateralParts {
    match pki.collateral() {
        CollateralParts::Snp(parts) => parts,
        CollateralParts::Tdx(_) => panic!("TDX collateral from an SNP PKI"),
    }
}

fn chain(pem: &[u8]) -> Vec<Certificate> {
    let pem = pem.strip_suffix(&[0]).unwrap_or(pem);
    Certificate::load_pem_chain(pem).unwrap()
}

fn key_of(certificate: &Certificate) -> Vec<u8> {
    certificate.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes().to_vec()
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), aws_lc_rs::error::Unspecified> {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature)
}

fn assert_issued(subject: &Certificate, issuer: &Certificate, algorithm: &'static dyn VerificationAlgorithm) {
    assert_eq!(subject.tbs_certificate().issuer(), issuer.tbs_certificate().subject());
    let tbs = subject.tbs_certificate().to_der().unwrap();
    verify(algorithm, &key_of(issuer), &tbs, subject.signature().raw_bytes()).unwrap();
}

fn assert_crl(der: &[u8], issuer: &Certificate, algorithm: &'static dyn VerificationAlgorithm) -> usize {
    let crl: CertificateList = CertificateList::from_der(der).unwrap();
    assert_eq!(&crl.tbs_cert_list.issuer, issuer.tbs_certificate().subject());
    assert!(crl.tbs_cert_list.next_update.is_some());
    assert_eq!(crl.tbs_cert_list.crl_extensions.as_ref().map(Vec::len), Some(2));
    let tbs = crl.tbs_cert_list.to_der().unwrap();
    verify(algorithm, &key_of(issuer), &tbs, crl.signature.raw_bytes()).unwrap();
    crl.tbs_cert_list.revoked_certificates.map_or(0, |revoked| revoked.len())
}

#[test]
fn a_tdx_quote_says_what_its_body_says_and_every_signature_holds() {
    let body = TdBody {
        mrtd: [1; 48],
        mrconfigid: [2; 48],
        mrowner: [3; 48],
        mrownerconfig: [4; 48],
        rtmr: [[5; 48], [6; 48], [7; 48], [8; 48]],
        report_data: [9; 64],
        ..TdBody::new()
    };
    let bytes = tdx().tdx_quote(&body).unwrap();
    let quote = parse_tdx_quote(&bytes).unwrap();
    assert_eq!((quote.version, quote.trimmed.len()), (4, bytes.len()));
    assert_eq!(quote.body.mr_td, &[1; 48]);
    assert_eq!(quote.body.mr_config_id, &[2; 48]);
    assert_eq!(quote.body.mr_owner, &[3; 48]);
    assert_eq!(quote.body.mr_owner_config, &[4; 48]);
    assert_eq!(quote.body.rtmr, [&[5; 48], &[6; 48], &[7; 48], &[8; 48]]);
    assert_eq!(quote.body.report_data, &[9; 64]);
    assert_eq!(quote.body.td_attributes[0] & 1, 0, "debug");
    assert_eq!(quote.body.td_attributes[3], 0x10, "SEPT_VE_DISABLE alone");

    let attestation_key = [&[4], quote.attestation_key.as_slice()].concat();
    verify(&ECDSA_P256_SHA256_FIXED, &attestation_key, quote.signed, quote.signature).unwrap();
    let bound = digest(&SHA256, &[quote.attestation_key, quote.qe_auth_data].concat());
    assert_eq!(quote.qe_report.report_data[..32], *bound.as_ref());
    assert_eq!(quote.qe_report.report_data[32..], [0; 32]);

    let chain = chain(quote.pck_chain);
    let [leaf, platform, root] = chain.as_slice() else { panic!("{} certificates", chain.len()) };
    verify(&ECDSA_P256_SHA256_FIXED, &key_of(leaf), quote.qe_report.signed, quote.qe_report_signature)
        .unwrap();
    assert_issued(leaf, platform, &ECDSA_P256_SHA256_ASN1);
    assert_issued(platform, root, &ECDSA_P256_SHA256_ASN1);
    assert_issued(root, root, &ECDSA_P256_SHA256_ASN1);
    assert!(root.tbs_certificate().subject().to_string().contains(TDX_ROOT_COMMON_NAME));
}

#[test]
fn tdx_collateral_is_signed_over_the_bytes_it_serves() {
    let parts = tdx_collateral(tdx());
    let signer_chain = chain(&parts.tcb_info_chain);
    let [signer, root] = signer_chain.as_slice() else { panic!("{} certificates", signer_chain.len()) };
    assert_issued(signer, root, &ECDSA_P256_SHA256_ASN1);
    for (json, member) in [(&parts.tcb_info, "tcbInfo"), (&parts.qe_identity, "enclaveIdentity")] {
        let text = core::str::from_utf8(json).unwrap();
        let inner = text.strip_prefix(&format!("{{\"{member}\":")).unwrap();
        let (inner, signature) = inner.split_once(",\"signature\":\"").unwrap();
        let signature = hex::decode(signature.strip_suffix("\"}").unwrap()).unwrap();
        verify(&ECDSA_P256_SHA256_FIXED, &key_of(signer), inner.as_bytes(), &signature).unwrap();
    }
    let tcb_info: serde_json::Value = serde_json::from_slice(&parts.tcb_info).unwrap();
    assert_eq!(tcb_info["tcbInfo"]["fmspc"], hex::encode_upper(FMSPC));
    assert_eq!(tcb_info["tcbInfo"]["issueDate"], "2026-11-21T23:00:00Z");
    assert_eq!(tcb_info["tcbInfo"]["nextUpdate"], "2026-12-22T00:00:00Z");

    let platform = &chain(&parts.pck_crl_chain)[0];
    assert_eq!(assert_crl(&parts.root_ca_crl, root, &ECDSA_P256_SHA256_ASN1), 0);
    assert_eq!(assert_crl(&parts.pck_crl, platform, &ECDSA_P256_SHA256_ASN1), 0);
}

#[test]
fn an_snp_report_says_what_its_body_says_and_every_signature_holds() {
    let body =
        SnpBody { report_data: [1; 64], measurement: [2; 48], host_data: [3; 32], vmpl: 2, ..SnpBody::new() };
    let bytes = snp().snp_report(&body).unwrap();
    let report = parse_snp_report(&bytes).unwrap();
    assert_eq!((report.version, report.vmpl, report.policy.0), (3, 2, 0x3_0000));
    assert_eq!(report.report_data, &[1; 64]);
    assert_eq!(report.measurement, &[2; 48]);
    assert_eq!(report.host_data, &[3; 32]);
    for tcb in [report.current_tcb, report.reported_tcb, report.committed_tcb, report.launch_tcb] {
        assert_eq!(tcb, &TCB.to_bytes(SnpGeneration::Genoa));
    }
    assert_eq!(report.chip_id.as_slice(), snp().snp().unwrap().chip_id());

    let table = snp().snp_certificate_table().unwrap();
    let table = parse_certificate_table(&table).unwrap();
    let certificate = |kind| {
        let entry = table.iter().find(|entry| entry.kind == kind).unwrap();
        Certificate::from_der(entry.content).unwrap()
    };
    let (ark, ask, vcek) = (
        certificate(CertificateKind::Ark),
        certificate(CertificateKind::Ask),
        certificate(CertificateKind::Vcek),
    );
    assert_issued(&vcek, &ask, &RSA_PSS_2048_8192_SHA384);
    assert_issued(&ask, &ark, &RSA_PSS_2048_8192_SHA384);
    assert_issued(&ark, &ark, &RSA_PSS_2048_8192_SHA384);
    verify(&ECDSA_P384_SHA384_FIXED, &key_of(&vcek), report.signed, &report.signature).unwrap();
    assert_eq!(assert_crl(&snp_collateral(snp()).crl, &ark, &RSA_PSS_2048_8192_SHA384), 0);
}

#[test]
fn a_part_broken_before_signing_is_signed_broken() {
    let bytes = tdx()
        .tdx()
        .unwrap()
        .quote_with(&TdBody::new(), |parts| {
            for byte in &mut parts.qe_report[320..352] {
                *byte ^= 1;
            }
        })
        .unwrap();
    let quote = parse_tdx_quote(&bytes).unwrap();
    let bound = digest(&SHA256, &[quote.attestation_key, quote.qe_auth_data].concat());
    assert_ne!(quote.qe_report.report_data[..32], *bound.as_ref());
    let leaf = &chain(quote.pck_chain)[0];
    verify(&ECDSA_P256_SHA256_FIXED, &key_of(leaf), quote.qe_report.signed, quote.qe_report_signature)
        .unwrap();

    let bytes = snp().snp().unwrap().report_with(&SnpBody::new(), |report| report[0x182] = 1).unwrap();
    assert_eq!(parse_snp_report(&bytes).unwrap().reported_tcb[2], 1);
}

#[test]
fn crls_name_what_is_to_be_revoked() {
    let counts = |revoked| {
        let spec = CollateralSpec { revoked, ..CollateralSpec::at(NOW) };
        let CollateralParts::Tdx(parts) = tdx().collateral_with(&spec).unwrap() else { panic!("SNP") };
        let chain = chain(&parts.pck_crl_chain);
        (
            assert_crl(&parts.root_ca_crl, &chain[1], &ECDSA_P256_SHA256_ASN1),
            assert_crl(&parts.pck_crl, &chain[0], &ECDSA_P256_SHA256_ASN1),
        )
    };
    assert_eq!(counts(Revoked::None), (0, 0));
    assert_eq!(counts(Revoked::Leaf), (0, 1));
    assert_eq!(counts(Revoked::Intermediate), (1, 0));
    assert_eq!(counts(Revoked::CollateralSigner), (1, 0));
}

#[test]
fn a_pki_refuses_evidence_of_the_other_kind() {
    let wrong = PkiError::WrongTee { expected: Tee::Snp, found: Tee::Tdx };
    assert_eq!(tdx().snp_report(&SnpBody::new()), Err(wrong.clone()));
    assert_eq!(tdx().snp_certificate_table(), Err(wrong));
    let wrong = PkiError::WrongTee { expected: Tee::Tdx, found: Tee::Snp };
    assert_eq!(snp().tdx_quote(&TdBody::new()), Err(wrong));
}

#[test]
fn a_stored_pki_is_the_same_again_and_its_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    for tee in [Tee::Tdx, Tee::Snp] {
        let path = path.join(tee.to_string());
        let made = DevPki::load_or_generate(&path, tee, NOW).unwrap();
        let loaded = DevPki::load(&path, NOW + 60).unwrap();
        assert_eq!(loaded.root_spki_sha256(), made.root_spki_sha256());
        assert_eq!(loaded.collateral(), made.collateral());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        for file in std::fs::read_dir(&path).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
    }
    let wrong = DevPki::load_or_generate(&path.join("tdx"), Tee::Snp, NOW).map(|pki| pki.tee());
    assert_eq!(wrong, Err(PkiError::WrongTee { expected: Tee::Snp, found: Tee::Tdx }));
}

#[test]
fn collateral_that_ran_out_is_issued_anew_under_the_same_root() {
    let dir = tempfile::tempdir().unwrap();
    let made = DevPki::load_or_generate(dir.path(), Tee::Tdx, NOW).unwrap();
    let later = NOW + 31 * 24 * 3600;
    let renewed = DevPki::load(dir.path(), later).unwrap();
    assert_eq!(renewed.root_spki_sha256(), made.root_spki_sha256());
    assert_ne!(tdx_collateral(&renewed).tcb_info, tdx_collateral(&made).tcb_info);
    assert_ne!(tdx_collateral(&renewed).pck_crl, tdx_collateral(&made).pck_crl);
    assert_eq!(DevPki::load(dir.path(), later + 60).unwrap().collateral(), renewed.collateral());
}

#[test]
fn certificates_that_ran_out_are_an_error_and_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    DevPki::load_or_generate(dir.path(), Tee::Tdx, NOW).unwrap();
    let later = NOW + 11 * 365 * 24 * 3600;
    for result in [
        DevPki::load(dir.path(), later).map(|pki| pki.tee()),
        DevPki::load_or_generate(dir.path(), Tee::Tdx, later).map(|pki| pki.tee()),
    ] {
        assert!(
            matches!(result, Err(PkiError::CertificatesNotValid { now, .. }) if now == later),
            "{result:?}"
        );
    }
}

#[test]
fn a_damaged_directory_is_an_error_that_names_the_file() {
    let load = |dir: &Path| DevPki::load(dir, NOW).map(|pki| pki.tee());
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nowhere");
    assert_eq!(load(&missing), Err(PkiError::Missing { path: missing.clone() }));
    assert_eq!(load(dir.path()), Err(PkiError::Missing { path: dir.path().to_owned() }));

    DevPki::load_or_generate(dir.path(), Tee::Tdx, NOW).unwrap();
    for name in ["pck.p8", "root.der", "pki.json"] {
        let path = dir.path().join(name);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, b"").unwrap();
        assert_eq!(load(dir.path()), Err(PkiError::Corrupt { path: path.clone() }));
        std::fs::write(&path, good).unwrap();
    }
    let path = dir.path().join("pck.p8");
    std::fs::write(&path, b"not a key").unwrap();
    assert_eq!(load(dir.path()), Err(PkiError::Corrupt { path }));
}

#[test]
fn two_programs_that_start_at_the_same_time_share_one_pki() {
    let dir = tempfile::tempdir().unwrap();
    let roots: Vec<String> = std::thread::scope(|scope| {
        let made: Vec<_> = (0..4)
            .map(|_| {
                scope
                    .spawn(|| DevPki::load_or_generate(dir.path(), Tee::Tdx, NOW).unwrap().root_spki_sha256())
            })
            .collect();
        made.into_iter().map(|thread| thread.join().unwrap().to_string()).collect()
    });
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
}

#[test]
fn a_pki_whose_making_was_cut_short_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = DevPki::load_or_generate(dir.path(), Tee::Tdx, NOW).unwrap().root_spki_sha256();
    std::fs::remove_file(dir.path().join("pki.json")).unwrap();
    let second = DevPki::load_or_generate(dir.path(), Tee::Tdx, NOW).unwrap().root_spki_sha256();
    assert_ne!(first, second);
    assert_eq!(DevPki::load(dir.path(), NOW).unwrap().root_spki_sha256(), second);
}
