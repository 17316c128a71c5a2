//! The launcher's instructions and answers: what warden and launcher say to each other.
//!
//! The specification arrives in a sealed memory file, the answers leave on a `SOCK_SEQPACKET` socket, one frame a
//! packet, with descriptors where a frame says so. No JSON: the launcher reads this with root.

use casemate_frame::{FrameError, Reader, Writer};

/// Largest specification in bytes.
pub const SPEC_BYTES_MAX: usize = 8 << 20;
/// [`Spec::join`]: writes the files at the path `command` to standard output, as [`crate::transfer`] has them.
pub const JOIN_COPY_OUT: u8 = 2;
/// [`Spec::join`]: writes the files that arrive on standard input to the path `command`.
pub const JOIN_COPY_IN: u8 = 3;
/// [`JOIN_COPY_OUT`] of a compartment whose agent runs in a sandbox: its tree is [`crate::compartment::sandbox::ROOT`].
pub const JOIN_SANDBOX_COPY_OUT: u8 = 4;
/// [`JOIN_COPY_IN`], likewise.
pub const JOIN_SANDBOX_COPY_IN: u8 = 5;
/// [`Spec::streams`]: the compartment's own `/dev/null` three times.
pub const STREAMS_NONE: u8 = 0;
/// [`Spec::streams`]: output and error as the launcher has them.
pub const STREAMS_OUTPUT: u8 = 1;
/// [`Spec::streams`]: all three as the launcher has them.
pub const STREAMS_ALL: u8 = 2;
/// [`Spec::streams`]: all three are one terminal, which becomes the command's own.
pub const STREAMS_TERMINAL: u8 = 3;
/// Ids of one compartment: inner ids 0 to 65535 stand for `uid_base` and up outside.
pub const ID_RANGE: u32 = 65_536;
/// Most items of a list.
const ITEMS_MAX: usize = 4096;
/// Largest content of one configuration file: the probe's program is one.
pub const CONFIG_BYTES_MAX: usize = 6 << 20;
/// Largest configuration of a sandbox.
const SANDBOX_CONFIG_BYTES_MAX: usize = 4 << 20;
/// Longest text.
const TEXT_BYTES_MAX: usize = 128 << 10;

/// All that the launcher needs to build one compartment. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spec {
    /// First id of the range outside: inner 0 is `uid_base`.
    pub uid_base: u32,
    /// Inner user.
    pub uid: u32,
    /// Inner group.
    pub gid: u32,
    /// Further inner groups.
    pub groups: Vec<u32>,
    /// 0 to build a compartment from the image that is handed over; for the standing one, 1 to run a command,
    /// [`JOIN_COPY_OUT`] and those after it to copy files.
    pub join: u8,
    /// What the agent, or a command that joins it, has as its three streams: [`STREAMS_NONE`], only to join, and those
    /// after it.
    pub streams: u8,
    /// 1 where what is handed over is a mount that is shared, 0 where it is an image.
    pub shared_root: u8,
    /// Number of the copy of the metadata that the root is mounted from; a shared root has it already.
    pub root_number: u64,
    /// Any existing directory outside: the root is mounted over it for a moment.
    pub staging: String,
    /// Files of control groups into which `0` is written to join.
    pub cgroup_join: Vec<String>,
    /// Host name inside.
    pub hostname: String,
    /// Content of `/etc/hosts`.
    pub hosts: String,
    /// Memory file systems besides `/run`, `/dev` and `/tmp`'s own entry here.
    pub tmpfs: Vec<Tmpfs>,
    /// Directories from outside.
    pub volumes: Vec<Volume>,
    /// Files of fixed content.
    pub configs: Vec<Config>,
    /// Size of `/dev/shm`.
    pub shm_bytes: u64,
    /// Program and arguments.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Working directory inside.
    pub working_dir: String,
    /// Limits of each process, besides those that are always 0.
    pub rlimits: Vec<Rlimit>,
    /// Out-of-memory score.
    pub oom_score_adj: u32,
    /// TCP listeners to create inside, handed out: address (network order octets) and port.
    pub listeners: Vec<([u8; 4], u16)>,
    /// Unix listeners to create inside, handed out after those: their paths.
    pub socket_paths: Vec<String>,
    /// Whether the resolver sockets at 127.0.0.53:53 are created and handed out.
    pub resolver: u8,
    /// Unconnected TCP sockets to create inside and hand out.
    pub pool: u32,
    /// Compiled system call filter: `struct sock_filter` records.
    pub seccomp: Vec<u8>,
    /// Landlock rules: `ACCESS PATH` lines, `@writable` already replaced.
    pub landlock: Vec<String>,
    /// 1 to deny memory that is or becomes both writable and executable.
    pub deny_write_execute: u8,
    /// Controls that may be missing.
    pub weaker: Vec<String>,
    /// The sandbox that the agent runs in; none means that it runs under the box's own kernel.
    pub sandbox: Option<Sandbox>,
}

/// A sandbox whose program has the commands of an OCI runtime: `create`, `start`, `kill`, `exec`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sandbox {
    /// Arguments in front of each command.
    pub options: Vec<String>,
    /// To build: the content of `config.json` (OCI runtime specification), whose root is
    /// [`crate::compartment::sandbox::ROOT`]. To join: that of its member `process`, for the command.
    pub config: String,
}

/// A memory file system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tmpfs {
    /// Where.
    pub target: String,
    /// Largest size.
    pub size_bytes: u64,
    /// Permission bits of its root.
    pub mode: u32,
}

/// A directory from outside. Its ids on disk are inner ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    /// Directory outside.
    pub source: String,
    /// Where.
    pub target: String,
    /// 1 for without writing.
    pub read_only: u8,
}

/// A file of fixed content, mounted read-only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Where.
    pub target: String,
    /// Its whole content.
    pub content: Vec<u8>,
    /// Inner owner.
    pub uid: u32,
    /// Inner group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// A limit of each process; `u64::MAX` means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rlimit {
    /// Linux's number of the limit: `RLIMIT_*`.
    pub resource: u8,
    /// What is in force.
    pub soft: u64,
    /// To what it may be raised.
    pub hard: u64,
}

/// From the launcher, or from the first process of the compartment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One descriptor: the pidfd of the compartment's first process, which is the warden's child.
    Spawned {
        /// Its process id outside.
        pid: i32,
    },
    /// Two descriptors: the listening agent socket and the directory `/run/secrets`. Then, in this order and in as
    /// many packets as it takes ([`Answer::Sockets`]): listeners, Unix listeners, resolver UDP and TCP, pool.
    Inside,
    /// Up to [`crate::descriptors::PACKET_DESCRIPTORS_MAX`] descriptors.
    Sockets,
    /// Confined: no capability, filter and Landlock on. It waits for one byte before the agent runs.
    Ready {
        /// Controls that are not applied.
        not_applied: Vec<String>,
        /// Controls that nothing outside shows, and that it tried to break: the kernel refused.
        tried: Vec<String>,
    },
    /// A step failed; the compartment is gone.
    Failed {
        /// The control that could not be applied, or empty.
        control: String,
        /// Which step.
        step: String,
        /// Error number of the system.
        errno: i32,
    },
    /// The program could not be executed.
    ExecFailed {
        /// Error number of the system.
        errno: i32,
    },
}

impl Spec {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(self.join)
            .u8(self.streams)
            .u8(self.shared_root)
            .u64(self.root_number)
            .u32(self.uid_base)
            .u32(self.uid)
            .u32(self.gid);
        count(&mut w, self.groups.len());
        for group in &self.groups {
            w.u32(*group);
        }
        w.text(&self.staging).text(&self.hostname).text(&self.hosts);
        texts(&mut w, &self.cgroup_join);
        count(&mut w, self.tmpfs.len());
        for t in &self.tmpfs {
            w.text(&t.target).u64(t.size_bytes).u32(t.mode);
        }
        count(&mut w, self.volumes.len());
        for v in &self.volumes {
            w.text(&v.source).text(&v.target).u8(v.read_only);
        }
        count(&mut w, self.configs.len());
        for c in &self.configs {
            w.text(&c.target).bytes(&c.content).u32(c.uid).u32(c.gid).u32(c.mode);
        }
        w.u64(self.shm_bytes);
        texts(&mut w, &self.command);
        texts(&mut w, &self.environment);
        w.text(&self.working_dir).u32(self.oom_score_adj);
        count(&mut w, self.rlimits.len());
        for limit in &self.rlimits {
            w.u8(limit.resource).u64(limit.soft).u64(limit.hard);
        }
        count(&mut w, self.listeners.len());
        for (address, port) in &self.listeners {
            w.u32(u32::from_be_bytes(*address)).u32((*port).into());
        }
        texts(&mut w, &self.socket_paths);
        w.u8(self.resolver).u32(self.pool).bytes(&self.seccomp);
        texts(&mut w, &self.landlock);
        w.u8(self.deny_write_execute);
        texts(&mut w, &self.weaker);
        w.u8(u8::from(self.sandbox.is_some()));
        if let Some(sandbox) = &self.sandbox {
            texts(&mut w, &sandbox.options);
            w.text(&sandbox.config);
        }
        w.finish()
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let mut r = Reader::new(bytes);
        let mut spec = Self {
            join: r.u8()?,
            streams: r.u8()?,
            shared_root: r.u8()?,
            root_number: r.u64()?,
            uid_base: r.u32()?,
            uid: r.u32()?,
            gid: r.u32()?,
            ..Self::default()
        };
        for _ in 0..r.count(ITEMS_MAX)? {
            spec.groups.push(r.u32()?);
        }
        spec.staging = r.text(TEXT_BYTES_MAX)?;
        spec.hostname = r.text(64)?;
        spec.hosts = r.text(TEXT_BYTES_MAX)?;
        spec.cgroup_join = read_texts(&mut r)?;
        for _ in 0..r.count(ITEMS_MAX)? {
            spec.tmpfs.push(Tmpfs { target: r.text(TEXT_BYTES_MAX)?, size_bytes: r.u64()?, mode: r.u32()? });
        }
        for _ in 0..r.count(ITEMS_MAX)? {
            spec.volumes.push(Volume {
                source: r.text(TEXT_BYTES_MAX)?,
                target: r.text(TEXT_BYTES_MAX)?,
                read_only: r.u8()?,
            });
        }
        for _ in 0..r.count(ITEMS_MAX)? {
            spec.configs.push(Config {
                target: r.text(TEXT_BYTES_MAX)?,
                content: r.bytes(CONFIG_BYTES_MAX)?.to_vec(),
                uid: r.u32()?,
                gid: r.u32()?,
                mode: r.u32()?,
            });
        }
        spec.shm_bytes = r.u64()?;
        spec.command = read_texts(&mut r)?;
        spec.environment = read_texts(&mut r)?;
        spec.working_dir = r.text(TEXT_BYTES_MAX)?;
        spec.oom_score_adj = r.u32()?;
        for _ in 0..r.count(ITEMS_MAX)? {
            spec.rlimits.push(Rlimit { resource: r.u8()?, soft: r.u64()?, hard: r.u64()? });
        }
        for _ in 0..r.count(ITEMS_MAX)? {
            let address = r.u32()?.to_be_bytes();
            let port = r.u32()?;
            let port = u16::try_from(port).map_err(|_| FrameError::UnknownTag { found: port.into() })?;
            spec.listeners.push((address, port));
        }
        spec.socket_paths = read_texts(&mut r)?;
        spec.resolver = r.u8()?;
        spec.pool = r.u32()?;
        spec.seccomp = r.bytes(SPEC_BYTES_MAX)?.to_vec();
        spec.landlock = read_texts(&mut r)?;
        spec.deny_write_execute = r.u8()?;
        spec.weaker = read_texts(&mut r)?;
        spec.sandbox = match r.u8()? {
            0 => None,
            1 => Some(Sandbox { options: read_texts(&mut r)?, config: r.text(SANDBOX_CONFIG_BYTES_MAX)? }),
            found => return Err(FrameError::UnknownTag { found: found.into() }),
        };
        r.end()?;
        Ok(spec)
    }
}

impl Answer {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Spawned { pid } => {
                w.u8(1).u32(pid.cast_unsigned());
            }
            Self::Inside => {
                w.u8(2);
            }
            Self::Sockets => {
                w.u8(3);
            }
            Self::Ready { not_applied, tried } => {
                w.u8(4);
                texts(&mut w, not_applied);
                texts(&mut w, tried);
            }
            Self::Failed { control, step, errno } => {
                w.u8(5).text(control).text(step).u32(errno.cast_unsigned());
            }
            Self::ExecFailed { errno } => {
                w.u8(6).u32(errno.cast_unsigned());
            }
        }
        w.finish()
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let mut r = Reader::new(bytes);
        let answer = match r.u8()? {
            1 => Self::Spawned { pid: r.u32()?.cast_signed() },
            2 => Self::Inside,
            3 => Self::Sockets,
            4 => Self::Ready { not_applied: read_texts(&mut r)?, tried: read_texts(&mut r)? },
            5 => Self::Failed { control: r.text(64)?, step: r.text(1024)?, errno: r.u32()?.cast_signed() },
            6 => Self::ExecFailed { errno: r.u32()?.cast_signed() },
            found => return Err(FrameError::UnknownTag { found: found.into() }),
        };
        r.end()?;
        Ok(answer)
    }
}

fn count(w: &mut Writer, items: usize) {
    w.u32(u32::try_from(items).unwrap_or(u32::MAX));
}

fn texts(w: &mut Writer, items: &[String]) {
    count(w, items.len());
    for item in items {
        w.text(item);
    }
}

fn read_texts(r: &mut Reader<'_>) -> Result<Vec<String>, FrameError> {
    (0..r.count(ITEMS_MAX)?).map(|_| r.text(TEXT_BYTES_MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Spec {
        Spec {
            uid_base: 1_000_000,
            uid: 1000,
            gid: 1000,
            groups: vec![7, 8],
            join: 0,
            streams: 3,
            shared_root: 1,
            root_number: 0x0102_0304_0506_0708,
            staging: "/b".into(),
            cgroup_join: vec!["/c".into()],
            hostname: "h".into(),
            hosts: "x".into(),
            tmpfs: vec![Tmpfs { target: "/tmp".into(), size_bytes: 1 << 20, mode: 0o1777 }],
            volumes: vec![Volume { source: "/d".into(), target: "/e".into(), read_only: 1 }],
            configs: vec![Config {
                target: "/f".into(),
                content: b"x".to_vec(),
                uid: 1,
                gid: 2,
                mode: 0o444,
            }],
            shm_bytes: 1 << 20,
            command: vec!["true".into()],
            environment: vec!["A=b".into()],
            working_dir: "/".into(),
            oom_score_adj: 500,
            rlimits: vec![Rlimit { resource: 7, soft: 1024, hard: u64::MAX }],
            listeners: vec![([127, 64, 0, 1], 8080)],
            socket_paths: vec!["/run/casemate/edges/b/s".into()],
            resolver: 1,
            pool: 8,
            seccomp: vec![0; 16],
            landlock: vec!["read /".into()],
            deny_write_execute: 1,
            weaker: vec!["landlock".into()],
            sandbox: Some(Sandbox { options: vec!["--x".into()], config: "{}".into() }),
        }
    }

    #[test]
    fn specification_round_trips_and_refuses_truncation_at_every_offset() {
        let whole = sample().encode();
        assert_eq!(Spec::decode(&whole), Ok(sample()));
        for end in 0..whole.len() {
            assert!(Spec::decode(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn answers_round_trip() {
        for answer in [
            Answer::Spawned { pid: 12 },
            Answer::Inside,
            Answer::Sockets,
            Answer::Ready { not_applied: vec!["keyring".into()], tried: vec!["landlock".into()] },
            Answer::Failed { control: "landlock".into(), step: "restrict".into(), errno: 38 },
            Answer::ExecFailed { errno: 2 },
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }
}
