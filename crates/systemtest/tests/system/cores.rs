//! Cores of their own for trust groups, as `/proc` shows them from outside and evidence says it.

use std::collections::BTreeSet;

use casemate_sys::cores;

use crate::project::{Project, agent};

fn in_group(name: &str, trust: &str, more: &str) -> String {
    agent(name, &["cores", "wait"], &format!("x-casemate: {{ trust: {trust} }}\n{more}"))
}

/// Where the kernel lets the agent's own process run.
fn allowed(project: &Project, name: &str) -> BTreeSet<u16> {
    let status = project.ps();
    cores::allowed(&status["agents"][name]["pid"].to_string()).unwrap()
}

fn status_of(project: &Project, name: &str) -> String {
    project.ps()["agents"][name]["controls"]["cores"].as_str().unwrap().to_owned()
}

#[test]
fn trust_groups_run_on_cores_of_their_own_where_there_are_enough_and_else_it_is_told() {
    let cores = cores::cores().unwrap();
    if cores.len() < 2 {
        println!("not run: trust_groups_run_on_cores_of_their_own: this machine has one core");
        return;
    }
    let apart = [in_group("a", "left", ""), in_group("b", "right", ""), in_group("c", "left", "")];
    let project = Project::ready("cores", &apart.concat(), &[]);
    project.write_policy(&["--require", "cores"]);
    project.up();
    let (a, b, c) = (allowed(&project, "a"), allowed(&project, "b"), allowed(&project, "c"));
    assert!(a.is_disjoint(&b) && a == c && !a.is_empty() && !b.is_empty(), "{a:?} {b:?} {c:?}");
    for name in ["a", "b", "c"] {
        assert_eq!(status_of(&project, name), "enforced");
        project.logs_with(name, "Cpus_allowed_list:");
    }
    project.down();

    // One asks for all cores: nobody is kept from any, and nobody is told otherwise.
    let all = format!("cpus: \"{}\"", cores.len());
    project.write_compose(&format!("{}{}", in_group("a", "left", &all), in_group("b", "right", "")), &[]);
    project.write_policy(&["--require", "cores"]);
    let refused = project.try_up(&[]).assert_refused("agent.controls");
    assert!(refused.1.contains("cores not-enforced"), "{refused:?}");
    project.assert_nothing_left();
    project.write_policy(&[]);
    project.up();
    assert_eq!(status_of(&project, "a"), "not-enforced");
    let told = project.run(&["ps"]).stdout;
    assert!(told.contains("a and b share cores: each can tell when another of them is busy"), "{told}");
    project.down();
}

#[test]
fn a_cpuset_is_kept_to_or_the_agent_does_not_start() {
    let project = Project::ready("cpuset", &in_group("a", "left", "cpuset: \"0\""), &[]);
    project.up();
    assert_eq!(allowed(&project, "a"), [0].into());
    assert_eq!(status_of(&project, "a"), "enforced");
    project.down();

    project.write_compose(&in_group("a", "left", "cpuset: \"0,4000\""), &[]);
    project.write_policy(&[]);
    let (expected, found) = project.try_up(&[]).assert_refused("control.cores");
    assert!(expected.starts_with("processors of this box: 0"), "{expected}");
    assert_eq!(found, "`cpuset` of a names processor 4000, and there is none here");
    project.assert_nothing_left();
}
