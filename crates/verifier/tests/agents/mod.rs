//! One agent: its controls, its token and the key that signs it.

use super::*;

#[test]
fn every_control_must_be_enforced_unless_the_policy_names_it() {
    let with = |status: Option<ControlStatus>| {
        let mut world = World::new(Tee::Tdx);
        match status {
            Some(status) => world.token.controls.insert(Control::Landlock, status),
            None => world.token.controls.remove(&Control::Landlock),
        };
        let Event::AgentLaunched { controls, .. } = &mut world.events[1] else { panic!() };
        *controls = world.token.controls.clone();
        world.seal();
        world
    };
    let weaker = [ControlStatus::EnforcedWithGaps, ControlStatus::NotEnforced, ControlStatus::Unknown];
    for status in weaker.map(Some).into_iter().chain([None]) {
        let mut world = with(status);
        assert_eq!(world.failed(), ["agent.controls"], "{status:?}");
        let researcher = world.composition().agents.get_mut(&name("researcher")).unwrap();
        researcher.allow_weaker.insert(Control::Landlock);
        assert_eq!(world.failed(), none(), "{status:?}");
        let ear = world.appraise().unwrap().ear().clone();
        assert_eq!(ear.submods["agent/researcher"].trustworthiness["configuration"], 32);
    }
}

#[test]
fn a_control_that_not_every_machine_has_is_told_and_in_force_where_the_policy_asks() {
    let with = |control: Control, status: Option<ControlStatus>| {
        let mut world = World::new(Tee::Tdx);
        match status {
            Some(status) => world.token.controls.insert(control, status),
            None => world.token.controls.remove(&control),
        };
        let Event::AgentLaunched { controls, .. } = &mut world.events[1] else { panic!() };
        *controls = world.token.controls.clone();
        world.seal();
        world
    };
    for control in [Control::Speculation, Control::CoreScheduling, Control::DenyWriteExecute] {
        let mut world = with(control, Some(ControlStatus::NotEnforced));
        assert_eq!(world.failed(), none(), "{control:?}");
        let ear = world.appraise().unwrap().ear().clone();
        assert_eq!(ear.submods["agent/researcher"].trustworthiness.get("configuration"), None);
        let researcher = world.composition().agents.get_mut(&name("researcher")).unwrap();
        researcher.require_controls.insert(control);
        assert_eq!(world.failed(), ["agent.controls"], "{control:?}");
        // Evidence that does not speak of it is refused by everybody.
        assert_eq!(with(control, None).failed(), ["agent.controls"], "{control:?}");
    }
}

#[test]
fn a_control_that_the_policy_asks_for_is_without_gaps_whatever_the_backend_promises() {
    for (control, promised) in [
        (Control::Landlock, ControlStatus::NotEnforced),
        (Control::Proc, ControlStatus::EnforcedWithGaps),
        (Control::NoPrivileges, ControlStatus::EnforcedWithGaps),
    ] {
        let mut world = World::new(Tee::Tdx);
        world.token.backend = Backend::Gvisor { runsc: Sha256::ZERO };
        world.token.controls.insert(control, promised);
        let Event::AgentLaunched { controls, .. } = &mut world.events[1] else { panic!() };
        *controls = world.token.controls.clone();
        world.seal();
        let researcher = world.composition().agents.get_mut(&name("researcher")).unwrap();
        researcher.backends.insert(BackendKind::Gvisor);
        // The configuration is the one of a native agent.
        assert_eq!(world.failed(), ["agent.config"], "{control:?}");
        let researcher = world.composition().agents.get_mut(&name("researcher")).unwrap();
        researcher.require_controls.insert(control);
        assert_eq!(world.failed(), ["agent.config", "agent.controls"], "{control:?}");
    }
}

#[test]
fn an_agent_that_its_lock_entry_puts_on_processors_is_there() {
    for (status, in_order) in [
        (ControlStatus::EnforcedWithGaps, true),
        (ControlStatus::NotEnforced, false),
        (ControlStatus::Unknown, false),
    ] {
        let mut world = World::new(Tee::Tdx);
        world.token.controls.insert(Control::Cores, status);
        let Event::AgentLaunched { controls, .. } = &mut world.events[1] else { panic!() };
        *controls = world.token.controls.clone();
        world.seal();
        assert_eq!(world.failed(), none(), "{status:?}");
        let mut entry: casemate_composition::lock::Agent = serde_json::from_slice(&world.config).unwrap();
        entry.limits.cpuset = Some([0].into());
        world.config = casemate_canon::to_canonical_json(&entry).unwrap();
        // The configuration is not the measured one any more.
        let expected: &[&str] =
            if in_order { &["agent.config"] } else { &["agent.config", "agent.controls"] };
        assert_eq!(world.failed(), expected, "{status:?}");
    }
}

#[test]
fn an_agent_must_belong_to_the_composition_and_be_the_one_it_shows() {
    let mut world = World::new(Tee::Tdx);
    world.token.proof.path[0] = Sha384::ZERO;
    assert_eq!(world.failed(), ["agent.membership"]);
    let mut world = World::new(Tee::Tdx);
    world.config = casemate_canon::to_canonical_json(&agent("other.py")).unwrap();
    assert_eq!(world.failed(), ["agent.config"]);
    let mut world = World::new(Tee::Tdx);
    world.config.push(b'\n');
    assert_eq!(world.failed(), ["agent.config"]);
    let mut world = World::new(Tee::Tdx);
    world.composition().agents.clear();
    assert_eq!(world.failed(), ["agent.name"]);
    let mut world = World::new(Tee::Tdx);
    world.token.sub = name("scribe");
    let expected = ["agent.membership", "agent.name", "agent.posture", "log.agent-launched"];
    assert_eq!(world.failed(), expected);
}

#[test]
fn an_agent_key_must_be_a_point_for_key_agreement() {
    let mut world = World::new(Tee::Tdx);
    world.token.cnf.jwk.alg = ALG_ES256.into();
    assert_eq!(world.failed(), ["agent.key"]);
    let mut world = World::new(Tee::Tdx);
    world.token.cnf.jwk.y = world.token.cnf.jwk.x.clone();
    assert_eq!(world.failed(), ["agent.key"]);
}

#[test]
fn a_token_by_another_key_or_of_another_form_is_refused() {
    let mut world = World::new(Tee::Tdx);
    world.box_key = new_key();
    assert_eq!(world.failed(), ["agent.token"]);
    let mut world = World::new(Tee::Tdx);
    world.token.eat_profile = "tag:example.com,2026:other".into();
    assert_eq!(world.failed(), ["agent.profile"]);
    let world = World::new(Tee::Tdx);
    let payload = serde_json::to_string(&world.token).unwrap();
    let failed = |header: &str, payload: &str| {
        world.failed_with(|evidence| evidence.agent_token = world.sign(header, payload.as_bytes()))
    };
    assert_eq!(failed(&header(), &payload), none());
    let repeated = payload.replacen('{', r#"{"tainted":false,"#, 1);
    assert_eq!(failed(&header(), &repeated), ["agent.token"]);
    let repeated = payload.replacen(r#""controls":{"#, r#""controls":{"landlock":"enforced","#, 1);
    assert_eq!(failed(&header(), &repeated), ["agent.token"]);
    let unknown = payload.replacen('{', r#"{"admin":true,"#, 1);
    assert_eq!(failed(&header(), &unknown), ["agent.token"]);
    for bad in [
        r#"{"typ":"eat+jwt","alg":"none"}"#,
        r#"{"typ":"JWT","alg":"ES256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"typ":"eat+jwt","alg":"ES256","crit":["b64"],"b64":false}"#,
        r#"{"typ":"eat+jwt","alg":"ES256","jwk":{}}"#,
        r#"{"typ":"eat+jwt","alg":"ES256","alg":"ES256"}"#,
        "[]",
    ] {
        assert_eq!(failed(bad, &payload), ["agent.token"], "{bad}");
    }
}

#[test]
fn a_token_whose_objects_are_written_as_arrays_is_refused() {
    let world = World::new(Tee::Tdx);
    let failed = |header: &str, payload: &serde_json::Value| {
        let payload = serde_json::to_vec(payload).unwrap();
        world.failed_with(|evidence| evidence.agent_token = world.sign(header, &payload))
    };
    let good = serde_json::to_value(&world.token).unwrap();
    assert_eq!(failed(&header(), &good), none());
    assert_eq!(failed(r#"["eat+jwt","ES256"]"#, &good), ["agent.token"]);
    let token = &world.token;
    let whole = serde_json::json!([
        token.eat_profile,
        token.eat_nonce,
        token.iat,
        token.sub,
        token.instance,
        token.measurement,
        token.proof,
        token.backend,
        token.controls,
        token.tainted,
        token.log_head,
        token.log_count,
        token.cnf
    ]);
    assert_eq!(failed(&header(), &whole), ["agent.token"]);
    let mut inner = good.clone();
    inner["proof"] = serde_json::json!([token.proof.index, token.proof.size, token.proof.path]);
    assert_eq!(failed(&header(), &inner), ["agent.token"]);
    let mut inner = good;
    inner["cnf"] = serde_json::json!([token.cnf.jwk]);
    assert_eq!(failed(&header(), &inner), ["agent.token"]);
}

#[test]
fn signed_documents_with_a_member_twice_are_refused() {
    let mut world = World::new(Tee::Tdx);
    let twice = |document: &[u8], member: &str| {
        let text = std::str::from_utf8(document).unwrap();
        let at = text.find(member).unwrap() + member.len();
        let end = at + text[at..].find(',').unwrap() + 1;
        let pair = &text[at - member.len()..end];
        text.replacen(pair, &format!("{pair}{pair}"), 1).into_bytes()
    };
    let tdx = world.collateral.tdx.as_mut().unwrap();
    // Of members that are not read, which the types do not look at.
    let level = r#""tcbDate":"#;
    tdx.tcb_info = twice(&tdx.tcb_info, level);
    let refused = world.appraise().unwrap_err().first();
    assert_eq!(refused.rule, "tdx.tcb-info");
    assert!(refused.found.contains("given twice"), "{}", refused.found);
}

#[test]
fn nothing_beyond_the_platform_is_read_where_no_root_stands_behind_it() {
    for tee in BOTH {
        let mut world = World::new(tee);
        world.policy.roots = Roots::Development(vec![casemate_canon::Sha256::of(b"another root")]);
        let failed = world.failed_with(|evidence| {
            evidence.event_log = vec![b'x'; 1 << 20];
            evidence.box_claims.clear();
            evidence.agent_token.clear();
        });
        assert_eq!(failed, ["platform.roots"], "{tee}");
    }
}

#[test]
fn nothing_is_affirmed_of_what_is_simulated() {
    for tee in BOTH {
        let appraisal = World::new(tee).appraise().unwrap();
        for (part, submodule) in &appraisal.ear().submods {
            assert!(submodule.trustworthiness.values().all(|value| *value >= 32), "{tee} {part}");
            assert_eq!(submodule.status, Tier::Warning, "{tee} {part}");
            let written = serde_json::to_value(submodule).unwrap();
            assert_eq!(written.get("ear_trustworthiness_vector"), None, "{tee} {part}");
        }
    }
}

#[test]
fn a_jws_is_verified_over_the_bytes_received() {
    let world = World::new(Tee::Tdx);
    let key = world.claims.box_key.clone();
    let token = world.sign(&header(), b"payload");
    let verify = |token: &[u8]| {
        casemate_verifier::verify_jwt(token, AGENT_TOKEN_TYP, &key).map_err(|refusal| refusal.rule)
    };
    assert_eq!(verify(&token), Ok(b"payload".to_vec()));
    for length in 0..token.len() {
        assert!(verify(&token[..length]).is_err(), "{length}");
    }
    let mut longer = token.clone();
    longer.extend(b".x");
    assert_eq!(verify(&longer), Err("jwt.form".into()));
    let with_padding = [token.as_slice(), b"="].concat();
    assert_eq!(verify(&with_padding), Err("jwt.form".into()));
    let other_header = world.sign(r#"{"alg":"ES256","typ":"eat+jwt"}"#, b"payload");
    assert_eq!(verify(&other_header), Ok(b"payload".to_vec()));
    let mixed = [
        other_header.split(|b| *b == b'.').next().unwrap(),
        &token[token.iter().position(|b| *b == b'.').unwrap()..],
    ]
    .concat();
    assert_eq!(verify(&mixed), Err("jwt.signature".into()));
    let mut wrong_key = key.clone();
    wrong_key.x = wrong_key.y.clone();
    let rule = |typ: &str, key: &EcJwk| casemate_verifier::verify_jwt(&token, typ, key).unwrap_err().rule;
    assert_eq!(rule(AGENT_TOKEN_TYP, &wrong_key), "jwt.signature");
    assert_eq!(rule("JWT", &key), "jwt.header");
    let for_agreement = EcJwk { alg: ALG_ECDH.into(), ..key.clone() };
    assert_eq!(rule(AGENT_TOKEN_TYP, &for_agreement), "jwt.key");
    let long = vec![b'a'; casemate_verifier::JWT_BYTES_MAX + 1];
    assert_eq!(verify(&long), Err("jwt.form".into()));
}
