//! What can go wrong with an image, and what to do about it.

use std::io;
use std::path::Path;

use casemate_protocol::Refusal;

/// Why a tar entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryProblem {
    /// The path begins with `/`.
    #[error("its path is absolute")]
    AbsolutePath,
    /// The path has a `..` component.
    #[error("its path climbs with `..`")]
    ClimbingPath,
    /// The path is too long, too deep, or has a component that is too long or a zero byte.
    #[error("its path is longer or deeper than allowed, or holds a zero byte")]
    PathLength,
    /// A parent of the path is a symbolic link.
    #[error("its path leads through a symbolic link")]
    ThroughSymlink,
    /// A parent of the path is not a directory.
    #[error("its path leads through something that is not a directory")]
    ThroughFile,
    /// Character or block device, or fifo.
    #[error("it is a {kind}")]
    SpecialFile {
        /// What it is.
        kind: &'static str,
    },
    /// An entry type that is not understood.
    #[error("its type {found:#04x} is not supported")]
    UnknownType {
        /// The type byte.
        found: u8,
    },
    /// A hard link to nothing, to a directory, or to the outside.
    #[error("it is a hard link to `{target}`, which is not a file of this image")]
    HardLinkTarget {
        /// The target as found.
        target: String,
    },
    /// A link without a target or with one that is too long.
    #[error("its link target is empty or too long")]
    LinkTarget,
    /// A file of more bytes than allowed.
    #[error("it has {found_bytes} bytes, more than {limit_bytes}")]
    TooLarge {
        /// Size in its header.
        found_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The pax header gives another size than the tar header.
    #[error("its two headers give different sizes")]
    AmbiguousSize,
    /// User or group id that no compartment maps.
    #[error("its user or group id {found} is above {limit}")]
    Id {
        /// The id.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A file name that begins with `.wh.` but is no whiteout.
    #[error("its name is reserved for whiteouts")]
    ReservedName,
    /// The root of the image is not a directory.
    #[error("it would replace the root directory")]
    ReplacesRoot,
    /// A header field that is not a number, or an extended header that does not parse.
    #[error("its header is malformed")]
    Header,
    /// A mount point that the compartment needs is taken by something else.
    #[error("a {needed} is needed there as a mount point")]
    MountPoint {
        /// What is needed.
        needed: &'static str,
    },
}

/// Why the user of an image has no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserProblem {
    /// It is neither a user nor a user and a group.
    #[error("is not `USER` or `USER:GROUP`")]
    Spelling,
    /// A number that no compartment maps.
    #[error("has a number that is not below 65536")]
    Range,
    /// There is no such user.
    #[error(
        "is not in the image's /etc/passwd, or its first line there has not seven fields and ids below 65536"
    )]
    NoUser,
    /// There is no such group.
    #[error(
        "has a group that is not in the image's /etc/group, or whose first line there has not four fields and an id below 65536"
    )]
    NoGroup,
    /// There is no file of users.
    #[error("is a name, and the image's /etc/passwd is missing, larger than 1 MiB or no file")]
    NoPasswd,
    /// There is no file of groups.
    #[error("has a group by name, and the image's /etc/group is missing, larger than 1 MiB or no file")]
    NoGroupFile,
}

/// What went wrong, by whose fault: input, content that does not match, environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The name of an image is not one.
    #[error("`{found}` is not an image name")]
    Reference {
        /// The name as found.
        found: String,
    },
    /// The store has no such image or blob.
    #[error("the image store has no `{what}`")]
    NotFound {
        /// Name or digest.
        what: String,
    },
    /// An entry of a tar or layer is refused.
    #[error("entry `{entry}` is refused: {problem}")]
    Entry {
        /// Its path, printable.
        entry: String,
        /// Why.
        problem: EntryProblem,
    },
    /// A tar, gzip stream or JSON document is malformed.
    #[error("the {what} is malformed: {problem}")]
    Malformed {
        /// What.
        what: &'static str,
        /// How.
        problem: String,
    },
    /// Understood, but not supported.
    #[error("the {what} `{found}` is not supported")]
    Unsupported {
        /// What.
        what: &'static str,
        /// As found.
        found: String,
    },
    /// More than allowed.
    #[error("{what} of the image exceed the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The image's user has no number.
    #[error("the image's user `{found}` {problem}")]
    User {
        /// As found.
        found: String,
        /// Why.
        problem: UserProblem,
    },
    /// A file or directory holds several images, or none of the name asked for.
    #[error("{problem}; it holds {found}")]
    Choice {
        /// Why none was chosen.
        problem: &'static str,
        /// The names that there are.
        found: String,
    },
    /// Nothing says what an image is called.
    #[error("nothing says what the image is called; {found}")]
    NoName {
        /// What there is.
        found: String,
    },
    /// Options for one kind of input, and another kind.
    #[error("an entrypoint was given for an image that brings its own ({format})")]
    OwnEntrypoint {
        /// What the input is.
        format: &'static str,
    },
    /// Bytes are not those that were asked for.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The lock pins a root file system of a form that is not used any more.
    #[error(
        "the root file system {digest} is one file, as earlier versions made it: names in it are cached for all agents at once"
    )]
    OlderForm {
        /// Its digest.
        digest: String,
    },
    /// Another process uses the store.
    #[error("another process has held the image store for {waited_ms} ms")]
    Busy {
        /// How long was waited.
        waited_ms: u64,
    },
    /// A program that is needed failed.
    #[error("`{program}` {problem}")]
    Tool {
        /// The program.
        program: &'static str,
        /// What happened.
        problem: String,
    },
    /// The operating system refused.
    #[error("cannot {what} {path}: {problem}")]
    Io {
        /// What was tried, a verb.
        what: &'static str,
        /// On what.
        path: String,
        /// Its kind.
        kind: io::ErrorKind,
        /// Its text.
        problem: String,
    },
}

impl ImageError {
    /// What the user can do: the second line of the message.
    #[must_use]
    pub fn todo(&self) -> &'static str {
        match self {
            Self::Reference { .. } => {
                "use letters, digits and `.-_:/@+`, at most 255, beginning with a letter or digit"
            }
            Self::NotFound { .. } => {
                "list what there is with `casemate image ls`, add it with `casemate image import`"
            }
            Self::Entry { problem, .. } => entry_todo(problem),
            Self::Malformed { .. } => "make the file again; it may be cut short or of another format",
            Self::Unsupported { .. } => {
                "convert the image: Linux on this machine's architecture, layers in tar, gzip or zstd, OCI 1.1 or Docker's schema 2"
            }
            Self::Limit { .. } => "make the image smaller",
            Self::User { .. } => "give the image's user in numbers, for example `USER 1000:1000`",
            Self::Choice { .. } => "choose one with `--select NAME`",
            Self::NoName { .. } => "give it a name with `--name NAME`",
            Self::OwnEntrypoint { .. } => "leave out `--entrypoint`, or import with `--format rootfs`",
            Self::Refused(_) => {
                "if the change was meant, lock again; if not, import the image again and ask who changed it"
            }
            Self::OlderForm { .. } => {
                "lock again (`casemate lock`): the root file system is then built again, of the layers that the store has"
            }
            Self::Busy { .. } => "wait for it, or end it, and try again",
            Self::Tool { .. } => {
                "install erofs-utils (Debian: apt-get install erofs-utils) and check free space"
            }
            Self::Io { kind: io::ErrorKind::StorageFull, .. } => "free some disk space and try again",
            Self::Io { kind: io::ErrorKind::PermissionDenied, .. } => {
                "run as root: the store is root's alone"
            }
            Self::Io { .. } => "check the path and the disk",
        }
    }

    /// An operating system error with its context.
    pub(crate) fn io(what: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io { what, path: path.display().to_string(), kind: error.kind(), problem: error.to_string() }
    }

    /// The same, from the number of a system call.
    pub(crate) fn errno(what: &'static str, path: &Path, error: rustix::io::Errno) -> Self {
        Self::io(what, path, &io::Error::from(error))
    }

    /// A refused entry, its name made printable.
    pub(crate) fn entry(path: &Path, problem: EntryProblem) -> Self {
        Self::Entry { entry: printable(path), problem }
    }
}

/// A path as one printable, bounded line.
pub(crate) fn printable(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut out: String =
        text.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(200).is_some() {
        out.push('\u{2026}');
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

fn entry_todo(problem: &EntryProblem) -> &'static str {
    match problem {
        EntryProblem::SpecialFile { .. } => {
            "leave it out (tar --exclude=./dev/*): the compartment makes its own /dev"
        }
        EntryProblem::Id { .. } => "give the file to a user and group below 65536",
        EntryProblem::TooLarge { .. } => "keep such data in a volume, not in the image",
        EntryProblem::MountPoint { .. } => "make it a plain, empty directory in the image",
        _ => "make the tar again with a tool you trust (tar -C ROOTFS -c .); this one may be hostile",
    }
}
