//! The protocol by hand: what a stock client sends, and every way to be refused before anything is appraised.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use casemate_protocol::Refusal;
use serde_json::json;

use support::desk::{Desk, attestation};
use support::{Broker, run};

/// Body of `POST attest` as a stock client with sample evidence writes it.
fn stock_attestation(nonce: &str) -> Vec<u8> {
    let key = casemate_jose::RecipientKey::generate().unwrap().jwk();
    let body = json!({
        "init-data": null,
        "runtime-data": {"nonce": nonce, "tee-pubkey": key},
        "tee-evidence": {"primary_evidence": {"report_data": "AAAA", "svn": "1"}, "additional_evidence": ""},
    });
    serde_json::to_vec(&body).unwrap()
}

fn start() -> (tempfile::TempDir, Desk, Broker) {
    let root = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let broker = Broker::start(root.path(), &desk.policy(), &desk.bundle());
    (root, desk, broker)
}

#[test]
fn answers_a_stock_client_in_the_shapes_it_parses() {
    let (_root, _, broker) = start();
    let first = broker.get("default/key/1", &[("User-Agent", "attestation-agent-kbs-client/0.1.0")]);
    assert_eq!((first.status, first.variant().as_str()), (401, "TokenNotFound"));
    assert!(first.error().kind.starts_with("https://github.com/confidential-containers/kbs/errors/"));

    let (cookie, nonce) = broker.auth("tdx");
    assert!(cookie.starts_with("kbs-session-id="));
    assert_eq!(nonce.len(), 44);
    let (_, other) = broker.auth("tdx");
    assert_ne!(nonce, other);

    let refused = broker.attest(&cookie, &stock_attestation(&nonce));
    assert_eq!((refused.status, refused.variant().as_str()), (403, "PolicyDeny"));
    let refusal = Refusal::new("evidence.format", "member `casemate` alone", "report_data, svn");
    assert_eq!(refused.error().refusal, Some(refusal));
    assert_eq!(broker.get("default/key/1", &[("Cookie", &cookie)]).status, 401);
}

#[test]
fn gives_every_error_the_shape_of_the_protocol() {
    let (_root, _, broker) = start();
    let (cookie, _) = broker.auth("tdx");
    let long = "x".repeat(70_000);
    let post = |path, body: &[u8]| broker.request("POST", path, &[("Cookie", &cookie)], body);
    for (answer, status, variant) in [
        (post("/kbs/v0/auth", b"{}"), 400, "MalformedRequest"),
        (
            post("/kbs/v0/auth", br#"{"version":"9.9.9","tee":"tdx","extra-params":""}"#),
            400,
            "MalformedRequest",
        ),
        (post("/kbs/v0/auth", br#"{"version":"0.4.0","tee":"sample","extra-params":""}"#), 403, "PolicyDeny"),
        (post("/kbs/v0/auth", long.as_bytes()), 413, "PayloadTooLarge"),
        (post("/kbs/v0/attest", b"not json"), 400, "MalformedRequest"),
        (broker.request("POST", "/kbs/v0/attest", &[], b"{}"), 401, "TokenNotFound"),
        (broker.get("a/b", &[]), 404, "InvalidRequestPath"),
        (broker.request("GET", "/", &[], b""), 404, "InvalidRequestPath"),
        (broker.request("DELETE", "/kbs/v0/resource/a/b/c", &[], b""), 405, "InvalidRequestMethod"),
        (broker.get("a/b/c", &[("Authorization", "Bearer a.b.c")]), 401, "TokenNotFound"),
        (broker.get("a/b/%ff", &[]), 401, "TokenNotFound"),
        (broker.get("a/b/c", &[("Cookie", "kbs-session-id=00; kbs-session-id=01")]), 401, "TokenNotFound"),
    ] {
        assert_eq!((answer.status, answer.variant().as_str()), (status, variant), "{answer:?}");
        assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
    }
}

#[test]
fn refuses_an_attestation_without_or_with_an_unknown_session() {
    let (_root, _, broker) = start();
    let (_, nonce) = broker.auth("tdx");
    for cookie in ["", "other=1", "kbs-session-id=", "kbs-session-id=0123456789abcdef0123456789abcdef"] {
        let answer = broker.attest(cookie, &stock_attestation(&nonce));
        assert_eq!((answer.status, answer.variant().as_str()), (401, "TokenNotFound"), "{cookie}");
    }
}

#[test]
fn refuses_a_replayed_nonce_and_says_what_it_expected() {
    let (_root, desk, broker) = start();
    let (_, old) = broker.auth("tdx");
    let (cookie, fresh) = broker.auth("tdx");
    let replayed = broker.attest(&cookie, &desk.attestation("researcher", &old));
    assert_eq!(replayed.status, 403);
    assert_eq!(replayed.error().refusal, Some(Refusal::new("nonce", &fresh, &old)));
    // The attempt spent the session's own nonce.
    let late = broker.attest(&cookie, &desk.attestation("researcher", &fresh));
    let used = Refusal::new("nonce", "a nonce that was not used before", "a nonce that was used");
    assert_eq!((late.status, late.error().refusal), (403, Some(used)));
}

#[test]
fn spends_a_nonce_even_when_the_evidence_is_malformed() {
    let (_root, desk, broker) = start();
    let (cookie, nonce) = broker.auth("tdx");
    assert_eq!(broker.attest(&cookie, &stock_attestation(&nonce)).status, 403);
    let again = broker.attest(&cookie, &desk.attestation("researcher", &nonce));
    assert_eq!(again.error().refusal.unwrap().found, "a nonce that was used");
}

#[test]
fn refuses_what_would_go_unchecked() {
    let (_root, desk, broker) = start();
    for (member, pointer, value) in [
        ("init-data", "/init-data", json!({"format": "toml", "body": ""})),
        ("additional_evidence", "/tee-evidence/additional_evidence", json!("{}")),
    ] {
        let (cookie, nonce) = broker.auth("tdx");
        let mut body: serde_json::Value =
            serde_json::from_slice(&desk.attestation("researcher", &nonce)).unwrap();
        *body.pointer_mut(pointer).unwrap() = value;
        let answer = broker.attest(&cookie, &serde_json::to_vec(&body).unwrap());
        let refusal = Refusal::new("evidence.format", "nothing that would go unchecked", member);
        assert_eq!((answer.status, answer.error().refusal), (403, Some(refusal)));
    }
}

#[test]
fn refuses_another_kind_of_evidence_than_announced() {
    let (_root, desk, broker) = start();
    // While there is no readable policy, both kinds get a challenge; evidence is refused in any case.
    std::fs::write(&broker.policy, "").unwrap();
    let (cookie, nonce) = broker.auth("snp");
    std::fs::write(&broker.policy, desk.policy()).unwrap();
    let answer = broker.attest(&cookie, &desk.attestation("researcher", &nonce));
    assert_eq!(answer.error().refusal, Some(Refusal::new("evidence.tee", "snp", "tdx")));
}

#[test]
fn gives_no_challenge_for_a_kind_that_the_policy_does_not_name_and_logs_no_challenge() {
    let (_root, _, broker) = start();
    for tee in ["snp", "sgx", "", "a b"] {
        let body = format!(r#"{{"version":"0.4.0","tee":"{tee}","extra-params":""}}"#);
        let answer = broker.request("POST", "/kbs/v0/auth", &[], body.as_bytes());
        let refusal = Refusal::new("evidence.tee", "tdx", tee);
        assert_eq!((answer.status, answer.error().refusal), (403, Some(refusal)));
    }
    broker.auth("tdx");
    assert_eq!(broker.log().0, Vec::<serde_json::Value>::new());
}

#[test]
fn refuses_everything_while_the_policy_is_malformed_and_says_so() {
    let (_root, desk, broker) = start();
    std::fs::write(&broker.policy, "this is = = not toml").unwrap();
    let (cookie, nonce) = broker.auth("tdx");
    let answer = broker.attest(&cookie, &desk.attestation("researcher", &nonce));
    let refusal = answer.error().refusal.unwrap();
    assert_eq!((answer.status, refusal.rule.as_str()), (403, "policy"));
    assert_eq!(refusal.found, "a malformed policy");
    std::fs::remove_file(&broker.policy).unwrap();
    let (cookie, nonce) = broker.auth("tdx");
    let answer = broker.attest(&cookie, &desk.attestation("researcher", &nonce));
    let refusal = answer.error().refusal.unwrap();
    assert_eq!((refusal.rule.as_str(), refusal.found.as_str()), ("policy", "a file that cannot be read"));
}

#[test]
fn does_not_start_with_a_malformed_policy_or_bundle() {
    let root = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let (policy, bundle) = (root.path().join("policy.toml"), root.path().join("bundle.json"));
    std::fs::write(&policy, "x = = 1\n").unwrap();
    std::fs::write(&bundle, desk.bundle()).unwrap();
    let state = root.path().join("state");
    let serve = || {
        let paths = [&state, &policy, &bundle].map(|path| path.to_str().unwrap());
        let [state, policy, bundle] = paths;
        run(
            &["serve", "--listen", "127.0.0.1:0", "--state", state, "--policy", policy, "--bundle", bundle],
            b"",
        )
    };
    let output = serve();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("policy.toml:1:"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");

    std::fs::write(&policy, desk.policy()).unwrap();
    std::fs::write(&bundle, "{}").unwrap();
    let output = serve();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("bundle.json"));
    std::fs::remove_file(&bundle).unwrap();
    assert_eq!(serve().status.code(), Some(2));
}

#[test]
fn uses_only_bundles_of_signers_that_the_policy_names() {
    let (root, desk, broker) = start();
    let key = casemate_jose::SigningKey::generate().unwrap();
    let mut values = desk.values();
    values.bundle_signers = vec![casemate_endorsements::signer_id(&key).unwrap()];
    let attest = || {
        let (cookie, nonce) = broker.auth("tdx");
        broker.attest(&cookie, &desk.attestation("researcher", &nonce))
    };
    // What was read under another policy is not used under this one.
    assert_eq!(attest().status, 200);
    std::fs::write(&broker.policy, casemate_verifier::Policy::render(&values)).unwrap();
    let refusal = attest().error().refusal.unwrap();
    assert_eq!(
        (refusal.rule.as_str(), refusal.found.as_str()),
        ("collateral.signer", "one without a signature")
    );
    let sign = |key: &casemate_jose::SigningKey| {
        let now = casemate_verifier::UnixTime(0);
        let signed = casemate_endorsements::sign(&desk.bundle(), key, now).unwrap();
        std::fs::write(root.path().join("bundle.json"), signed).unwrap();
    };
    sign(&casemate_jose::SigningKey::generate().unwrap());
    assert_eq!(attest().error().refusal.unwrap().rule, "collateral.signer");
    sign(&key);
    assert_eq!(attest().status, 200);
}

#[test]
fn does_not_start_with_a_bundle_of_a_signer_that_is_not_named() {
    let root = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let (policy, bundle) = (root.path().join("policy.toml"), root.path().join("bundle.json"));
    std::fs::write(&policy, desk.policy()).unwrap();
    std::fs::write(&bundle, desk.bundle()).unwrap();
    let state = root.path().join("state");
    let [state, policy, bundle] = [&state, &policy, &bundle].map(|path| path.to_str().unwrap());
    let signer = casemate_canon::Sha256::of(b"key").to_string();
    let serve =
        ["serve", "--listen", "127.0.0.1:0", "--state", state, "--policy", policy, "--bundle", bundle];
    let output = run(&[&serve[..], &["--bundle-signer", &signer]].concat(), b"");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("collateral.signer") && text.lines().count() == 2, "{text}");
}

#[test]
fn ends_in_order_on_sigterm_and_keeps_its_identity() {
    let root = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let mut broker = Broker::start(root.path(), &desk.policy(), &desk.bundle());
    let pem = broker.pem();
    let (cookie, nonce) = broker.auth("tdx");
    assert_eq!(broker.terminate(), Some(0));
    drop(broker);
    let broker = Broker::start(root.path(), &desk.policy(), &desk.bundle());
    assert_eq!(broker.pem(), pem);
    // A nonce survives a restart, and is still spent once.
    let evidence = desk.evidence("researcher", &nonce);
    let body = attestation(&nonce, &desk.agent_key.jwk(), &evidence);
    broker.attest(&cookie, &body);
    let again = broker.attest(&cookie, &body);
    assert_eq!(again.error().refusal.unwrap().found, "a nonce that was used");
}

#[test]
fn only_one_broker_serves_a_state_directory() {
    let (root, _, broker) = start();
    let bundle = root.path().join("bundle.json");
    let paths = [&broker.state, &broker.policy, &bundle].map(|p| p.to_str().unwrap());
    let [state, policy, bundle] = paths;
    let output = run(
        &["serve", "--listen", "127.0.0.1:0", "--state", state, "--policy", policy, "--bundle", bundle],
        b"",
    );
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("locked by another broker"));
}

#[test]
fn says_what_to_do_about_a_database_of_an_older_schema() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state");
    let arguments = ["log", "--state", state.to_str().unwrap()];
    assert_eq!(run(&arguments, b"").status.code(), Some(0));
    let other = rusqlite::Connection::open(state.join("broker.db")).unwrap();
    other.pragma_update(None, "user_version", 1).unwrap();
    let output = run(&arguments, b"");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text.contains("schema 1, this program reads schema 2\nto do: use the version"), "{text}");
}

#[test]
fn answers_503_and_decides_nothing_while_the_database_is_locked() {
    let (_root, desk, broker) = start();
    let (cookie, nonce) = broker.auth("tdx");
    let other = rusqlite::Connection::open(broker.state.join("broker.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = broker.attest(&cookie, &desk.attestation("researcher", &nonce));
    assert_eq!((answer.status, answer.variant().as_str()), (503, "Unavailable"));
    assert_eq!(answer.error().detail, "the database is locked");
    other.execute_batch("ROLLBACK").unwrap();
    // Nothing was spent: the nonce still serves.
    let answer = broker.attest(&cookie, &stock_attestation(&nonce));
    assert_eq!(answer.error().refusal.unwrap().rule, "evidence.format");
}

#[test]
fn logs_every_decision_and_shows_tampering() {
    let (_root, _, broker) = start();
    let (cookie, nonce) = broker.auth("tdx");
    broker.attest(&cookie, &stock_attestation(&nonce));
    let (rows, chain) = broker.log();
    assert_eq!(chain["chain"], "intact");
    let story: Vec<_> = rows.iter().map(|row| (row["kind"].as_str(), row["decision"].as_str())).collect();
    assert_eq!(story, [(Some("attest"), Some("refused"))]);
    assert_eq!(rows[0]["rule"], "evidence.format");
    assert_eq!(rows[0]["nonce"], nonce.as_str());

    let other = rusqlite::Connection::open(broker.state.join("broker.db")).unwrap();
    assert!(other.execute("UPDATE decisions SET rule = ''", []).is_err());
    other
        .execute_batch("DROP TRIGGER decisions_no_update; UPDATE decisions SET decision = 'x' WHERE seq = 1")
        .unwrap();
    let output = run(&["log", "--state", broker.state.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("BROKEN at decision 1"));
}
