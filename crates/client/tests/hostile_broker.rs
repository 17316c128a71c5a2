//! The client against brokers that misbehave: every answer is bounded, every wait ends, every fault has its name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use casemate_client::broker::{ATTEMPTS_MAX, CONNECT_S_MAX, RESPONSE_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX};
use casemate_client::error::{Cause, InputError, Problem, Step};
use casemate_client::{BrokerClient, Challenged, ClientError};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A TLS server that gives the same bytes to every request.
struct Hostile {
    url: String,
    pem: String,
    connections: Arc<AtomicUsize>,
}

fn hostile(answer: Vec<u8>) -> Hostile {
    let certificate = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    // Ends with the test's process.
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let tcp = tcp.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            tcp.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut stream =
                rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(&answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    Hostile { url, pem: certificate.cert.pem(), connections }
}

fn begin(hostile: &Hostile) -> Result<Challenged, ClientError> {
    let client = BrokerClient::new(&hostile.url, hostile.pem.as_bytes()).unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(client.begin("tdx"))
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat()
}

fn protocol(problem: Problem) -> ClientError {
    ClientError::Protocol { step: Step::Begin, problem }
}

#[test]
fn takes_a_good_answer() {
    let body = br#"{"nonce":"r4zitDYpPMMKdtjaFQzIcp1MxUD4JwLAWmAznF3iU/8=","extra-params":""}"#;
    let head = format!("200 OK\r\nSet-Cookie: kbs-session-id=ab\r\nContent-Length: {}", body.len());
    assert!(begin(&hostile(answer(&head, body))).is_ok());
}

#[test]
fn cuts_an_answer_that_is_too_long_whether_announced_or_not() {
    let body = vec![b' '; RESPONSE_BYTES_MAX + 1];
    for head in ["200 OK", &format!("200 OK\r\nContent-Length: {}", body.len())] {
        let error = begin(&hostile(answer(head, &body))).unwrap_err();
        assert_eq!(error, protocol(Problem::TooLong { max: RESPONSE_BYTES_MAX }), "{head}");
    }
}

#[test]
fn refuses_heads_that_are_too_long_or_no_http() {
    let long = format!("200 OK\r\nX: {}", "x".repeat(RESPONSE_HEAD_BYTES_MAX + 1));
    let many = format!("200 OK{}", "\r\nX: y".repeat(100));
    for bytes in [answer(&long, b""), answer(&many, b""), b"SSH-2.0-broker\r\n".to_vec(), vec![0; 64]] {
        assert_eq!(begin(&hostile(bytes)).unwrap_err(), protocol(Problem::Http));
    }
}

#[test]
fn does_not_follow_a_redirect() {
    let redirect = answer("302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0", b"");
    assert_eq!(begin(&hostile(redirect)).unwrap_err(), protocol(Problem::Status(302)));
}

#[test]
fn says_that_the_connection_ended_before_the_answer() {
    let closed = ClientError::Unreachable { step: Step::Begin, cause: Cause::Closed };
    assert_eq!(begin(&hostile(vec![])).unwrap_err(), closed);
    let short = answer("200 OK\r\nContent-Length: 100", b"{");
    assert_eq!(begin(&hostile(short)).unwrap_err(), closed);
}

#[test]
fn tries_again_a_bounded_number_of_times_when_told_not_now() {
    let body = br#"{"type":"t","detail":"the database is locked"}"#;
    let hostile = hostile(answer(&format!("503 X\r\nContent-Length: {}", body.len()), body));
    let cause = Cause::Unavailable { status: 503, detail: "the database is locked".into() };
    assert_eq!(begin(&hostile).unwrap_err(), ClientError::Unreachable { step: Step::Begin, cause });
    assert_eq!(hostile.connections.load(Ordering::SeqCst), ATTEMPTS_MAX as usize);
}

#[test]
fn does_not_wait_for_a_handshake_that_never_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let certificate = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let silent = Hostile {
        url: format!("https://{}", listener.local_addr().unwrap()),
        pem: certificate.cert.pem(),
        connections: Arc::default(),
    };
    let start = Instant::now();
    let cause = Cause::TimedOut { seconds: CONNECT_S_MAX };
    assert_eq!(begin(&silent).unwrap_err(), ClientError::Unreachable { step: Step::Begin, cause });
    assert!(start.elapsed() < Duration::from_secs(CONNECT_S_MAX + 3));
}

#[test]
fn takes_only_an_https_address_and_1_to_8_certificates() {
    let pem = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap().cert.pem();
    let new = |url: &str, pem: &str| BrokerClient::new(url, pem.as_bytes()).map(|_| ());
    for url in ["https://127.0.0.1:8943", "https://broker.example/", "https://[::1]:1"] {
        assert_eq!(new(url, &pem), Ok(()), "{url}");
    }
    for url in
        ["", "http://127.0.0.1", "127.0.0.1:1", "https://a@b", "https://a/b", "https://a?b", "https://a b"]
    {
        assert_eq!(new(url, &pem), Err(InputError::BrokerUrl), "{url}");
    }
    for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &pem.repeat(9)] {
        assert_eq!(new("https://127.0.0.1", pem), Err(InputError::Certificate));
    }
}
