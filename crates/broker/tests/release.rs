//! The whole way: correctly signed evidence in, the right secret out, sealed; and nothing to anyone else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use casemate_client::error::{Cause, Step, TlsFailure};
use casemate_client::{BrokerClient, ClientError, decode_jwe};
use casemate_jose::RecipientKey;
use casemate_protocol::rcar::Jwe;
use casemate_verifier::Roots;

use support::desk::{Desk, RESEARCHER_SECRET, SCRIBE_SECRET, attestation};
use support::{Broker, files_with};

const MARKER: &[u8] = b"marker-52c1e0-for-researcher-only";

fn start() -> (tempfile::TempDir, Desk, Broker) {
    let root = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let broker = Broker::start(root.path(), &desk.policy(), &desk.bundle());
    broker.put_secret(RESEARCHER_SECRET, MARKER);
    (root, desk, broker)
}

/// Attests by hand. Gives the cookie and the token.
fn attested(broker: &Broker, desk: &Desk, agent: &str) -> (String, String) {
    let (cookie, nonce) = broker.auth("tdx");
    let answer = broker.attest(&cookie, &desk.attestation(agent, &nonce));
    assert_eq!(answer.status, 200, "{:?}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.cookie(), cookie);
    (cookie, answer.json()["token"].as_str().unwrap().to_owned())
}

fn open(desk: &Desk, body: &[u8]) -> Vec<u8> {
    let jwe: Jwe = serde_json::from_slice(body).unwrap();
    desk.agent_key.open(&decode_jwe(&jwe).unwrap(), RESEARCHER_SECRET).unwrap().to_vec()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn releases_a_secret_to_the_attested_agent_and_to_no_file() {
    let (root, desk, broker) = start();
    let (cookie, token) = attested(&broker, &desk, "researcher");
    let by_cookie = broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]);
    assert_eq!(by_cookie.status, 200, "{by_cookie:?}");
    assert_eq!(open(&desk, &by_cookie.body), MARKER);
    let by_token = broker.get(RESEARCHER_SECRET, &[("Authorization", &format!("Bearer {token}"))]);
    assert_eq!(open(&desk, &by_token.body), MARKER);
    assert_ne!(by_cookie.body, by_token.body);
    assert_eq!(files_with(root.path(), MARKER), Vec::<std::path::PathBuf>::new());

    let (rows, chain) = broker.log();
    assert_eq!(chain["chain"], "intact");
    let last = rows.last().unwrap();
    assert_eq!(
        [&last["kind"], &last["agent"], &last["resource"], &last["decision"]],
        ["resource", "researcher", RESEARCHER_SECRET, "released"]
    );
    assert_eq!(last["composition"], desk.values().composition.unwrap().digest.to_string());
}

#[test]
fn the_log_says_on_what_a_release_rests() {
    let (_root, desk, broker) = start();
    broker.put_secret(RESEARCHER_SECRET, MARKER);
    let (cookie, _) = attested(&broker, &desk, "researcher");
    assert_eq!(broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]).status, 200);
    assert_eq!(broker.get(SCRIBE_SECRET, &[("Cookie", &cookie)]).status, 403);
    let policy_id = casemate_verifier::Policy::parse(&desk.policy()).unwrap().id().to_string();
    let (rows, _) = broker.log();
    let story: Vec<_> = rows.iter().map(|row| row["decision"].as_str().unwrap()).collect();
    assert_eq!(story, ["stored", "stored", "affirmed", "released", "refused"]);
    for row in &rows[2..] {
        assert_eq!(row["policy_id"], policy_id.as_str(), "{row}");
        assert_eq!([&row["standing"], &row["agent"]], ["simulated", "researcher"], "{row}");
        assert_eq!(row["instance"], 1, "{row}");
        assert_eq!(row["agent_key"].as_str().unwrap().len(), 43, "{row}");
    }
    let versions: Vec<_> = rows.iter().map(|row| row["secret_version"].as_i64().unwrap()).collect();
    assert_eq!(versions, [1, 2, 0, 2, 0]);
}

#[test]
fn the_log_names_nobody_on_the_word_of_a_strangers_root() {
    let (_root, _, broker) = start();
    let stranger = Desk::new();
    let (cookie, nonce) = broker.auth("tdx");
    assert_eq!(broker.attest(&cookie, &stranger.attestation("researcher", &nonce)).status, 403);
    let (rows, _) = broker.log();
    let last = rows.last().unwrap();
    assert_eq!(last["decision"], "refused");
    for member in ["agent", "composition", "standing", "agent_key"] {
        assert_eq!(last[member], "", "{member}: {last}");
    }
    assert_eq!(last["instance"], 0);
    assert_ne!(last["policy_id"], "");
}

#[test]
fn answers_no_head_request_and_every_path_in_json() {
    let (_root, desk, broker) = start();
    let (cookie, _) = attested(&broker, &desk, "researcher");
    let rows = broker.log().0.len();
    let path = format!("/kbs/v0/resource/{RESEARCHER_SECRET}");
    assert_eq!(broker.request("HEAD", &path, &[("Cookie", &cookie)], b"").status, 405);
    assert_eq!(broker.log().0.len(), rows);
    let answer = broker.get("a/b/%ff", &[("Cookie", &cookie)]);
    assert_eq!((answer.status, answer.variant().as_str()), (400, "MalformedRequest"));
}

#[test]
fn a_secret_that_was_rotated_is_not_released_again_with_its_row() {
    let (_root, desk, broker) = start();
    let other = rusqlite::Connection::open(broker.state.join("broker.db")).unwrap();
    other.execute_batch("CREATE TEMP TABLE backup AS SELECT * FROM secrets").unwrap();
    broker.put_secret(RESEARCHER_SECRET, b"rotated");
    other.execute_batch("DELETE FROM secrets; INSERT INTO secrets SELECT * FROM backup").unwrap();
    let (cookie, _) = attested(&broker, &desk, "researcher");
    let answer = broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]);
    let detail = "the stored secret is not the one that was put last";
    assert_eq!((answer.status, answer.error().detail.as_str()), (503, detail));
    let (rows, _) = broker.log();
    let last = rows.last().unwrap();
    assert_eq!([&last["decision"], &last["rule"]], ["refused", "secret.intact"]);
    assert!(last["found"].as_str().unwrap().contains("version 1, and 2"), "{last}");
}

#[test]
fn serves_our_own_client() {
    let (_root, desk, broker) = start();
    let client = BrokerClient::new(&broker.url, &broker.pem()).unwrap();
    block_on(async {
        let challenged = client.begin("tdx").await.unwrap();
        let body = desk.attestation("researcher", challenged.nonce().as_str());
        let attested = client.attest(challenged, body).await.unwrap();
        let sealed = client.fetch(&attested, RESEARCHER_SECRET).await.unwrap();
        assert_eq!(desk.agent_key.open(&sealed, RESEARCHER_SECRET).unwrap().as_slice(), MARKER);
        let refused = client.fetch(&attested, SCRIBE_SECRET).await.unwrap_err();
        assert!(matches!(refused, ClientError::Refused(r) if r.rule == "agent.secrets"));
    });
}

#[test]
fn refuses_another_agents_secret_before_it_says_whether_there_is_one() {
    let (_root, desk, broker) = start();
    let (cookie, _) = attested(&broker, &desk, "scribe");
    for resource in [RESEARCHER_SECRET, "desk/secret/none"] {
        let answer = broker.get(resource, &[("Cookie", &cookie)]);
        assert_eq!((answer.status, answer.variant().as_str()), (403, "PolicyDeny"));
        assert_eq!(answer.error().refusal.unwrap().rule, "agent.secrets");
    }
    let missing = broker.get(SCRIBE_SECRET, &[("Cookie", &cookie)]);
    assert_eq!((missing.status, missing.variant().as_str()), (404, "ResourceNotFound"));
    let (rows, _) = broker.log();
    let decisions: Vec<_> = rows.iter().rev().take(3).map(|row| row["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["missing", "refused", "refused"]);
}

#[test]
fn refuses_a_key_other_than_the_one_in_the_evidence() {
    let (_root, desk, broker) = start();
    let (cookie, nonce) = broker.auth("tdx");
    let evidence = desk.evidence("researcher", &nonce);
    let thief = RecipientKey::generate().unwrap();
    let answer = broker.attest(&cookie, &attestation(&nonce, &thief.jwk(), &evidence));
    assert_eq!(answer.status, 403);
    let refusal = answer.error().refusal.unwrap();
    assert_eq!(refusal.rule, "agent.key");
    assert!(refusal.found.contains(&thief.jwk().x));
    assert_eq!(broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]).status, 401);
}

#[test]
fn refuses_old_evidence_under_a_fresh_claim() {
    let (_root, desk, broker) = start();
    let (_, old) = broker.auth("tdx");
    let (cookie, fresh) = broker.auth("tdx");
    let evidence = desk.evidence("researcher", &old);
    let answer = broker.attest(&cookie, &attestation(&fresh, &desk.agent_key.jwk(), &evidence));
    assert_eq!(answer.status, 403);
    assert!(answer.error().refusal.unwrap().found.contains(&old), "{answer:?}");
}

#[test]
fn refuses_simulated_evidence_under_production_roots() {
    let root = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let mut values = desk.values();
    values.roots = Roots::Production;
    let broker = Broker::start(root.path(), &casemate_verifier::Policy::render(&values), &desk.bundle());
    let (cookie, nonce) = broker.auth("tdx");
    let answer = broker.attest(&cookie, &desk.attestation("researcher", &nonce));
    assert_eq!(answer.status, 403);
    assert!(answer.error().refusal.unwrap().rule.contains("root"), "{answer:?}");
}

#[test]
fn an_edited_policy_takes_effect_on_running_sessions() {
    let (_root, desk, broker) = start();
    let (cookie, _) = attested(&broker, &desk, "researcher");
    let mut values = desk.values();
    let agent = "researcher".parse().unwrap();
    values.composition.as_mut().unwrap().agents.get_mut(&agent).unwrap().secrets.clear();
    std::fs::write(&broker.policy, casemate_verifier::Policy::render(&values)).unwrap();
    let answer = broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]);
    assert_eq!((answer.status, answer.error().detail.contains("policy")), (401, true));
    let (rows, _) = broker.log();
    let last = rows.last().unwrap();
    assert_eq!([&last["kind"], &last["decision"], &last["rule"]], ["resource", "refused", "policy"]);
    let (cookie, _) = attested(&broker, &desk, "researcher");
    let answer = broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]);
    assert_eq!(answer.error().refusal.unwrap().rule, "agent.secrets");
}

#[test]
fn does_not_release_what_it_cannot_log() {
    let (_root, desk, broker) = start();
    let (cookie, _) = attested(&broker, &desk, "researcher");
    let other = rusqlite::Connection::open(broker.state.join("broker.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]);
    assert_eq!((answer.status, answer.variant().as_str()), (503, "Unavailable"));
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(open(&desk, &broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]).body), MARKER);
}

#[test]
fn does_not_release_a_secret_that_was_altered_on_disk() {
    let (_root, desk, broker) = start();
    broker.put_secret(SCRIBE_SECRET, b"of scribe");
    let other = rusqlite::Connection::open(broker.state.join("broker.db")).unwrap();
    // The ciphertext of one path under the path of another.
    let sql = "UPDATE secrets SET (iv, ciphertext) =
               (SELECT iv, ciphertext FROM secrets WHERE resource = ?1) WHERE resource = ?2";
    other.execute(sql, [RESEARCHER_SECRET, SCRIBE_SECRET]).unwrap();
    let (cookie, _) = attested(&broker, &desk, "scribe");
    let answer = broker.get(SCRIBE_SECRET, &[("Cookie", &cookie)]);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.error().detail, "the stored secret is damaged");
}

#[test]
fn a_session_and_its_token_end_with_the_process() {
    let root = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let broker = Broker::start(root.path(), &desk.policy(), &desk.bundle());
    let (cookie, token) = attested(&broker, &desk, "researcher");
    drop(broker);
    let broker = Broker::start(root.path(), &desk.policy(), &desk.bundle());
    let bearer = format!("Bearer {token}");
    let answer = broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie), ("Authorization", &bearer)]);
    assert_eq!((answer.status, answer.variant().as_str()), (401, "TokenNotFound"));
}

#[test]
fn a_client_trusts_the_pinned_certificate_only() {
    let (_root, desk, broker) = start();
    let other_root = tempfile::tempdir().unwrap();
    let other = Broker::start(other_root.path(), &desk.policy(), &desk.bundle());
    let client = BrokerClient::new(&broker.url, &other.pem()).unwrap();
    let error = block_on(client.begin("tdx")).unwrap_err();
    let ClientError::Unreachable { step: Step::Begin, cause: Cause::Tls(TlsFailure::Refused(error)) } = error
    else {
        panic!("{error:?}")
    };
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");
}

#[test]
fn a_client_says_that_nobody_listens_after_a_bounded_number_of_attempts() {
    let (_root, _, broker) = start();
    let pem = broker.pem();
    let url = broker.url.clone();
    drop(broker);
    let start = std::time::Instant::now();
    let error = block_on(BrokerClient::new(&url, &pem).unwrap().begin("tdx")).unwrap_err();
    let cause = Cause::Connect(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(error, ClientError::Unreachable { step: Step::Begin, cause });
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn a_broker_beside_another_releases_by_its_own_policy_alone_and_a_nonce_is_spent_once_for_both() {
    let (root, desk, broker) = start();
    let mut strict = desk.values();
    let agents = &mut strict.composition.as_mut().unwrap().agents;
    agents.values_mut().for_each(|agent| agent.secrets.clear());
    let beside = Broker::start_beside(root.path(), &casemate_verifier::Policy::render(&strict));
    assert_ne!(broker.address, beside.address);
    // What one has attested, the other does not know.
    let (cookie, _) = attested(&broker, &desk, "researcher");
    assert_eq!(beside.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]).status, 401);
    assert_eq!(broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]).status, 200);
    // Each has its own policy.
    let (cookie, nonce) = beside.auth("tdx");
    let body = desk.attestation("researcher", &nonce);
    assert_eq!(beside.attest(&cookie, &body).status, 200);
    let refused = beside.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]);
    assert_eq!(refused.error().refusal.unwrap().rule, "agent.secrets");
    let again = broker.attest(&cookie, &body);
    assert_eq!(again.error().refusal.unwrap().found, "a nonce that was used");
    // Both are in one log, whose chain holds.
    let (rows, chain) = broker.log();
    assert!(rows.len() >= 4, "{rows:?}");
    assert_eq!(chain, beside.log().1);
}
