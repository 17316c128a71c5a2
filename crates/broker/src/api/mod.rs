//! The routes of the key-broker protocol 0.4 under `/kbs/v0`.
//!
//! What it is: HTTP to typed operations and back, with a bound on every body. What it is not: appraisal
//! (`casemate_verifier`) or storage (`store`). Who trusts it: clients, for answers in the protocol's shape.

mod attest;
mod auth;
pub(crate) mod error;
mod resource;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::routing::{get, post};
use casemate_jose::SigningKey;
use casemate_protocol::rcar::{PATH_PREFIX, SESSION_COOKIE};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::attested::AttestedSessions;
use crate::inputs::InputFiles;
use crate::store::Store;
use crate::store::decisions::Decision;
use crate::vault::Vault;
use error::ApiError;

/// Most evidence that is held in memory at a time; each may have a body of the protocol's full size.
const EVIDENCE_BODIES_MAX: usize = 32;
/// Most evidence that is appraised at a time.
const APPRAISALS_MAX: usize = 4;
/// Time for the body of a request, in seconds: a slow sender holds a place that others wait for.
const BODY_S_MAX: u64 = 10;
/// Longest session cookie value in bytes.
const SESSION_ID_BYTES_MAX: usize = 64;

/// What the routes work with.
pub(crate) struct App {
    store: Mutex<Store>,
    vault: Vault,
    inputs: InputFiles,
    signing: SigningKey,
    attested: Mutex<AttestedSessions>,
    evidence_bodies: Semaphore,
    appraisals: Semaphore,
}

impl App {
    /// A broker over these parts.
    pub(crate) fn new(store: Store, vault: Vault, inputs: InputFiles, signing: SigningKey) -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::new(store),
            vault,
            inputs,
            signing,
            attested: Mutex::new(AttestedSessions::default()),
            evidence_bodies: Semaphore::new(EVIDENCE_BODIES_MAX),
            appraisals: Semaphore::new(APPRAISALS_MAX),
        })
    }

    /// Forgets expired appraisals.
    pub(crate) fn sweep(&self, now: u64) {
        if let Ok(mut attested) = self.attested.lock() {
            attested.sweep(now);
        }
    }

    /// Runs `work` away from the threads that serve connections.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let app = Arc::clone(self);
        let outcome = tokio::task::spawn_blocking(move || work(&app)).await;
        outcome.map_err(|_| ApiError::Unavailable { what: "the request failed inside the broker" })?
    }

    /// The database. After a panic with it in hand it is not trusted any more.
    fn store(&self) -> Result<MutexGuard<'_, Store>, ApiError> {
        self.store.lock().map_err(|_| ApiError::Unavailable { what: "the database failed" })
    }

    /// The appraisals in force; likewise.
    fn attested(&self) -> Result<MutexGuard<'_, AttestedSessions>, ApiError> {
        self.attested.lock().map_err(|_| ApiError::Unavailable { what: "the table of sessions failed" })
    }

    /// Puts a decision in the log, on disk when this returns, and on the program's own output.
    fn log(&self, decision: &Decision) -> Result<(), ApiError> {
        self.store()?.log(decision)?;
        tracing::info!(
            kind = ?decision.kind,
            outcome = ?decision.outcome,
            agent = decision.agent,
            resource = decision.resource,
            rule = decision.refusal.as_ref().map_or("", |refusal| refusal.rule.as_str()),
            "decision"
        );
        Ok(())
    }
}

/// The routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(&format!("{PATH_PREFIX}/auth"), post(auth::auth))
        .route(&format!("{PATH_PREFIX}/attest"), post(attest::attest))
        .route(&format!("{PATH_PREFIX}/resource/{{repository}}/{{kind}}/{{tag}}"), get(resource::resource))
        .fallback(|| async { ApiError::NoRoute })
        .method_not_allowed_fallback(|| async { ApiError::Method })
        .with_state(app)
}

async fn place(places: &Semaphore) -> Result<SemaphorePermit<'_>, ApiError> {
    places.acquire().await.map_err(|_| ApiError::Unavailable { what: "the broker is stopping" })
}

async fn read_body(body: Body, max: usize) -> Result<Bytes, ApiError> {
    let reading = timeout(Duration::from_secs(BODY_S_MAX), Limited::new(body, max).collect());
    let whole = reading.await.map_err(|_| ApiError::Malformed { what: "body takes too long" })?;
    let whole = whole.map_err(|error| {
        if error.is::<LengthLimitError>() {
            ApiError::TooLong { max }
        } else {
            ApiError::Malformed { what: "body ended early" }
        }
    })?;
    Ok(whole.to_bytes())
}

/// The session cookie, where there is a plain one.
fn session_id(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut ids = cookies.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == SESSION_COOKIE).then_some(value.trim())
    });
    let id = ids.next()?;
    // Two cookies of one name: somebody is confused, and we do not choose.
    let plain = id.len() <= SESSION_ID_BYTES_MAX && id.bytes().all(|b| b.is_ascii_hexdigit());
    (plain && !id.is_empty() && ids.next().is_none()).then_some(id)
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

fn json_answer(message: &impl Serialize) -> Result<Response, ApiError> {
    let body =
        serde_json::to_vec(message).map_err(|_| ApiError::Unavailable { what: "answer has no form" })?;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn set_session(response: &mut Response, id: &str, life_s: u64) -> Result<(), ApiError> {
    let text = format!(
        "{SESSION_COOKIE}={id}; Path={PATH_PREFIX}; Max-Age={life_s}; Secure; HttpOnly; SameSite=Strict"
    );
    let value =
        HeaderValue::from_str(&text).map_err(|_| ApiError::Unavailable { what: "cookie has no form" })?;
    response.headers_mut().insert(header::SET_COOKIE, value);
    Ok(())
}
