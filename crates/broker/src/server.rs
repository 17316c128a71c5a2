//! The server: accepts TLS connections, bounds them in number and time, and stops in order.
//!
//! What it is: listener, TLS acceptor and HTTP/1.1 connections around the routes. What it is not: the routes (`api`).
//! Who trusts it: `serve`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::api::error::ApiError;

/// Most connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
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
    mut stop: watch::Receiver<()>,
) {
    let acceptor = TlsAcceptor::from(tls);
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
            Some((stream, permit)) => {
                let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, acceptor, router, stop).await;
                    drop(permit);
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
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!("accept: {error}");
            None
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, mut stop: watch::Receiver<()>) {
    // Latency only; a socket that does not take it still works.
    let _ = stream.set_nodelay(true);
    let handshake = timeout(Duration::from_secs(HANDSHAKE_S_MAX), acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("TLS: {error}"),
        Err(_) => return tracing::debug!("TLS: no handshake within {HANDSHAKE_S_MAX} s"),
    };
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        let routes = routes.clone();
        async move {
            use hyper::service::Service as _;
            match timeout(Duration::from_secs(REQUEST_S_MAX), routes.call(request)).await {
                Ok(answer) => answer,
                Err(_) => Ok(ApiError::Unavailable { what: "the request took too long" }.into_response()),
            }
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
