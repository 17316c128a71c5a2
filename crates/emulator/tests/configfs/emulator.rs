//! Runs the real program on a real mount, in a mount namespace of the test's own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_casemate-emulator");
const INSIDE: &str = "CASEMATE_TEST_IN_MOUNT_NAMESPACE";

/// Composition digest that the tests launch with.
pub(crate) const COMPOSITION: [u8; 48] = [0xc5; 48];

/// Runs `body` in a new mount namespace, by starting this test once more under `unshare`. Nothing mounted survives.
pub(crate) fn in_mount_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let output = tempfile::tempfile().unwrap();
    let status = Command::new("timeout")
        .args(["--kill-after=5", "60", "unshare", "--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap())
        .status()
        .unwrap();
    let mut text = String::new();
    let mut output = output;
    std::io::Seek::rewind(&mut output).unwrap();
    std::io::Read::read_to_string(&mut output, &mut text).unwrap();
    assert!(status.success(), "{status}\n{text}");
    // A name that no test bears would pass as well, having run nothing.
    assert!(text.contains("1 passed"), "{text}");
}

/// A running emulator. Killed when dropped.
pub(crate) struct Emulator {
    child: Child,
    dir: tempfile::TempDir,
    platform: &'static str,
}

impl Emulator {
    pub(crate) fn start(platform: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tsm")).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["--platform", platform, "--state"])
            .arg(dir.path().join("state"))
            .arg("--mount")
            .arg(dir.path().join("tsm"))
            .args(["--composition-digest", &format!("sha384:{}", hex::encode(COMPOSITION))])
            .args(["--program", "/bin/true", "/bin/false"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let emulator = Self { child, dir, platform };
        assert_eq!(line, "ready\n", "{}", emulator.stderr());
        emulator
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The development PKI that it signs with.
    pub(crate) fn pki(&self) -> PathBuf {
        self.state().join("pki").join(self.platform)
    }

    pub(crate) fn mount(&self) -> PathBuf {
        self.dir.path().join("tsm")
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.mount().join("report")
    }

    pub(crate) fn measurements(&self) -> PathBuf {
        self.mount().join("measurements")
    }

    /// An entry made by hand.
    pub(crate) fn entry(&self, name: &str) -> PathBuf {
        let entry = self.report().join(name);
        fs::create_dir(&entry).unwrap();
        entry
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn signal(&mut self, signal: rustix::process::Signal) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "no end after the signal");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The namespace goes with the test, the directory here needs the mount gone first.
        let _ = rustix::mount::unmount(self.mount(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// Whether something is mounted there, in this namespace.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}
