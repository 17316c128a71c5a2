//! Files and folders as a stream of items, for copies into a compartment and out of it.
//!
//! What it is: a walk that writes items, and a receiver that makes files of them. Both ends are the same code: inside, a
//! process confined as the agent runs it, outside, the command line. The receiver takes nothing on trust: a name is one
//! plain component after the other, no step goes through a symbolic link, nothing is made but files and folders, and
//! there is a limit on everything. What it is not: an archive. Links, devices, owners and times are not copied.
//! Who trusts it: nobody; what arrives is the other side's allegation.

mod receive;
mod send;

use std::io::{self, Read, Write};

use casemate_frame::{FrameError, Reader, Writer};
use rustix::io::Errno;

pub use receive::{Limits, receive};
pub use send::send;

/// Longest path in bytes.
const PATH_BYTES_MAX: usize = 4096;
/// Longest reason in bytes.
const REASON_BYTES_MAX: usize = 512;
/// Most content of one item in bytes.
const DATA_BYTES_MAX: usize = 64 << 10;
/// Longest item in bytes.
const ITEM_BYTES_MAX: usize = DATA_BYTES_MAX + 64;
/// Deepest folder.
const DEPTH_MAX: usize = 64;

/// One item of the stream. Paths are relative, `/` between components; the first component of all is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A folder.
    Folder {
        /// Where.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// A file; its content follows.
    File {
        /// Where.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// More content of the last file.
    Data(Vec<u8>),
    /// Something that is not copied.
    Skipped {
        /// What.
        path: String,
        /// Why.
        reason: String,
    },
    /// The copy failed.
    Failed {
        /// Why.
        reason: String,
    },
    /// All was sent.
    End,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copied {
    /// Files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Content in bytes.
    pub bytes: u64,
    /// What was not copied, and why: at most [`SKIPPED_MAX`] of them.
    pub skipped: Vec<(String, String)>,
}

/// Most entries of [`Copied::skipped`].
pub const SKIPPED_MAX: usize = 100;

/// Why a copy did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// An item is not one.
    #[error("what arrives is not a copy: {0}")]
    Item(#[from] FrameError),
    /// An item is longer than any is.
    #[error("an item of {found} bytes arrives, at most {ITEM_BYTES_MAX} are possible")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// A path that is not one plain component after the other, or not below the first.
    #[error("path `{}` leads elsewhere", path.escape_debug())]
    Path {
        /// The path.
        path: String,
    },
    /// An item out of turn.
    #[error("content arrives without a file")]
    OutOfTurn,
    /// More than the limits allow.
    #[error("more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The other side says that it failed.
    #[error("{reason}")]
    Other {
        /// Why.
        reason: String,
    },
    /// A file or folder could not be used.
    #[error("{path}: {errno}")]
    File {
        /// Which.
        path: String,
        /// The system's error.
        errno: Errno,
    },
    /// The stream broke off.
    #[error("the copy broke off: {0}")]
    Stream(#[from] io::Error),
}

impl Item {
    /// Writes it, behind its length.
    ///
    /// # Errors
    /// The stream's error.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut w = Writer::new();
        match self {
            Self::Folder { path, mode } => w.u8(1).text(path).u32(*mode),
            Self::File { path, mode } => w.u8(2).text(path).u32(*mode),
            Self::Data(bytes) => w.u8(3).bytes(bytes),
            Self::Skipped { path, reason } => w.u8(4).text(&shortened(path)).text(&shortened(reason)),
            Self::Failed { reason } => w.u8(5).text(&shortened(reason)),
            Self::End => w.u8(6),
        };
        let item = w.finish();
        out.write_all(&u32::try_from(item.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        out.write_all(&item)
    }

    /// Reads the next one.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn read(from: &mut impl Read) -> Result<Self, TransferError> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > ITEM_BYTES_MAX {
            return Err(TransferError::TooLong { found: length });
        }
        let mut item = vec![0; length];
        from.read_exact(&mut item)?;
        let mut r = Reader::new(&item);
        let item = match r.u8()? {
            1 => Self::Folder { path: r.text(PATH_BYTES_MAX)?, mode: r.u32()? },
            2 => Self::File { path: r.text(PATH_BYTES_MAX)?, mode: r.u32()? },
            3 => Self::Data(r.bytes(DATA_BYTES_MAX)?.to_vec()),
            4 => Self::Skipped { path: r.text(REASON_BYTES_MAX)?, reason: r.text(REASON_BYTES_MAX)? },
            5 => Self::Failed { reason: r.text(REASON_BYTES_MAX)? },
            6 => Self::End,
            found => return Err(FrameError::UnknownTag { found: found.into() }.into()),
        };
        r.end()?;
        Ok(item)
    }
}

fn shortened(text: &str) -> String {
    let mut short = String::new();
    for c in text.chars() {
        if short.len().saturating_add(c.len_utf8()) > REASON_BYTES_MAX {
            break;
        }
        short.push(c);
    }
    short
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 100 };

    fn stream(items: &[Item]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for item in items {
            item.write(&mut bytes).unwrap();
        }
        bytes
    }

    fn file(path: &str) -> Item {
        Item::File { path: path.into(), mode: 0o6755 }
    }

    fn copy(from: &Path, to: &Path) -> Result<Copied, TransferError> {
        let mut bytes = Vec::new();
        send(from.to_str().unwrap(), &mut bytes).unwrap();
        receive(&mut bytes.as_slice(), to.to_str().unwrap(), LIMITS)
    }

    #[test]
    fn a_tree_arrives_as_it_is_but_links_and_special_files() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/one"), vec![7; 200_000]).unwrap();
        fs::write(tree.join("a/b/two"), "two").unwrap();
        fs::set_permissions(tree.join("a/b/two"), fs::Permissions::from_mode(0o4750)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.join("link")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, tree.join("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let copied = copy(&tree, &dir.path().join("new")).unwrap();
        assert_eq!((copied.files, copied.folders, copied.bytes), (2, 3, 200_003));
        let mut skipped: Vec<&str> = copied.skipped.iter().map(|(path, _)| path.as_str()).collect();
        skipped.sort_unstable();
        assert_eq!(skipped, ["tree/fifo", "tree/link"]);
        assert_eq!(fs::read(dir.path().join("new/a/one")).unwrap(), vec![7; 200_000]);
        let two = fs::metadata(dir.path().join("new/a/b/two")).unwrap();
        assert_eq!(two.permissions().mode() & 0o7777, 0o750, "no set-id bit");
        // Into a folder that exists, under its own name; over what is there.
        fs::create_dir(dir.path().join("into")).unwrap();
        for _ in 0..2 {
            copy(&tree.join("a/b/two"), &dir.path().join("into")).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join("into/two")).unwrap(), "two");
        }
    }

    #[test]
    fn nothing_is_made_outside_the_target_whatever_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("to");
        fs::create_dir(&to).unwrap();
        fs::create_dir(dir.path().join("away")).unwrap();
        std::os::unix::fs::symlink("../away", to.join("link")).unwrap();
        let attempt = |items: &[Item]| receive(&mut stream(items).as_slice(), to.to_str().unwrap(), LIMITS);
        for path in ["../x", "a/../../x", "/x", "", ".", "a/./b", "a//b", "a\0b", "a/"] {
            let outcome = attempt(&[file(path), Item::End]);
            assert!(matches!(outcome, Err(TransferError::Path { .. })), "{path:?}: {outcome:?}");
        }
        let outcome = attempt(&[Item::Folder { path: "a".into(), mode: 0o755 }, file("b"), Item::End]);
        assert!(matches!(outcome, Err(TransferError::Path { .. })), "another first component: {outcome:?}");
        let outcome = attempt(&[file("link/x"), Item::Data(b"x".to_vec()), Item::End]);
        assert!(matches!(outcome, Err(TransferError::File { .. })), "through a link: {outcome:?}");
        let outcome = attempt(&[file("link"), Item::Data(b"x".to_vec()), Item::End]);
        assert!(matches!(outcome, Err(TransferError::File { .. })), "over a link: {outcome:?}");
        assert_eq!(fs::read_dir(dir.path().join("away")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_limits_hold_and_a_broken_stream_is_an_error_at_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("f");
        let to = to.to_str().unwrap();
        let big = stream(&[file("f"), Item::Data(vec![0; 3000]), Item::Data(vec![0; 3000]), Item::End]);
        let limits = Limits { bytes: 5000, entries: 2 };
        let outcome = receive(&mut big.as_slice(), to, limits);
        assert!(matches!(outcome, Err(TransferError::TooMuch { what: "bytes", limit: 5000 })), "{outcome:?}");
        let many = stream(&[file("f"), file("f"), file("f"), Item::End]);
        let outcome = receive(&mut many.as_slice(), to, limits);
        assert!(matches!(outcome, Err(TransferError::TooMuch { limit: 2, .. })), "{outcome:?}");
        let outcome = receive(&mut stream(&[Item::Data(vec![1])]).as_slice(), to, limits);
        assert!(matches!(outcome, Err(TransferError::OutOfTurn)), "{outcome:?}");
        let whole = stream(&[
            file("f"),
            Item::Data(b"abc".to_vec()),
            Item::Skipped { path: "f/x".into(), reason: "r".into() },
            Item::End,
        ]);
        for end in 0..whole.len() {
            assert!(receive(&mut &whole[..end], to, limits).is_err(), "cut at {end}");
        }
        assert_eq!(receive(&mut whole.as_slice(), to, limits).unwrap().bytes, 3);
        let failed = stream(&[Item::Failed { reason: "no such file".into() }]);
        assert!(matches!(receive(&mut failed.as_slice(), to, limits), Err(TransferError::Other { .. })));
        let long = [&u32::MAX.to_le_bytes()[..], &[0; 64]].concat();
        let outcome = receive(&mut long.as_slice(), to, limits);
        assert!(matches!(outcome, Err(TransferError::TooLong { .. })), "{outcome:?}");
    }
}
