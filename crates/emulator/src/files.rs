//! What lies behind each inode number, and what an open file remembers.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use casemate_testkit::Tee;
use rustix::io::Errno;

use crate::platform::{Machine, Register};
use crate::tsm::{Attribute, Entry, INBLOB_BYTES_MAX};

/// Most entries at one time.
pub(crate) const ENTRIES_MAX: usize = 1024;
/// Longest name of an entry in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest text written to an attribute in bytes.
const TEXT_BYTES_MAX: usize = 4095;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    Root,
    Report,
    Measurements,
    Register(Register),
    /// An entry, by its number.
    Entry(u64),
    /// An attribute of an entry.
    Attribute(u64, Attribute),
}

/// Inode numbers: 1 to 3 the fixed directories, 16 and up the registers, and 256 to an entry.
const ENTRY_STRIDE: u64 = 256;
const REGISTER_BASE: u64 = 16;

impl Node {
    pub(crate) fn inode(self) -> u64 {
        let place = |position: Option<usize>| position.map_or(0, |position| position as u64);
        match self {
            Self::Root => 1,
            Self::Report => 2,
            Self::Measurements => 3,
            Self::Register(register) => {
                REGISTER_BASE + place(Register::ALL.iter().position(|other| *other == register))
            }
            Self::Entry(number) => number * ENTRY_STRIDE,
            Self::Attribute(number, attribute) => {
                let position = Attribute::ALL.iter().position(|other| *other == attribute);
                number * ENTRY_STRIDE + 1 + place(position)
            }
        }
    }

    pub(crate) fn from_inode(inode: u64) -> Option<Self> {
        let at = |offset: u64| usize::try_from(offset).ok();
        match (inode / ENTRY_STRIDE, inode % ENTRY_STRIDE) {
            (0, 1) => Some(Self::Root),
            (0, 2) => Some(Self::Report),
            (0, 3) => Some(Self::Measurements),
            (0, other) => {
                let index = at(other.checked_sub(REGISTER_BASE)?)?;
                Register::ALL.get(index).copied().map(Self::Register)
            }
            (number, 0) => Some(Self::Entry(number)),
            (number, other) => {
                let attribute = *Attribute::ALL.get(at(other - 1)?)?;
                Some(Self::Attribute(number, attribute))
            }
        }
    }

    pub(crate) fn is_directory(self) -> bool {
        matches!(self, Self::Root | Self::Report | Self::Measurements | Self::Entry(_))
    }

    pub(crate) fn mode(self) -> u16 {
        match self {
            Self::Root | Self::Report | Self::Measurements | Self::Entry(_) => 0o755,
            Self::Register(register) if register.is_extensible() => 0o644,
            Self::Register(_) => 0o444,
            Self::Attribute(_, attribute) => attribute.mode(),
        }
    }
}

/// An open file.
struct Handle {
    node: Node,
    /// Content as of the first read.
    snapshot: Option<Vec<u8>>,
    /// A binary attribute being written.
    written: Option<Vec<u8>>,
}

/// The pretended machine and everything that is open on it.
pub(crate) struct Files {
    machine: Machine,
    entries: BTreeMap<u64, (String, Entry)>,
    entry_number_last: u64,
    handles: BTreeMap<u64, Handle>,
    handle_number_last: u64,
}

impl Files {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            machine,
            entries: BTreeMap::new(),
            entry_number_last: 0,
            handles: BTreeMap::new(),
            handle_number_last: 0,
        }
    }

    /// Names and nodes in a directory.
    pub(crate) fn list(&self, directory: Node) -> Result<Vec<(String, Node)>, Errno> {
        let tee = self.machine.tee();
        Ok(match directory {
            // An SEV-SNP guest has no registers.
            Node::Root => [("report", Node::Report), ("measurements", Node::Measurements)]
                .into_iter()
                .filter(|(_, node)| *node == Node::Report || tee == Tee::Tdx)
                .map(|(name, node)| (name.to_owned(), node))
                .collect(),
            Node::Report => {
                self.entries.iter().map(|(number, (name, _))| (name.clone(), Node::Entry(*number))).collect()
            }
            Node::Measurements => Register::ALL
                .iter()
                .map(|register| (register.file_name().to_owned(), Node::Register(*register)))
                .collect(),
            Node::Entry(number) => {
                self.entries.get(&number).ok_or(Errno::NOENT)?;
                Attribute::ALL
                    .iter()
                    .filter(|attribute| attribute.is_visible(tee))
                    .map(|attribute| (attribute.file_name().to_owned(), Node::Attribute(number, *attribute)))
                    .collect()
            }
            Node::Register(_) | Node::Attribute(..) => return Err(Errno::NOTDIR),
        })
    }

    pub(crate) fn lookup(&self, directory: Node, name: &OsStr) -> Result<Node, Errno> {
        let listed = self.list(directory)?;
        listed.into_iter().find(|(known, _)| name == known.as_str()).map(|(_, node)| node).ok_or(Errno::NOENT)
    }

    /// Whether the node still exists.
    pub(crate) fn exists(&self, node: Node) -> bool {
        match node {
            Node::Entry(number) | Node::Attribute(number, _) => self.entries.contains_key(&number),
            _ => true,
        }
    }

    pub(crate) fn make_entry(&mut self, directory: Node, name: &OsStr) -> Result<Node, Errno> {
        if directory != Node::Report {
            return Err(Errno::PERM);
        }
        let name = name.to_str().ok_or(Errno::INVAL)?;
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        if self.entries.values().any(|(known, _)| known == name) {
            return Err(Errno::EXIST);
        }
        if self.entries.len() >= ENTRIES_MAX {
            return Err(Errno::NOSPC);
        }
        self.entry_number_last += 1;
        self.entries.insert(self.entry_number_last, (name.to_owned(), Entry::default()));
        Ok(Node::Entry(self.entry_number_last))
    }

    pub(crate) fn remove_entry(&mut self, directory: Node, name: &OsStr) -> Result<(), Errno> {
        match self.lookup(directory, name)? {
            Node::Entry(number) => {
                self.entries.remove(&number);
                Ok(())
            }
            Node::Register(_) | Node::Attribute(..) => Err(Errno::NOTDIR),
            Node::Root | Node::Report | Node::Measurements => Err(Errno::PERM),
        }
    }

    /// Opens a file; mode bits bind root as well.
    pub(crate) fn open(&mut self, node: Node, access: Access) -> Result<u64, Errno> {
        if !self.exists(node) {
            return Err(Errno::NOENT);
        }
        if (access.read && node.mode() & 0o444 == 0) || (access.write && node.mode() & 0o222 == 0) {
            return Err(Errno::ACCESS);
        }
        self.handle_number_last += 1;
        self.handles.insert(self.handle_number_last, Handle { node, snapshot: None, written: None });
        Ok(self.handle_number_last)
    }

    /// Content of an open file, fixed at its first read.
    pub(crate) fn read(&mut self, number: u64) -> Result<&[u8], Errno> {
        let handle = self.handles.get_mut(&number).ok_or(Errno::BADF)?;
        if handle.written.is_some() {
            return Err(Errno::TXTBSY);
        }
        let content = match (handle.node, handle.snapshot.take()) {
            // A register is live: each read shows what it holds now.
            (Node::Register(register), _) => self.machine.register(register).0.to_vec(),
            (_, Some(snapshot)) => snapshot,
            (Node::Attribute(entry, attribute), None) => {
                let (_, entry) = self.entries.get_mut(&entry).ok_or(Errno::NOENT)?;
                entry.read(attribute, &self.machine)?
            }
            _ => return Err(Errno::ISDIR),
        };
        Ok(handle.snapshot.insert(content))
    }

    pub(crate) fn write(&mut self, number: u64, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let handle = self.handles.get_mut(&number).ok_or(Errno::BADF)?;
        match handle.node {
            Node::Register(Register::Rtmr3) => {
                let digest: [u8; 48] = data.try_into().map_err(|_| Errno::INVAL)?;
                if offset != 0 {
                    return Err(Errno::INVAL);
                }
                self.machine.extend_rtmr3(&casemate_canon::Sha384(digest));
                Ok(())
            }
            Node::Attribute(entry, attribute) if attribute.is_binary() => {
                self.entries.get(&entry).ok_or(Errno::NOENT)?;
                let start = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
                let end = start.checked_add(data.len()).ok_or(Errno::FBIG)?;
                if end > INBLOB_BYTES_MAX {
                    return Err(Errno::FBIG);
                }
                let written = handle.written.get_or_insert_default();
                written.resize(written.len().max(end), 0);
                written.get_mut(start..end).ok_or(Errno::FBIG)?.copy_from_slice(data);
                Ok(())
            }
            Node::Attribute(entry, Attribute::Privlevel) => {
                let (_, entry) = self.entries.get_mut(&entry).ok_or(Errno::NOENT)?;
                entry.set_privlevel(data.get(..data.len().min(TEXT_BYTES_MAX)).unwrap_or_default())
            }
            _ => Err(Errno::ACCESS),
        }
    }

    /// A descriptor was closed: what was written to a binary attribute takes effect now. As in the kernel, whether it
    /// does is not told to the writer; `generation` tells.
    pub(crate) fn flush(&mut self, number: u64) {
        let Some(handle) = self.handles.get_mut(&number) else { return };
        if let (Node::Attribute(entry, Attribute::Inblob), Some(written)) =
            (handle.node, handle.written.take())
            && let Some((_, entry)) = self.entries.get_mut(&entry)
        {
            let _ = entry.set_inblob(&written);
        }
    }

    pub(crate) fn release(&mut self, number: u64) {
        self.flush(number);
        self.handles.remove(&number);
    }
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inode_numbers_and_nodes_are_one_to_one() {
        let mut nodes = vec![Node::Root, Node::Report, Node::Measurements];
        nodes.extend(Register::ALL.map(Node::Register));
        for number in [1, 2, 1 << 40] {
            nodes.push(Node::Entry(number));
            nodes.extend(Attribute::ALL.map(|attribute| Node::Attribute(number, attribute)));
        }
        for node in &nodes {
            assert_eq!(Node::from_inode(node.inode()), Some(*node));
        }
        let known: std::collections::BTreeSet<u64> = nodes.iter().map(|node| node.inode()).collect();
        assert_eq!(known.len(), nodes.len());
        for inode in (0..3 * ENTRY_STRIDE).filter(|inode| !known.contains(inode)) {
            assert_eq!(Node::from_inode(inode), None, "{inode}");
        }
    }
}
