//! Services and files that are not what they should be: nothing is believed, nothing is written.

use std::collections::BTreeMap;

use casemate_testkit::TdBody;

use super::create::{qvl_of, tdx_of};
use super::service::{Answer, Answers, QE, ROOT_CRL, Service, TCB, pccs, url_encoded};
use super::{Place, tdx_pki};

fn fmspc() -> String {
    casemate_testkit::FMSPC.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn past_bug_05_nobody_is_asked_whom_the_user_did_not_name() {
    let (place, pki) = (Place::new(), tdx_pki());
    let quote = place.write("quote.bin", pki.tdx_quote(&TdBody::new()).unwrap());
    // The certificates inside name addresses of CRLs; they are not asked either.
    place.create(&pki, &["--from-evidence", &quote]).assert_fails(2, "tdx.root_ca_crl is missing");
    place.create(&pki, &[]).assert_fails(2, "nothing to put into a bundle is named");
    place.assert_nothing_written();
}

#[test]
fn past_bug_05_a_service_that_signs_with_keys_of_its_own_is_not_believed() {
    let (place, pki, theirs) = (Place::new(), tdx_pki(), tdx_pki());
    let quote = place.write("quote.bin", pki.tdx_quote(&TdBody::new()).unwrap());
    place.write("b.json", "what was there");
    let (own, other) = (pccs(&pki), pccs(&theirs));
    for path in [format!("{TCB}{}", fmspc()), QE.to_owned(), ROOT_CRL.to_owned()] {
        let mut answers = own.clone();
        answers.insert(path.clone(), other[&path].clone());
        let service = Service::plain(answers);
        let output = place.create(&pki, &["--from-evidence", &quote, "--pccs", &service.url]);
        assert_eq!(output.code, Some(1), "{path}: {}{}", output.stdout, output.stderr);
        assert_eq!(std::fs::read(place.path("b.json")).unwrap(), b"what was there", "{path}");
    }
    // All of it theirs: well made, and up to a root that nobody named.
    let service = Service::plain(other);
    let output = place.create(&pki, &["--from-evidence", &quote, "--pccs", &service.url]);
    assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
    // Nor is a development root one of the vendors'.
    let service = Service::plain(own);
    let url = service.url.as_str();
    let args = ["bundle", "create", "-o", "b.json", "--now", super::NOW_TEXT, "--pccs", url];
    let output = place.run(&[&args[..], &["--from-evidence", &quote]].concat());
    assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
    assert_eq!(std::fs::read(place.path("b.json")).unwrap(), b"what was there");
}

#[test]
fn parts_that_do_not_hold_now_are_refused_unless_told_otherwise() {
    let (place, pki) = (Place::new(), tdx_pki());
    let file = place.write("collateral.json", qvl_of(&pki));
    let root = pki.root_spki_sha256().to_string();
    let create = |more: &[&str]| {
        let args = ["bundle", "create", "-o", "b.json", "--collateral", &file, "--development-root", &root];
        place.run(&[&args[..], more].concat())
    };
    for now in ["2026-07-02T00:00:00Z", "2026-05-01T00:00:00Z"] {
        assert_eq!(create(&["--now", now]).code, Some(1), "{now}");
        place.assert_nothing_written();
    }
    let output = create(&["--now", "2026-07-02T00:00:00Z", "--dangerous-unverified"]);
    output.assert_ok();
    assert!(output.stderr.starts_with("warning: "), "{}", output.stderr);
    assert!(output.stdout.contains("EXPIRED"), "{}", output.stdout);
}

#[test]
fn tcb_information_of_another_family_is_refused_by_rule() {
    let (place, pki) = (Place::new(), tdx_pki());
    let quote = place.write("quote.bin", pki.tdx_quote(&TdBody::new()).unwrap());
    let mut answers = pccs(&pki);
    let asked = format!("{TCB}{}", fmspc());
    let text = String::from_utf8(answers[&asked].body.clone()).unwrap();
    let other =
        text.replacen(&fmspc(), "00806f050000", 1).replacen(&fmspc().to_uppercase(), "00806F050000", 1);
    assert_ne!(other, text);
    answers.get_mut(&asked).unwrap().body = other.into_bytes();
    let service = Service::plain(answers);
    let output = place.create(&pki, &["--from-evidence", &quote, "--pccs", &service.url]);
    output.assert_fails(1, "tdx.fmspc");
    place.assert_nothing_written();
}

#[test]
fn answers_that_are_too_long_misplaced_or_elsewhere_are_refused() {
    let (place, pki) = (Place::new(), tdx_pki());
    let quote = place.write("quote.bin", pki.tdx_quote(&TdBody::new()).unwrap());
    let asked = format!("{TCB}{}", fmspc());
    let good = pccs(&pki);
    let elsewhere = Service::plain(good.clone());
    let chain = url_encoded(&tdx_of(&pki).tcb_info_chain);
    let cases: BTreeMap<&str, Answer> = BTreeMap::from([
        ("points elsewhere", Answer::status(302).with("Location", format!("{}{asked}", elsewhere.url))),
        ("larger than 1048576 bytes", {
            Answer::ok(vec![b' '; (1 << 20) + 1]).with("TCB-Info-Issuer-Chain", chain)
        }),
        ("`TCB-Info-Issuer-Chain` is missing", Answer::ok(good[&asked].body.clone())),
        ("status 500", Answer::status(500)),
        ("is not HTTP/1.1", Answer::ok(Vec::new()).with("x", "y".repeat(1 << 20))),
    ]);
    for (says, answer) in cases {
        let mut answers: Answers = good.clone();
        answers.insert(asked.clone(), answer);
        let service = Service::plain(answers);
        place.create(&pki, &["--from-evidence", &quote, "--pccs", &service.url]).assert_fails(3, says);
        place.assert_nothing_written();
    }
    assert_eq!(elsewhere.asked(), [""; 0]);
}

#[test]
fn a_service_that_tls_does_not_vouch_for_is_not_asked() {
    let (place, pki) = (Place::new(), tdx_pki());
    let quote = place.write("quote.bin", pki.tdx_quote(&TdBody::new()).unwrap());
    let (service, other) = (Service::tls(pccs(&pki)), Service::tls(pccs(&pki)));
    let ca = place.write("ca.pem", &other.ca);
    let asks = ["--from-evidence", quote.as_str(), "--pccs", service.url.as_str()];
    place.create(&pki, &asks).assert_fails(3, "no TLS session");
    place.create(&pki, &[&asks[..], &["--ca", &ca]].concat()).assert_fails(3, "no TLS session");
    let junk = place.write("junk", "junk");
    place.create(&pki, &[&asks[..], &["--ca", &junk]].concat()).assert_fails(2, "certificates in PEM");
    assert_eq!(service.asked(), [""; 0]);
    let plain = ["--from-evidence", quote.as_str(), "--pccs", "http://pccs.example"];
    place.create(&pki, &plain).assert_fails(2, "plain HTTP to another machine");
    let nobody = ["--from-evidence", quote.as_str(), "--pccs", "http://127.0.0.1:1"];
    place.create(&pki, &nobody).assert_fails(3, "no connection");
    place.assert_nothing_written();
}

#[test]
fn files_of_another_form_are_unusable() {
    let (place, pki) = (Place::new(), tdx_pki());
    let junk = place.write("junk", "junk");
    for (args, says) in [
        (vec!["--root-ca-crl", "junk"], "not a CRL"),
        (vec!["--pck-crl", "junk"], "not a CRL"),
        (vec!["--ark", "junk"], "not one certificate"),
        (vec!["--snp-chain", "junk"], "ASK (or ASVK) and ARK"),
        (vec!["--collateral", "junk"], "not collateral in JSON"),
        (vec!["--from-evidence", "junk"], "junk: no statement"),
        (vec!["--sign-key", "junk"], "others than its owner may use this key"),
        (vec!["--tcb-info", "none"], "none: "),
        (vec!["--fmspc", "00"], "12 hexadecimal digits"),
        (vec!["--product", "Rome"], "Milan, Genoa or Turin"),
        (vec!["--pccs", "https://127.0.0.1:1"], "which platform family"),
        (vec!["--kds", "https://127.0.0.1:1"], "which product"),
        (vec!["--pccs", "pccs.example"], "is not https://"),
    ] {
        place.create(&pki, &args).assert_fails(2, says);
    }
    assert_eq!(junk, "junk");
    place.assert_nothing_written();
}
