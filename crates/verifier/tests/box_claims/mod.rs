//! What the box says of itself: its claims, the composition and the log.

use super::*;

#[test]
fn box_claims_that_are_not_bound_or_not_canonical_are_refused() {
    for tee in BOTH {
        let world = World::new(tee);
        let failed = world.failed_with(|evidence| evidence.box_claims.push(b' '));
        assert_eq!(failed, ["box.report-data", "box.claims"], "{tee}");
        let failed = world.failed_with(|evidence| evidence.box_claims.clear());
        assert_eq!(failed, ["box.report-data", "box.claims"], "{tee}");
    }
    let mut world = World::new(Tee::Tdx);
    world.claims.casemate = "box/2".into();
    world.bind_claims();
    assert_eq!(world.failed(), ["box.claims"]);
}

#[test]
fn another_composition_is_refused_by_binding_and_by_policy() {
    for tee in BOTH {
        let mut world = World::new(tee);
        world.td.mrconfigid = [0; 48];
        world.snp.host_data = [0; 32];
        assert_eq!(world.failed(), ["composition.launch-binding"], "{tee}");
        let mut world = World::new(tee);
        world.composition().digest = Sha384::ZERO;
        assert_eq!(world.failed(), ["composition.digest"], "{tee}");
    }
}

#[test]
fn an_argument_changed_after_the_policy_was_written_is_refused_with_both_measurements() {
    let mut world = World::new(Tee::Tdx);
    let expected = world.token.measurement;
    let changed = agent("research.py --leak");
    world.lock.agents.insert(name("researcher"), changed.clone());
    let measurement = changed.measurement().unwrap();
    world.claims.composition = world.lock.digest().unwrap();
    world.token.proof = world.lock.proof(&name("researcher")).unwrap().unwrap();
    world.token.measurement = measurement;
    world.config = casemate_canon::to_canonical_json(&changed).unwrap();
    world.events = vec![
        Event::CompositionLoaded { composition: world.claims.composition, warden: "0.1.0".into() },
        Event::AgentLaunched { agent: name("researcher"), instance: 1, measurement, controls: enforced() },
    ];
    world.seal();
    let refused = world.appraise().unwrap_err();
    let rule = refused.rules.iter().find(|rule| rule.detail.rule == "agent.measurement").unwrap();
    assert_eq!(rule.detail.expected, expected.to_string());
    assert_eq!(rule.detail.found, measurement.to_string());
    assert_eq!(world.failed(), ["composition.digest", "agent.measurement"]);
}

#[test]
fn a_log_that_does_not_replay_is_refused() {
    let world = World::new(Tee::Tdx);
    let failed = world.failed_with(|evidence| evidence.event_log.push(b'\n'));
    assert_eq!(failed, ["log.chain"]);
    let failed = world.failed_with(|evidence| evidence.event_log.insert(0, b' '));
    assert_eq!(failed, ["log.chain"]);
    let failed = world.failed_with(|evidence| evidence.event_log.truncate(20));
    assert_eq!(failed, ["log.chain"]);
    let failed = world.failed_with(|evidence| evidence.event_log.clear());
    assert_eq!(failed, ["log.box-head", "log.head", "log.composition", "log.agent-launched"]);
    let mut world = World::new(Tee::Tdx);
    world.td.rtmr[3] = [1; 48];
    assert_eq!(world.failed(), ["log.rtmr3"]);
    let mut world = World::new(Tee::Tdx);
    world.token.log_count += 1;
    assert_eq!(world.failed(), ["log.head"]);
    for tee in BOTH {
        let mut world = World::new(tee);
        world.events_in_box_claims = 0;
        world.seal();
        assert_eq!(world.failed(), ["log.box-head"], "{tee}");
    }
}

#[test]
fn a_log_may_be_longer_than_when_the_box_reported() {
    let mut world = World::new(Tee::Tdx);
    world.events_in_box_claims = 1;
    world.seal();
    assert_eq!(world.failed(), none());
    world.events.push(Event::AgentStarted { agent: name("researcher"), instance: 1 });
    world.seal();
    assert_eq!(world.failed(), none());
}

#[test]
fn the_log_must_load_this_composition_once_and_first() {
    let mut world = World::new(Tee::Tdx);
    world.events.remove(0);
    world.events_in_box_claims = 1;
    world.seal();
    assert_eq!(world.failed(), ["log.composition"]);
    let mut world = World::new(Tee::Tdx);
    world.events.push(world.events[0].clone());
    world.seal();
    assert_eq!(world.failed(), ["log.composition"]);
    let mut world = World::new(Tee::Tdx);
    world.events[0] = Event::CompositionLoaded { composition: Sha384::ZERO, warden: "0.1.0".into() };
    world.seal();
    assert_eq!(world.failed(), ["log.composition"]);
}

#[test]
fn the_log_must_show_this_launch_of_the_agent() {
    let with = |change: fn(&mut World)| {
        let mut world = World::new(Tee::Tdx);
        change(&mut world);
        world.seal();
        world.failed()
    };
    assert_eq!(with(|world| world.token.instance = 2), ["log.agent-launched"]);
    assert_eq!(with(|world| world.token.controls.clear()), ["agent.controls", "log.agent-launched"]);
    let never = with(|world| {
        world.events.truncate(1);
        world.events_in_box_claims = 1;
    });
    assert_eq!(never, ["log.agent-launched"]);
    let ended = |world: &mut World| {
        world.events.push(Event::AgentExited { agent: name("researcher"), instance: 1, status: 0 });
    };
    assert_eq!(with(ended), ["log.agent-launched"]);
    let started_again = |world: &mut World| {
        let Event::AgentLaunched { agent, measurement, controls, .. } = world.events[1].clone() else {
            panic!()
        };
        world.events.push(Event::AgentExited { agent: agent.clone(), instance: 1, status: 1 });
        world.events.push(Event::AgentLaunched { agent, instance: 2, measurement, controls });
    };
    assert_eq!(with(started_again), ["log.agent-launched"]);
    let other = |world: &mut World| {
        let Event::AgentLaunched { measurement, .. } = &mut world.events[1] else { panic!() };
        *measurement = Sha384::ZERO;
    };
    assert_eq!(with(other), ["log.agent-launched"]);
}

#[test]
fn tainted_agents_are_refused_unless_the_policy_allows_it() {
    let taint = || Event::AgentTainted { agent: name("researcher"), by: "exec".into() };
    let mut world = World::new(Tee::Tdx);
    world.token.tainted = true;
    world.events.push(taint());
    world.seal();
    assert_eq!(world.failed(), ["agent.taint"]);
    world.composition().agents.get_mut(&name("researcher")).unwrap().taint = Taint::Allowed;
    assert_eq!(world.failed(), none());
    // The two need not be the same: the box itself may know more than its log says, and the worse of both counts.
    let mut frank = World::new(Tee::Tdx);
    frank.token.tainted = true;
    frank.composition().agents.get_mut(&name("researcher")).unwrap().taint = Taint::Allowed;
    let appraisal = frank.appraise().unwrap();
    let rule = appraisal.rules().iter().find(|rule| rule.detail.rule == "agent.taint").unwrap();
    assert_eq!(rule.detail.expected, "tainted or not, and no taint in the log that the token hides");
    assert_eq!(rule.detail.found, "tainted, as the token says and the log does not");
    // A token that hides what the log shows is refused either way.
    world.token.tainted = false;
    assert_eq!(world.failed(), ["agent.taint"]);
    let mut world = World::new(Tee::Tdx);
    world.events.push(Event::AgentTainted { agent: name("scribe"), by: "exec".into() });
    world.seal();
    assert_eq!(world.failed(), none());
}

#[test]
fn edges_that_were_opened_by_hand_are_refused_unless_the_policy_allows_them() {
    let changed =
        |agent: &str, to: &str, change| Event::PolicyChanged { agent: name(agent), to: to.into(), change };
    let with = |events: &[Event]| {
        let mut world = World::new(Tee::Tdx);
        world.events.extend_from_slice(events);
        world.seal();
        world
    };
    let added = changed("researcher", "paste.example:443", EdgeChange::Added);
    let closed = changed("researcher", "paste.example:443", EdgeChange::Denied);
    let mut world = with(std::slice::from_ref(&added));
    assert_eq!(world.failed(), ["agent.edges"]);
    world.composition().agents.get_mut(&name("researcher")).unwrap().added_edges = AddedEdges::Allowed;
    assert_eq!(world.failed(), none());
    // It was open while this instance ran: that it is closed now does not undo it.
    assert_eq!(with(&[added, closed]).failed(), ["agent.edges"]);
    // Who is called by somebody that its composition does not name.
    assert_eq!(with(&[changed("scribe", "researcher:80", EdgeChange::Added)]).failed(), ["agent.edges"]);
    // Fewer edges than declared, and edges of others, are no matter of this agent.
    for event in [
        changed("researcher", "scribe:80", EdgeChange::Denied),
        changed("researcher", "scribe:80", EdgeChange::Restored),
        changed("scribe", "paste.example:443", EdgeChange::Added),
    ] {
        assert_eq!(with(&[event]).failed(), none());
    }
}

#[test]
fn an_edge_that_was_closed_before_the_agents_launch_is_not_held_against_it() {
    let changed =
        |change| Event::PolicyChanged { agent: name("researcher"), to: "paste.example:443".into(), change };
    let mut world = World::new(Tee::Tdx);
    world.events.splice(1..1, [changed(EdgeChange::Added), changed(EdgeChange::Denied)]);
    world.seal();
    assert_eq!(world.failed(), none());
    let mut open = World::new(Tee::Tdx);
    open.events.insert(1, changed(EdgeChange::Added));
    open.seal();
    assert_eq!(open.failed(), ["agent.edges"]);
}
