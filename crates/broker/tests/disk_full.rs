//! A full disk: the broker decides nothing that it cannot log, and serves again when there is space.
//!
//! What it is: a small tmpfs in a mount namespace of the test's own. What it is not: runnable without root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use support::desk::{Desk, RESEARCHER_SECRET};
use support::{Broker, wait};

#[test]
fn releases_nothing_while_the_disk_is_full() {
    let root = tempfile::tempdir().unwrap();
    let output = std::fs::File::create(root.path().join("output")).unwrap();
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "inside_the_mount_namespace", "--nocapture"])
        .env("CASEMATE_TEST_FULL_DISK", root.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let status = wait(&mut child);
    let text = std::fs::read_to_string(root.path().join("output")).unwrap();
    assert!(status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by `releases_nothing_while_the_disk_is_full` in a mount namespace"]
fn inside_the_mount_namespace() {
    let root = std::env::var_os("CASEMATE_TEST_FULL_DISK").expect("run by the other test");
    let disk = std::path::Path::new(&root).join("disk");
    std::fs::create_dir(&disk).unwrap();
    rustix::mount::mount("tmpfs", &disk, "tmpfs", rustix::mount::MountFlags::empty(), c"size=3m,mode=0700")
        .unwrap();
    let desk = Desk::new();
    let broker = Broker::start(&disk, &desk.policy(), &desk.bundle());
    broker.put_secret(RESEARCHER_SECRET, b"of researcher");
    let (cookie, nonce) = broker.auth("tdx");
    assert_eq!(broker.attest(&cookie, &desk.attestation("researcher", &nonce)).status, 200);

    let filler = disk.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    // The log file has some room left in its last page at most: ask until it is used up, and then once more.
    let answers: Vec<_> = (0..8).map(|_| broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)])).collect();
    let last = answers.last().unwrap();
    assert_eq!((last.status, last.variant().as_str()), (503, "Unavailable"));
    assert_eq!(last.error().detail, "the database cannot be written");
    let released = answers.iter().filter(|answer| answer.status == 200).count();

    std::fs::remove_file(&filler).unwrap();
    assert_eq!(broker.get(RESEARCHER_SECRET, &[("Cookie", &cookie)]).status, 200);
    let (rows, chain) = broker.log();
    assert_eq!(chain["chain"], "intact");
    let logged = rows.iter().filter(|row| row["decision"] == "released").count();
    assert_eq!(logged, released + 1);
}
