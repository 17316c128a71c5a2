//! A native compartment as the warden makes it, without the warden: control group, private root, filter, Landlock, sockets
//! and the wait for the byte that lets the agent go.

use std::io::{PipeReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use casemate_composition::rules::{LANDLOCK_RULES, SECCOMP_RULES};
use casemate_sys::cgroup::{Group, GroupLimits, remove_box};
use casemate_sys::root::{ImageFiles, RootObject};
use casemate_sys::spawn::{FirstProcess, Released, Streams};
use casemate_sys::spec::{Rlimit, Spec, Tmpfs};
use casemate_sys::{seccomp, spawn};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// First outer id: beyond those of boxes.
const UID_BASE: u32 = 0x4f00_0000;
/// Between two looks whether a compartment ended.
const POLL: Duration = Duration::from_micros(200);

/// What compartments are made of. Dropping it removes their control groups.
pub(crate) struct Native {
    launcher: PathBuf,
    metadata: std::fs::File,
    data: std::fs::File,
    seccomp: Vec<u8>,
    staging: String,
    box_name: &'static str,
}

/// A compartment whose agent was let go. Dropping it ends it.
pub(crate) struct Standing {
    output: PipeReader,
    first: FirstProcess,
    group: Group,
    _released: Released,
}

impl Native {
    /// From a folder that becomes the root file system; its files are made in `staging`.
    pub(crate) fn of(launcher: &Path, tree: &Path, staging: &Path, box_name: &'static str) -> Outcome<Self> {
        let (metadata, data) = (staging.join("root.metadata"), staging.join("root.data"));
        // As casemate-images builds it.
        let mut make = Command::new("mkfs.erofs");
        make.args(["-Enosbcrc", "--chunksize=65536", "--blobdev"]).args([&data, &metadata, tree]);
        let made = make.stdin(Stdio::null()).output()?;
        if !made.status.success() {
            return Err(format!("mkfs.erofs: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        Ok(Self {
            launcher: launcher.to_owned(),
            metadata: std::fs::File::open(&metadata)?,
            data: std::fs::File::open(&data)?,
            seccomp: seccomp::compile(SECCOMP_RULES)?,
            staging: staging.display().to_string(),
            box_name,
        })
    }

    /// Starts one.
    pub(crate) fn start(&self, name: &str, command: &[&str]) -> Outcome<Standing> {
        let prepared = spawn::prepare(&self.launcher)?;
        let (output, writer) = std::io::pipe()?;
        let errors = OwnedFd::from(std::fs::File::options().write(true).open("/dev/null")?);
        let limits = GroupLimits {
            memory_bytes: 512 << 20,
            pids: 64,
            memory_reserved_bytes: None,
            cpu_milli: None,
            cpu_shares: 1024,
        };
        let group = Group::create(self.box_name, name, limits)?;
        let spec = self.spec(&group, command);
        let image = ImageFiles { metadata: self.metadata.as_fd(), data: self.data.as_fd() };
        let root = RootObject::Image(image);
        let starting = {
            let streams = Streams::Output { stdout: OwnedFd::from(writer), stderr: errors };
            prepared.start(&spec, root, None, &streams)?
        };
        let launched = starting.collect()?;
        let released = launched.gate.release()?;
        Ok(Standing { output, first: launched.first, group, _released: released })
    }

    fn spec(&self, group: &Group, command: &[&str]) -> Spec {
        Spec {
            uid_base: UID_BASE,
            uid: 1000,
            gid: 1000,
            root_number: 1,
            staging: self.staging.clone(),
            cgroup_join: group.join_files(),
            hostname: "bench".into(),
            hosts: "127.0.0.1 localhost\n".into(),
            tmpfs: vec![Tmpfs { target: "/tmp".into(), size_bytes: 256 << 20, mode: 0o1777 }],
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            working_dir: "/".into(),
            rlimits: vec![Rlimit { resource: 7, soft: 1024, hard: 1024 }],
            shm_bytes: 64 << 20,
            listeners: vec![([127, 64, 0, 1], 8080)],
            resolver: 1,
            pool: 8,
            seccomp: self.seccomp.clone(),
            landlock: landlock_lines(),
            ..Spec::default()
        }
    }
}

/// The rules of native compartments, with the two places that are writable here.
fn landlock_lines() -> Vec<String> {
    let rules = LANDLOCK_RULES.lines().map(str::trim);
    let rules = rules.filter(|line| !line.is_empty() && !line.starts_with('#'));
    rules
        .flat_map(|line| match line.strip_suffix("@writable") {
            Some(access) => vec![format!("{access}/tmp"), format!("{access}/dev/shm")],
            None => vec![line.to_owned()],
        })
        .collect()
}

impl Standing {
    /// Waits for the first byte of its output.
    pub(crate) fn first_byte(&mut self) -> Outcome<()> {
        Ok(self.output.read_exact(&mut [0; 1])?)
    }

    /// Its whole output, once it ended.
    pub(crate) fn output(mut self) -> Outcome<String> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        match self.end()? {
            0 => Ok(text),
            status => Err(format!("the program inside ended with {status}: {text}").into()),
        }
    }

    /// Waits for its end, and removes its group. Its exit status.
    pub(crate) fn end(self) -> Outcome<i32> {
        let status = loop {
            match self.first.ended()? {
                Some(status) => break status,
                None => std::thread::sleep(POLL),
            }
        };
        self.group.remove()?;
        Ok(status)
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // What cannot be removed shows in the next run.
        let _ = remove_box(self.box_name);
    }
}
