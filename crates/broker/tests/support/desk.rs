//! A box with two agents under a development root: a lock, a policy, a bundle and evidence for any nonce.
//!
//! What it is: what a warden says, built from the same protocol types. What it is not: a warden; nothing runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use casemate_canon::{Sha256, Sha384, to_canonical_json};
use casemate_composition::Lock;
use casemate_composition::lock::{
    Agent, AgentName, Backend, Exec, ImagePin, LOCK_VERSION, Limits, LogLimits, Restart, RestartCondition,
    Secret, Stop, User,
};
use casemate_endorsements::{Collateral, TdxCollateral};
use casemate_jose::{RecipientKey, SigningKey};
use casemate_protocol::Nonce;
use casemate_protocol::agent_token::{
    AGENT_TOKEN_PROFILE, AGENT_TOKEN_TYP, AgentToken, Confirmation, Control, ControlStatus,
};
use casemate_protocol::box_claims::{BOX_CLAIMS_TAG, BoxClaims};
use casemate_protocol::cmw::{Evidence, Platform};
use casemate_protocol::event::{Event, LogHead};
use casemate_protocol::jwk::EcJwk;
use casemate_protocol::posture::{POSTURE_TAG, Posture};
use casemate_testkit::{CollateralParts, DevPki, TdBody, Tee};
use casemate_verifier::{
    AddedEdges, AgentExpectations, CompositionExpectations, Measurement, Policy, PolicyValues,
    PostureExpectations, Roots, Taint, TdxExpectations,
};
use serde_json::json;

/// The secret that `researcher` may have.
pub const RESEARCHER_SECRET: &str = "desk/secret/api_token";
/// The secret that `scribe` may have.
pub const SCRIBE_SECRET: &str = "desk/secret/signing_key";

/// The box.
pub struct Desk {
    pki: DevPki,
    lock: Lock,
    box_key: SigningKey,
    pub agent_key: RecipientKey,
    pub now: u64,
}

impl Desk {
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let agents = [("researcher", RESEARCHER_SECRET), ("scribe", SCRIBE_SECRET)]
            .map(|(agent, resource)| (name(agent), entry(agent, resource)));
        Self {
            pki: DevPki::generate(Tee::Tdx, now).unwrap(),
            lock: Lock {
                version: LOCK_VERSION,
                project: name("desk"),
                agents: BTreeMap::from(agents),
                volumes: BTreeMap::new(),
            },
            box_key: SigningKey::generate().unwrap(),
            agent_key: RecipientKey::generate().unwrap(),
            now,
        }
    }

    pub fn values(&self) -> PolicyValues {
        let expectations = self.lock.agents.iter().map(|(name, agent)| {
            let secrets = agent.secrets.iter().map(|secret| secret.resource.clone()).collect();
            let expected = AgentExpectations {
                measurement: measurement(agent),
                backends: [agent.backend.kind()].into(),
                secrets,
                allow_weaker: BTreeSet::new(),
                require_controls: BTreeSet::new(),
                posture: PostureExpectations::default(),
                taint: Taint::Refused,
                added_edges: AddedEdges::Refused,
            };
            (name.clone(), expected)
        });
        let zero = Measurement([0; 48]);
        PolicyValues {
            roots: Roots::Development(vec![self.pki.root_spki_sha256()]),
            collateral_age_max_days: 30,
            bundle_signers: Vec::new(),
            tdx: Some(TdxExpectations::strict(zero, [zero; 3], 18)),
            snp: None,
            vtpm: None,
            boot_log: None,
            composition: Some(CompositionExpectations {
                digest: self.lock.digest().unwrap(),
                agents: expectations.collect(),
            }),
        }
    }

    pub fn policy(&self) -> String {
        Policy::render(&self.values())
    }

    pub fn bundle(&self) -> Vec<u8> {
        let CollateralParts::Tdx(parts) = self.pki.collateral() else { panic!("TDX") };
        casemate_endorsements::write(&Collateral {
            tdx: Some(TdxCollateral {
                root_ca_crl: parts.root_ca_crl,
                pck_crl: parts.pck_crl,
                pck_crl_chain: parts.pck_crl_chain,
                tcb_info: parts.tcb_info,
                tcb_info_chain: parts.tcb_info_chain,
                qe_identity: parts.qe_identity,
                qe_identity_chain: parts.qe_identity_chain,
            }),
            snp: None,
        })
    }

    /// Evidence of `agent` for `nonce`.
    pub fn evidence(&self, agent: &str, nonce: &str) -> Evidence {
        let agent = name(agent);
        let nonce: Nonce = nonce.parse().unwrap();
        let composition = self.lock.digest().unwrap();
        let config = &self.lock.agents[&agent];
        let controls: BTreeMap<_, _> =
            Control::ALL.into_iter().map(|control| (control, ControlStatus::Enforced)).collect();
        let events = [
            Event::CompositionLoaded { composition, warden: "casemate-warden 0.1.0".into() },
            Event::AgentLaunched {
                agent: agent.clone(),
                instance: 1,
                measurement: measurement(config),
                controls: controls.clone(),
            },
        ];
        let mut log = Vec::new();
        let mut head = LogHead::EMPTY;
        for event in &events {
            log.extend(to_canonical_json(event).unwrap());
            log.push(b'\n');
            head = head.extended(&event.digest().unwrap());
        }
        let box_claims = BoxClaims {
            casemate: BOX_CLAIMS_TAG.into(),
            nonce: nonce.clone(),
            box_key: self.box_key.jwk(),
            composition,
            log_head: head.head,
        };
        let posture = Posture {
            casemate: POSTURE_TAG.into(),
            agent: agent.clone(),
            checked: self.now,
            checks: BTreeMap::new(),
            mounts_with: BTreeMap::new(),
            probes: BTreeMap::new(),
        };
        let (posture, posture_digest) = posture.canonical().unwrap();
        let token = AgentToken {
            eat_profile: AGENT_TOKEN_PROFILE.into(),
            eat_nonce: nonce,
            iat: self.now,
            sub: agent.clone(),
            instance: 1,
            measurement: measurement(config),
            proof: self.lock.proof(&agent).unwrap().unwrap(),
            backend: Backend::Native,
            controls,
            tainted: false,
            posture: posture_digest,
            log_head: head.head,
            log_count: head.count,
            cnf: Confirmation { jwk: self.agent_key.jwk() },
        };
        let mut body = TdBody::new();
        body.mrconfigid = composition.0;
        body.rtmr[3] = head.head.0;
        body.report_data = box_claims.report_data().unwrap().0;
        Evidence {
            platform: Platform::Tdx { quote: self.pki.tdx_quote(&body).unwrap() },
            box_claims: to_canonical_json(&box_claims).unwrap(),
            event_log: log,
            agent_token: self.box_key.sign_jwt(AGENT_TOKEN_TYP, &token).unwrap().into_bytes(),
            agent_config: to_canonical_json(config).unwrap(),
            posture,
        }
    }

    /// The body of `POST attest`.
    pub fn attestation(&self, agent: &str, nonce: &str) -> Vec<u8> {
        attestation(nonce, &self.agent_key.jwk(), &self.evidence(agent, nonce))
    }
}

/// The body of `POST attest`, with `nonce` as claimed.
pub fn attestation(nonce: &str, key: &EcJwk, evidence: &Evidence) -> Vec<u8> {
    let body = json!({
        "init-data": null,
        "runtime-data": {"nonce": nonce, "tee-pubkey": key},
        "tee-evidence": {"primary_evidence": {"casemate": evidence.to_json()}, "additional_evidence": ""},
    });
    serde_json::to_vec(&body).unwrap()
}

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

fn measurement(agent: &Agent) -> Sha384 {
    agent.measurement().unwrap()
}

fn entry(agent: &str, resource: &str) -> Agent {
    let digest = |part: &str| Sha256::of(format!("{agent} {part}").as_bytes());
    Agent {
        image: ImagePin { manifest: digest("manifest"), config: digest("config"), rootfs: digest("rootfs") },
        command: vec!["/usr/bin/python3".into(), format!("/srv/{agent}.py")],
        environment: BTreeMap::new(),
        working_dir: "/".into(),
        user: User { uid: 1000, gid: 1000 },
        groups: BTreeSet::new(),
        hostname: agent.into(),
        mounts: vec![],
        secrets: vec![Secret { resource: resource.into(), target: "secret".into() }],
        limits: Limits {
            memory_bytes: 256 << 20,
            memory_reserved_bytes: None,
            pids: 64,
            cpu_milli: None,
            cpu_shares: 1024,
            cpuset: None,
            disk: None,
            shm_bytes: 64 << 20,
            oom_score_adj: 0,
            ulimits: BTreeMap::new(),
        },
        seccomp_rules: Sha384::of(b"seccomp"),
        landlock_rules: Sha384::of(b"landlock"),
        backend: Backend::Native,
        trust: agent.parse().unwrap(),
        share: None,
        memory: None,
        expose: BTreeSet::new(),
        edges: BTreeSet::new(),
        sockets: BTreeSet::new(),
        socket_edges: BTreeSet::new(),
        names: BTreeMap::new(),
        egress: BTreeSet::new(),
        traffic: BTreeMap::new(),
        ports: BTreeSet::new(),
        restart: Restart::on(RestartCondition::No),
        health: None,
        depends_on: BTreeMap::new(),
        stop: Stop { signal: 15, grace_ms: 10_000 },
        exec: Exec::Allow,
        stdin_open: false,
        tty: false,
        post_start: Vec::new(),
        pre_stop: Vec::new(),
        log: LogLimits { file_bytes: 1 << 20, files: 2 },
        replica_of: None,
    }
}
