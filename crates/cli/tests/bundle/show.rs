//! What `bundle inspect` shows.

use super::create::qvl_of;
use super::{NOW_TEXT, Place, tdx_pki};

#[test]
fn every_part_is_shown_with_its_dates_and_numbers() {
    let (place, pki) = (Place::new(), tdx_pki());
    let file = place.write("collateral.json", qvl_of(&pki));
    place.create(&pki, &["--collateral", &file]).assert_ok();
    let inspect = |now: &str| place.run(&["bundle", "inspect", "b.json", "--now", now]);
    let shown = inspect(NOW_TEXT);
    shown.assert_ok();
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(lines[0], "signed       by nobody");
    for expected in [
        "tdx.tcb_info           2026-05-31T23:00:00Z to 2026-07-01T00:00:00Z",
        "  tcb-evaluation-data-number   18",
        "  ca                           platform",
        "  revoked                      0",
        "holds        until 2026-07-01T00:00:00Z; tdx.root_ca_crl expires first, in 30 days",
    ] {
        assert!(lines.contains(&expected), "`{expected}` is not in {}", shown.stdout);
    }
    let later = inspect("2026-07-02T00:00:00Z");
    later.assert_ok();
    assert!(later.stdout.contains("2026-07-01T00:00:00Z  EXPIRED"), "{}", later.stdout);
    assert!(later.stdout.contains("holds        no longer: tdx.root_ca_crl expired"), "{}", later.stdout);
    let earlier = inspect("2026-05-01T00:00:00Z");
    assert!(earlier.stdout.contains("  NOT YET VALID"), "{}", earlier.stdout);
    assert!(earlier.stdout.contains("holds        not yet: from 2026-05-31T23:00:00Z"), "{}", earlier.stdout);
}

#[test]
fn the_json_form_says_the_same() {
    let (place, pki) = (Place::new(), tdx_pki());
    let file = place.write("collateral.json", qvl_of(&pki));
    place.create(&pki, &["--collateral", &file]).assert_ok();
    let shown = place.run(&["--json", "bundle", "inspect", "b.json", "--now", NOW_TEXT]).json();
    assert_eq!(shown["signature"], serde_json::Value::Null);
    assert_eq!(shown["parts"].as_array().unwrap().len(), 7);
    assert_eq!(shown["first-to-expire"], "tdx.root_ca_crl");
    assert_eq!(shown["usable-until"], "2026-07-01T00:00:00Z");
    assert_eq!(shown["current"], true);
    let info = shown["parts"].as_array().unwrap().iter().find(|part| part["part"] == "tdx.tcb_info").unwrap();
    assert_eq!(info["facts"]["tcb-evaluation-data-number"], "18");
    let later = place.run(&["--json", "bundle", "inspect", "b.json", "--now", "2027-01-01T00:00:00Z"]).json();
    assert_eq!(later["current"], false);
}

#[test]
fn a_file_that_is_no_bundle_or_whose_signature_does_not_hold_is_unusable() {
    let (place, pki) = (Place::new(), tdx_pki());
    let file = place.write("collateral.json", qvl_of(&pki));
    place.run(&["bundle", "keygen", "-o", "key.pem"]).assert_ok();
    place.create(&pki, &["--collateral", &file, "--sign-key", "key.pem"]).assert_ok();
    let mut signed: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.path("b.json")).unwrap()).unwrap();
    let payload = signed["payload"].as_str().unwrap().replacen('A', "B", 1);
    signed["payload"] = payload.into();
    for (bytes, says) in [
        (serde_json::to_vec(&signed).unwrap(), "not made by the key that it names"),
        (b"{}".to_vec(), "not a collateral bundle"),
        (br#"{"version":2}"#.to_vec(), "version 2"),
        (
            br#"{"version":1,"snp":{"ark":"AA==","ask":"AA==","crl":"AA=="}}"#.to_vec(),
            "snp.ark cannot be read",
        ),
    ] {
        place.write("bad.json", bytes);
        place.run(&["bundle", "inspect", "bad.json"]).assert_fails(2, says);
    }
    place.run(&["bundle", "inspect", "none.json"]).assert_fails(2, "none.json");
}
