//! `POST /kbs/v0/auth`: a challenge and a session.

use std::sync::Arc;

use aws_lc_rs::rand;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use casemate_protocol::rcar::{Challenge, Request};
use serde_json::Value;

use super::error::ApiError;
use super::{App, json_answer, read_body, set_session};
use crate::clock::now_s;
use crate::store::sessions::NONCE_LIFE_S;

/// Largest body in bytes.
const AUTH_BYTES_MAX: usize = 64 << 10;
/// Longest name of a kind of evidence.
const TEE_BYTES_MAX: usize = 32;
/// Versions whose messages are the same as far as we read them.
const VERSIONS: [&str; 5] = ["0.4.0", "0.3.0", "0.2.0", "0.1.1", "0.1.0"];

/// Answers with a fresh nonce.
pub(super) async fn auth(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let body = read_body(body, AUTH_BYTES_MAX).await?;
    let request: Request = serde_json::from_slice(&body)
        .map_err(|_| ApiError::Malformed { what: "body is not a request for a challenge" })?;
    if !VERSIONS.contains(&request.version.as_str()) {
        return Err(ApiError::Malformed { what: "protocol version is not 0.4.0" });
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if request.tee.is_empty() || request.tee.len() > TEE_BYTES_MAX || !request.tee.bytes().all(plain) {
        return Err(ApiError::Malformed { what: "tee is not a name" });
    }
    let (mut nonce, mut id) = ([0; 32], [0; 16]);
    for random in [&mut nonce[..], &mut id[..]] {
        rand::fill(random).map_err(|_| ApiError::Unavailable { what: "no randomness" })?;
    }
    let (nonce, id) = (STANDARD.encode(nonce), hex::encode(id));
    let (stored_nonce, stored_id) = (nonce.clone(), id.clone());
    app.blocking(move |app| Ok(app.store()?.issue(&stored_id, &stored_nonce, &request.tee, now_s())?))
        .await?;
    let mut response = json_answer(&Challenge { nonce, extra_params: Value::String(String::new()) })?;
    set_session(&mut response, &id, NONCE_LIFE_S)?;
    Ok(response)
}
