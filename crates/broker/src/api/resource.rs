//! `GET /kbs/v0/resource/...`: a secret, sealed to the appraised agent's key.
//!
//! What it is: grant, then log, then release. What it is not: able to hand out a secret in clear, or one whose release
//! is not on disk in the log. Who trusts it: the owners of the secrets.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use casemate_protocol::Refusal;
use casemate_protocol::rcar::{Jwe, is_resource_path};
use casemate_verifier::Grant;

use super::attest::RULE_POLICY;
use super::error::ApiError;
use super::{App, bearer_token, json_answer, session_id};
use crate::attested::{Attested, Credential, NotAttested};
use crate::clock::now_s;
use crate::store::StoreError;
use crate::store::decisions::{Decision, Kind, Outcome};

/// Rule of a stored secret that is not the one that was put: in the log only.
const RULE_INTACT: &str = "secret.intact";

/// Answers with the sealed secret.
pub(super) async fn resource(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // Not attested comes before malformed: a stock client's first request is to be answered by 401.
    let attested = attested(&app, &headers)?;
    let malformed = ApiError::Malformed { what: "not a resource path" };
    let Ok(Path((repository, kind, tag))) = path else { return Err(malformed) };
    let resource = format!("{repository}/{kind}/{tag}");
    if !is_resource_path(&resource) {
        return Err(malformed);
    }
    let jwe = app.blocking(move |app| release(app, &attested, &resource)).await?;
    json_answer(&jwe)
}

fn attested(app: &App, headers: &HeaderMap) -> Result<Attested, ApiError> {
    let now = now_s();
    let mut table = app.attested()?;
    let credentials =
        [session_id(headers).map(Credential::Session), bearer_token(headers).map(Credential::Token)];
    for credential in credentials.into_iter().flatten() {
        match table.find(&credential, now) {
            Ok(attested) => return Ok(attested),
            Err(NotAttested::Unknown) => {}
            Err(NotAttested::TooMany) => {
                return Err(ApiError::TooMany { what: "too many requests in this session" });
            }
        }
    }
    Err(ApiError::Unauthenticated { what: "attest first" })
}

fn release(app: &App, attested: &Attested, resource: &str) -> Result<Jwe, ApiError> {
    let mut decision = Decision::new(now_s(), Kind::Resource, Outcome::Released);
    decision.subject.clone_from(&attested.subject);
    decision.resource = resource.to_owned();
    decision.policy_id = attested.policy_id.to_string();
    decision.nonce.clone_from(&attested.nonce);

    // An edited policy ends the appraisals that rest on the old one: the agent has to attest again.
    let current = app.inputs.policy().map(|policy| *policy.id());
    if !matches!(current, Ok(id) if id == attested.policy_id) {
        let found = current.map_or_else(|_| "a policy that cannot be read".into(), |id| id.to_string());
        decision.outcome = Outcome::Refused;
        decision.refusal = Some(Refusal::new(RULE_POLICY, attested.policy_id, found));
        app.log(&decision)?;
        return Err(ApiError::Unauthenticated { what: "the policy has changed: attest again" });
    }

    let grant = match attested.appraisal.grant(resource) {
        Ok(grant) => grant,
        Err(refusal) => return refused(app, decision, refusal),
    };
    let sealed = match seal(app, grant) {
        Ok(sealed) => sealed,
        Err(SealFailure::Api(error)) => return Err(error),
        Err(SealFailure::Store(error)) => {
            if matches!(error, StoreError::SetBack { .. } | StoreError::Vault(_)) {
                decision.outcome = Outcome::Refused;
                decision.refusal = Some(Refusal::new(RULE_INTACT, "the secret that was put last", &error));
                app.log(&decision)?;
            }
            return Err(error.into());
        }
    };
    match sealed {
        Some((version, jwe)) => {
            decision.secret_version = version;
            // On disk first: what cannot be logged is not released.
            app.log(&decision)?;
            Ok(jwe)
        }
        None => {
            decision.outcome = Outcome::Missing;
            app.log(&decision)?;
            Err(ApiError::NoResource { resource: resource.to_owned() })
        }
    }
}

fn refused<T>(app: &App, mut decision: Decision, refusal: Refusal) -> Result<T, ApiError> {
    decision.outcome = Outcome::Refused;
    decision.refusal = Some(refusal.clone());
    app.log(&decision)?;
    Err(ApiError::Refused(refusal))
}

/// Why a secret that may be released is not.
enum SealFailure {
    Store(StoreError),
    Api(ApiError),
}

impl From<StoreError> for SealFailure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ApiError> for SealFailure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// Consumes the grant: the stored secret and its version, sealed to the key that the grant names.
fn seal(app: &App, grant: Grant) -> Result<Option<(i64, Jwe)>, SealFailure> {
    let (resource, _, key) = grant.into_parts();
    let Some(secret) = app.store()?.get_secret(&app.vault, &resource)? else { return Ok(None) };
    let jwe = casemate_jose::seal(&key, &resource, &secret.plaintext).map_err(|error| {
        tracing::error!("cannot seal: {error}");
        ApiError::Unavailable { what: "the secret cannot be sealed to this key" }
    })?;
    Ok(Some((secret.version, jwe)))
}
