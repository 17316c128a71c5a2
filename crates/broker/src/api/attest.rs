//! `POST /kbs/v0/attest`: evidence in, attestation result out.
//!
//! What it is: the nonce is spent first, then the evidence is appraised, then the decision is logged, then answered.
//! What it is not: the appraisal. Who trusts it: the resource route, through the table of appraisals.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use casemate_protocol::cmw::{Evidence, Platform};
use casemate_protocol::rcar::{Attestation, REQUEST_BYTES_MAX, TokenResponse};
use casemate_protocol::{Nonce, Refusal};
use casemate_verifier::{Appraisal, Claim, UnixTime};
use serde_json::Value;

use super::error::ApiError;
use super::{App, json_answer, place, read_body, session_id, set_session};
use crate::attested::Attested;
use crate::clock::now_s;
use crate::store::decisions::{Decision, Kind, Outcome};
use crate::store::sessions::{Session, Spent};

/// `typ` of the result.
const TOKEN_TYPE: &str = "JWT";
/// Longest result in bytes: clients send it back in a header.
const TOKEN_BYTES_MAX: usize = 60 << 10;
/// Rule of a policy or bundle that cannot be read.
const RULE_POLICY: &str = "policy";
/// Rule of the key that answers are sealed to.
const RULE_AGENT_KEY: &str = "agent.key";
/// Rule of evidence in a shape that we do not appraise.
const RULE_EVIDENCE: &str = "evidence.format";
/// Rule of the announced kind of evidence.
const RULE_TEE: &str = "evidence.tee";

/// Appraises evidence; answers with a token.
pub(super) async fn attest(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let id = session_id(&headers)
        .ok_or(ApiError::Unauthenticated { what: "session cookie is missing or malformed" })?
        .to_owned();
    let _held = place(&app.evidence_bodies).await?;
    let body = read_body(body, REQUEST_BYTES_MAX).await?;
    let attestation: Attestation = serde_json::from_slice(&body)
        .map_err(|_| ApiError::Malformed { what: "body is not an attestation with a P-256 key" })?;
    drop(body);

    let _appraised = place(&app.appraisals).await?;
    let cookie = id.clone();
    let (token, life_s) = app.blocking(move |app| appraise_and_log(app, &id, &attestation)).await?;
    let mut response = json_answer(&TokenResponse { token })?;
    set_session(&mut response, &cookie, life_s)?;
    Ok(response)
}

/// What an appraisal came to.
struct Affirmed {
    appraisal: Appraisal,
    policy_id: casemate_canon::Sha384,
}

/// What an appraisal failed by, and what is known nevertheless.
struct NotAffirmed {
    refusal: Refusal,
    claims: Vec<Claim>,
}

impl From<Refusal> for NotAffirmed {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, claims: Vec::new() }
    }
}

fn appraise_and_log(app: &App, id: &str, attestation: &Attestation) -> Result<(String, u64), ApiError> {
    let now = now_s();
    // A statement of its own: the database is free while the evidence is appraised.
    let spent = app.store()?.spend(id, &attestation.runtime_data.nonce, now)?;
    let (session, outcome) = match spent {
        Spent::Unknown => return Err(ApiError::Unauthenticated { what: "no such session" }),
        Spent::TooMany => return Err(ApiError::TooMany { what: "too many attempts in this session" }),
        Spent::Refused { session, refusal } => (session, Err(refusal.into())),
        Spent::Fresh(session) => {
            let outcome = appraise(app, &session, attestation, now);
            (session, outcome)
        }
    };
    let mut decision = Decision::new(now, Kind::Attest, Outcome::Affirmed);
    decision.nonce = session.nonce.clone();
    match outcome {
        Err(NotAffirmed { refusal, claims }) => {
            decision.outcome = Outcome::Refused;
            decision.refusal = Some(refusal.clone());
            decision.agent = claim(&claims, "agent", "name");
            decision.composition = claim(&claims, "box", "composition");
            app.log(&decision)?;
            Err(ApiError::Refused(refusal))
        }
        Ok(Affirmed { appraisal, policy_id }) => {
            decision.agent = appraisal.agent().to_string();
            decision.composition = claim(appraisal.claims(), "box", "composition");
            let expires_at = appraisal.ear().exp;
            let token = app.signing.sign_jwt(TOKEN_TYPE, appraisal.ear()).map_err(|error| {
                tracing::error!("cannot sign the result: {error}");
                ApiError::Unavailable { what: "the result cannot be signed" }
            })?;
            if token.len() > TOKEN_BYTES_MAX {
                tracing::warn!(
                    bytes = token.len(),
                    "result is larger than clients can send back in a header"
                );
            }
            app.log(&decision)?;
            let attested = Attested {
                appraisal: Arc::new(appraisal),
                policy_id,
                composition: decision.composition,
                nonce: session.nonce,
                expires_at,
            };
            if !app.attested()?.insert(id.to_owned(), &token, attested, now) {
                return Err(ApiError::TooMany { what: "too many sessions" });
            }
            Ok((token, expires_at.saturating_sub(now)))
        }
    }
}

fn appraise(
    app: &App,
    session: &Session,
    attestation: &Attestation,
    now: u64,
) -> Result<Affirmed, NotAffirmed> {
    let evidence = evidence(attestation)?;
    let tee = match evidence.platform {
        Platform::Tdx { .. } => "tdx",
        Platform::Snp { .. } => "snp",
    };
    if session.tee != tee {
        return Err(Refusal::new(RULE_TEE, &session.tee, tee).into());
    }
    let inputs = |error: crate::inputs::InputsError| {
        tracing::error!("nothing is accepted: {error}");
        NotAffirmed::from(Refusal::new(RULE_POLICY, "readable policy and bundle", error))
    };
    let policy = app.inputs.policy().map_err(inputs)?;
    let collateral = app.inputs.collateral().map_err(inputs)?;
    let nonce: Nonce = session
        .nonce
        .parse()
        .map_err(|_| Refusal::new(crate::store::sessions::RULE_NONCE, "a nonce", &session.nonce))?;
    let appraisal = casemate_verifier::appraise(&evidence, &nonce, &policy, &collateral, UnixTime(now))
        .map_err(|refused| NotAffirmed { refusal: refused.first(), claims: refused.claims })?;
    let claimed = &attestation.runtime_data.tee_pubkey;
    if appraisal.agent_key() != claimed {
        let text = |key: &casemate_protocol::jwk::EcJwk| format!("{} {} {}", key.alg, key.x, key.y);
        let refusal = Refusal::new(RULE_AGENT_KEY, text(appraisal.agent_key()), text(claimed));
        return Err(NotAffirmed { refusal, claims: appraisal.claims().to_vec() });
    }
    Ok(Affirmed { appraisal, policy_id: *policy.id() })
}

/// The evidence, where the message holds ours and nothing that would go unchecked.
fn evidence(attestation: &Attestation) -> Result<Evidence, Refusal> {
    let unchecked = |what: &str| Err(Refusal::new(RULE_EVIDENCE, "nothing that would go unchecked", what));
    if attestation.init_data.as_ref().is_some_and(|value| !value.is_null()) {
        return unchecked("init-data");
    }
    if !attestation.tee_evidence.additional_evidence.is_empty() {
        return unchecked("additional_evidence");
    }
    let primary = &attestation.tee_evidence.primary_evidence;
    let members = primary.as_object().map(|object| object.keys().map(String::as_str).collect::<Vec<_>>());
    let Some(["casemate"]) = members.as_deref() else {
        let found = members.map_or_else(|| String::from("no object"), |names| names.join(", "));
        return Err(Refusal::new(RULE_EVIDENCE, "member `casemate` alone", found));
    };
    let collection = primary.get("casemate").unwrap_or(&Value::Null);
    Evidence::from_json(collection)
        .map_err(|error| Refusal::new(RULE_EVIDENCE, "a CMW collection of ours", error))
}

fn claim(claims: &[Claim], part: &str, name: &str) -> String {
    let found = claims.iter().find(|claim| claim.part == part && claim.name == name);
    found.map(|claim| claim.value.clone()).unwrap_or_default()
}
