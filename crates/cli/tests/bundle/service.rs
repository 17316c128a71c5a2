//! A service on loopback: answers by path, over TLS or plainly, and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use casemate_testkit::{CollateralParts, DevPki};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Time for one exchange.
const BOUND: Duration = Duration::from_secs(20);

/// One answer.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Answers by path and query.
pub(crate) type Answers = BTreeMap<String, Answer>;

/// A service that runs until the test ends.
pub(crate) struct Service {
    pub(crate) url: String,
    /// PEM of the authority that its certificate leads to.
    pub(crate) ca: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// Over TLS, with a certificate of its own.
    pub(crate) fn tls(answers: Answers) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        Self::start("https", certificate.pem(), Some(Arc::new(config)), answers)
    }

    /// Without TLS.
    pub(crate) fn plain(answers: Answers) -> Self {
        Self::start("http", String::new(), None, answers)
    }

    /// What it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn start(scheme: &str, ca: String, tls: Option<Arc<rustls::ServerConfig>>, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(tcp) = stream else { return };
                tcp.set_read_timeout(Some(BOUND)).unwrap();
                tcp.set_write_timeout(Some(BOUND)).unwrap();
                // A client that refuses us ends the connection: that is for its test to see.
                match &tls {
                    None => drop(exchange(tcp, &answers, &seen)),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
                        drop(exchange(
                            rustls::StreamOwned::<_, TcpStream>::new(session, tcp),
                            &answers,
                            &seen,
                        ));
                    }
                }
            }
        });
        Self { url, ca, asked }
    }
}

fn exchange(
    mut stream: impl Read + Write,
    answers: &Answers,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = answers.get(&path).cloned().unwrap_or_else(|| Answer::status(404));
    asked.lock().unwrap().push(path);
    let mut out = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    stream.write_all(out.as_bytes())?;
    stream.write_all(&answer.body)?;
    stream.flush()
}

/// A PEM chain as Intel sends it in a header.
pub(crate) fn url_encoded(pem: &[u8]) -> String {
    pem.iter()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(*byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

pub(crate) const TCB: &str = "/tdx/certification/v4/tcb?fmspc=";
pub(crate) const QE: &str = "/tdx/certification/v4/qe/identity";
pub(crate) const PCK_CRL: &str = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der";
pub(crate) const ROOT_CRL: &str = "/sgx/certification/v4/rootcacrl";

/// What a PCCS answers about the platform of this PKI: the root's CRL in hexadecimal digits, as Intel's does.
pub(crate) fn pccs(pki: &DevPki) -> Answers {
    let CollateralParts::Tdx(parts) = pki.collateral() else { panic!("TDX") };
    let fmspc: String = casemate_testkit::FMSPC.iter().map(|byte| format!("{byte:02x}")).collect();
    let digits: String = parts.root_ca_crl.iter().map(|byte| format!("{byte:02x}")).collect();
    let with = |body: Vec<u8>, name, chain: &[u8]| Answer::ok(body).with(name, url_encoded(chain));
    BTreeMap::from([
        (format!("{TCB}{fmspc}"), with(parts.tcb_info, "TCB-Info-Issuer-Chain", &parts.tcb_info_chain)),
        (
            QE.to_owned(),
            with(parts.qe_identity, "SGX-Enclave-Identity-Issuer-Chain", &parts.qe_identity_chain),
        ),
        (PCK_CRL.to_owned(), with(parts.pck_crl, "SGX-PCK-CRL-Issuer-Chain", &parts.pck_crl_chain)),
        (ROOT_CRL.to_owned(), Answer::ok(digits)),
    ])
}
