//! `POST /kbs/v0/auth`: a challenge and a session, for a kind of evidence that the policy names.
//!
//! What it is: open to everyone, so it costs little and leaves nothing in the log. What it is not: a decision.
//! Who trusts it: nobody; clients check the nonce's shape.

use std::sync::Arc;

use aws_lc_rs::rand;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use casemate_protocol::Refusal;
use casemate_protocol::rcar::Challenge;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::error::ApiError;
use super::intake::read_small;
use super::{App, json_answer, set_session};
use crate::clock::now_s;
use crate::store::sessions::NONCE_LIFE_S;

/// Largest body in bytes.
const AUTH_BYTES_MAX: usize = 64 << 10;
/// Rule of the announced kind of evidence.
pub(super) const RULE_TEE: &str = "evidence.tee";
/// Versions whose messages are the same as far as we read them.
const VERSIONS: [&str; 5] = ["0.4.0", "0.3.0", "0.2.0", "0.1.1", "0.1.0"];

/// [`casemate_protocol::rcar::Request`] as received: nothing is built of its parameters.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ReceivedRequest {
    version: String,
    tee: String,
    #[serde(rename = "extra-params")]
    _extra_params: IgnoredAny,
}

/// Answers with a fresh nonce.
pub(super) async fn auth(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let body = read_small(body, AUTH_BYTES_MAX).await?;
    let request: ReceivedRequest = serde_json::from_slice(&body)
        .map_err(|_| ApiError::Malformed { what: "body is not a request for a challenge" })?;
    if !VERSIONS.contains(&request.version.as_str()) {
        return Err(ApiError::Malformed { what: "protocol version is not 0.4.0" });
    }
    let (mut nonce, mut id) = ([0; 32], [0; 16]);
    for random in [&mut nonce[..], &mut id[..]] {
        rand::fill(random).map_err(|_| ApiError::Unavailable { what: "no randomness" })?;
    }
    let (nonce, id) = (STANDARD.encode(nonce), hex::encode(id));
    let (stored_nonce, stored_id) = (nonce.clone(), id.clone());
    app.blocking(move |app| {
        require_named(app, &request.tee)?;
        Ok(app.store()?.issue(&stored_id, &stored_nonce, &request.tee, now_s())?)
    })
    .await?;
    let mut response = json_answer(&Challenge { nonce, extra_params: Value::String(String::new()) })?;
    set_session(&mut response, &id, NONCE_LIFE_S)?;
    Ok(response)
}

/// A session of a kind that the policy does not name could only be refused later, with more work.
fn require_named(app: &App, tee: &str) -> Result<(), ApiError> {
    let (tdx, snp) = match app.inputs.policy() {
        Ok(policy) => (policy.values().tdx.is_some(), policy.values().snp.is_some()),
        // The evidence will be refused, with the reason, and logged.
        Err(_) => (true, true),
    };
    let named: Vec<_> =
        [("tdx", tdx), ("snp", snp)].into_iter().filter(|kind| kind.1).map(|kind| kind.0).collect();
    if named.contains(&tee) {
        return Ok(());
    }
    Err(ApiError::Refused(Refusal::new(RULE_TEE, named.join(" or "), tee)))
}
