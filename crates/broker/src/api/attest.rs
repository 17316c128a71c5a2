//! `POST /kbs/v0/attest`: evidence in, attestation result out.
//!
//! What it is: the nonce is spent first, then the evidence is appraised, then the decision is logged, then answered.
//! What it is not: the appraisal. Who trusts it: the resource route, through the table of appraisals.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_canon::Sha256;
use casemate_protocol::cmw::{Evidence, Members, Platform};
use casemate_protocol::jwk::EcJwk;
use casemate_protocol::rcar::{ReceivedAttestation, TokenResponse};
use casemate_protocol::{Nonce, Refusal};
use casemate_verifier::{Appraisal, Claim, UnixTime, Voucher};

use super::auth::RULE_TEE;
use super::error::ApiError;
use super::intake::{SessionPlace, discard};
use super::{App, json_answer, session_id, set_session};
use crate::attested::Attested;
use crate::clock::now_s;
use crate::inputs::InputsError;
use crate::store::decisions::{Decision, Kind, Outcome, Subject};
use crate::store::sessions::{Session, Spent};

/// `typ` of the result.
const TOKEN_TYPE: &str = "JWT";
/// Longest result in bytes: clients send it back in a header.
const TOKEN_BYTES_MAX: usize = 60 << 10;
/// Rule of a policy or bundle that cannot be read.
pub(super) const RULE_POLICY: &str = "policy";
/// Rule of the key that answers are sealed to.
const RULE_AGENT_KEY: &str = "agent.key";
/// Rule of evidence in a shape that we do not appraise.
const RULE_EVIDENCE: &str = "evidence.format";
/// Most labels of a strange body in a refusal.
const LABELS_SHOWN_MAX: usize = 4;

/// Appraises evidence; answers with a token. Nothing of a body is kept before its session may send one.
pub(super) async fn attest(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (id, place) = match admit(&app, &headers).await {
        Ok(admitted) => admitted,
        Err(error) => {
            discard(body).await;
            return Err(error);
        }
    };
    let taken = app.intake.read(body).await?;
    let appraising = app.intake.appraisal().await?;
    let cookie = id.clone();
    let work = move |app: &App| {
        // Held until the work is done, even where the client has gone.
        let _held = (place, appraising);
        let attestation = ReceivedAttestation::from_json_bytes(&taken.bytes)
            .map_err(|_| ApiError::Malformed { what: "body is not an attestation with a P-256 key" })?;
        appraise_and_log(app, &id, &attestation)
    };
    let (token, life_s) = app.blocking(work).await?;
    let mut response = json_answer(&TokenResponse { token })?;
    set_session(&mut response, &cookie, life_s)?;
    Ok(response)
}

/// The session, where it may send evidence now.
async fn admit(app: &Arc<App>, headers: &HeaderMap) -> Result<(String, SessionPlace), ApiError> {
    let id = session_id(headers)
        .ok_or(ApiError::Unauthenticated { what: "session cookie is missing or malformed" })?
        .to_owned();
    let place = app.intake.session(&id)?;
    let asked = id.clone();
    app.blocking(move |app| {
        let now = now_s();
        let spent = app.store()?.admit(&asked, now)?;
        match known(spent)? {
            (_, None) => Ok(()),
            (session, Some(refusal)) => refuse(app, now, session, NotAffirmed::from(refusal)),
        }
    })
    .await?;
    Ok((id, place))
}

/// The session of a nonce, and why it cannot be used.
fn known(spent: Spent) -> Result<(Session, Option<Refusal>), ApiError> {
    match spent {
        Spent::Unknown => Err(ApiError::Unauthenticated { what: "no such session" }),
        Spent::TooMany => Err(ApiError::TooMany { what: "too many attempts in this session" }),
        Spent::Refused { session, refusal } => Ok((session, Some(refusal))),
        Spent::Fresh(session) => Ok((session, None)),
    }
}

/// What an appraisal came to.
struct Affirmed {
    appraisal: Appraisal,
    policy_id: casemate_canon::Sha384,
}

/// What an appraisal failed by, and what is known nevertheless.
struct NotAffirmed {
    refusal: Refusal,
    subject: Box<Subject>,
    policy_id: String,
}

impl From<Refusal> for NotAffirmed {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, subject: Box::default(), policy_id: String::new() }
    }
}

fn refuse<T>(app: &App, now: u64, session: Session, not_affirmed: NotAffirmed) -> Result<T, ApiError> {
    let mut decision = Decision::new(now, Kind::Attest, Outcome::Refused);
    decision.nonce = session.nonce;
    decision.refusal = Some(not_affirmed.refusal.clone());
    decision.subject = *not_affirmed.subject;
    decision.policy_id = not_affirmed.policy_id;
    app.log(&decision)?;
    Err(ApiError::Refused(not_affirmed.refusal))
}

fn appraise_and_log(
    app: &App,
    id: &str,
    attestation: &ReceivedAttestation<'_>,
) -> Result<(String, u64), ApiError> {
    let now = now_s();
    // A statement of its own: the database is free while the evidence is appraised.
    let spent = app.store()?.spend(id, &attestation.runtime_data.nonce, now)?;
    let (session, refusal) = known(spent)?;
    let outcome = match refusal {
        Some(refusal) => Err(NotAffirmed::from(refusal)),
        None => appraise(app, &session, attestation, now),
    };
    let Affirmed { appraisal, policy_id } = match outcome {
        Ok(affirmed) => affirmed,
        Err(not_affirmed) => return refuse(app, now, session, not_affirmed),
    };
    let mut decision = Decision::new(now, Kind::Attest, Outcome::Affirmed);
    decision.nonce.clone_from(&session.nonce);
    decision.subject = subject(appraisal.claims(), Some(appraisal.agent_key()));
    decision.policy_id = policy_id.to_string();
    let expires_at = appraisal.ear().exp;
    let token = app.signing.sign_jwt(TOKEN_TYPE, appraisal.ear()).map_err(|error| {
        tracing::error!("cannot sign the result: {error}");
        ApiError::Unavailable { what: "the result cannot be signed" }
    })?;
    if token.len() > TOKEN_BYTES_MAX {
        tracing::warn!(bytes = token.len(), "result is larger than clients can send back in a header");
    }
    app.log(&decision)?;
    let attested = Attested {
        appraisal: Arc::new(appraisal),
        policy_id,
        subject: decision.subject,
        nonce: session.nonce,
        expires_at,
    };
    if !app.attested()?.insert(id.to_owned(), &token, attested, now) {
        return Err(ApiError::TooMany { what: "too many sessions" });
    }
    Ok((token, expires_at.saturating_sub(now)))
}

fn appraise(
    app: &App,
    session: &Session,
    attestation: &ReceivedAttestation<'_>,
    now: u64,
) -> Result<Affirmed, NotAffirmed> {
    let evidence = evidence(attestation)?;
    let tee = match evidence.platform {
        Platform::Tdx { .. } => "tdx",
        Platform::Snp { .. } => "snp",
        Platform::Vtpm(_) => "vtpm",
    };
    if session.tee != tee {
        return Err(Refusal::new(RULE_TEE, &session.tee, tee).into());
    }
    let inputs = |error: InputsError| {
        tracing::error!("nothing is accepted: {error}");
        if let InputsError::Signer { refusal, .. } = error {
            return NotAffirmed::from(refusal);
        }
        NotAffirmed::from(Refusal::new(RULE_POLICY, "readable policy and bundle", error.outward()))
    };
    let policy = app.inputs.policy().map_err(inputs)?;
    // What is kept serves one appraisal at a time; another one beside it verifies for itself, and so does every one
    // after a panic.
    let mut kept = app.verified.try_lock();
    let mut own = None;
    let held = kept.as_deref_mut().unwrap_or(&mut own);
    let collateral = app.inputs.verified(held, &policy).map_err(inputs)?;
    let not_affirmed = |refusal: Refusal, subject: Subject| NotAffirmed {
        refusal,
        subject: Box::new(subject),
        policy_id: policy.id().to_string(),
    };
    let nonce: Nonce = session
        .nonce
        .parse()
        .map_err(|_| Refusal::new(crate::store::sessions::RULE_NONCE, "a nonce", &session.nonce))?;
    let appraisal = casemate_verifier::appraise(&evidence, &nonce, &policy, collateral, UnixTime(now))
        .map_err(|refused| not_affirmed(refused.first(), subject(&refused.claims, None)))?;
    casemate_verifier::require_not_contraindicated(appraisal.ear())
        .map_err(|refusal| not_affirmed(refusal, subject(appraisal.claims(), Some(appraisal.agent_key()))))?;
    let claimed = &attestation.runtime_data.tee_pubkey;
    if appraisal.agent_key() != claimed {
        let text = |key: &EcJwk| format!("{} {} {}", key.alg, key.x, key.y);
        let refusal = Refusal::new(RULE_AGENT_KEY, text(appraisal.agent_key()), text(claimed));
        return Err(not_affirmed(refusal, subject(appraisal.claims(), Some(appraisal.agent_key()))));
    }
    Ok(Affirmed { appraisal, policy_id: *policy.id() })
}

/// The evidence, where the message holds ours and nothing that would go unchecked.
fn evidence(attestation: &ReceivedAttestation<'_>) -> Result<Evidence, Refusal> {
    let unchecked = |what: &str| Err(Refusal::new(RULE_EVIDENCE, "nothing that would go unchecked", what));
    if attestation.init_data.is_some() {
        return unchecked("init-data");
    }
    if !attestation.tee_evidence.additional_evidence.is_empty() {
        return unchecked("additional_evidence");
    }
    let alone = |found: &str| Refusal::new(RULE_EVIDENCE, "member `casemate` alone", found);
    let members = Members::parse(attestation.tee_evidence.primary_evidence.get().as_bytes())
        .ok_or_else(|| alone("no object"))?;
    let found: Vec<_> = members.iter().collect();
    let [("casemate", collection)] = found.as_slice() else {
        let labels: Vec<_> = found.iter().map(|(label, _)| *label).take(LABELS_SHOWN_MAX).collect();
        return Err(alone(&labels.join(", ")));
    };
    Evidence::from_json_bytes(collection.as_bytes())
        .map_err(|error| Refusal::new(RULE_EVIDENCE, "a CMW collection of ours", error))
}

/// Whom the evidence is about, as far as a platform that was verified vouches for it.
fn subject(claims: &[Claim], key: Option<&EcJwk>) -> Subject {
    let vouched = |part: &str, name: &str| {
        claims.iter().find(|c| c.part == part && c.name == name && c.voucher != Voucher::HostClaimed)
    };
    let text = |part: &str, name: &str| vouched(part, name).map(|c| c.value.clone()).unwrap_or_default();
    Subject {
        agent: text("agent", "name"),
        instance: text("agent", "instance").parse().unwrap_or(0),
        agent_key: key.map(thumbprint).unwrap_or_default(),
        standing: match vouched("box", "composition").map(|claim| claim.voucher) {
            Some(Voucher::Hardware) => "genuine",
            Some(Voucher::Simulated) => "simulated",
            _ => "",
        },
        composition: text("box", "composition"),
    }
}

/// JWK thumbprint (RFC 7638): SHA-256 over the required members in their order.
fn thumbprint(key: &EcJwk) -> String {
    let members = format!(r#"{{"crv":"{}","kty":"{}","x":"{}","y":"{}"}}"#, key.crv, key.kty, key.x, key.y);
    URL_SAFE_NO_PAD.encode(Sha256::of(members.as_bytes()).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(part: &'static str, name: &str, value: &str, voucher: Voucher) -> Claim {
        Claim { part, name: name.into(), value: value.into(), voucher }
    }

    #[test]
    fn names_nobody_for_whom_nothing_vouches() {
        let alleged = [
            claim("box", "composition", "sha384:00", Voucher::HostClaimed),
            claim("agent", "name", "researcher", Voucher::HostClaimed),
            claim("agent", "instance", "3", Voucher::HostClaimed),
        ];
        assert_eq!(subject(&alleged, None), Subject::default());
    }

    #[test]
    fn says_what_the_platform_is_worth() {
        for (voucher, standing) in [(Voucher::Hardware, "genuine"), (Voucher::Simulated, "simulated")] {
            let claims = [
                claim("box", "composition", "sha384:00", voucher),
                claim("agent", "name", "researcher", Voucher::MeasuredRuntime),
                claim("agent", "instance", "3", Voucher::MeasuredRuntime),
            ];
            let subject = subject(&claims, None);
            assert_eq!(
                (subject.standing, subject.agent.as_str(), subject.instance),
                (standing, "researcher", 3)
            );
        }
    }
}
