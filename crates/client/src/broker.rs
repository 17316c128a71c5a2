//! The transport: one bounded HTTP/1.1 exchange over TLS per request, and the session's steps on top of it.
//!
//! What it is: TLS 1.2 or 1.3 by rustls with AWS-LC, where the certificates of one file are the only trust anchors;
//! time limits on every wait and size limits on every answer; a bounded number of new attempts.
//! What it is not: a general HTTP client: no proxy, no redirect, no compression, no reuse of connections.
//! Who trusts it: the courier.

use std::sync::Arc;
use std::time::Duration;

use casemate_protocol::courier::Sealed;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::{Cause, ClientError, InputError, Problem, Step, TlsFailure};
use crate::jwe::decode_jwe;
use crate::session::{self, Attested, Challenged, HttpRequest, HttpResponse, Method};

/// Most certificates in the file of trust anchors.
pub const CERTIFICATES_MAX: usize = 8;
/// Largest answer in bytes: a sealed secret of full size, or a token.
pub const RESPONSE_BYTES_MAX: usize = 256 << 10;
/// Largest head of an answer in bytes.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 16 << 10;
/// Most headers of an answer.
const RESPONSE_HEADERS_MAX: usize = 64;
/// Time for a connection and its TLS session, in seconds.
pub const CONNECT_S_MAX: u64 = 5;
/// Time for one request and its answer, in seconds.
pub const REQUEST_S_MAX: u64 = 60;
/// How often a request is tried.
pub const ATTEMPTS_MAX: u32 = 3;
/// Wait before the second attempt; each further wait is four times as long.
const BACKOFF_MS_MIN: u64 = 200;

/// A broker, by address and certificate.
pub struct BrokerClient {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl BrokerClient {
    /// A client of the broker at `url` (`https://HOST[:PORT]`) that trusts the certificates in `certificates_pem` and
    /// no others.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn new(url: &str, certificates_pem: &[u8]) -> Result<Self, InputError> {
        let (host, port) = host_and_port(url)?;
        let name = ServerName::try_from(host.clone()).map_err(|_| InputError::BrokerUrl)?;
        let mut anchors = RootCertStore::empty();
        for (count, certificate) in CertificateDer::pem_slice_iter(certificates_pem).enumerate() {
            let certificate = certificate.map_err(|_| InputError::Certificate)?;
            if count >= CERTIFICATES_MAX || anchors.add(certificate).is_err() {
                return Err(InputError::Certificate);
            }
        }
        if anchors.is_empty() {
            return Err(InputError::Certificate);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| InputError::TlsConfiguration)?
            .with_root_certificates(anchors)
            .with_no_client_auth();
        Ok(Self { host, port, name, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Opens a session and brings its challenge.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn begin(&self, tee: &str) -> Result<Challenged, ClientError> {
        Challenged::from_response(&self.send(&session::begin(tee)?).await?)
    }

    /// Sends evidence. The challenge is spent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn attest(&self, challenged: Challenged, body: Vec<u8>) -> Result<Attested, ClientError> {
        let request = challenged.attest(body)?;
        challenged.attested(&self.send(&request).await?)
    }

    /// Fetches a resource, sealed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn fetch(&self, attested: &Attested, resource: &str) -> Result<Sealed, ClientError> {
        let response = self.send(&attested.fetch(resource)?).await?;
        let jwe = attested.resource(&response)?;
        decode_jwe(&jwe).map_err(|error| protocol(Step::Fetch, Problem::Jwe(error)))
    }

    /// Sends one request, again after a pause where that is safe: when no connection came about, and when the broker
    /// said "not now" to a request that does not spend a nonce.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] or [`ClientError::Protocol`].
    pub async fn send(&self, request: &HttpRequest) -> Result<HttpResponse, ClientError> {
        let mut pause = Duration::from_millis(BACKOFF_MS_MIN);
        let mut attempt = 1;
        loop {
            let outcome = self.send_once(request).await;
            let again = match &outcome {
                Err(ClientError::Unreachable { cause: Cause::Connect(_), .. }) => true,
                Ok(response) => response.status == 503 && request.step != Step::Attest,
                Err(_) => false,
            };
            if !again || attempt >= ATTEMPTS_MAX {
                return outcome;
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(4);
            attempt += 1;
        }
    }

    async fn send_once(&self, request: &HttpRequest) -> Result<HttpResponse, ClientError> {
        let step = request.step;
        let stream = timeout(Duration::from_secs(CONNECT_S_MAX), self.connect(step))
            .await
            .map_err(|_| unreachable(step, Cause::TimedOut { seconds: CONNECT_S_MAX }))??;
        timeout(Duration::from_secs(REQUEST_S_MAX), self.exchange(stream, request))
            .await
            .map_err(|_| unreachable(step, Cause::TimedOut { seconds: REQUEST_S_MAX }))?
    }

    async fn connect(&self, step: Step) -> Result<TlsStream, ClientError> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| unreachable(step, Cause::Connect(error.kind())))?;
        // Latency only; a socket that does not take it still works.
        let _ = tcp.set_nodelay(true);
        self.tls.connect(self.name.clone(), tcp).await.map_err(|error| {
            let kind = error.kind();
            let refused = error.into_inner().and_then(|inner| inner.downcast::<rustls::Error>().ok());
            let failure = refused.map_or(TlsFailure::Io(kind), |error| TlsFailure::Refused(*error));
            unreachable(step, Cause::Tls(failure))
        })
    }

    async fn exchange(&self, stream: TlsStream, request: &HttpRequest) -> Result<HttpResponse, ClientError> {
        let step = request.step;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
            .max_headers(RESPONSE_HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(step, &error))?;
        let request = self.http_request(request)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| failed(step, &error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    protocol(step, Problem::TooLong { max: RESPONSE_BYTES_MAX })
                } else {
                    unreachable(step, Cause::Closed)
                }
            })?;
            let set_cookie =
                head.headers.get_all(SET_COOKIE).iter().filter_map(|v| v.to_str().ok().map(str::to_owned));
            Ok(HttpResponse {
                status: head.status.as_u16(),
                set_cookie: set_cookie.collect(),
                body: body.to_bytes().to_vec(),
            })
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

    fn http_request(&self, request: &HttpRequest) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
        let method = match request.method {
            Method::Get => hyper::Method::GET,
            Method::Post => hyper::Method::POST,
        };
        let mut builder = hyper::Request::builder()
            .method(method)
            .uri(&request.path)
            .header(HOST, format!("{}:{}", self.host_in_url(), self.port))
            .header(USER_AGENT, concat!("casemate-client/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json");
        if let Some(cookie) = &request.cookie {
            builder = builder.header(COOKIE, cookie);
        }
        if request.method == Method::Post {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(request.body.clone()));
        builder.body(body).map_err(|_| ClientError::Input(InputError::BrokerUrl))
    }

    fn host_in_url(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

fn host_and_port(url: &str) -> Result<(String, u16), InputError> {
    let uri: hyper::Uri = url.parse().map_err(|_| InputError::BrokerUrl)?;
    let authority = uri.authority().ok_or(InputError::BrokerUrl)?;
    let plain = uri.scheme_str() == Some("https")
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none()
        && !authority.as_str().contains('@');
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if !plain || host.is_empty() {
        return Err(InputError::BrokerUrl);
    }
    Ok((host.to_owned(), authority.port_u16().unwrap_or(443)))
}

fn failed(step: Step, error: &hyper::Error) -> ClientError {
    if error.is_parse() || error.is_parse_too_large() {
        protocol(step, Problem::Http)
    } else {
        unreachable(step, Cause::Closed)
    }
}

fn unreachable(step: Step, cause: Cause) -> ClientError {
    ClientError::Unreachable { step, cause }
}

fn protocol(step: Step, problem: Problem) -> ClientError {
    ClientError::Protocol { step, problem }
}
