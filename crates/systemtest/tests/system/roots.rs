//! The root of each agent: its own, or its group's where the file says `share`; and what happens where there is none.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use crate::image;
use crate::project::{Project, agent};

/// What is seen of an agent's root from outside.
#[derive(Debug)]
struct Root {
    /// Number of the file system instance, `MAJOR:MINOR`.
    device: String,
    options: String,
    /// Number of the copy of the metadata that the kernel mounted.
    number: u64,
    /// Device and inode of a program in it.
    program: (u64, u64),
}

fn root_of(project: &Project, name: &str) -> Root {
    let pid = project.ps()["agents"][name]["pid"].as_u64().unwrap();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    let program = fs::metadata(format!("/proc/{pid}/root/etc")).unwrap();
    Root {
        device: line.split(' ').nth(2).unwrap().to_owned(),
        options: line.rsplit(' ').next().unwrap().to_owned(),
        number: rustix::fs::statvfs(format!("/proc/{pid}/root")).unwrap().f_fsid,
        program: (program.dev(), program.ino()),
    }
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
    for root in [&alone, &also_alone] {
        assert!(root.options.contains("directio"), "{root:?}");
    }
    assert!(!left.options.contains("directio"), "{left:?}");
    assert_eq!((&left.device, left.number, left.program), (&right.device, right.number, right.program));
    // No inode in common, and no metadata: the kernel mounted each from a copy of its own.
    for (one, other) in [(&alone, &also_alone), (&alone, &left), (&also_alone, &left)] {
        assert_ne!(one.device, other.device);
        assert_ne!(one.program.0, other.program.0);
        assert_ne!(one.number, other.number);
    }

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
