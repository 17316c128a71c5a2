//! A box under a development root, from composition to signed evidence, for tests of whole appraisals.
//!
//! A test changes something either before [`World::seal`], which binds everything together as a warden would, or
//! after it, which makes the parts disagree.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot build its world fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_canon::{Sha256, Sha384, Sha512, to_canonical_json};
use casemate_composition::lock::{
    Agent, AgentName, Backend, BackendKind, Exec, ImagePin, LOCK_VERSION, Limits, Lock, LogLimits, Restart,
    RestartCondition, Stop, User,
};
use casemate_protocol::Nonce;
use casemate_protocol::agent_token::{
    AGENT_TOKEN_PROFILE, AGENT_TOKEN_TYP, AgentToken, Confirmation, Control, ControlStatus,
};
use casemate_protocol::box_claims::{BOX_CLAIMS_TAG, BoxClaims};
use casemate_protocol::cmw::{Evidence, Platform};
use casemate_protocol::event::{Event, LogHead};
use casemate_protocol::jwk::{ALG_ECDH, ALG_ES256, EcJwk};
use casemate_protocol::posture::{CheckSeen, POSTURE_TAG, Posture, Vantage, Verdict};
use casemate_testkit::{CollateralParts, DevPki, SnpBody, TdBody, Tee};
use casemate_verifier::{
    AddedEdges, AgentExpectations, Appraisal, Collateral, CompositionExpectations, Measurement, Policy,
    PolicyValues, PostureExpectations, Refused, Roots, Smt, SnpAllowances, SnpCollateral, SnpExpectations,
    SnpProduct, SnpRequirements, SnpTcbMin, Taint, TdxCollateral, TdxExpectations, UnixTime,
    VerifiedCollateral, appraise,
};

/// 2026-06-01T00:00:00Z, when every world is made and appraised.
pub(crate) const NOW: UnixTime = UnixTime(1_780_272_000);

pub(crate) struct World {
    pub(crate) pki: &'static DevPki,
    pub(crate) lock: Lock,
    pub(crate) events: Vec<Event>,
    /// Events up to which the box claims name the head.
    pub(crate) events_in_box_claims: usize,
    pub(crate) claims: BoxClaims,
    pub(crate) token: AgentToken,
    pub(crate) config: Vec<u8>,
    pub(crate) posture: Posture,
    pub(crate) box_key: EcdsaKeyPair,
    pub(crate) td: TdBody,
    pub(crate) snp: SnpBody,
    pub(crate) policy: PolicyValues,
    pub(crate) collateral: Collateral,
    pub(crate) nonce: Nonce,
    pub(crate) now: UnixTime,
}

/// One PKI of each kind for all tests: AMD's keys take seconds to make.
pub(crate) fn pki(tee: Tee) -> &'static DevPki {
    static TDX: OnceLock<DevPki> = OnceLock::new();
    static SNP: OnceLock<DevPki> = OnceLock::new();
    let slot = match tee {
        Tee::Tdx => &TDX,
        Tee::Snp => &SNP,
    };
    slot.get_or_init(|| DevPki::generate(tee, NOW.0).unwrap())
}

pub(crate) fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

pub(crate) fn agent(argument: &str) -> Agent {
    Agent {
        image: ImagePin {
            manifest: Sha256::of(b"manifest"),
            config: Sha256::of(b"config"),
            rootfs: Sha256::of(b"rootfs"),
        },
        command: vec!["python3".into(), argument.into()],
        environment: BTreeMap::new(),
        working_dir: "/".into(),
        user: User { uid: 1000, gid: 1000 },
        groups: BTreeSet::new(),
        hostname: "agent".into(),
        mounts: vec![],
        secrets: vec![],
        limits: Limits {
            memory_bytes: 64 << 20,
            memory_reserved_bytes: None,
            pids: 64,
            cpu_milli: Some(500),
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
        trust: "agent".parse().unwrap(),
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
        stop: Stop { signal: 15, grace_ms: 1000 },
        exec: Exec::Allow,
        stdin_open: false,
        tty: false,
        post_start: Vec::new(),
        pre_stop: Vec::new(),
        log: LogLimits { file_bytes: 1 << 20, files: 2 },
        replica_of: None,
    }
}

pub(crate) fn enforced() -> BTreeMap<Control, ControlStatus> {
    Control::ALL.into_iter().map(|control| (control, ControlStatus::Enforced)).collect()
}

pub(crate) fn new_key() -> EcdsaKeyPair {
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap()
}

pub(crate) fn collateral_of(parts: CollateralParts) -> Collateral {
    match parts {
        CollateralParts::Tdx(parts) => Collateral {
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
        },
        CollateralParts::Snp(parts) => Collateral {
            tdx: None,
            snp: Some(SnpCollateral { ark: parts.ark, ask: parts.ask, crl: parts.crl, vek: Some(parts.vek) }),
        },
    }
}

fn lock() -> Lock {
    let agents = [("planner", "plan.py"), ("researcher", "research.py"), ("scribe", "scribe.py")];
    Lock {
        version: LOCK_VERSION,
        project: name("desk"),
        agents: agents.into_iter().map(|(agent_name, file)| (name(agent_name), agent(file))).collect(),
        volumes: BTreeMap::new(),
    }
}

impl World {
    /// A good world, sealed.
    pub(crate) fn new(tee: Tee) -> Self {
        static BOX_KEY: LazyLock<EcJwk> =
            LazyLock::new(|| EcJwk::from_point(ALG_ECDH, new_key().public_key().as_ref()).unwrap());
        let pki = pki(tee);
        let lock = lock();
        let composition = lock.digest().unwrap();
        let researcher = &lock.agents[&name("researcher")];
        let box_key = new_key();
        let nonce: Nonce = "nonce-for-this-appraisal".parse().unwrap();
        let mut world = Self {
            pki,
            events: vec![
                Event::CompositionLoaded { composition, warden: "0.1.0".into() },
                Event::AgentLaunched {
                    agent: name("researcher"),
                    instance: 1,
                    measurement: researcher.measurement().unwrap(),
                    controls: enforced(),
                },
            ],
            events_in_box_claims: 2,
            claims: BoxClaims {
                casemate: BOX_CLAIMS_TAG.into(),
                nonce: nonce.clone(),
                box_key: EcJwk::from_point(ALG_ES256, box_key.public_key().as_ref()).unwrap(),
                composition,
                log_head: Sha384::ZERO,
            },
            token: AgentToken {
                eat_profile: AGENT_TOKEN_PROFILE.into(),
                eat_nonce: nonce.clone(),
                iat: NOW.0,
                sub: name("researcher"),
                instance: 1,
                measurement: researcher.measurement().unwrap(),
                proof: lock.proof(&name("researcher")).unwrap().unwrap(),
                backend: Backend::Native,
                controls: enforced(),
                tainted: false,
                posture: Sha384::ZERO,
                log_head: Sha384::ZERO,
                log_count: 0,
                cnf: Confirmation { jwk: BOX_KEY.clone() },
            },
            config: to_canonical_json(researcher).unwrap(),
            posture: posture(&lock),
            box_key,
            td: TdBody::new(),
            snp: SnpBody::new(),
            policy: policy(pki, &lock),
            collateral: collateral_of(pki.collateral()),
            lock,
            nonce,
            now: NOW,
        };
        world.seal();
        world
    }

    /// Binds log, claims and hardware together, as the warden does.
    pub(crate) fn seal(&mut self) {
        let head = |events: &[Event]| {
            events.iter().fold(LogHead::EMPTY, |head, event| head.extended(&event.digest().unwrap()))
        };
        let end = head(&self.events);
        self.token.log_head = end.head;
        self.token.posture = self.posture.canonical().unwrap().1;
        self.token.log_count = end.count;
        self.claims.log_head = head(&self.events[..self.events_in_box_claims]).head;
        self.td.rtmr[3] = self.claims.log_head.0;
        self.td.mrconfigid = self.claims.composition.0;
        self.snp.host_data = Sha256::of(&self.claims.composition.0).0;
        self.bind_claims();
    }

    /// Binds the box claims into the hardware's statement.
    pub(crate) fn bind_claims(&mut self) {
        let report_data = Sha512::of(&to_canonical_json(&self.claims).unwrap()).0;
        self.td.report_data = report_data;
        self.snp.report_data = report_data;
    }

    pub(crate) fn evidence(&self) -> Evidence {
        let platform = match self.pki.tee() {
            Tee::Tdx => Platform::Tdx { quote: self.pki.tdx_quote(&self.td).unwrap() },
            Tee::Snp => Platform::Snp {
                report: self.pki.snp_report(&self.snp).unwrap(),
                certificates: self.pki.snp_certificate_table().unwrap(),
            },
        };
        let mut event_log = Vec::new();
        for event in &self.events {
            event_log.extend(to_canonical_json(event).unwrap());
            event_log.push(b'\n');
        }
        Evidence {
            platform,
            box_claims: to_canonical_json(&self.claims).unwrap(),
            event_log,
            agent_token: self.sign(&header(), &serde_json::to_vec(&self.token).unwrap()),
            agent_config: self.config.clone(),
            posture: self.posture.canonical().unwrap().0,
        }
    }

    /// A compact JWS by the box key over any header and payload.
    pub(crate) fn sign(&self, header: &str, payload: &[u8]) -> Vec<u8> {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.box_key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())).into_bytes()
    }

    /// What the policy says of composition and agents.
    pub(crate) fn composition(&mut self) -> &mut CompositionExpectations {
        self.policy.composition.as_mut().unwrap()
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::parse(&Policy::render(&self.policy)).unwrap()
    }

    pub(crate) fn appraise(&self) -> Result<Appraisal, Refused> {
        self.appraise_evidence(&self.evidence())
    }

    pub(crate) fn appraise_evidence(&self, evidence: &Evidence) -> Result<Appraisal, Refused> {
        let mut collateral = VerifiedCollateral::verify(&self.collateral);
        appraise(evidence, &self.nonce, &self.policy(), &mut collateral, self.now)
    }

    /// Names of the rules that failed, each once, in order.
    pub(crate) fn failed(&self) -> Vec<String> {
        failed_rules(self.appraise())
    }

    pub(crate) fn failed_with(&self, change: impl FnOnce(&mut Evidence)) -> Vec<String> {
        let mut evidence = self.evidence();
        change(&mut evidence);
        failed_rules(self.appraise_evidence(&evidence))
    }
}

/// The JOSE header of an agent token.
pub(crate) fn header() -> String {
    format!(r#"{{"typ":"{AGENT_TOKEN_TYP}","alg":"ES256"}}"#)
}

pub(crate) fn failed_rules(result: Result<Appraisal, Refused>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let rules = match result {
        Ok(appraisal) => appraisal.rules().to_vec(),
        Err(refused) => refused.rules,
    };
    for rule in rules.into_iter().filter(|rule| !rule.passed) {
        if !names.contains(&rule.detail.rule) {
            names.push(rule.detail.rule);
        }
    }
    names
}

/// Nothing in common with any other agent, and one check that passes.
fn posture(lock: &Lock) -> Posture {
    let seen = CheckSeen { verdict: Verdict::Pass, vantage: Vantage::HostClaimed, observed: "off".into() };
    Posture {
        casemate: POSTURE_TAG.into(),
        agent: name("researcher"),
        checked: NOW.0,
        checks: BTreeMap::from([("D14.smt".to_owned(), seen)]),
        mounts_with: lock
            .agents
            .keys()
            .filter(|other| **other != name("researcher"))
            .map(|other| (other.clone(), BTreeSet::new()))
            .collect(),
        probes: BTreeMap::new(),
    }
}

fn policy(pki: &DevPki, lock: &Lock) -> PolicyValues {
    let zero = || vec![Measurement([0; 48])];
    let tdx = TdxExpectations::strict(Measurement([0; 48]), [Measurement([0; 48]); 3], 18);
    let snp = SnpExpectations {
        measurement: zero(),
        vmpl: 0,
        products: BTreeMap::from([(
            SnpProduct::Genoa,
            SnpTcbMin { fmc: 0, bootloader: 0, tee: 0, snp: 0, microcode: 0 },
        )]),
        smt: Smt::Allowed,
        crl_age_max_days: 30,
        allow: SnpAllowances::none(),
        require: SnpRequirements::none(),
    };
    let (tdx, snp) = match pki.tee() {
        Tee::Tdx => (Some(tdx), None),
        Tee::Snp => (None, Some(snp)),
    };
    let researcher = AgentExpectations {
        measurement: lock.agents[&name("researcher")].measurement().unwrap(),
        backends: BTreeSet::from([BackendKind::Native]),
        secrets: BTreeSet::from(["desk/secret/api_token".to_owned()]),
        allow_weaker: BTreeSet::new(),
        require_controls: BTreeSet::new(),
        posture: PostureExpectations::default(),
        taint: Taint::Refused,
        added_edges: AddedEdges::Refused,
    };
    PolicyValues {
        roots: Roots::Development(vec![pki.root_spki_sha256()]),
        collateral_age_max_days: 30,
        bundle_signers: Vec::new(),
        tdx,
        snp,
        vtpm: None,
        boot_log: None,
        composition: Some(CompositionExpectations {
            digest: lock.digest().unwrap(),
            agents: BTreeMap::from([(name("researcher"), researcher)]),
        }),
    }
}
