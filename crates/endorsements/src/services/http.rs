//! One bounded HTTP/1.1 GET per question: time limits on every wait, size limits on every answer, no redirects.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Largest answer in bytes. TCB information has some 10 KiB; the largest known CRLs as much.
pub const RESPONSE_BYTES_MAX: usize = 1 << 20;
/// Time for a connection and its TLS session, in seconds.
pub const CONNECT_S_MAX: u64 = 10;
/// Time for one request and its answer, in seconds. AMD's service is slow at times.
pub const REQUEST_S_MAX: u64 = 60;
/// Largest head of an answer in bytes: Intel sends a certificate chain in a header.
const RESPONSE_HEAD_BYTES_MAX: usize = 64 << 10;
/// Most headers of an answer.
const RESPONSE_HEADERS_MAX: usize = 100;
/// Most certificates in a file of trust anchors.
const ANCHORS_MAX: usize = 64;

/// Why a service gave no answer that can be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not `https://HOST[:PORT][/PATH]`.
    #[error("`{url}` is not https://HOST[:PORT][/PATH]")]
    Url {
        /// What was given.
        url: String,
    },
    /// Plain HTTP to another machine.
    #[error("`{url}` is plain HTTP to another machine")]
    PlainHttp {
        /// What was given.
        url: String,
    },
    /// The file of trust anchors has no certificate, too many, or one that cannot be an anchor.
    #[error("not 1 to {ANCHORS_MAX} certificates in PEM")]
    Anchors,
    /// The TLS library does not take the configuration.
    #[error("TLS cannot be configured")]
    TlsConfiguration,
    /// The service answers, but not with what was asked for.
    #[error("{url}: status {status}")]
    Status {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The service points elsewhere. That is not followed: only the user says who is asked.
    #[error("{url}: status {status} points elsewhere, and is not followed")]
    Redirect {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The answer is larger than its limit.
    #[error("{url}: answer is larger than {max} bytes")]
    TooLong {
        /// What was asked.
        url: String,
        /// The limit in bytes.
        max: usize,
    },
    /// The answer is not HTTP/1.1.
    #[error("{url}: answer is not HTTP/1.1")]
    Http {
        /// What was asked.
        url: String,
    },
    /// The header with the issuer's chain is missing or not URL-encoded PEM.
    #[error("{url}: header `{name}` is missing or not URL-encoded text")]
    Header {
        /// What was asked.
        url: String,
        /// Which header.
        name: &'static str,
    },
    /// The answer has another form than the API says.
    #[error("{url}: answer is not {expected}")]
    Form {
        /// What was asked.
        url: String,
        /// What it should be.
        expected: &'static str,
    },
    /// No connection.
    #[error("{host}: no connection: {kind}")]
    Connect {
        /// Host and port.
        host: String,
        /// What happened.
        kind: std::io::ErrorKind,
    },
    /// No TLS session, for instance because the certificate is not trusted.
    #[error("{host}: no TLS session: {failure}")]
    Tls {
        /// Host and port.
        host: String,
        /// What happened.
        failure: TlsFailure,
    },
    /// The connection ended before the answer did.
    #[error("{url}: connection ended before the answer")]
    Closed {
        /// What was asked.
        url: String,
    },
    /// Time is up.
    #[error("{url}: no answer within {seconds} s")]
    TimedOut {
        /// What was asked.
        url: String,
        /// The limit.
        seconds: u64,
    },
}

/// Why there is no TLS session.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// rustls refused the peer.
    #[error("{0}")]
    Refused(rustls::Error),
    /// The connection failed.
    #[error("{0}")]
    Io(std::io::ErrorKind),
}

/// Which certificates a service's own must lead to.
#[derive(Debug, Clone, Copy)]
pub enum Anchors<'a> {
    /// The certificate authorities of the web, as Mozilla's programme has them.
    Web,
    /// These, in PEM, and no other.
    Pem(&'a [u8]),
}

/// Where plain HTTP is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainHttp {
    /// To this machine.
    LoopbackOnly,
    /// To any machine: whoever is on the way sees what is asked and can withhold or replace answers.
    DangerousAnywhere,
}

/// A service, by address.
pub struct Service {
    base: String,
    host: String,
    port: u16,
    path: String,
    loopback_only: bool,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// One answer of status 200.
pub(super) struct Answer {
    pub(super) url: String,
    pub(super) headers: hyper::HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Service {
    /// The service at `url`. Nothing is asked yet.
    ///
    /// # Errors
    /// [`FetchError::Url`], [`FetchError::PlainHttp`], [`FetchError::Anchors`], [`FetchError::TlsConfiguration`].
    pub fn new(url: &str, anchors: Anchors<'_>, plain: PlainHttp) -> Result<Self, FetchError> {
        let bad = || FetchError::Url { url: url.to_owned() };
        let uri: hyper::Uri = url.parse().map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || authority.as_str().contains('@') || uri.query().is_some() || url.contains('#') {
            return Err(bad());
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        let (tls, port) = match uri.scheme_str() {
            Some("https") => (Some(connector(anchors)?), 443),
            Some("http") if plain == PlainHttp::DangerousAnywhere || is_loopback_name(host) => (None, 80),
            Some("http") => return Err(FetchError::PlainHttp { url: url.to_owned() }),
            _ => return Err(bad()),
        };
        let tls = match tls {
            Some(tls) => Some((tls, ServerName::try_from(host.to_owned()).map_err(|_| bad())?)),
            None => None,
        };
        Ok(Self {
            base: format!("{}://{authority}", uri.scheme_str().unwrap_or_default()),
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(port),
            path,
            loopback_only: tls.is_none() && plain == PlainHttp::LoopbackOnly,
            tls,
        })
    }

    /// Its address: who is asked.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.base
    }

    /// The path of the address without this end, where it has it.
    pub(super) fn without_suffix(&self, suffix: &str) -> &str {
        self.path.strip_suffix(suffix).unwrap_or(&self.path)
    }

    /// Asks for `path`, which begins with `/`. Only status 200 is an answer.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, FetchError> {
        let path = if path.is_empty() { "/" } else { path };
        let url = format!("{}{path}", self.base);
        let connecting = timeout(Duration::from_secs(CONNECT_S_MAX), self.connect());
        let timed_out = |seconds| FetchError::TimedOut { url: url.clone(), seconds };
        let stream = connecting.await.map_err(|_| timed_out(CONNECT_S_MAX))??;
        let asking = self.exchange(stream, path, &url);
        timeout(Duration::from_secs(REQUEST_S_MAX), asking).await.map_err(|_| timed_out(REQUEST_S_MAX))?
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, FetchError> {
        let host = || format!("{}:{}", self.host, self.port);
        let refused = |kind| FetchError::Connect { host: host(), kind };
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| refused(error.kind()))?;
        // A name may lead elsewhere than it says.
        let peer = tcp.peer_addr().map_err(|error| refused(error.kind()))?;
        if self.loopback_only && !peer.ip().is_loopback() {
            return Err(FetchError::PlainHttp { url: self.base.clone() });
        }
        let Some((tls, name)) = &self.tls else { return Ok(Box::new(tcp)) };
        let session = tls.connect(name.clone(), tcp).await.map_err(|error| {
            let kind = error.kind();
            let refused = error.into_inner().and_then(|inner| inner.downcast::<rustls::Error>().ok());
            let failure = refused.map_or(TlsFailure::Io(kind), |error| TlsFailure::Refused(*error));
            FetchError::Tls { host: host(), failure }
        })?;
        Ok(Box::new(session))
    }

    async fn exchange(&self, stream: Box<dyn Stream>, path: &str, url: &str) -> Result<Answer, FetchError> {
        let failed = |error: &hyper::Error| {
            let url = url.to_owned();
            if error.is_parse() || error.is_parse_too_large() {
                FetchError::Http { url }
            } else {
                FetchError::Closed { url }
            }
        };
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
            .max_headers(RESPONSE_HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        let host = self.base.split_once("://").map_or("", |(_, authority)| authority);
        let request = hyper::Request::get(path)
            .header(HOST, host)
            .header(USER_AGENT, concat!("casemate/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "*/*")
            .body(Empty::<Bytes>::new())
            .map_err(|_| FetchError::Url { url: url.to_owned() })?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
            let (head, body) = response.into_parts();
            let status = head.status.as_u16();
            match status {
                200 => {}
                300..400 => return Err(FetchError::Redirect { url: url.to_owned(), status }),
                _ => return Err(FetchError::Status { url: url.to_owned(), status }),
            }
            let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    FetchError::TooLong { url: url.to_owned(), max: RESPONSE_BYTES_MAX }
                } else {
                    FetchError::Closed { url: url.to_owned() }
                }
            })?;
            Ok(Answer { url: url.to_owned(), headers: head.headers, body: body.to_bytes().to_vec() })
        };
        // The connection is driven here, not in a task of its own: it cannot outlive the request.
        tokio::pin!(answer, connection);
        let mut driven = true;
        loop {
            tokio::select! {
                outcome = &mut answer => return outcome,
                _ = &mut connection, if driven => driven = false,
            }
        }
    }
}

impl Answer {
    /// The PEM chain that Intel sends URL-encoded in this header.
    pub(super) fn chain(&self, name: &'static str) -> Result<Vec<u8>, FetchError> {
        let value = self.headers.get(name).and_then(|value| percent_decoded(value.as_bytes()));
        value.ok_or_else(|| FetchError::Header { url: self.url.clone(), name })
    }

    pub(super) fn form(&self, expected: &'static str) -> FetchError {
        FetchError::Form { url: self.url.clone(), expected }
    }
}

/// What a request is carried over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

fn is_loopback_name(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn connector(anchors: Anchors<'_>) -> Result<TlsConnector, FetchError> {
    let mut roots = RootCertStore::empty();
    match anchors {
        Anchors::Web => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Anchors::Pem(pem) => {
            for (count, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
                let certificate = certificate.map_err(|_| FetchError::Anchors)?;
                if count >= ANCHORS_MAX || roots.add(certificate).is_err() {
                    return Err(FetchError::Anchors);
                }
            }
        }
    }
    if roots.is_empty() {
        return Err(FetchError::Anchors);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| FetchError::TlsConfiguration)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Bytes with every `%XX` replaced by what it stands for (RFC 3986 section 2.1).
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let mut byte = [0; 1];
            hex::decode_to_slice(digits, &mut byte).ok()?;
            decoded.extend(byte);
            rest = after;
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(url: &str) -> Result<Service, FetchError> {
        Service::new(url, Anchors::Web, PlainHttp::LoopbackOnly)
    }

    #[test]
    fn takes_https_addresses_and_plain_http_to_this_machine_alone() {
        for good in
            ["https://a.example", "https://a.example:8081/sgx/", "http://127.0.0.1:1", "http://[::1]/a"]
        {
            assert!(service(good).is_ok(), "{good}");
        }
        for bad in [
            "a.example",
            "ftp://a.example",
            "https://",
            "https://u@a.example",
            "https://a.example?x=1",
            "https://a.example/#x",
            "https://-/",
        ] {
            assert_eq!(service(bad).err(), Some(FetchError::Url { url: bad.into() }), "{bad}");
        }
        for plain in ["http://a.example", "http://10.0.0.1", "http://localhost.example"] {
            assert_eq!(service(plain).err(), Some(FetchError::PlainHttp { url: plain.into() }));
            assert!(Service::new(plain, Anchors::Web, PlainHttp::DangerousAnywhere).is_ok());
        }
    }

    #[test]
    fn anchors_are_certificates_in_pem() {
        let with = |pem: &[u8]| Service::new("https://a", Anchors::Pem(pem), PlainHttp::LoopbackOnly).err();
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for bad in [&b""[..], b"no", broken] {
            assert_eq!(with(bad), Some(FetchError::Anchors));
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        assert_eq!(with(pem.as_bytes()), None);
        assert_eq!(with(pem.repeat(ANCHORS_MAX).as_bytes()), None);
        assert_eq!(with(pem.repeat(ANCHORS_MAX + 1).as_bytes()), Some(FetchError::Anchors));
    }

    #[test]
    fn decodes_what_is_url_encoded_and_nothing_that_is_cut_off() {
        assert_eq!(percent_decoded(b"a%20b%0A+"), Some(b"a b\n+".to_vec()));
        for bad in [&b"%"[..], b"a%2", b"%zz", b"%+1"] {
            assert_eq!(percent_decoded(bad), None);
        }
    }
}
