//! Counting all open files of the box.
//!
//! Mechanism: `/proc/sys/fs/file-nr` counts for all. Source: proc_sys_fs(5). Stopped by: `proc`.

use std::time::Duration;

use crate::attack::{Args, Attack, Kind, Length, Receiver, Sender, Slot, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "open-file-count",
    title: "channel: number of open files (file-nr)",
    stopped_by: &["proc"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Slots { slot: Duration::from_millis(8), bits: 180, sender, receiver },
};

/// Files that stand for a bit: the kernel counts in steps of its batches.
const FILES: usize = 400;

fn sender(_: &Args) -> Result<Sender, Why> {
    Ok(Box::new(|bit: bool, slot: Slot| {
        slot.until(0, 1);
        let files: Vec<_> =
            (0..if bit { FILES } else { 0 }).filter_map(|_| std::fs::File::open("/dev/null").ok()).collect();
        slot.until(3, 4);
        drop(files);
        Ok(())
    }))
}

fn receiver(_: &Args) -> Result<Receiver, Why> {
    count()?;
    Ok(Box::new(|slot: Slot| {
        slot.until(1, 2);
        count()
    }))
}

fn count() -> Result<f64, Why> {
    let text = std::fs::read_to_string("/proc/sys/fs/file-nr")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    Ok(first.parse()?)
}
