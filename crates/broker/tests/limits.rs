//! What strangers can make the broker spend: memory, places and time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::Write as _;
use std::time::{Duration, Instant};

use casemate_protocol::rcar::REQUEST_BYTES_MAX;

use support::desk::Desk;
use support::{Broker, TlsStream};

/// A cookie of no session.
const NOBODY: &str = "kbs-session-id=00";

fn start() -> (tempfile::TempDir, Desk, Broker) {
    let root = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let broker = Broker::start(root.path(), &desk.policy(), &desk.bundle());
    (root, desk, broker)
}

/// A body of about `length` bytes that is small objects, wherever `place` says.
fn bomb(length: usize, place: &str) -> Vec<u8> {
    let objects = format!("[{}0]", r#"{"a":0},"#.repeat(length / 8));
    let (init_data, evidence) =
        if place == "init-data" { (objects, "{}".into()) } else { ("null".into(), objects) };
    format!(
        r#"{{"init-data":{init_data},"runtime-data":{{"nonce":"n","tee-pubkey":{{"kty":"EC","crv":"P-256",
        "alg":"ECDH-ES+A256KW","x":"x","y":"y"}}}},"tee-evidence":{{"primary_evidence":{{"casemate":{evidence}}},
        "additional_evidence":""}}}}"#
    )
    .into_bytes()
}

/// Opens a request for `attest` and sends one byte of its body.
fn idle_sender(broker: &Broker, cookie: &str) -> TlsStream {
    let mut stream = broker.tls();
    let head = format!(
        "POST /kbs/v0/attest HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nContent-Length: 1000000\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.flush().unwrap();
    stream
}

fn attests_within(broker: &Broker, desk: &Desk, bound: Duration) {
    let start = Instant::now();
    let (cookie, nonce) = broker.auth("tdx");
    let answer = broker.attest(&cookie, &desk.attestation("researcher", &nonce));
    assert_eq!(answer.status, 200, "{:?}", String::from_utf8_lossy(&answer.body));
    assert!(start.elapsed() < bound, "{:?}", start.elapsed());
}

#[test]
fn a_body_of_a_stranger_or_of_garbage_costs_no_more_than_its_size() {
    let (_root, _, broker) = start();
    for place in ["init-data", "evidence"] {
        let body = bomb(REQUEST_BYTES_MAX - 4096, place);
        let answer = broker.attest(NOBODY, &body);
        assert_eq!((answer.status, answer.variant().as_str()), (401, "TokenNotFound"));
        let (cookie, nonce) = broker.auth("tdx");
        let body =
            String::from_utf8(body).unwrap().replace(r#""nonce":"n""#, &format!(r#""nonce":"{nonce}""#));
        let answer = broker.attest(&cookie, body.as_bytes());
        assert_eq!(answer.error().refusal.unwrap().rule, "evidence.format");
    }
    let peak_kib = broker.memory_peak_kib();
    assert!(peak_kib < 128 << 10, "{peak_kib} KiB");
}

#[test]
fn refuses_a_body_over_the_limit() {
    let (_root, _, broker) = start();
    let (cookie, _) = broker.auth("tdx");
    let head = format!(
        "POST /kbs/v0/attest HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: {cookie}\r\n\
         Content-Length: {}\r\n\r\n",
        REQUEST_BYTES_MAX + 1
    );
    let answer = broker.raw(&[head.as_bytes(), &vec![b' '; REQUEST_BYTES_MAX + 1]].concat());
    assert_eq!((answer.status, answer.variant().as_str()), (413, "PayloadTooLarge"));
}

#[test]
fn idle_senders_without_a_session_hold_up_nobody() {
    let (_root, desk, broker) = start();
    let held: Vec<_> = (0..210).map(|_| idle_sender(&broker, NOBODY)).collect();
    attests_within(&broker, &desk, Duration::from_secs(4));
    drop(held);
}

#[test]
fn idle_senders_with_sessions_hold_up_nobody() {
    let (_root, desk, broker) = start();
    let held: Vec<_> = (0..64).map(|_| idle_sender(&broker, &broker.auth("tdx").0)).collect();
    attests_within(&broker, &desk, Duration::from_secs(4));
    drop(held);
}

#[test]
fn a_session_sends_one_body_at_a_time() {
    let (_root, desk, broker) = start();
    let (cookie, nonce) = broker.auth("tdx");
    let held = idle_sender(&broker, &cookie);
    std::thread::sleep(Duration::from_millis(300));
    let body = desk.attestation("researcher", &nonce);
    let answer = broker.attest(&cookie, &body);
    assert_eq!((answer.status, answer.variant().as_str()), (429, "TooManyRequests"));
    drop(held);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(broker.attest(&cookie, &body).status, 200);
}

#[test]
fn leaves_no_core_file() {
    let (_root, _, broker) = start();
    let limits = broker.limits();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}
