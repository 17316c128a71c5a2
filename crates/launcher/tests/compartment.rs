//! Real compartments: namespaces, an EROFS root, filters. Needs root and `mkfs.erofs`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use casemate_sys::observe::{Observed, observe};
use casemate_sys::root::{ImageFiles, RootObject};
use casemate_sys::seccomp;
use casemate_sys::spawn::{LaunchError, Launched, Streams, prepare};
use casemate_sys::spec::{Config, Rlimit, Spec, Tmpfs, Volume};

const UID_BASE: u32 = 0x4000_0000;

/// A root file system with a static shell, as an EROFS image.
struct Root {
    _dir: tempfile::TempDir,
    metadata: PathBuf,
    data: PathBuf,
    staging: PathBuf,
}

fn root() -> Root {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    for sub in ["bin", "proc", "dev", "tmp", "run", "data/kept", "etc"] {
        std::fs::create_dir_all(tree.join(sub)).unwrap();
    }
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox-static is installed");
    for applet in [
        "sh", "cat", "id", "ls", "true", "sleep", "mount", "mkdir", "hostname", "grep", "wc", "touch",
        "echo", "nc",
    ] {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    std::os::unix::fs::symlink("/run", tree.join("link")).unwrap();
    for file in ["hosts", "hostname", "resolv.conf"] {
        std::fs::write(tree.join("etc").join(file), "").unwrap();
    }
    let (metadata, data) = (dir.path().join("root.metadata"), dir.path().join("root.data"));
    let done = Command::new("mkfs.erofs")
        .args(["-Enosbcrc", "--chunksize=65536", "--blobdev"])
        .args([&data, &metadata, &tree])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("erofs-utils is installed");
    assert!(done.success());
    let staging = dir.path().join("staging");
    std::fs::create_dir(&staging).unwrap();
    Root { _dir: dir, metadata, data, staging }
}

fn spec(root: &Root, command: &[&str]) -> Spec {
    Spec {
        uid_base: UID_BASE,
        uid: 1000,
        gid: 1000,
        staging: root.staging.display().to_string(),
        hostname: "inside".into(),
        hosts: "127.0.0.1 localhost\n".into(),
        tmpfs: vec![Tmpfs { target: "/tmp".into(), size_bytes: 1 << 20, mode: 0o1777 }],
        command: command.iter().map(ToString::to_string).collect(),
        environment: vec!["PATH=/bin".into()],
        working_dir: "/".into(),
        rlimits: vec![Rlimit { resource: 7, soft: 256, hard: 256 }],
        shm_bytes: 1 << 20,
        listeners: vec![([127, 64, 0, 1], 80)],
        resolver: 1,
        pool: 2,
        seccomp: seccomp::compile(casemate_composition::rules::SECCOMP_RULES).unwrap(),
        landlock: vec![
            "read-execute /".into(),
            "read-write /dev/null".into(),
            "all /tmp".into(),
            "scope signal".into(),
            "scope abstract-unix-socket".into(),
        ],
        ..Spec::default()
    }
}

fn launch(root: &Root, spec: &Spec) -> (Result<Launched, LaunchError>, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let error = OwnedFd::from(writer.try_clone().unwrap());
    let launcher = Path::new(env!("CARGO_BIN_EXE_casemate-launcher"));
    let open = |path| std::fs::File::open(path).unwrap();
    let (metadata, data) = (open(&root.metadata), open(&root.data));
    let image = RootObject::Image(ImageFiles { metadata: metadata.as_fd(), data: data.as_fd() });
    let launched = {
        let streams = Streams::Output { stdout: OwnedFd::from(writer), stderr: error };
        prepare(launcher).unwrap().start(spec, image, None, &streams).unwrap().collect()
    };
    (launched, reader)
}

/// Runs to the end: output and status.
fn run(root: &Root, spec: &Spec) -> (String, i32) {
    let (launched, mut reader) = launch(root, spec);
    let launched = launched.unwrap();
    launched.gate.release().unwrap();
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    loop {
        if let Some(status) = launched.first.ended().unwrap() {
            return (output, status);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Whether a process ends within two seconds.
fn is_gone(pid: i32) -> bool {
    (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        !casemate_sys::spawn::exists(pid)
    })
}

fn shell(root: &Root, script: &str) -> (String, i32) {
    run(root, &spec(root, &["sh", "-c", script]))
}

#[test]
fn runs_a_program_as_its_user_with_nothing_else_in_sight() {
    let root = root();
    let (output, status) = shell(&root, "id -u; hostname; ls /proc | grep -c '^[0-9]'; ls /; exit 7");
    assert_eq!(output, "1000\ninside\n3\nbin\ndata\ndev\netc\nlink\nproc\nrun\ntmp\n", "{status}");
    assert_eq!(status, 7);
}

#[test]
fn is_seen_confined_from_outside_before_the_agent_runs() {
    let root = root();
    let (launched, mut reader) = launch(&root, &spec(&root, &["echo", "ran"]));
    let launched = launched.unwrap();
    let seen = observe(launched.first.pid(), UID_BASE);
    assert_eq!(
        Observed { root: None, ..seen.clone() },
        Observed { ids_mapped: true, namespaces_own: true, root: None, unprivileged: true, filtered: true }
    );
    assert!(seen.root.is_some_and(|root| root.past_the_cache));
    assert_eq!(launched.sockets.len(), 1 + 2 + 2);
    // Never released: the agent must not have run, and dropping leaves no process.
    let pid = launched.first.pid();
    drop(launched);
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    assert_eq!(output, "");
    assert!(is_gone(pid));
}

#[test]
fn cannot_write_mount_or_make_a_namespace() {
    let root = root();
    let (output, status) = shell(
        &root,
        "touch /bin/x; touch /data/x; touch /etc/hosts; mount -t tmpfs none /tmp; touch /tmp/ok && echo wrote; cat /proc/1/environ; true",
    );
    assert_eq!(status, 0, "{output}");
    assert!(output.contains("wrote"), "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 3, "{output}");
    assert!(output.contains("mount: permission denied"), "{output}");
    assert!(output.contains("can't open '/proc/1/environ'"), "{output}");
}

#[test]
fn a_volume_keeps_what_the_agent_wrote_under_inner_ids() {
    let root = root();
    let volume = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(volume.path(), Some(1000), Some(1000)).unwrap();
    let mut spec = spec(&root, &["sh", "-c", "echo kept > /data/file"]);
    spec.volumes =
        vec![Volume { source: volume.path().display().to_string(), target: "/data".into(), read_only: 0 }];
    spec.landlock.push("all /data".into());
    let (output, status) = run(&root, &spec);
    assert_eq!((output.as_str(), status), ("", 0));
    let file = volume.path().join("file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept\n");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&file).unwrap()), 1000);
}

#[test]
fn a_config_has_its_content_owner_and_mode_and_cannot_be_changed() {
    let root = root();
    let config = |target: &str, mode| Config {
        target: target.into(),
        content: b"#!/bin/sh\necho ran\n".to_vec(),
        uid: 1000,
        gid: 7,
        mode,
    };
    let mut spec = spec(
        &root,
        &[
            "sh",
            "-c",
            "for f in /run/app/a.conf /tmp/deep/b; do cat $f; ls -ln $f; echo x >> $f; done; /tmp/deep/b; /run/app/a.conf",
        ],
    );
    // A file of the image, and two that lie in memory and whose folders do not exist.
    spec.configs =
        vec![config("/bin/true", 0o440), config("/run/app/a.conf", 0o400), config("/tmp/deep/b", 0o755)];
    // /bin/true is a link of the image.
    let linked = launch(&root, &spec).0;
    assert!(matches!(linked, Err(LaunchError::Step { step, .. }) if step.contains("/bin/true")));
    spec.configs.remove(0);
    let (output, _) = run(&root, &spec);
    assert_eq!(output.matches("echo ran").count(), 2, "{output}");
    assert!(output.contains("-r--------    1 1000     7"), "{output}");
    assert!(output.contains("-rwxr-xr-x    1 1000     7"), "{output}");
    assert_eq!(output.lines().filter(|line| *line == "ran").count(), 1, "{output}");
    assert_eq!(output.matches("Permission denied").count(), 2, "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 1, "{output}");

    spec.configs = vec![config("/etc/hosts", 0o444), config("/etc/none", 0o444)];
    let missing = launch(&root, &spec).0;
    assert!(
        matches!(missing, Err(LaunchError::Step { step, .. }) if step.contains("create /etc/none (the image must have"))
    );
}

#[test]
fn process_limits_groups_scores_and_shared_memory_are_what_the_specification_says() {
    let root = root();
    let limit = |resource, soft, hard| Rlimit { resource, soft, hard };
    let mut spec = spec(
        &root,
        &[
            "sh",
            "-c",
            "cat /proc/self/limits; id -G; cat /proc/self/oom_score_adj; grep shm /proc/self/mounts",
        ],
    );
    spec.rlimits = vec![
        limit(0, 100, 200),
        limit(1, 4096, u64::MAX),
        limit(2, 1 << 30, 1 << 30),
        limit(3, 1 << 20, 1 << 21),
        limit(6, 64, 65),
        limit(7, 100, 300),
        limit(8, 0, 8192),
        limit(11, 5, 6),
        limit(12, 7, 8),
    ];
    spec.groups = vec![7, 1234];
    spec.oom_score_adj = 321;
    spec.shm_bytes = 3 << 20;
    let (output, status) = run(&root, &spec);
    assert_eq!(status, 0, "{output}");
    let lines: Vec<String> =
        output.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "Max cpu time 100 200 seconds",
        "Max file size 4096 unlimited bytes",
        "Max data size 1073741824 1073741824 bytes",
        "Max stack size 1048576 2097152 bytes",
        "Max core file size 0 0 bytes",
        "Max processes 64 65 processes",
        "Max open files 100 300 files",
        "Max locked memory 0 8192 bytes",
        "Max pending signals 5 6 signals",
        "Max msgqueue size 7 8 bytes",
        "Max nice priority 0 0",
        "Max realtime priority 0 0",
        "1000 7 1234",
        "321",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}\n{output}");
    }
    assert!(lines.iter().any(|line| line.contains("/dev/shm") && line.contains("size=3072k")), "{output}");

    spec.rlimits = vec![limit(4, 1, 1)];
    let core = launch(&root, &spec).0;
    assert!(matches!(core, Err(LaunchError::Step { step, .. }) if step.contains("number 4")));
}

#[test]
fn names_the_step_that_failed() {
    let root = root();
    let mut broken = root;
    std::fs::write(&broken.metadata, [0; 8192]).unwrap();
    assert!(matches!(
        launch(&broken, &spec(&broken, &["true"])).0,
        Err(LaunchError::Step { control, .. }) if control == "private-root"
    ));
    broken = self::root();
    let root = broken;
    let mut no_directory = spec(&root, &["true"]);
    no_directory.working_dir = "/nowhere".into();
    assert!(
        matches!(launch(&root, &no_directory).0, Err(LaunchError::Step { step, .. }) if step.contains("/nowhere"))
    );
    // `/etc/hosts` is there, and no folder.
    for target in ["/nowhere", "/etc/hosts"] {
        let mut no_target = spec(&root, &["true"]);
        no_target.tmpfs = vec![Tmpfs { target: target.into(), size_bytes: 1 << 20, mode: 0o1777 }];
        let launched = launch(&root, &no_target).0;
        assert!(
            matches!(&launched, Err(LaunchError::Step { control, step, .. })
                if control == "mount-target" && step.contains(target)),
            "{:?}",
            launched.err()
        );
    }
}

#[test]
fn says_when_the_program_does_not_exist() {
    let root = root();
    let (launched, _reader) = launch(&root, &spec(&root, &["no-such-program"]));
    let launched = launched.unwrap();
    let outcome = launched.gate.release().unwrap().executed();
    assert!(matches!(outcome, Err(LaunchError::Program { errno }) if errno == rustix::io::Errno::NOENT));
}

#[test]
fn a_control_that_cannot_be_applied_stops_the_start_unless_it_is_allowed() {
    let root = root();
    let mut without = spec(&root, &["true"]);
    // An empty program is one that the kernel refuses: as if it had no filters.
    without.seccomp = Vec::new();
    assert!(
        matches!(&launch(&root, &without).0, Err(LaunchError::Step { control, .. }) if control == "seccomp")
    );
    without.weaker = vec!["seccomp".into()];
    let launched = launch(&root, &without).0.unwrap();
    assert_eq!(launched.not_applied, ["seccomp"]);
    assert!(!observe(launched.first.pid(), UID_BASE).filtered);
}

#[test]
fn dies_with_the_process_that_started_it() {
    // The first process is a child of this test; closing its control socket before release ends it.
    let root = root();
    let (launched, _reader) = launch(&root, &spec(&root, &["sleep", "60"]));
    let launched = launched.unwrap();
    launched.gate.release().unwrap().executed().unwrap();
    let pid = launched.first.pid();
    assert!(casemate_sys::spawn::exists(pid));
    drop(launched.first);
    assert!(is_gone(pid));
}

#[test]
fn a_joining_command_is_confined_as_the_agent_is() {
    let root = root();
    let standing = spec(&root, &["sleep", "60"]);
    let (launched, _reader) = launch(&root, &standing);
    let launched = launched.unwrap();
    launched.gate.release().unwrap().executed().unwrap();
    let mut joining = Spec { join: 1, ..standing };
    let status = |joining: &Spec| {
        let launcher = Path::new(env!("CARGO_BIN_EXE_casemate-launcher"));
        casemate_sys::spawn::join(launcher, joining, &launched.first).unwrap().wait().unwrap().code()
    };
    joining.command =
        ["sh", "-c", "[ $(hostname) = inside ] && [ $(id -u) = 1000 ] && exit 42"].map(Into::into).into();
    assert_eq!(status(&joining), Some(42));
    joining.command = ["sh", "-c", "mount -t tmpfs none /tmp || exit 43"].map(Into::into).into();
    assert_eq!(status(&joining), Some(43));
    joining.command = vec!["no-such-program".into()];
    assert_eq!(status(&joining), Some(127));
}

#[test]
fn standard_input_is_the_compartments_own_null_device() {
    let root = root();
    let (output, status) =
        shell(&root, "stat -L -c '%d:%i' /proc/self/fd/0 /dev/null; ls /proc/self/fd | wc -l");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((lines.len(), status), (3, 0), "{output}");
    assert_eq!(lines[0], lines[1], "{output}");
    let host = std::fs::metadata("/dev/null").unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_ne!(lines[0], format!("{}:{}", host.dev(), host.ino()));
    // 0, 1, 2 and the one that `ls` itself reads the folder by.
    assert_eq!(lines[2], "4");
}

#[test]
fn the_agent_socket_takes_no_descriptors() {
    let root = root();
    let (launched, _reader) = launch(&root, &spec(&root, &["sleep", "60"]));
    let launched = launched.unwrap();
    if launched.not_applied.iter().any(|control| control == "agent-socket") {
        println!("not run: this kernel has no SO_PASSRIGHTS");
        return;
    }
    let path = format!("/proc/{}/root/run/casemate/agent.sock", launched.first.pid());
    let client = std::os::unix::net::UnixStream::connect(path).unwrap();
    let pipe = std::io::pipe().unwrap();
    let sent = casemate_sys::descriptors::send_packet(&client, b"x", &[pipe.0.as_fd()]);
    assert_eq!(sent, Err(rustix::io::Errno::PERM));
    assert_eq!(casemate_sys::descriptors::send_packet(&client, b"x", &[]), Ok(()));
}

#[test]
fn a_command_whose_time_is_up_leaves_no_zombie_that_keeps_the_compartment() {
    let root = root();
    let standing = spec(&root, &["sleep", "60"]);
    let (launched, _reader) = launch(&root, &standing);
    let launched = launched.unwrap();
    launched.gate.release().unwrap().executed().unwrap();
    let joining = Spec { join: 1, command: vec!["sleep".into(), "50".into()], ..standing };
    let launcher = Path::new(env!("CARGO_BIN_EXE_casemate-launcher"));
    let mut child = casemate_sys::spawn::join(launcher, &joining, &launched.first).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 9));
    // The compartment ends at once when its agent does: nothing in its process namespace waits to be reaped.
    launched.first.signal(15).unwrap();
    let ended = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        launched.first.ended().unwrap().is_some()
    });
    assert!(ended);
}

#[test]
fn other_protocols_than_tcp_and_udp_do_not_open() {
    let program = seccomp::compile(casemate_composition::rules::SECCOMP_RULES).unwrap();
    let seen = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        seccomp::load(&program).unwrap();
        use rustix::net::{AddressFamily, Protocol, SocketType, ipproto, socket};
        let open = |family, kind, protocol: Option<Protocol>| socket(family, kind, protocol).map(drop);
        [
            open(AddressFamily::INET, SocketType::STREAM, None),
            open(AddressFamily::INET6, SocketType::DGRAM, Some(ipproto::UDP)),
            open(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP)),
            open(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP)),
            open(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::UDPLITE)),
            open(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP)),
            open(AddressFamily::INET, SocketType::RAW, None),
            open(AddressFamily::NETLINK, SocketType::RAW, None),
        ]
    });
    let seen = seen.join().unwrap();
    assert_eq!(&seen[..2], [Ok(()), Ok(())]);
    assert!(seen[2..].iter().all(|outcome| *outcome == Err(rustix::io::Errno::AFNOSUPPORT)), "{seen:?}");
}

#[test]
fn a_mount_target_behind_a_symbolic_link_is_refused() {
    let root = root();
    let volume = tempfile::tempdir().unwrap();
    let mut over_secrets = spec(&root, &["true"]);
    over_secrets.volumes = vec![Volume {
        source: volume.path().display().to_string(),
        target: "/link/secrets".into(),
        read_only: 0,
    }];
    assert!(matches!(
        launch(&root, &over_secrets).0,
        Err(LaunchError::Step { step, errno, .. })
            if step.contains("/link/secrets") && errno == rustix::io::Errno::LOOP
    ));
}

#[test]
fn a_mount_target_behind_a_link_that_an_agent_left_in_a_volume_is_refused() {
    let root = root();
    let (outer, inner) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(outer.path().join("kept")).unwrap();
    let mut spec = spec(&root, &["true"]);
    for (source, target) in [(&outer, "/data"), (&inner, "/data/kept")] {
        let source = source.path().display().to_string();
        spec.volumes.push(Volume { source, target: target.into(), read_only: 0 });
    }
    assert_eq!(run(&root, &spec).1, 0);
    std::fs::remove_dir(outer.path().join("kept")).unwrap();
    std::os::unix::fs::symlink("/run/secrets", outer.path().join("kept")).unwrap();
    let refused = launch(&root, &spec).0;
    assert!(
        matches!(&refused, Err(LaunchError::Step { step, errno, .. })
            if step.contains("/data/kept") && *errno == rustix::io::Errno::LOOP),
        "{:?}",
        refused.err()
    );
}
