//! The routes of the key-broker protocol 0.4 under `/kbs/v0`.
//!
//! What it is: HTTP to typed operations and back, with a bound on every body. What it is not: appraisal
//! (`casemate_verifier`) or storage (`store`). Who trusts it: clients, for answers in the protocol's shape.

mod attest;
mod auth;
pub(crate) mod error;
mod intake;
mod resource;

use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::routing::{get, post};
use casemate_jose::SigningKey;
use casemate_protocol::rcar::{PATH_PREFIX, SESSION_COOKIE};
use serde::Serialize;

use crate::attested::AttestedSessions;
use crate::inputs::{HeldCollateral, InputFiles};
use crate::store::Store;
use crate::store::decisions::Decision;
use crate::vault::Vault;
use error::ApiError;
use intake::Intake;

/// Longest session cookie value in bytes.
const SESSION_ID_BYTES_MAX: usize = 64;

/// What the routes work with.
pub(crate) struct App {
    store: Mutex<Store>,
    vault: Vault,
    inputs: InputFiles,
    verified: Mutex<Option<HeldCollateral>>,
    signing: SigningKey,
    attested: Mutex<AttestedSessions>,
    intake: Arc<Intake>,
}

impl App {
    /// A broker over these parts.
    pub(crate) fn new(store: Store, vault: Vault, inputs: InputFiles, signing: SigningKey) -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::new(store),
            vault,
            inputs,
            verified: Mutex::new(None),
            signing,
            attested: Mutex::new(AttestedSessions::default()),
            intake: Intake::new(),
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
            agent = decision.subject.agent,
            resource = decision.resource,
            rule = decision.refusal.as_ref().map_or("", |refusal| refusal.rule.as_str()),
            "decision"
        );
        Ok(())
    }
}

/// The routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    // Answered by `get` otherwise: a release would be logged, and nothing released.
    let resource = get(resource::resource).head(|| async { ApiError::Method });
    Router::new()
        .route(&format!("{PATH_PREFIX}/auth"), post(auth::auth))
        .route(&format!("{PATH_PREFIX}/attest"), post(attest::attest))
        .route(&format!("{PATH_PREFIX}/resource/{{repository}}/{{kind}}/{{tag}}"), resource)
        .fallback(|| async { ApiError::NoRoute })
        .method_not_allowed_fallback(|| async { ApiError::Method })
        .with_state(app)
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
