//! `plan`: before `up`, while all runs, and after an edit; what it foresees of the policy is what the policy then says.

use std::fs;

use serde_json::Value;

use crate::project::{COMMAND_BOUND, Output, Project, agent};

fn project(name: &str) -> Project {
    Project::ready(name, &agent("one", &["say here", "wait"], ""), &[])
}

#[track_caller]
fn ends_with(output: &Output, code: i32, says: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}{}", output.stdout, output.stderr);
    for text in says {
        assert!(output.stdout.contains(text), "no `{text}` in:\n{}", output.stdout);
    }
    assert_eq!(output.stderr, "", "{}", output.stdout);
}

#[test]
fn plan_shows_what_up_would_change_and_what_the_policy_would_say() {
    let project = project("plan-all");
    // Before `up`: the lock that `policy write` made is what the files give.
    ends_with(
        &project.run(&["plan"]),
        0,
        &["compose.lock\n", "agent one stays", "policy ", " admits", "nothing changes\n"],
    );
    project.run(&["plan", "--against", "running"]).assert_fails(2, "does not run", "casemate up");
    // Without a lock, everything is new.
    let lock = fs::read(project.file("compose.lock")).unwrap();
    fs::remove_file(project.file("compose.lock")).unwrap();
    ends_with(&project.run(&["plan"]), 3, &["against nothing", "agent one is new", "something changes\n"]);
    assert!(!project.file("compose.lock").exists(), "plan wrote a lock");
    fs::write(project.file("compose.lock"), &lock).unwrap();

    project.up();
    for args in [&["plan"][..], &["plan", "--against", "running"]] {
        ends_with(&project.run(args), 0, &["against what runs", "agent one stays", "nothing changes\n"]);
    }

    project.edit("compose.yaml", |text| text.replace("say here", "say there").replace("64m", "96m"));
    let plan = project.run(&["plan"]);
    let says = [
        "against what runs",
        "agent one changes: measurement sha384:",
        "changed  command from [",
        "gains    more memory_bytes: 100663296, before 67108864",
        "policy ",
        " would refuse\n",
        "refused  the composition by rule composition.digest",
        "refused  agent one by rule agent.measurement",
        "memory at most 96 MiB",
        "memory about 5 MiB of it",
        " MiB for the root file system sha256:",
    ];
    ends_with(&plan, 3, &says);
    ends_with(&project.run(&["plan", "--against", "compose.lock"]), 3, &["agent one changes"]);
    let json = project.run(&["plan", "--json"]);
    assert_eq!(json.status.code(), Some(3), "{}", json.stderr);
    let answer: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&answer["plan"]["changed"], &answer["policy"]["admits"]),
        (&true.into(), &false.into()),
        "{answer}"
    );
    assert_eq!(answer["plan"]["agents"]["one"]["fate"], "changes", "{answer}");
    let running = project.ps();
    assert_eq!(answer["plan"]["old"], running["composition"]);
    project.down();

    // What was foreseen.
    let (expected, found) = project.try_up(&[]).assert_refused("composition.digest");
    assert_eq!(answer["plan"]["new"], found.as_str());
    assert_eq!(answer["plan"]["old"], expected.as_str());
    project.assert_nothing_left();
}

#[test]
fn plan_does_not_guess_where_it_cannot_compare() {
    let project = project("plan-bad");
    project.run(&["plan", "--against", "none.lock"]).assert_fails(2, "none.lock", "--against");
    project.edit("compose.lock", |text| text.replace("say here", "say there"));
    project.run(&["plan"]).assert_fails(2, "about.measurements.one", "casemate lock");
    project.run(&["lock"]).assert_ok();
    project.run(&["plan", "--policy", "none.toml"]).assert_fails(2, "none.toml", "policy write");
    fs::write(project.file("policy.toml"), "version = ").unwrap();
    project.run(&["plan"]).assert_fails(2, "policy.toml:", "");
    fs::remove_file(project.file("policy.toml")).unwrap();
    ends_with(&project.run(&["plan"]), 0, &["policy none at "]);
    // The lock of what runs is not what the warden measured.
    project.write_policy(&[]);
    project.up();
    let kept = project.project_dir().join("compose.lock");
    let whole = fs::read(&kept).unwrap();
    project.edit("compose.yaml", |text| text.replace("say here", "say there"));
    project.run_with(&["lock", "-o", kept.to_str().unwrap()], COMMAND_BOUND, None).assert_ok();
    project.run(&["plan"]).assert_fails(2, "the composition that runs is", "casemate down");
    fs::write(&kept, whole).unwrap();
    project.run(&["plan"]);
    project.down();
}
