//! The posture beside a token, and what policies ask of it.

use super::*;

#[test]
fn a_posture_that_is_not_the_tokens_is_refused_by_everybody() {
    let mut world = World::new(Tee::Tdx);
    world.posture.checked += 1;
    assert_eq!(world.failed(), ["agent.posture"]);
    let mut world = World::new(Tee::Tdx);
    world.posture.agent = name("writer");
    world.seal();
    assert_eq!(world.failed(), ["agent.posture"]);
    let mut world = World::new(Tee::Tdx);
    world.posture.casemate = "casemate posture 2".into();
    world.seal();
    assert_eq!(world.failed(), ["agent.posture"]);
}

fn asking(change: impl Fn(&mut PostureExpectations), seen: impl Fn(&mut Posture)) -> Vec<String> {
    let mut world = World::new(Tee::Tdx);
    let composition = world.composition();
    assert!(composition.agents.contains_key(&name("researcher")));
    composition.agents.entry(name("researcher")).and_modify(|agent| change(&mut agent.posture));
    seen(&mut world.posture);
    world.seal();
    world.failed()
}

#[test]
fn agents_that_a_policy_wants_apart_have_no_file_system_in_common() {
    let every: fn(&mut PostureExpectations) = |asked| asked.no_shared_inode_with = Apart::FromEveryOther;
    let writer: fn(&mut PostureExpectations) =
        |asked| asked.no_shared_inode_with = Apart::From([name("scribe")].into());
    let shares = |posture: &mut Posture| {
        posture.mounts_with.insert(name("scribe"), ["/data".to_owned()].into());
    };
    for asked in [every, writer] {
        assert_eq!(asking(asked, |_| {}), none());
        assert_eq!(asking(asked, shares), ["posture.inode"]);
    }
    // Nobody asks: shown, and no reason to refuse.
    assert_eq!(asking(|_| {}, shares), none());
    // An agent that was not compared is not apart.
    let forgets = |posture: &mut Posture| drop(posture.mounts_with.remove(&name("scribe")));
    assert_eq!(asking(writer, forgets), ["posture.inode"]);
    assert_eq!(asking(every, forgets), ["posture.compared"]);
}

#[test]
fn a_check_that_a_policy_names_must_pass_and_be_there() {
    let smt: fn(&mut PostureExpectations) = |asked| {
        asked.checks.insert("D14.smt".into());
    };
    assert_eq!(asking(smt, |_| {}), none());
    for verdict in [Verdict::Warn, Verdict::Fail, Verdict::Unknown, Verdict::NotApplicable] {
        let found = asking(smt, |posture| {
            posture.checks.get_mut("D14.smt").unwrap().verdict = verdict;
        });
        assert_eq!(found, ["posture.check"], "{verdict:?}");
    }
    assert_eq!(asking(smt, |posture| posture.checks.clear()), ["posture.check"]);
    assert_eq!(asking(smt, |posture| posture.checked -= 121), ["posture.check"]);
    assert_eq!(asking(smt, |posture| posture.checked += 1), ["posture.check"]);
    assert_eq!(asking(|_| {}, |posture| posture.checked -= 121), none());
}

#[test]
fn a_probe_that_a_policy_asks_for_is_young_and_without_a_leak() {
    let hour: fn(&mut PostureExpectations) = |asked| asked.probe_age_max_seconds = Some(3600);
    let probe = |change: fn(&mut ProbeSeen)| {
        asking(hour, |posture| {
            let mut probe = ProbeSeen {
                ended: NOW.0 - 3600,
                battery: Battery::Short,
                blocked: ["trace".to_owned()].into(),
                allowed: BTreeSet::new(),
                leaks: BTreeSet::new(),
                inconclusive: BTreeSet::new(),
            };
            posture.probes.insert(name("planner"), probe.clone());
            change(&mut probe);
            posture.probes.insert(name("scribe"), probe);
        })
    };
    assert_eq!(probe(|_| {}), none());
    assert_eq!(probe(|probe| probe.ended -= 1), ["posture.probe"]);
    assert_eq!(probe(|probe| probe.ended = NOW.0 + 1), ["posture.probe"]);
    assert_eq!(probe(|probe| probe.leaks = ["trace".to_owned()].into()), ["posture.probe"]);
    assert_eq!(probe(|probe| probe.blocked.clear()), ["posture.probe"]);
    assert_eq!(probe(|probe| probe.inconclusive = ["trace".to_owned()].into()), ["posture.probe"]);
    // Attacks that the policy names may leak or tell nothing; and it may ask for the whole battery.
    let both = |change: fn(&mut PostureExpectations)| {
        asking(
            |asked| {
                asked.probe_age_max_seconds = Some(60);
                change(asked);
            },
            |posture| {
                for other in ["planner", "scribe"] {
                    let probe = ProbeSeen {
                        ended: NOW.0,
                        battery: Battery::Short,
                        blocked: ["signal".to_owned()].into(),
                        allowed: BTreeSet::new(),
                        leaks: ["trace".to_owned()].into(),
                        inconclusive: ["perf".to_owned()].into(),
                    };
                    posture.probes.insert(name(other), probe);
                }
            },
        )
    };
    assert_eq!(both(|_| {}), ["posture.probe"]);
    assert_eq!(both(|asked| asked.allow_attacks = ["trace".to_owned()].into()), ["posture.probe"]);
    assert_eq!(both(|asked| asked.allow_attacks = ["trace".to_owned(), "perf".to_owned()].into()), none());
    let whole = both(|asked| {
        asked.allow_attacks = ["trace".to_owned(), "perf".to_owned()].into();
        asked.whole_battery = true;
    });
    assert_eq!(whole, ["posture.probe"]);
    assert_eq!(asking(hour, |_| {}), ["posture.probe"], "none from the other agent");
}
