//! Asking the hardware for evidence, past the warden: with `report_data` of the attacker's choice, it could speak as any agent.
//!
//! Mechanism: configfs-tsm, the guest devices of TDX and SNP, and the TPM. Source: docs/threat-model.md. Stopped by:
//! `private-root` (no node and no `/sys`), `no-privileges`. Where the machine has none, nothing can be said.

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "hardware-evidence",
    title: "evidence of the hardware in the attacker's own words",
    stopped_by: &["private-root", "no-privileges"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Box, take },
};

const PLACES: [&str; 6] = [
    "/dev/tdx_guest",
    "/dev/sev-guest",
    "/dev/tpm0",
    "/dev/tpmrm0",
    "/sys/kernel/config/tsm/report",
    "/sys/devices/virtual/misc/tdx_guest/measurements",
];

fn take(_: &Args) -> Result<String, Why> {
    let found: Vec<&str> = PLACES
        .into_iter()
        .filter(|path| std::fs::File::open(path).is_ok() || std::fs::read_dir(path).is_ok())
        .collect();
    if found.is_empty() { Err(Why::of("no such device or folder")) } else { Ok(found.join(" ")) }
}
