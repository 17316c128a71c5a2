//! Evidence: only structures that are built here reach the hardware. No caller chooses `report_data`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use casemate_attester::{Provider, Tsm};
use casemate_canon::{Sha384, to_canonical_json};
use casemate_composition::lock::{AgentName, Lock};
use casemate_composition::merkle::Proof;
use casemate_jose::SigningKey;
use casemate_protocol::Nonce;
use casemate_protocol::agent_token::{
    AGENT_TOKEN_PROFILE, AGENT_TOKEN_TYP, AgentToken, Confirmation, Control, ControlStatus,
};
use casemate_protocol::box_claims::{BOX_CLAIMS_TAG, BoxClaims};
use casemate_protocol::cmw::{Evidence, Platform};
use casemate_protocol::event::Event;
use casemate_protocol::jwk::EcJwk;
use casemate_protocol::posture::Posture;
use casemate_sys::observe::MountSeen;
use tokio::sync::Mutex;

use crate::error::WardenError;
use crate::log::EventLog;

/// What makes evidence: the hardware, the box key and the log. One at a time, because the measurement register and the
/// log head in `report_data` must be those of one moment.
pub(crate) struct Notary {
    tsm: Arc<Tsm>,
    box_key: SigningKey,
    composition: Sha384,
    /// Made once: the lock does not change while the box lives.
    proofs: BTreeMap<AgentName, Proof>,
    log: Mutex<EventLog>,
}

/// What is said of one agent.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) agent: AgentName,
    pub(crate) instance: u32,
    pub(crate) controls: BTreeMap<Control, ControlStatus>,
    /// Shared by all copies: it may change while evidence waits for its turn.
    pub(crate) tainted: Rc<Cell<bool>>,
    pub(crate) key: EcJwk,
    /// What its compartment has mounted; none where it could not be seen.
    pub(crate) mounts: Rc<Option<Vec<MountSeen>>>,
}

impl Notary {
    pub(crate) fn new(tsm: Tsm, lock: &Lock, log: EventLog) -> Result<Self, WardenError> {
        let box_key = SigningKey::generate().map_err(|e| WardenError::ours(&e))?;
        let composition = lock.digest().map_err(|e| WardenError::ours(&e))?;
        let proofs = lock.proofs().map_err(|e| WardenError::ours(&e))?;
        Ok(Self { tsm: Arc::new(tsm), box_key, composition, proofs, log: Mutex::new(log) })
    }

    /// Adds an event to the log.
    pub(crate) async fn append(&self, event: &Event) -> Result<(), WardenError> {
        self.log.lock().await.append(event)
    }

    /// Refuses that anything begins about this agent where its events have their share of the log.
    pub(crate) async fn require_room(&self, agent: &AgentName) -> Result<(), WardenError> {
        self.log.lock().await.require_room(agent)
    }

    /// Evidence about one agent, with a fresh hardware statement for this nonce.
    pub(crate) async fn evidence(
        &self,
        lock: &Lock,
        subject: &Subject,
        posture: &Posture,
        nonce: &Nonce,
    ) -> Result<Evidence, WardenError> {
        let ours = |e: &dyn std::fmt::Display| WardenError::ours(e);
        let agent = lock.agents.get(&subject.agent).ok_or_else(|| ours(&"agent is not in the lock"))?;
        let proof = self.proofs.get(&subject.agent).cloned();
        let proof = proof.ok_or_else(|| ours(&"agent has no inclusion proof"))?;
        let (posture, posture_digest) = posture.canonical().map_err(|e| ours(&e))?;
        let log = self.log.lock().await;
        let head = log.head()?;
        let box_claims = BoxClaims {
            casemate: BOX_CLAIMS_TAG.to_owned(),
            nonce: nonce.clone(),
            box_key: self.box_key.jwk(),
            composition: self.composition,
            log_head: head.head,
        };
        let report_data = box_claims.report_data().map_err(|e| ours(&e))?;
        let tsm = Arc::clone(&self.tsm);
        let report = tokio::task::spawn_blocking(move || tsm.report(&report_data.0))
            .await
            .map_err(|e| ours(&e))?
            .map_err(|error| WardenError::Environment {
                what: format!("the hardware made no report: {error}"),
                todo: "try again; where it stays, `casemate logs` and the kernel log say more",
            })?;
        let token = AgentToken {
            eat_profile: AGENT_TOKEN_PROFILE.to_owned(),
            eat_nonce: nonce.clone(),
            iat: SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| ours(&e))?.as_secs(),
            sub: subject.agent.clone(),
            instance: subject.instance,
            measurement: agent.measurement().map_err(|e| ours(&e))?,
            proof,
            backend: agent.backend,
            controls: subject.controls.clone(),
            tainted: subject.tainted.get(),
            posture: posture_digest,
            log_head: head.head,
            log_count: head.count,
            cnf: Confirmation { jwk: subject.key.clone() },
        };
        Ok(Evidence {
            platform: match report.provider {
                Provider::TdxGuest => Platform::Tdx { quote: report.outblob },
                Provider::SevGuest => Platform::Snp { report: report.outblob, certificates: report.auxblob },
            },
            box_claims: to_canonical_json(&box_claims).map_err(|e| ours(&e))?,
            event_log: log.text().to_vec(),
            agent_token: self.box_key.sign_jwt(AGENT_TOKEN_TYP, &token).map_err(|e| ours(&e))?.into_bytes(),
            agent_config: to_canonical_json(agent).map_err(|e| ours(&e))?,
            posture,
        })
    }
}
