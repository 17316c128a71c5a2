//! Documents as text: policy, bundle, collection, canonical JSON, lock.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use casemate_canon::value_to_canonical_json;
use casemate_composition::Lock;
use casemate_composition::lock::{AGENTS_MAX, Agent, AgentName, LOCK_VERSION, Volume};
use casemate_endorsements::{read, sign, write};
use casemate_jose::SigningKey;
use casemate_protocol::cmw::{Evidence, Platform};
use casemate_testkit::{CollateralParts, SnpBody, TdBody, Tee};
use casemate_verifier::{Collateral, Policy, SnpCollateral, TdxCollateral, UnixTime};
use serde_json::{Value, json};

use super::{outcome, require};
use crate::seeds::{NOW, pki};
use crate::{Bound, Outcome, Target, Violation};

/// Values are built of what is read, so they are larger than the text, by a bounded factor.
const BOUND: Bound = Bound {
    input_bytes_max: 64 << 10,
    allocation_bytes: 128 << 10,
    allocation_bytes_per_input_byte: 48,
    time_us: 10_000,
    time_ns_per_input_byte: 2_000,
};

/// What stands in every JSON document.
const WORDS: &[&[u8]] = &[
    b"\"",
    b"\":",
    b"\",\"",
    b"[",
    b"]",
    b"{",
    b"}",
    b"null",
    b"true",
    b"0",
    b"-0",
    b"1e999",
    b"9007199254740992",
    b"18446744073709551616",
    b"1.5",
    b"\\u0000",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\xef\xbb\xbf",
    b"\"version\":1,",
    b"\"tdx\":",
    b"\"snp\":",
    b"\"__cmwc_t\":",
];

pub(super) fn all() -> Vec<Target> {
    vec![
        Target {
            name: "policy",
            what: "casemate_verifier::Policy::parse",
            seeds: policies,
            words: &[
                b"[platform]",
                b"[platform.tdx]",
                b"[agents.",
                b"\n",
                b"\"",
                b"\"\"\"",
                b"'''",
                b"= [",
                b"= {",
                b"a.b.c.d = 1\n",
                b"[[a]]\n",
                b"0x",
                b"inf",
                b"1979-05-27T07:32:00Z",
                b"version = 1\n",
                b"#",
            ],
            run: policy,
            bound: Bound { allocation_bytes_per_input_byte: 256, ..BOUND },
        },
        Target {
            name: "bundle",
            what: "casemate_endorsements::read",
            seeds: bundles,
            words: WORDS,
            run: bundle,
            bound: BOUND,
        },
        Target {
            name: "cmw",
            what: "casemate_protocol::cmw::Evidence::from_json_bytes",
            seeds: collections,
            words: WORDS,
            run: cmw,
            bound: Bound { allocation_bytes_per_input_byte: 6, ..BOUND },
        },
        Target {
            name: "canonical-json",
            what: "casemate_canon::value_to_canonical_json, read and written twice",
            seeds: values,
            words: WORDS,
            run: canonical,
            bound: Bound { allocation_bytes_per_input_byte: 96, ..BOUND },
        },
        Target {
            name: "lock",
            what: "casemate_composition::Lock::from_json, and what it accepts written and read again",
            seeds: locks,
            words: WORDS,
            run: lock,
            bound: Bound { allocation_bytes_per_input_byte: 96, ..BOUND },
        },
    ]
}

fn policies() -> Vec<Vec<u8>> {
    let digest = format!("sha384:{}", "5e".repeat(48));
    let measurement = "5e".repeat(48);
    let head = |tee: &str| {
        format!(
            "version = 1\n[platform]\ntee = [\"{tee}\"]\nroots = \"development\"\n\
             development-roots = [\"sha256:{}\"]\ncollateral-age-max-days = 30\n",
            "5e".repeat(32)
        )
    };
    let tail = format!(
        "[composition]\ndigest = \"{digest}\"\n[agents.planner]\nmeasurement = \"{digest}\"\n\
         backends = [\"native\"]\nsecrets = [\"a/b/c\"]\nallow-weaker = [\"cgroup-cpu\"]\nallow-tainted = false\n"
    );
    let tdx = format!(
        "[platform.tdx]\ntcb-status = [\"UpToDate\"]\nrequire-sept-ve-disable = true\nmrtd = [\"{measurement}\"]\n\
         rtmr0 = [\"{measurement}\"]\nrtmr1 = [\"{measurement}\"]\nrtmr2 = [\"{measurement}\"]\n"
    );
    let snp = format!(
        "[platform.snp]\nmeasurement = [\"{measurement}\"]\nvmpl = 0\nallow-smt = true\n\
         crl-age-max-days = 30\n[platform.snp.products.Genoa]\n\
         tcb-min = {{ bootloader = 0, tee = 0, snp = 0, microcode = 0 }}\n"
    );
    [("tdx", tdx), ("snp", snp)].map(|(tee, table)| (head(tee) + &table + &tail).into_bytes()).to_vec()
}

fn policy(input: &[u8]) -> Result<Outcome, Violation> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(Outcome("not text".into())) };
    let result = Policy::parse(text);
    if let Ok(policy) = &result {
        let again = Policy::parse(&Policy::render(policy.values()));
        require(
            again.is_ok_and(|again| again.values() == policy.values()),
            "a policy that was read, written and read again is another one",
        )?;
    }
    Ok(outcome(result.map_err(|error| error.what), |_| String::new()))
}

/// The collateral of the development PKI.
pub(crate) fn collateral(tee: Tee) -> Collateral {
    match pki(tee).collateral() {
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

#[expect(clippy::expect_used, reason = "without a key there is nothing to run")]
static SIGNER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().expect("a key can be made"));

fn bundles() -> Vec<Vec<u8>> {
    let mut both = collateral(Tee::Tdx);
    let snp = collateral(Tee::Snp);
    let one = [write(&both), write(&snp)];
    both.snp = snp.snp;
    let unsigned = write(&both);
    let signed = sign(&unsigned, &SIGNER, UnixTime(NOW)).into_iter();
    one.into_iter().chain(signed).chain([unsigned]).collect()
}

fn bundle(input: &[u8]) -> Result<Outcome, Violation> {
    let result = read(input);
    if let Ok(bundle) = &result {
        let again = read(&write(bundle.contents()));
        require(
            again.is_ok_and(|again| again.contents() == bundle.contents()),
            "a bundle written and read again is another one",
        )?;
    }
    Ok(outcome(result, |bundle| {
        let contents = bundle.contents();
        let signed = bundle.signature().is_some();
        format!("tdx {} snp {} signed {signed}", contents.tdx.is_some(), contents.snp.is_some())
    }))
}

fn collections() -> Vec<Vec<u8>> {
    let tdx = pki(Tee::Tdx).tdx_quote(&TdBody::new()).map(|quote| Platform::Tdx { quote });
    let snp = pki(Tee::Snp).snp_report(&SnpBody::new()).map(|report| Platform::Snp {
        report,
        certificates: pki(Tee::Snp).snp_certificate_table().unwrap_or_default(),
    });
    let evidence = |platform| Evidence {
        platform,
        box_claims: b"{}".to_vec(),
        event_log: b"{}\n".to_vec(),
        agent_token: b"a.b.c".to_vec(),
        agent_config: b"{}".to_vec(),
        posture: b"{}".to_vec(),
    };
    [tdx, snp]
        .into_iter()
        .flatten()
        .map(|platform| evidence(platform).to_json().to_string().into_bytes())
        .collect()
}

fn cmw(input: &[u8]) -> Result<Outcome, Violation> {
    let result = Evidence::from_json_bytes(input);
    if let Ok(evidence) = &result {
        let again = Evidence::from_json_bytes(evidence.to_json().to_string().as_bytes());
        require(again.as_ref() == Ok(evidence), "evidence written and read again is another one")?;
    }
    Ok(outcome(result, |_| String::new()))
}

fn values() -> Vec<Vec<u8>> {
    let value = json!({"b": [1, -2, null, true, false], "a": {"x": "\u{0}\u{1f}\"\\\u{1f600}\u{fb33}", "": 9_007_199_254_740_991_u64}});
    vec![value.to_string().into_bytes(), b"[[[[[]]]]]".to_vec(), b"-1".to_vec()]
}

fn canonical(input: &[u8]) -> Result<Outcome, Violation> {
    let value: Value = match serde_json::from_slice(input) {
        Ok(value) => value,
        Err(error) => return Ok(Outcome(error.to_string())),
    };
    let result = value_to_canonical_json(&value);
    if let Ok(canonical) = &result {
        let again: Result<Value, _> = serde_json::from_slice(canonical);
        let Ok(again) = again else { return Err(Violation("canonical JSON is not JSON".into())) };
        require(again == value, "canonical JSON has another value")?;
        require(
            value_to_canonical_json(&again).as_ref() == Ok(canonical),
            "canonical JSON is not canonical",
        )?;
    }
    Ok(outcome(result, |_| String::new()))
}

fn locks() -> Vec<Vec<u8>> {
    let digest = |kind: &str, bytes: usize| format!("{kind}:{}", "5e".repeat(bytes));
    let agent = json!({
        "image": {"manifest": digest("sha256", 32), "config": digest("sha256", 32), "rootfs": digest("sha256", 32)},
        "command": ["python3", "plan.py"], "environment": {"A": "b"}, "working_dir": "/",
        "user": {"uid": 1000, "gid": 1000}, "hostname": "agent", "mounts": [], "secrets": [],
        "limits": {"memory_bytes": 67_108_864, "pids": 64, "cpu_milli": 500, "memory_reserved_bytes": null,
            "cpu_shares": 1024, "shm_bytes": 67_108_864, "oom_score_adj": 0, "ulimits": {"nofile": {"soft": 256, "hard": null}}},
        "seccomp_rules": digest("sha384", 48), "landlock_rules": digest("sha384", 48), "backend": "native", "share": null,
        "expose": [], "edges": [], "egress": [], "traffic": {}, "ports": [], "names": {}, "groups": [], "trust": "agent",
        "restart": {"condition": "no", "attempts_max": null, "delay_ms": null, "window_ms": null}, "health": null, "depends_on": {},
        "stop": {"signal": 15, "grace_ms": 1000}, "exec": "allow", "stdin_open": false, "tty": true,
        "post_start": [{"command": ["/hook"], "user": {"uid": 0, "gid": 0}, "working_dir": "/", "environment": {"A": "b"}}],
        "log": {"file_bytes": 16_777_216, "files": 2},
    });
    let agents = json!({"planner": agent, "scribe": agent});
    let lock =
        lock_of(&json!({"project": "desk", "agents": agents, "volumes": {"data": {"size_bytes": null}}}));
    lock.and_then(|lock| lock.to_json().ok()).into_iter().collect()
}

/// The lock of these values, whatever a head says of them. Hardly an input that was changed agrees with its head.
fn lock_of(value: &Value) -> Option<Lock> {
    let member = |name: &str| value.get(name).cloned();
    let project: AgentName = serde_json::from_value(member("project")?).ok()?;
    let agents: BTreeMap<AgentName, Agent> = serde_json::from_value(member("agents")?).ok()?;
    let volumes: BTreeMap<AgentName, Volume> = serde_json::from_value(member("volumes")?).ok()?;
    let possible = (1..=AGENTS_MAX).contains(&agents.len());
    possible.then_some(Lock { version: LOCK_VERSION, project, agents, volumes })
}

fn lock(input: &[u8]) -> Result<Outcome, Violation> {
    let result = Lock::from_json(input);
    if let Ok(lock) = &result {
        require(
            lock.to_json().as_deref() == Ok(input),
            "a lock has another form than the one that was read",
        )?;
    }
    let content = serde_json::from_slice(input).ok().as_ref().and_then(lock_of);
    // Numbers of 2^53 and more have no form.
    if let Some((lock, written)) = content.and_then(|lock| lock.to_json().ok().map(|bytes| (lock, bytes))) {
        require(Lock::from_json(&written) == Ok(lock), "a lock written and read again is another one")?;
    }
    Ok(outcome(result, |_| String::new()))
}
