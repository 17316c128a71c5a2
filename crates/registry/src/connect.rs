//! Connections: where to, through which proxy, under which authorities. Plain HTTP stays on this machine
//! unless the user named the host.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::{NO_CONNECTION, RegistryError, shortened};
use crate::limits::{ANCHORS_MAX, Limits};
use crate::proxy::{Proxies, Proxy};
use crate::url::{Origin, Scheme};

/// Bytes of a proxy's answer to `CONNECT`.
const PROXY_HEAD_BYTES_MAX: usize = 8 << 10;

/// What requests are carried over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Makes connections.
pub(crate) struct Connector {
    tls: TlsConnector,
    proxies: Proxies,
    plain_hosts: BTreeSet<String>,
    connect_ms_max: u64,
}

/// A connection, and how a request names its target there.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream>,
    /// The proxy that takes whole addresses: plain HTTP only.
    pub(crate) forwarding: Option<Proxy>,
}

impl Connector {
    /// With the web's authorities and those in `anchors` (PEM).
    pub(crate) fn new(
        anchors: Option<&[u8]>,
        plain_hosts: BTreeSet<String>,
        proxies: Proxies,
        limits: &Limits,
    ) -> Result<Self, RegistryError> {
        let bad = |problem| RegistryError::Setting {
            what: "file of authorities",
            found: "--ca".to_owned(),
            problem,
        };
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(pem) = anchors {
            let before = roots.len();
            for (count, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
                let certificate = certificate.map_err(|_| bad("is not PEM"))?;
                if count >= ANCHORS_MAX || roots.add(certificate).is_err() {
                    return Err(bad("has a certificate that cannot be an authority, or too many"));
                }
            }
            if roots.len() == before {
                return Err(bad("holds no certificate"));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| bad("cannot be used: TLS cannot be configured"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { tls, proxies, plain_hosts, connect_ms_max: limits.connect_ms_max })
    }

    /// Whether the user allows plain HTTP to there.
    pub(crate) fn allows_plain(&self, origin: &Origin) -> bool {
        origin.is_loopback() || self.is_listed(origin)
    }

    /// Whether the user named the host for plain HTTP.
    pub(crate) fn is_listed(&self, origin: &Origin) -> bool {
        [origin.authority(), format!("{}:{}", origin.host, origin.port), origin.host.clone()]
            .iter()
            .any(|name| self.plain_hosts.contains(name))
    }

    /// Connects.
    pub(crate) async fn connect(&self, origin: &Origin) -> Result<Connection, RegistryError> {
        if origin.scheme == Scheme::Http && !self.allows_plain(origin) {
            return Err(RegistryError::PlainHttp { host: origin.authority() });
        }
        let limit = Duration::from_millis(self.connect_ms_max);
        timeout(limit, self.connect_unbounded(origin)).await.unwrap_or_else(|_| {
            let url = origin.to_string();
            Err(RegistryError::TimedOut { url, what: NO_CONNECTION, ms: self.connect_ms_max })
        })
    }

    /// Whether a server answers there in TLS, trusted or not. One that does not answer at all counts as one that does:
    /// the request that follows says what is wrong.
    pub(crate) async fn speaks_tls(&self, origin: &Origin) -> bool {
        let Ok(name) = ServerName::try_from(origin.host.clone()) else { return true };
        let look = async {
            let Ok(tcp) = dial(&origin.host, origin.port).await else { return true };
            match self.tls.connect(name, tcp).await {
                Ok(_) => true,
                Err(error) => {
                    let inner = error.into_inner().and_then(|inner| inner.downcast::<rustls::Error>().ok());
                    inner.is_some_and(|error| !matches!(*error, rustls::Error::InvalidMessage(_)))
                }
            }
        };
        timeout(Duration::from_millis(self.connect_ms_max), look).await.unwrap_or(true)
    }

    async fn connect_unbounded(&self, origin: &Origin) -> Result<Connection, RegistryError> {
        let proxy = self.proxies.of(origin);
        let tcp = match proxy {
            Some(proxy) => dial(&proxy.host, proxy.port).await?,
            None => dial(&origin.host, origin.port).await?,
        };
        let Scheme::Https = origin.scheme else {
            self.stays_here(origin, proxy, &tcp)?;
            return Ok(Connection { stream: Box::new(tcp), forwarding: proxy.cloned() });
        };
        let tcp = match proxy {
            Some(proxy) => tunnel(tcp, proxy, origin).await?,
            None => tcp,
        };
        let tls_failed = |problem: String| RegistryError::Tls { host: origin.authority(), problem };
        let name = ServerName::try_from(origin.host.clone())
            .map_err(|_| tls_failed("its name cannot be in a certificate".to_owned()))?;
        let session = self.tls.connect(name, tcp).await.map_err(|error| tls_failed(tls_problem(error)))?;
        Ok(Connection { stream: Box::new(session), forwarding: None })
    }

    /// A name for this machine may lead elsewhere than it says.
    fn stays_here(
        &self,
        origin: &Origin,
        proxy: Option<&Proxy>,
        tcp: &TcpStream,
    ) -> Result<(), RegistryError> {
        let loopback = proxy.is_none() && tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        if loopback || self.is_listed(origin) {
            Ok(())
        } else {
            Err(RegistryError::PlainHttp { host: origin.authority() })
        }
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, RegistryError> {
    let refused = |error: std::io::Error| {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        RegistryError::Connect { host: format!("{host}:{port}"), kind: error.kind() }
    };
    let addresses: Vec<_> =
        lookup_host((host, port)).await.map_err(|_| RegistryError::Name { host: shortened(host) })?.collect();
    let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(refused)?;
    tcp.set_nodelay(true).map_err(refused)?;
    Ok(tcp)
}

fn tls_problem(error: std::io::Error) -> String {
    let kind = error.kind();
    let inner = error.into_inner().and_then(|inner| inner.downcast::<rustls::Error>().ok());
    shortened(&inner.map_or_else(|| kind.to_string(), |error| error.to_string()))
}

/// Asks the proxy for a tunnel (RFC 9110 section 9.3.6). Whatever follows the head is the tunnel's, so the head is read
/// byte by byte; nothing follows it before we speak, since a TLS client speaks first.
async fn tunnel(mut tcp: TcpStream, proxy: &Proxy, origin: &Origin) -> Result<TcpStream, RegistryError> {
    let host = if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.clone() };
    let target = format!("{host}:{}", origin.port);
    let failed = |found: String| RegistryError::Proxy {
        proxy: proxy.to_string(),
        host: target.clone(),
        found: shortened(&found),
    };
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = proxy.authorization() {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    tcp.write_all(request.as_bytes()).await.map_err(|error| failed(error.kind().to_string()))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_HEAD_BYTES_MAX {
            return Err(failed("its answer is too long".to_owned()));
        }
        let byte = tcp.read_u8().await.map_err(|error| failed(error.kind().to_string()))?;
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    match (words.next(), words.next()) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some("200")) => Ok(tcp),
        _ => Err(failed(line.to_owned())),
    }
}

/// `Basic` credentials as a header value (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}
