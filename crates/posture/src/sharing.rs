//! The sharing ledger: what each two agents of a box have in common, and what it would cost, or costs, to have it apart.
//!
//! Everything is counted on the running box: files and mounts from `/proc`, page frames from the kernel's own tables.
//! What could not be counted is said with its reason; nothing is estimated. What a file's name is, is a name that the
//! agent chose.

pub(crate) mod files;
pub(crate) mod frames;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::agents::{self, AgentFacts, status_field};
use crate::doctor::pairs;
use crate::kernel_text::FileId;
use crate::tree::{Tree, Unread};

/// Memory that the kernel puts into every process.
const KERNEL_NAMES: [&str; 4] = ["[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]"];

/// What could not be counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotRun {
    /// What.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What a shared file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A library, by its name (`*.so*`).
    Library,
    /// Any other file.
    Other,
}

/// A file that processes of both have mapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedFile {
    /// Its name, as the first agent has it.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Number of the file system instance.
    pub device: String,
    /// Its inode.
    pub inode: String,
}

/// Page frames that both have mapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedFrames {
    /// Frames of files and memory of the agents, by name.
    pub frames: BTreeMap<String, u64>,
    /// Frames that the kernel has in every process, and those of programs that the box runs for each agent: its first process,
    /// and in a sandbox gVisor's.
    pub of_the_box: BTreeMap<String, u64>,
    /// What the frames of the agents take; as much more memory would be needed to have them apart.
    pub bytes: u64,
    /// What both have in memory of the same place of a file of the same name, in frames of their own: what having them apart
    /// costs.
    pub apart_bytes: u64,
}

/// What two agents have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The agents.
    pub agents: [String; 2],
    /// The group that the composition lets them share in.
    pub share: Option<String>,
    /// Files that both have mapped.
    pub files: Vec<SharedFile>,
    /// Folders that both have mounted.
    pub mounts: Vec<String>,
    /// Page frames; none where they could not be counted.
    pub frames: Option<SharedFrames>,
    /// Sockets, pipes and the like that processes of both have open.
    pub open: Vec<String>,
    /// Kinds of namespaces that are one for both.
    pub namespaces: Vec<String>,
    /// Users of the box under whom processes of both run.
    pub users: Vec<String>,
    /// The closest control group that has both in it.
    pub control_group: Option<String>,
    /// Kinds of file systems that both reach the kernel through.
    pub kernel: Vec<String>,
    /// What could not be counted.
    pub not_run: Vec<NotRun>,
}

impl Pair {
    /// Whether anything of theirs was seen to be in common: a file, a mount, a frame, an open object, a namespace, a user.
    #[must_use]
    pub fn has_in_common(&self) -> bool {
        let frames = self.frames.as_ref().is_some_and(|frames| !frames.frames.is_empty());
        let lists = [&self.mounts, &self.open, &self.namespaces, &self.users];
        frames || !self.files.is_empty() || lists.iter().any(|list| !list.is_empty())
    }

    /// Whether they have nothing in common, and all of it was counted.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        self.frames.is_some() && self.not_run.is_empty() && !self.has_in_common()
    }
}

/// The ledger of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Version of the kernel that serves all of them.
    pub kernel: Option<String>,
    /// How long root and compartment of each agent took to build at its last start, in milliseconds, as the caller measured
    /// it.
    pub build_ms: BTreeMap<String, u64>,
    /// Each two agents.
    pub pairs: Vec<Pair>,
}

/// Counts what each two of `agents` have in common; `build_ms` is handed on.
#[must_use]
pub fn ledger(tree: &Tree, agents: &[AgentFacts], build_ms: BTreeMap<String, u64>) -> Ledger {
    let frames: BTreeMap<&str, Result<frames::Frames, Unread>> =
        agents.iter().map(|agent| (agent.name.as_str(), frames::frames(tree, agent))).collect();
    let pair = |(a, b): (&AgentFacts, &AgentFacts)| {
        let counted = match (frames.get(a.name.as_str()), frames.get(b.name.as_str())) {
            (Some(Ok(of_a)), Some(Ok(of_b))) => frames::common(tree, of_a, of_b),
            (Some(Err(why)), _) | (_, Some(Err(why))) => Err(why.clone()),
            _ => Err(Unread::Absent),
        };
        self::pair(tree, a, b, counted)
    };
    let kernel = tree.line("/proc/sys/kernel/osrelease").ok();
    Ledger { kernel, build_ms, pairs: pairs(agents).map(pair).collect() }
}

fn pair(tree: &Tree, a: &AgentFacts, b: &AgentFacts, counted: Result<frames::CommonFrames, Unread>) -> Pair {
    let mut not_run = Vec::new();
    let mut miss = |name: &str, reason: String| not_run.push(NotRun { name: name.into(), reason });
    let files = files::common(tree, a, b).unwrap_or_else(|(place, why)| {
        miss("files and mounts", format!("{place}: {}", why.describe()));
        files::Common::default()
    });
    let own: BTreeSet<&str> = files.own.iter().map(|(_, name)| name.as_str()).collect();
    let frames = match counted {
        Ok(counted) => Some(shared_frames(counted, &own)),
        Err(why) => {
            miss("page frames", why.describe());
            None
        }
    };
    let mut get = |name: &str, found: Result<Vec<String>, Unread>| {
        found.unwrap_or_else(|why| {
            miss(name, why.describe());
            Vec::new()
        })
    };
    let open = get("open objects", both(open(tree, a), open(tree, b)));
    let namespaces = get("namespaces", both(namespaces(tree, a), namespaces(tree, b)));
    let users = get("users", both(users(tree, a), users(tree, b)));
    let kernel = get("kernel", both(kernel(tree, a), kernel(tree, b)));
    let control_group = match (group(tree, a), group(tree, b)) {
        (Ok(a), Ok(b)) => Some(closest(&a, &b)),
        (Err(why), _) | (_, Err(why)) => {
            miss("control group", why.describe());
            None
        }
    };
    Pair {
        agents: [a.name.clone(), b.name.clone()],
        share: a.share.clone().filter(|group| b.share.as_ref() == Some(group)),
        files: files.mapped.into_iter().map(shared_file).collect(),
        mounts: files.mounted,
        frames,
        open,
        namespaces,
        users,
        control_group,
        kernel,
        not_run,
    }
}

fn shared_file(((device, inode), name): (FileId, String)) -> SharedFile {
    let last = name.rsplit('/').next().unwrap_or(&name);
    let is_library = last.ends_with(".so") || last.contains(".so.");
    let kind = if is_library { FileKind::Library } else { FileKind::Other };
    SharedFile { kind, name, device, inode }
}

fn shared_frames(counted: frames::CommonFrames, own: &BTreeSet<&str>) -> SharedFrames {
    let is_of_the_box = |name: &str| KERNEL_NAMES.contains(&name) || own.contains(name);
    let (of_the_box, frames): (BTreeMap<_, _>, BTreeMap<_, _>) =
        counted.by_name.into_iter().partition(|(name, _)| is_of_the_box(name));
    let count: u64 = frames.values().fold(0, |sum, count| sum.saturating_add(*count));
    SharedFrames {
        bytes: count.saturating_mul(frames::PAGE_BYTES),
        apart_bytes: counted.apart.saturating_mul(frames::PAGE_BYTES),
        frames,
        of_the_box,
    }
}

fn both(
    a: Result<BTreeSet<String>, Unread>,
    b: Result<BTreeSet<String>, Unread>,
) -> Result<Vec<String>, Unread> {
    let (a, b) = (a?, b?);
    Ok(a.intersection(&b).cloned().collect())
}

/// Sockets, pipes and memory files that processes of an agent have open, by kind and inode.
fn open(tree: &Tree, agent: &AgentFacts) -> Result<BTreeSet<String>, Unread> {
    let mut found = BTreeSet::new();
    agent.first()?;
    for pid in &agent.pids {
        for descriptor in tree.list(&format!("/proc/{pid}/fd"))? {
            match tree.link(&format!("/proc/{pid}/fd/{descriptor}")) {
                Ok(target) if target.starts_with("socket:[") || target.starts_with("pipe:[") => {
                    found.insert(target);
                }
                // Files are compared as files; `anon_inode:` is the same text for all. A descriptor may be gone.
                Ok(_) | Err(Unread::Absent) => {}
                Err(why) => return Err(why),
            }
        }
    }
    Ok(found)
}

fn namespaces(tree: &Tree, agent: &AgentFacts) -> Result<BTreeSet<String>, Unread> {
    let pid = agent.first()?;
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    kinds.into_iter().map(|kind| tree.link(&format!("/proc/{pid}/ns/{kind}"))).collect()
}

fn users(tree: &Tree, agent: &AgentFacts) -> Result<BTreeSet<String>, Unread> {
    let mut found = BTreeSet::new();
    agent.first()?;
    for pid in &agent.pids {
        found.extend(status_field(tree, *pid, "Uid")?.split_whitespace().map(str::to_owned));
    }
    Ok(found)
}

fn kernel(tree: &Tree, agent: &AgentFacts) -> Result<BTreeSet<String>, Unread> {
    let mounts = agents::mounts(tree, &agent.first()?.to_string())?;
    Ok(mounts.into_iter().map(|mount| mount.kind).collect())
}

/// The control group of an agent's memory.
fn group(tree: &Tree, agent: &AgentFacts) -> Result<String, Unread> {
    let text = tree.text(&format!("/proc/{}/cgroup", agent.first()?))?;
    let line = text.lines().find(|line| line.contains(":memory:") || line.starts_with("0::/"));
    line.and_then(|line| line.splitn(3, ':').nth(2)).map(str::to_owned).ok_or(Unread::NotText)
}

/// The longest path that both are in.
fn closest(a: &str, b: &str) -> String {
    let parts = a.split('/').zip(b.split('/')).take_while(|(one, other)| one == other).map(|(one, _)| one);
    let path = parts.collect::<Vec<_>>().join("/");
    if path.is_empty() { "/".to_owned() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_group_is_whole_names_long() {
        assert_eq!(closest("/box/a", "/box/b"), "/box");
        assert_eq!(closest("/box/a", "/boxes/a"), "/");
        assert_eq!(closest("/box/a", "/box/a"), "/box/a");
    }

    #[test]
    fn a_library_is_told_by_its_name() {
        let kind = |name: &str| shared_file((("0:1".into(), "2".into()), name.into())).kind;
        assert_eq!(kind("/lib/libc.so.6"), FileKind::Library);
        assert_eq!(kind("/lib/x.so"), FileKind::Library);
        assert_eq!(kind("/lib.so.d/program"), FileKind::Other);
    }
}
