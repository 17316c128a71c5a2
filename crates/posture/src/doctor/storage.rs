//! Group 10: what reaches disks, which are the host's.

use super::facts::Facts;
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};
use crate::tree::{Tree, Unread};

const SWAPS: &str = "/proc/swaps";
const BLOCK: &str = "/sys/block";
/// Most devices one above the other that are followed.
const LAYERS_MAX: usize = 8;

/// The checks of this group.
pub(crate) fn checks() -> Vec<Check> {
    vec![
        Check {
            id: "D10.swap",
            heading: Heading::HypervisorSurface,
            vantage: Vantage::GuestObserved,
            what: "swap",
            place: SWAPS,
            expected: "none",
            attack: "memory with secrets is written to a disk of the host, and taken back changed",
            fix: "swapoff -a, and no swap in /etc/fstab",
            verdicts: says::PASS_FAIL,
            look: Look::Machine(swap),
        },
        Check {
            id: "D10.disks",
            heading: Heading::HypervisorSurface,
            vantage: Vantage::GuestObserved,
            what: "writable disks",
            place: "/sys/block/*/{ro,size,holders,dm/uuid}",
            expected: "none, or above each LUKS2 with authenticated encryption (dm-crypt over dm-integrity)",
            attack: "the host reads and changes what the box writes; dm-crypt alone does not show changes, and a LUKS2 header of the host's opens a disk whose key it knows (CVE-2025-59054)",
            fix: "use LUKS2 with integrity and a header that the host cannot write, dm-verity for what is read only, or no disk; rollback stays open",
            verdicts: says::PASS_WARN_FAIL,
            look: Look::Machine(disks),
        },
    ]
}

fn swap(facts: &Facts<'_>) -> Seen {
    match facts.tree.text(SWAPS) {
        Err(why) => Seen::unread(SWAPS, &why),
        Ok(text) if !text.starts_with("Filename") => Seen::unknown(format!("{SWAPS}: not understood")),
        Ok(text) => {
            let used: Vec<&str> =
                text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
            if used.is_empty() {
                Seen::new(Verdict::Pass, "none")
            } else {
                Seen::new(Verdict::Fail, used.join(", "))
            }
        }
    }
}

/// What stands between the box and a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shield {
    Open,
    Encrypted,
    EncryptedAndChecked,
}

fn disks(facts: &Facts<'_>) -> Seen {
    let names = match facts.tree.list(BLOCK) {
        Err(why) => return Seen::unread(BLOCK, &why),
        Ok(names) => names,
    };
    let (mut open, mut unchecked, mut good) = (Vec::new(), Vec::new(), 0_usize);
    for name in names {
        match is_writable_disk(facts.tree, &name) {
            Err(why) => return Seen::unread(&name, &why),
            Ok(false) => continue,
            Ok(true) => {}
        }
        match shield(facts.tree, &name, (false, false), LAYERS_MAX) {
            Err(why) => return Seen::unread(&name, &why),
            Ok(Shield::Open) => open.push(format!("{name} is written without encryption")),
            Ok(Shield::Encrypted) => unchecked.push(format!("{name} is encrypted, without integrity")),
            Ok(Shield::EncryptedAndChecked) => good = good.saturating_add(1),
        }
    }
    if !open.is_empty() {
        return Seen::new(Verdict::Fail, open.join(", "));
    }
    if !unchecked.is_empty() {
        return Seen::new(Verdict::Warn, unchecked.join(", "));
    }
    Seen::new(Verdict::Pass, format!("{good} writable disks, each encrypted and checked"))
}

/// A disk of the host: not memory, not a device that stands on others.
fn is_writable_disk(tree: &Tree, name: &str) -> Result<bool, Unread> {
    if ["loop", "zram", "ram", "dm-", "md"].iter().any(|prefix| name.starts_with(prefix)) {
        return Ok(false);
    }
    let read_only = flag(&tree.line(&format!("{BLOCK}/{name}/ro"))?)?;
    let size = tree.line(&format!("{BLOCK}/{name}/size"))?;
    let sectors: u64 = size.parse().map_err(|_| Unread::NotText)?;
    Ok(!read_only && sectors > 0)
}

fn flag(text: &str) -> Result<bool, Unread> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(Unread::NotText),
    }
}

/// The dm-integrity below a LUKS2 volume with authenticated encryption, as cryptsetup names it since 2.8 and before. One that
/// stands alone may be a checksum without a key, which the host recomputes.
fn is_keyed_integrity(uuid: &str) -> bool {
    uuid.ends_with("_dif") && (uuid.starts_with("CRYPT-SUBDEV-") || uuid.starts_with("CRYPT-INTEGRITY-"))
}

/// The weakest of all ways from the disk to whoever uses it; `below` is what was passed: encryption, integrity.
fn shield(tree: &Tree, name: &str, below: (bool, bool), layers: usize) -> Result<Shield, Unread> {
    let uuid = match tree.line(&format!("{BLOCK}/{name}/dm/uuid")) {
        Ok(uuid) => uuid,
        Err(Unread::Absent) => String::new(),
        Err(why) => return Err(why),
    };
    let encrypted = below.0 || uuid.starts_with("CRYPT-LUKS") || uuid.starts_with("CRYPT-PLAIN");
    let checked = below.1 || is_keyed_integrity(&uuid);
    if uuid.contains("VERITY") {
        return Ok(Shield::EncryptedAndChecked);
    }
    let holders = tree.list(&format!("{BLOCK}/{name}/holders"))?;
    if layers == 0 {
        return Err(Unread::TooLarge);
    }
    if holders.is_empty() {
        return Ok(match (encrypted, checked) {
            (true, true) => Shield::EncryptedAndChecked,
            (true, false) => Shield::Encrypted,
            (false, _) => Shield::Open,
        });
    }
    let mut weakest = Shield::EncryptedAndChecked;
    for holder in holders {
        weakest = weakest.min(shield(tree, &holder, (encrypted, checked), layers.saturating_sub(1))?);
    }
    Ok(weakest)
}
