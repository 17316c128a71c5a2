//! Volumes with a size: full for their agents alone, kept until they are removed, and never another size unnoticed.

use std::fs;

use crate::project::{Project, agent};

fn write_compose(project: &Project, services: &str, size: &str) {
    let text = format!(
        "name: {}\nservices:\n{services}volumes:\n  one: {{ {size} }}\n  two: {{ x-casemate: {{ size: 16m }} }}\n",
        project.name
    );
    fs::write(project.file("compose.yaml"), text).unwrap();
    project.write_policy(&[]);
}

#[test]
fn a_volume_with_a_size_is_full_for_its_agents_alone_and_keeps_its_content() {
    let project = Project::empty("volume-size");
    crate::image::link_into(&project.home());
    let size = "driver_opts: { size: 32m }";
    let filler = agent(
        "filler",
        &["write /data/kept before", "exhaust disk /data", "wait"],
        "volumes: [\"one:/data\"]",
    );
    let peer = agent(
        "peer",
        &["sleep 500", "write /data/x mine", "read /data/x", "wait"],
        "volumes: [\"two:/data\"]",
    );
    write_compose(&project, &format!("{filler}{peer}"), size);
    project.up();
    let logs = project.logs_with("filler", "held at");
    let (_, held) = logs.split_once("disk held at ").unwrap();
    let held = held.lines().next().unwrap();
    let pieces: u64 = held.split(':').next().unwrap().parse().unwrap();
    assert!(held.ends_with("(os error 28)") && (16 << 4..32 << 4).contains(&pieces), "{held}");
    project.logs_with("peer", "/data/x has mine");
    // All of it is set aside, so no agent meets a full disk below.
    let file = project.project_dir().join("volumes/one.ext4");
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.len(), 32 << 20);
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 >= 32 << 20);
    assert_eq!(project.census().loop_devices.len(), 2);
    project.down();

    // Two agents have the same one: it is mounted once.
    let reader = |name: &str| agent(name, &["read /data/kept", "wait"], "volumes: [\"one:/data:ro\"]");
    write_compose(&project, &format!("{}{}", reader("first"), reader("second")), size);
    project.up();
    for name in ["first", "second"] {
        project.logs_with(name, "/data/kept has before");
    }
    assert_eq!(project.census().loop_devices.len(), 1);
    project.kill("casemate-warden");
    project.assert_nothing_left();

    for other in ["driver_opts: { size: 33m }", "name: one"] {
        write_compose(&project, &reader("first"), other);
        let (expected, found) = project.try_up(&[]).assert_refused("volume.size");
        assert!(expected.starts_with("volume one with "), "{expected}");
        assert_eq!(found, "33554432 bytes");
        project.assert_nothing_left();
    }
    write_compose(&project, &reader("first"), size);
    project.up();
    project.logs_with("first", "/data/kept has before");
    project.run(&["down", "-t", "0", "--volumes"]).assert_ok();
    project.assert_nothing_left();
    assert!(!file.exists());
}
