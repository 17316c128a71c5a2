//! Page frames that two agents have mapped: what the kernel itself says is one piece of memory.
//!
//! Sources: Linux, Documentation/admin-guide/mm/pagemap.rst. Frame numbers are for CAP_SYS_ADMIN alone; without it they
//! are zero, and nothing is said.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;

use super::files::areas;
use crate::agents::AgentFacts;
use crate::kernel_text::Area;
use crate::tree::{Tree, Unread};

/// Bytes of a page.
pub(crate) const PAGE_BYTES: u64 = 4096;
/// Bytes of an entry of pagemap and kpageflags.
const ENTRY_BYTES: u64 = 8;
/// Entries that are read at once.
const CHUNK_ENTRIES: u64 = 4096;
/// Most entries that are read for one process: 64 GiB of address space that can be read.
const ENTRIES_MAX: u64 = 1 << 24;
/// Pagemap: bit 63 is "in memory", bits 0 to 54 are the frame.
const PRESENT: u64 = 1 << 63;
const FRAME_MASK: u64 = (1 << 55) - 1;
/// Kpageflags: the page of zeros, and the huge one.
const ZERO_PAGE: u64 = 1 << 24;

/// Where a frame is mapped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Name in `maps`, or empty for memory without one.
    pub(crate) name: String,
    /// Place in the file, in pages.
    pub(crate) page: u64,
}

/// Frames of an agent.
pub(crate) type Frames = BTreeMap<u64, Place>;

/// The frames that processes of an agent have mapped and in memory.
pub(crate) fn frames(tree: &Tree, agent: &AgentFacts) -> Result<Frames, Unread> {
    let mut frames = Frames::new();
    agent.first()?;
    for pid in &agent.pids {
        let pagemap = tree.file(&format!("/proc/{pid}/pagemap"))?;
        let mut left = ENTRIES_MAX;
        for area in areas(tree, *pid)?.iter().filter(|area| area.is_readable) {
            left = left.checked_sub(pages(area)).ok_or(Unread::TooLarge)?;
            read_area(&pagemap, area, &mut frames)?;
        }
    }
    if frames.contains_key(&0) {
        return Err(Unread::Denied);
    }
    Ok(frames)
}

fn pages(area: &Area) -> u64 {
    area.end.saturating_sub(area.start) / PAGE_BYTES
}

fn read_area(pagemap: &std::fs::File, area: &Area, frames: &mut Frames) -> Result<(), Unread> {
    let first = area.start / PAGE_BYTES;
    let mut done = 0;
    while done < pages(area) {
        let count = CHUNK_ENTRIES.min(pages(area).saturating_sub(done));
        let mut bytes =
            vec![0; usize::try_from(count.saturating_mul(ENTRY_BYTES)).map_err(|_| Unread::TooLarge)?];
        let at = first.saturating_add(done).saturating_mul(ENTRY_BYTES);
        // Pages that no process can have ([vsyscall]) end the file early.
        let read = pagemap.read_at(&mut bytes, at).map_err(failed)?;
        if read == 0 {
            break;
        }
        for (place, entry) in (done..).zip(entries(bytes.get(..read).unwrap_or_default())) {
            if entry & PRESENT != 0 {
                let page = (area.offset / PAGE_BYTES).saturating_add(place);
                frames.insert(entry & FRAME_MASK, Place { name: area.name.clone(), page });
            }
        }
        done = done.saturating_add(u64::try_from(read).unwrap_or(0) / ENTRY_BYTES);
    }
    Ok(())
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok().map(u64::from_ne_bytes))
}

fn failed(error: std::io::Error) -> Unread {
    rustix::io::Errno::from_io_error(&error).map_or(Unread::NotText, Unread::from)
}

/// What two agents' frames say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CommonFrames {
    /// Frames that both have mapped, by name; the page of zeros is none.
    pub(crate) by_name: BTreeMap<String, u64>,
    /// Pages that both have in memory from the same place of a file of the same name, in frames of their own.
    pub(crate) apart: u64,
}

/// Compares the frames of two agents.
pub(crate) fn common(tree: &Tree, a: &Frames, b: &Frames) -> Result<CommonFrames, Unread> {
    let mut common = CommonFrames::default();
    let flags = tree.file("/proc/kpageflags")?;
    for (frame, place) in a.iter().filter(|(frame, _)| b.contains_key(frame)) {
        let mut bytes = [0; 8];
        flags.read_exact_at(&mut bytes, frame.saturating_mul(ENTRY_BYTES)).map_err(failed)?;
        if u64::from_ne_bytes(bytes) & ZERO_PAGE == 0 {
            let count = common.by_name.entry(place.name.clone()).or_default();
            *count = count.saturating_add(1);
        }
    }
    let places = |frames: &Frames| -> BTreeMap<Place, u64> {
        frames.iter().map(|(frame, place)| (place.clone(), *frame)).collect()
    };
    let in_b = places(b);
    let is_apart = |(place, frame): &(&Place, &u64)| {
        place.name.starts_with('/') && in_b.get(place).is_some_and(|other| other != *frame)
    };
    common.apart = u64::try_from(places(a).iter().filter(is_apart).count()).unwrap_or(u64::MAX);
    Ok(common)
}
