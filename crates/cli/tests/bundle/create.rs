//! Bundles that come about.

use casemate_endorsements::{Collateral, SnpCollateral, TdxCollateral};
use casemate_evidence::CertificateKind;
use casemate_testkit::{CollateralParts, CollateralSpec, DevPki, SnpBody, TCB as SNP_TCB, TdBody, Tee};

use super::service::{Answer, Answers, PCK_CRL, QE, ROOT_CRL, Service, TCB, pccs};
use super::{NOW, Place, tdx_pki};

pub(crate) fn tdx_of(pki: &DevPki) -> TdxCollateral {
    let CollateralParts::Tdx(parts) = pki.collateral() else { panic!("TDX") };
    TdxCollateral {
        root_ca_crl: parts.root_ca_crl,
        pck_crl: parts.pck_crl,
        pck_crl_chain: parts.pck_crl_chain,
        tcb_info: parts.tcb_info,
        tcb_info_chain: parts.tcb_info_chain,
        qe_identity: parts.qe_identity,
        qe_identity_chain: parts.qe_identity_chain,
    }
}

fn snp_of(pki: &DevPki) -> SnpCollateral {
    let CollateralParts::Snp(parts) = pki.collateral() else { panic!("SNP") };
    SnpCollateral { ark: parts.ark, ask: parts.ask, crl: parts.crl, vek: Some(parts.vek) }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let digits = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{digits}\n-----END {label}-----\n")
}

#[test]
fn a_quote_and_a_pccs_over_tls_make_a_bundle() {
    let (place, pki) = (Place::new(), tdx_pki());
    let quote = place.write("quote.bin", pki.tdx_quote(&TdBody::new()).unwrap());
    let service = Service::tls(pccs(&pki));
    let ca = place.write("ca.pem", &service.ca);
    let output = place.create(&pki, &["--from-evidence", &quote, "--pccs", &service.url, "--ca", &ca]);
    output.assert_ok();
    assert_eq!(place.bundle().contents(), &Collateral { tdx: Some(tdx_of(&pki)), snp: None });
    assert_eq!(place.bundle().signature(), None);
    let fmspc: String = casemate_testkit::FMSPC.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(service.asked(), [&format!("{TCB}{fmspc}"), QE, PCK_CRL, ROOT_CRL]);
    assert!(output.stdout.contains("tdx.tcb_info "), "{}", output.stdout);
    assert!(output.stdout.contains("holds        until 2026-07-01T00:00:00Z; "), "{}", output.stdout);
    assert!(output.stdout.ends_with("wrote        b.json\n"), "{}", output.stdout);
}

#[test]
fn only_parts_that_are_missing_are_asked_for() {
    let (place, pki) = (Place::new(), tdx_pki());
    let parts = tdx_of(&pki);
    let tcb = place.write("tcb.json", &parts.tcb_info);
    let chain = place.write("chain.pem", &parts.tcb_info_chain);
    let qe = place.write("qe.json", &parts.qe_identity);
    let crl = place.write("root.pem", pem("X509 CRL", &parts.root_ca_crl));
    let service = Service::plain(pccs(&pki));
    // As Intel's own configuration file has the address.
    let url = format!("{}/sgx/certification/v4/", service.url);
    let files = ["--tcb-info", &tcb, "--tcb-info-chain", &chain, "--qe-identity", &qe, "--root-ca-crl", &crl];
    let asks = ["--pccs", &url, "--pck-ca", "platform"];
    place.create(&pki, &[&files[..], &asks].concat()).assert_ok();
    assert_eq!(service.asked(), [PCK_CRL]);
    assert_eq!(place.bundle().contents().tdx, Some(parts));
}

#[test]
fn the_roots_crl_may_lie_elsewhere() {
    let (place, pki) = (Place::new(), tdx_pki());
    let quote = place.write("quote.bin", pki.tdx_quote(&TdBody::new()).unwrap());
    let mut answers = pccs(&pki);
    answers.remove(ROOT_CRL);
    let service = Service::plain(answers);
    let from = ["--from-evidence", quote.as_str(), "--pccs", service.url.as_str()];
    let output = place.create(&pki, &from);
    output.assert_fails(3, "does not have the CRL of Intel's root");
    assert!(output.stderr.contains("--root-ca-crl-url"), "{}", output.stderr);
    place.assert_nothing_written();
    let other = Service::plain(Answers::from([(
        "/IntelSGXRootCA.der".to_owned(),
        Answer::ok(tdx_of(&pki).root_ca_crl),
    )]));
    let url = format!("{}/IntelSGXRootCA.der", other.url);
    place.create(&pki, &[&from[..], &["--root-ca-crl-url", &url]].concat()).assert_ok();
    assert_eq!(other.asked(), ["/IntelSGXRootCA.der"]);
}

#[test]
fn a_report_its_table_and_a_kds_make_a_bundle() {
    let place = Place::new();
    let pki = DevPki::generate(Tee::Snp, NOW).unwrap();
    let parts = snp_of(&pki);
    let report = pki.snp_report(&SnpBody::new()).unwrap();
    let chip: String = report[0x1a0..0x1e0].iter().map(|byte| format!("{byte:02x}")).collect();
    let vcek = format!(
        "/vcek/v1/Genoa/{chip}?blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        SNP_TCB.bootloader, SNP_TCB.tee, SNP_TCB.snp, SNP_TCB.microcode
    );
    let chain = [pem("CERTIFICATE", &parts.ask), pem("CERTIFICATE", &parts.ark)].concat();
    let answers = Answers::from([
        ("/vcek/v1/Genoa/cert_chain".to_owned(), Answer::ok(chain.clone())),
        ("/vcek/v1/Genoa/crl".to_owned(), Answer::ok(parts.crl.clone())),
        (vcek.clone(), Answer::ok(parts.vek.clone().unwrap())),
    ]);
    let service = Service::tls(answers);
    let ca = place.write("ca.pem", &service.ca);
    let evidence = place.write("report.bin", &report);
    let asks = ["--from-evidence", &evidence, "--kds", &service.url, "--ca", &ca];
    place.create(&pki, &asks).assert_ok();
    assert_eq!(service.asked(), ["/vcek/v1/Genoa/cert_chain", "/vcek/v1/Genoa/crl", &vcek]);
    assert_eq!(place.bundle().contents(), &Collateral { tdx: None, snp: Some(parts.clone()) });

    // What came with the report is not asked for.
    let table = place.write("table.bin", pki.snp_certificate_table().unwrap());
    place.create(&pki, &[&asks[..], &["--certificate-table", &table]].concat()).assert_ok();
    assert_eq!(service.asked()[3..], ["/vcek/v1/Genoa/crl"]);
    assert_eq!(place.bundle().contents().snp, Some(parts.clone()));

    // From files alone, nobody is asked.
    let chain = place.write("chain.pem", chain);
    let crl = place.write("crl.der", &parts.crl);
    let vek = place.write("vek.pem", pem("CERTIFICATE", &parts.vek.clone().unwrap()));
    place.create(&pki, &["--snp-chain", &chain, "--crl", &crl, "--vek", &vek]).assert_ok();
    assert_eq!(place.bundle().contents().snp, Some(parts.clone()));
    assert_eq!(service.asked().len(), 4);
}

/// A certificate table with a CRL in it (GHCB specification 56421, section 4.1.8.1): GUID, offset, length.
fn table_with_crl(parts: &SnpCollateral, crl: &[u8]) -> Vec<u8> {
    let vek = parts.vek.as_deref().unwrap();
    let entries = [
        (CertificateKind::Ark, &parts.ark[..]),
        (CertificateKind::Ask, &parts.ask),
        (CertificateKind::Vcek, vek),
        (CertificateKind::Crl, crl),
    ];
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (kind, bytes) in entries {
        header.extend_from_slice(&kind.guid());
        for number in [24 * 5 + data.len(), bytes.len()] {
            header.extend_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
        }
        data.extend_from_slice(bytes);
    }
    [header, vec![0; 24], data].concat()
}

#[test]
fn a_crl_that_came_with_a_report_never_wins_over_a_service_or_a_file() {
    let place = Place::new();
    let pki = DevPki::generate(Tee::Snp, NOW).unwrap();
    let parts = snp_of(&pki);
    // Still current, and a day older: the host's choice.
    let CollateralParts::Snp(old) = pki.collateral_with(&CollateralSpec::at(NOW - 86_400)).unwrap() else {
        unreachable!()
    };
    assert_ne!(old.crl, parts.crl);
    let report = place.write("report.bin", pki.snp_report(&SnpBody::new()).unwrap());
    let table = place.write("table.bin", table_with_crl(&parts, &old.crl));
    let answers = Answers::from([("/vcek/v1/Genoa/crl".to_owned(), Answer::ok(parts.crl.clone()))]);
    let service = Service::tls(answers);
    let ca = place.write("ca.pem", &service.ca);
    let evidence = ["--from-evidence", &report, "--certificate-table", &table];
    let crl = || place.bundle().contents().snp.as_ref().map(|snp| snp.crl.clone());

    let asks = ["--kds", &service.url, "--ca", &ca];
    let made = place.create(&pki, &[&evidence[..], &asks].concat());
    made.assert_ok();
    assert_eq!(service.asked(), ["/vcek/v1/Genoa/crl"]);
    assert_eq!(crl(), Some(parts.crl.clone()));
    assert!(made.stdout.contains("from         snp.ark                evidence\n"), "{}", made.stdout);
    assert!(
        made.stdout.contains(&format!("from         snp.crl                {}", service.url)),
        "{}",
        made.stdout
    );

    // A service that has none is no reason to take the host's.
    let empty = Service::tls(Answers::new());
    let empty_ca = place.write("empty.pem", &empty.ca);
    let asks = ["--kds", &empty.url, "--ca", &empty_ca];
    place.create(&pki, &[&evidence[..], &asks].concat()).assert_fails(3, "404");

    let file = place.write("crl.der", &parts.crl);
    place.create(&pki, &[&evidence[..], &["--crl", &file]].concat()).assert_ok();
    assert_eq!(crl(), Some(parts.crl.clone()));

    let shown = place.create(&pki, &[&["--json"], &evidence[..]].concat()).json();
    assert_eq!(crl(), Some(old.crl));
    assert_eq!(shown["sources"]["snp.crl"], "evidence");
}

#[test]
fn a_key_that_others_may_read_signs_no_bundle() {
    let (place, pki) = (Place::new(), tdx_pki());
    let file = place.write("collateral.json", qvl_of(&pki));
    place.run(&["bundle", "keygen", "-o", "key.pem"]).assert_ok();
    for mode in [0o644, 0o640] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(place.path("key.pem"), open).unwrap();
        place
            .create(&pki, &["--collateral", &file, "--sign-key", "key.pem"])
            .assert_fails(2, "others than its owner may use this key");
    }
    place.assert_nothing_written();
}

#[test]
fn a_signed_bundle_names_its_signer() {
    let (place, pki) = (Place::new(), tdx_pki());
    let parts = qvl_of(&pki);
    let file = place.write("collateral.json", parts);
    let made = place.run(&["bundle", "keygen", "-o", "key.pem"]);
    made.assert_ok();
    let signer = made.stdout.trim_end();
    assert!(signer.starts_with("sha256:") && signer.len() == 71, "{signer}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&place.path("key.pem").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    place.run(&["bundle", "keygen", "-o", "key.pem"]).assert_fails(2, "there is a file already");
    place.create(&pki, &["--collateral", &file, "--sign-key", "key.pem"]).assert_ok();
    let shown = place.run(&["--json", "bundle", "inspect", "b.json", "--now", super::NOW_TEXT]).json();
    assert_eq!(shown["signature"]["signer"], signer);
    assert_eq!(shown["signature"]["signed-at"], super::NOW_TEXT);
    let junk = place.write("junk.pem", "no key");
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(place.path("junk.pem"), own).unwrap();
    place.create(&pki, &["--collateral", &file, "--sign-key", &junk]).assert_fails(2, "private P-256 key");
}

#[test]
fn verify_uses_no_bundle_but_those_of_named_signers() {
    let (place, pki) = (Place::new(), tdx_pki());
    let file = place.write("collateral.json", qvl_of(&pki));
    let quote = place.write("quote.bin", pki.tdx_quote(&TdBody::new()).unwrap());
    let zero = "0".repeat(96);
    let policy = |more: &str| {
        format!(
            "version = 1\n[platform]\ntee = [\"tdx\"]\nroots = \"production\"\ncollateral-age-max-days = 30\n{more}\n\
             [platform.tdx]\ntcb-status = [\"UpToDate\"]\ntcb-evaluation-min = 18\nrequire-sept-ve-disable = true\n\
             mrtd = [\"{zero}\"]\nrtmr0 = [\"{zero}\"]\nrtmr1 = [\"{zero}\"]\nrtmr2 = [\"{zero}\"]\n"
        )
    };
    let [signer, other] = ["a", "b"].map(|name| {
        let made = place.run(&["bundle", "keygen", "-o", name]);
        made.assert_ok();
        made.stdout.trim_end().to_owned()
    });
    place.write("any.toml", policy(""));
    place.write("signed.toml", policy(&format!("bundle-signers = [\"{signer}\"]")));
    let data = "00".repeat(64);
    let verify = |policy: &str, more: &[&str]| {
        let args = ["verify", &quote, "--policy", policy, "--bundle", "b.json", "--report-data", &data];
        place.run(&[&args[..], &["--now", super::NOW_TEXT], more].concat())
    };
    // The development root refuses everything that gets that far.
    let used = |output: super::Output| output.assert_fails(1, "platform.roots");
    let refused = |output: super::Output| output.assert_fails(1, "collateral.signer");
    place.create(&pki, &["--collateral", &file]).assert_ok();
    used(verify("any.toml", &[]));
    refused(verify("any.toml", &["--bundle-signer", &signer]));
    refused(verify("signed.toml", &[]));
    place.create(&pki, &["--collateral", &file, "--sign-key", "a"]).assert_ok();
    used(verify("any.toml", &[]));
    used(verify("signed.toml", &["--bundle-signer", &other, "--bundle-signer", &signer]));
    refused(verify("signed.toml", &["--bundle-signer", &other]));
    place.create(&pki, &["--collateral", &file, "--sign-key", "b"]).assert_ok();
    refused(verify("signed.toml", &[]));
    refused(verify("signed.toml", &["--bundle-signer", &other]));
    used(verify("any.toml", &["--bundle-signer", &other]));
}

/// The JSON of quote verification libraries.
pub(crate) fn qvl_of(pki: &DevPki) -> Vec<u8> {
    let parts = tdx_of(pki);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // The body's bytes as they are signed, cut out of the document.
    let cut = |document: &[u8], member: &str| {
        let all = text(document);
        let value: serde_json::Value = serde_json::from_str(&all).unwrap();
        let start = all.find(&format!("\"{member}\":")).unwrap() + member.len() + 3;
        let end = all.rfind(",\"signature\"").unwrap();
        (all[start..end].to_owned(), value["signature"].as_str().unwrap().to_owned())
    };
    let (tcb_info, tcb_info_signature) = cut(&parts.tcb_info, "tcbInfo");
    let (qe_identity, qe_identity_signature) = cut(&parts.qe_identity, "enclaveIdentity");
    let file = serde_json::json!({
        "root_ca_crl": digits(&parts.root_ca_crl), "pck_crl": digits(&parts.pck_crl),
        "pck_crl_issuer_chain": text(&parts.pck_crl_chain),
        "tcb_info": tcb_info, "tcb_info_signature": tcb_info_signature,
        "tcb_info_issuer_chain": text(&parts.tcb_info_chain),
        "qe_identity": qe_identity, "qe_identity_signature": qe_identity_signature,
        "qe_identity_issuer_chain": text(&parts.qe_identity_chain),
    });
    serde_json::to_vec(&file).unwrap()
}

/// Sets of collateral that Intel signed, by name and by the window in which all of a set holds.
#[test]
fn collateral_of_intel_makes_a_bundle_within_its_window_and_not_beside_it() {
    const TEST: &str = "collateral_of_intel_makes_a_bundle_within_its_window_and_not_beside_it";
    let Some(folder) = casemate_testkit::vectors::folder(TEST) else { return };
    let folder = folder.canonicalize().unwrap().join("_assembled");
    let windows = std::fs::read(folder.join("windows.json")).unwrap();
    let windows: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&windows).unwrap();
    let place = Place::new();
    let mut sets = 0;
    for (name, window) in &windows {
        let file = folder.join(format!("{name}.json"));
        let text = |end: &str| window[end].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let (from, until) = (text("lo"), text("hi"));
        // Of some sets the folder has windows and not all parts.
        if !file.is_file() || from > until {
            continue;
        }
        sets += 1;
        let second = jiff::SignedDuration::from_secs(1);
        for (now, code) in [(from, 0), (until, 0), (from - second, 1), (until + second, 1)] {
            let (file, now) = (file.to_string_lossy().into_owned(), now.to_string());
            let output =
                place.run(&["bundle", "create", "-o", "b.json", "--collateral", &file, "--now", &now]);
            assert_eq!(output.code, Some(code), "{name} at {now}: {}{}", output.stdout, output.stderr);
        }
    }
    assert!(sets >= 9, "{sets}");
}
