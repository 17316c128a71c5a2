//! The root of each agent: its own, or its group's where the file says `share`; and what happens where there is none.

use std::fs;
use std::os::unix::fs::symlink;

use crate::image;
use crate::project::{Project, agent};

/// Number of the file system instance that an agent's root is, `MAJOR:MINOR`, and its options.
fn root_of(project: &Project, name: &str) -> (String, String) {
    let pid = project.ps()["agents"][name]["pid"].as_u64().unwrap();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    (root.split(' ').nth(2).unwrap().to_owned(), root.rsplit(' ').next().unwrap().to_owned())
}

#[test]
fn agents_have_a_root_of_their_own_unless_they_name_a_group() {
    const SHARE: &str = "x-casemate: { share: kin, trust: family }";
    let steps = ["say here", "wait"];
    let services = [("alone", ""), ("also-alone", ""), ("left", SHARE), ("right", SHARE)];
    let services: String = services.map(|(name, more)| agent(name, &steps, more)).concat();
    let project = Project::ready("roots", &services, &[]);
    project.up();
    let [alone, also_alone, left, right] =
        ["alone", "also-alone", "left", "right"].map(|name| root_of(&project, name));
    assert!(alone.1.contains("directio") && also_alone.1.contains("directio"), "{alone:?}");
    assert!(!left.1.contains("directio"), "{left:?}");
    assert_eq!(left.0, right.0);
    assert_ne!(alone.0, also_alone.0);
    assert_ne!(alone.0, left.0);

    // Nobody who looks can miss it.
    let status = project.ps();
    assert_eq!(status["agents"]["left"]["shares_root_with"], serde_json::json!(["right"]));
    assert_eq!(status["agents"]["alone"]["shares_root_with"], serde_json::json!([]));
    assert_eq!(status["agents"]["left"]["controls"]["private-root"], "enforced");
    let table = project.run(&["ps"]).stdout;
    assert!(table.contains("left and right share a root"), "{table}");
    project.attest("left", "nonce-one", "left.json").assert_ok();
    let verdict = project.run(&["verify", "left.json", "--nonce", "nonce-one"]);
    verdict.assert_ok();
    assert!(verdict.stdout.contains("kin"), "{}", verdict.stdout);

    // It is measured: the policy that was written for it refuses the file without it.
    project.down();
    project.edit("compose.yaml", |text| text.replace(&format!("    {SHARE}\n"), ""));
    project.try_up(&[]).assert_refused("composition.digest");
    project.assert_nothing_left();
}

#[test]
fn an_image_store_in_memory_is_refused_under_the_controls_name() {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let project = Project::empty("memory");
    project.write_compose(&agent("one", &["say here", "wait"], ""), &[]);
    fs::create_dir_all(project.home()).unwrap();
    symlink(memory.path(), project.home().join("images")).unwrap();
    image::import_into(&project.home(), image::tar());
    project.write_policy(&[]);
    let output = project.try_up(&[]);
    let (expected, found) = output.assert_refused("control.private-root");
    assert!(expected.contains("erofs") && found.contains("direct reads"), "{expected} {found}");
    let report = output.report().join("\n");
    assert!(report.contains("ext4 or XFS") && !report.contains("--allow-weaker"), "{report}");
    assert_eq!(project.logs("one"), "");
    project.assert_nothing_left();
    // There is no way around it.
    let output = project.try_up(&["--allow-weaker", "private-root"]);
    assert_eq!(output.status.code(), Some(2), "{}", output.stderr);
}
