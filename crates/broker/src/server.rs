//! The server: accepts TLS connections, bounds them in number and time, and stops in order.
//!
//! What it is: listener, TLS acceptor and HTTP/1.1 connections around the routes; each connection ends after a time,
//! whether or not its client reads. What it is not: the routes (`api`).
//! Who trusts it: `serve`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::api::error::ApiError;

/// Most connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// Bounds on connections that a test makes small.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most connections of one address at a time; one box has at most as many sessions.
    pub(crate) peer_connections_max: usize,
    /// Most requests on one connection.
    pub(crate) requests_max: u32,
    /// Time for a connection from its first byte to its last, in milliseconds.
    pub(crate) connection_ms_max: u64,
}

/// The bounds in use.
pub(crate) const LIMITS: Limits =
    Limits { peer_connections_max: 256, requests_max: 64, connection_ms_max: 120_000 };
/// Time for a TLS handshake, in seconds.
const HANDSHAKE_S_MAX: u64 = 10;
/// Time for a request head, in seconds; also how long a connection may idle.
const HEAD_S_MAX: u64 = 15;
/// Time for one request and its answer, in seconds.
const REQUEST_S_MAX: u64 = 60;
/// Largest request head in bytes: a token in a header needs room.
const HEAD_BYTES_MAX: usize = 128 << 10;
/// Time for running requests when the server stops, in seconds.
const STOP_S_MAX: u64 = 10;
/// Pause after an accept failed (no descriptors left), in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Serves until `stop` changes, then lets running requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<()>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let peers = Arc::new(Peers::default());
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => break,
            // Reaped as they end, so that the set does not grow.
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Some((stream, address, permit)) => {
                // Over its share: closed at once, so that others find room.
                let Some(place) = peers.place(address, limits.peer_connections_max) else { continue };
                let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
                connections.spawn(async move {
                    let whole = Duration::from_millis(limits.connection_ms_max);
                    if timeout(whole, connection(stream, acceptor, router, limits, stop)).await.is_err() {
                        tracing::debug!("connection cut after {} ms", limits.connection_ms_max);
                    }
                    drop((permit, place));
                });
            }
            None => tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await,
        }
    }
    drop(listener);
    let ended =
        timeout(Duration::from_secs(STOP_S_MAX), async { while connections.join_next().await.is_some() {} });
    if ended.await.is_err() {
        tracing::warn!("requests still ran after {STOP_S_MAX} s and were cut");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer.ip(), permit)),
        Err(error) => {
            tracing::warn!("accept: {error}");
            None
        }
    }
}

/// How many connections each address has.
#[derive(Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address; given back when dropped.
struct PeerPlace {
    peers: Arc<Peers>,
    address: IpAddr,
}

impl Peers {
    fn place(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<PeerPlace> {
        let mut counts = self.0.lock().ok()?;
        let count = counts.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count = count.saturating_add(1);
        Some(PeerPlace { peers: Arc::clone(self), address })
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let Ok(mut counts) = self.peers.0.lock() else { return };
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<()>,
) {
    // Latency only; a socket that does not take it still works.
    let _ = stream.set_nodelay(true);
    let handshake = timeout(Duration::from_secs(HANDSHAKE_S_MAX), acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("TLS: {error}"),
        Err(_) => return tracing::debug!("TLS: no handshake within {HANDSHAKE_S_MAX} s"),
    };
    let routes = TowerToHyperService::new(router);
    let requests = AtomicU32::new(0);
    let service = service_fn(move |request| {
        let routes = routes.clone();
        let last = requests.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= limits.requests_max;
        async move {
            use hyper::service::Service as _;
            let answer = match timeout(Duration::from_secs(REQUEST_S_MAX), routes.call(request)).await {
                Ok(answer) => answer,
                Err(_) => Ok(ApiError::Unavailable { what: "the request took too long" }.into_response()),
            };
            answer.map(|mut answer| {
                if last {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                answer
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_S_MAX))
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("connection: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Instant;

    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, ServerName};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::{TlsConnector, client::TlsStream};

    use super::*;
    use crate::state_dir::StateDir;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const SMALL: Limits = Limits { peer_connections_max: 2, requests_max: 3, connection_ms_max: 1_000 };

    /// Runs `test` against a server without routes, which stops with it.
    fn with_server<F: Future<Output = ()>>(test: impl FnOnce(SocketAddr, TlsConnector) -> F) {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("state")).unwrap();
        let identity = crate::tls::identity(&state, &[]).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&identity.certificate).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = watch::channel(());
            let routes = Router::new()
                .route("/big", axum::routing::get(|| async { "x".repeat(32 << 20) }))
                .fallback(|| async { "x" });
            let server = tokio::spawn(serve(listener, identity.config, routes, SMALL, stopped));
            timeout(Duration::from_secs(20), test(address, TlsConnector::from(Arc::new(client))))
                .await
                .unwrap();
            drop(stop);
            server.await.unwrap();
        });
    }

    async fn connect(address: SocketAddr, tls: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await?;
        tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await
    }

    #[test]
    fn a_client_that_does_not_read_loses_its_connection() {
        with_server(|address, tls| async move {
            let mut stream = connect(address, &tls).await.unwrap();
            // More than the kernel holds for a reader: the server stands in the middle of its answer.
            stream.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            stream.write_all(REQUEST).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            let mut answer = Vec::new();
            // What the kernel held still comes, then the end.
            let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
            assert!(answer.len() < 32 << 20, "{}", answer.len());
        });
    }

    #[test]
    fn a_connection_ends_after_its_time_whatever_its_client_does() {
        with_server(|address, tls| async move {
            let mut stream = connect(address, &tls).await.unwrap();
            let start = Instant::now();
            // A head that never ends would have 15 s.
            stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            let _ = stream.read(&mut [0; 64]).await;
            let elapsed = start.elapsed();
            assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&elapsed), "{elapsed:?}");
        });
    }

    #[test]
    fn a_connection_has_a_bounded_number_of_requests() {
        with_server(|address, tls| async move {
            let mut stream = connect(address, &tls).await.unwrap();
            stream.write_all(&REQUEST.repeat(5)).await.unwrap();
            let mut answers = Vec::new();
            let _ = stream.read_to_end(&mut answers).await;
            let answers = String::from_utf8(answers).unwrap();
            assert_eq!(answers.matches("HTTP/1.1 200").count(), 3);
            assert_eq!(answers.matches("connection: close").count(), 1);
        });
    }

    #[test]
    fn an_address_has_a_bounded_number_of_connections() {
        with_server(|address, tls| async move {
            let first = connect(address, &tls).await.unwrap();
            let _second = connect(address, &tls).await.unwrap();
            assert!(connect(address, &tls).await.is_err());
            drop(first);
            tokio::time::sleep(Duration::from_millis(200)).await;
            connect(address, &tls).await.unwrap();
        });
    }
}
