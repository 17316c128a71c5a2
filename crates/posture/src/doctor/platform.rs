//! Groups 1 to 4: whether this is a confidential VM, with which features, who reaches its devices, and its event log.

use casemate_canon::Sha384;
use casemate_evidence::{EventType, TpmHash, parse_boot_log};

use super::facts::{Facts, Hardware, Platform};
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};
use crate::agents::{self, AgentFacts};
use crate::tree::Unread;

const TSM: &str = "/sys/kernel/config/tsm/report";
const REGISTERS: &str = "/sys/devices/virtual/misc/tdx_guest/measurements";
const VMPL: &str = "/sys/devices/system/cpu/sev/vmpl";
const CCEL: &str = "/sys/firmware/acpi/tables/data/CCEL";

/// The checks of these groups.
pub(crate) fn checks() -> Vec<Check> {
    let mut checks = CHECKS.to_vec();
    checks.extend(super::features::checks());
    checks.extend(DEVICES.map(device_check));
    checks
}

const CHECKS: [Check; 6] = [
    Check {
        id: "D01.provider",
        heading: Heading::AttestationScope,
        vantage: Vantage::GuestObserved,
        what: "provider of evidence",
        place: TSM,
        expected: "tdx_guest or sev_guest",
        attack: "no evidence at all: whoever runs the machine reads everything in it",
        fix: "run in a TDX or SEV-SNP guest with Linux 6.7 or later, mount configfs, load tdx-guest or sev-guest",
        verdicts: says::PASS_FAIL,
        look: Look::Machine(provider),
    },
    Check {
        id: "D01.registers",
        heading: Heading::AttestationScope,
        vantage: Vantage::GuestObserved,
        what: "measurement registers that software extends (TDX)",
        place: "/sys/devices/virtual/misc/tdx_guest/measurements/{mrtd,rtmr0..3}:sha384",
        expected: "all five are there",
        attack: "what happens after the launch is in no register: an agent is started and nothing shows it",
        fix: "use Linux 6.16 or later",
        verdicts: says::PASS_FAIL_NONE,
        look: Look::Machine(registers),
    },
    Check {
        id: "D01.vmpl",
        heading: Heading::AttestationScope,
        vantage: Vantage::GuestObserved,
        what: "privilege level of this kernel (SEV-SNP)",
        place: VMPL,
        expected: "0; above 0 a paravisor or SVSM below is trusted too",
        attack: "a paravisor that nobody measured reads the guest",
        fix: "have the verifier pin the measurement of the SVSM or paravisor",
        verdicts: says::PASS_WARN_NONE,
        look: Look::Machine(vmpl),
    },
    Check {
        id: "D02.guest",
        heading: Heading::AttestationScope,
        vantage: Vantage::HostClaimed,
        what: "memory encryption that the kernel found at its start",
        place: "/dev/kmsg: Memory Encryption Features active",
        expected: "Intel TDX, or AMD SEV-SNP",
        attack: "SEV without SNP has no integrity: the host remaps and replays pages",
        fix: "start the VM as a TDX or SEV-SNP guest; only a verified report proves that it is one",
        verdicts: says::PASS_FAIL,
        look: Look::Machine(encryption),
    },
    Check {
        id: "D04.log",
        heading: Heading::AttestationScope,
        vantage: Vantage::GuestObserved,
        what: "event log of firmware, replayed (TDX)",
        place: CCEL,
        expected: "there, whole, and it replays to RTMR0 to RTMR2",
        attack: "registers without a log that explains them: nobody can say what was booted",
        fix: "boot with TDVF that writes a CCEL; a log that does not replay was changed or cut: do not trust it",
        verdicts: says::PASS_FAIL_NONE,
        look: Look::Machine(event_log),
    },
    Check {
        id: "D03.agents",
        heading: Heading::AttestationScope,
        vantage: Vantage::GuestObserved,
        what: "devices and configfs in an agent's view",
        place: "/proc/PID/mountinfo",
        expected: "no mount of devtmpfs or configfs",
        attack: "an agent that reaches the evidence device has evidence made about data it chose (evidence factory)",
        fix: "use the native or gvisor backend of this build: neither mounts them",
        verdicts: says::PASS_FAIL_NONE,
        look: Look::Each(no_device_mounts),
    },
];

/// Devices that make evidence: id, path's folder, prefix of its name, what it is.
const DEVICES: [(&str, &str, &str); 4] = [
    ("D03.tdx", "/dev/tdx_guest", "tdx_guest"),
    ("D03.sev", "/dev/sev-guest", "sev-guest"),
    ("D03.tpm", "/dev/tpm*", "tpm"),
    ("D03.tsm", "/sys/kernel/config/tsm", "tsm"),
];

fn device_check((id, place, prefix): (&'static str, &'static str, &'static str)) -> Check {
    Check {
        id,
        heading: Heading::AttestationScope,
        vantage: Vantage::GuestObserved,
        what: "who may have evidence made",
        place,
        expected: "owned by root; no access for group and others (of configfs: no writing)",
        attack: "a service of the box that is broken into has evidence made in the name of the box",
        fix: "chmod it to 0600 (configfs: 0755), and remove udev rules that widen it",
        verdicts: says::PASS_FAIL_NONE,
        look: Look::Word(prefix, device_access),
    }
}

fn provider(facts: &Facts<'_>) -> Seen {
    if let Ok(entries) = facts.tree.list(TSM) {
        for entry in entries {
            match facts.tree.line(&format!("{TSM}/{entry}/provider")).as_deref() {
                Ok(name @ ("tdx_guest" | "sev_guest")) => return Seen::new(Verdict::Pass, name),
                Ok(other) => return Seen::new(Verdict::Fail, other),
                Err(_) => {}
            }
        }
        return match facts.platform() {
            Ok(Some(Platform::Tdx)) => Seen::new(Verdict::Pass, "tdx_guest, by its device"),
            Ok(Some(Platform::Snp)) => Seen::new(Verdict::Pass, "sev_guest, by its device"),
            _ => Seen::unknown("configfs-tsm is there, and no driver that answers it is seen"),
        };
    }
    match facts.tree.has("/sys/kernel/config", "tsm") {
        Ok(false) => Seen::new(Verdict::Fail, "configfs without tsm: this is not a confidential VM"),
        _ => Seen::unknown(format!("{TSM}: absent; not a confidential VM, or configfs is not mounted")),
    }
}

fn registers(facts: &Facts<'_>) -> Seen {
    match facts.platform() {
        Ok(Some(Platform::Snp)) => return Seen::not_applicable("SEV-SNP has no such registers"),
        Ok(Some(Platform::Tdx)) => {}
        Ok(None) => return Seen::unknown("neither TDX nor SEV-SNP driver is seen"),
        Err(why) => return Seen::unread("/sys/devices/virtual/misc", &why),
    }
    let found = match facts.tree.list(REGISTERS) {
        Ok(found) => found,
        Err(Unread::Absent) => return Seen::new(Verdict::Fail, "the kernel shows no registers"),
        Err(why) => return Seen::unread(REGISTERS, &why),
    };
    let wanted = ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"].map(|name| format!("{name}:sha384"));
    let missing: Vec<&str> = wanted.iter().filter(|name| !found.contains(name)).map(String::as_str).collect();
    if missing.is_empty() {
        Seen::new(Verdict::Pass, "mrtd and rtmr0 to rtmr3")
    } else {
        Seen::new(Verdict::Fail, format!("missing: {}", missing.join(" ")))
    }
}

fn vmpl(facts: &Facts<'_>) -> Seen {
    if matches!(facts.platform(), Ok(Some(Platform::Tdx))) {
        return Seen::not_applicable("TDX has no such levels");
    }
    match facts.tree.line(VMPL).as_deref() {
        Ok("0") => Seen::new(Verdict::Pass, "0"),
        Ok(level @ ("1" | "2" | "3")) => Seen::new(Verdict::Warn, level),
        Ok(_) => Seen::unknown(format!("{VMPL}: not a level from 0 to 3")),
        Err(why) => Seen::unread(VMPL, why),
    }
}

fn encryption(facts: &Facts<'_>) -> Seen {
    const LINE: &str = "Memory Encryption Features active: ";
    let log = match facts.boot_log() {
        Ok(log) => log,
        Err(why) => return Seen::unread("kernel log", &why),
    };
    let active = log.iter().find_map(|message| message.strip_prefix(LINE)).map(str::trim);
    match active {
        None => Seen::new(Verdict::Fail, "no memory encryption"),
        Some(active) if active.ends_with("Intel TDX") => Seen::new(Verdict::Pass, active),
        Some(active) if active.split(' ').any(|word| word == "SEV-SNP") => Seen::new(Verdict::Pass, active),
        Some(active) => Seen::new(Verdict::Fail, active),
    }
}

fn no_device_mounts(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    let pid = match agent.first() {
        Ok(pid) => pid,
        Err(why) => return Seen::unread("agent", &why),
    };
    match agents::mounts(facts.tree, &pid.to_string()) {
        Err(why) => Seen::unread("mountinfo", &why),
        Ok(mounts) => {
            let bad = mounts.iter().filter(|mount| matches!(mount.kind.as_str(), "devtmpfs" | "configfs"));
            let bad: Vec<String> = bad.map(|mount| format!("{} at {}", mount.kind, mount.target)).collect();
            if bad.is_empty() {
                Seen::new(Verdict::Pass, format!("{} mounts, none of them", mounts.len()))
            } else {
                Seen::new(Verdict::Fail, bad.join(", "))
            }
        }
    }
}

fn device_access(facts: &Facts<'_>, prefix: &'static str) -> Seen {
    // Folders of configfs can be looked into by all; evidence is made by who can make entries.
    let (folder, open_bits) = if prefix == "tsm" { ("/sys/kernel/config", 0o022) } else { ("/dev", 0o077) };
    let names = match facts.tree.list(folder) {
        Ok(names) => names,
        Err(why) => return Seen::unread(folder, &why),
    };
    // `tpm0`, and its resource manager `tpmrm0`.
    let is_it = |name: &&String| match name.strip_prefix(prefix) {
        Some(rest) if prefix == "tpm" => rest.trim_start_matches("rm").bytes().all(|b| b.is_ascii_digit()),
        Some(rest) => rest.is_empty(),
        None => false,
    };
    let mut open = Vec::new();
    let mut closed = Vec::new();
    for name in names.iter().filter(is_it) {
        match facts.tree.access(&format!("{folder}/{name}")) {
            Err(why) => return Seen::unread(name, &why),
            Ok(access) => {
                let text = format!("{name} {:04o} of user {}", access.mode, access.uid);
                let is_closed = access.uid == 0 && access.mode & open_bits == 0;
                if is_closed { &mut closed } else { &mut open }.push(text);
            }
        }
    }
    match (open.is_empty(), closed.is_empty()) {
        (false, _) => Seen::new(Verdict::Fail, open.join(", ")),
        (true, false) => Seen::new(Verdict::Pass, closed.join(", ")),
        (true, true) => Seen::not_applicable(format!("no such name in {folder}")),
    }
}

fn event_log(facts: &Facts<'_>) -> Seen {
    match facts.platform() {
        Ok(Some(Platform::Snp)) => return Seen::not_applicable("SEV-SNP has no CCEL"),
        Ok(Some(Platform::Tdx)) => {}
        Ok(None) => return Seen::unknown("neither TDX nor SEV-SNP driver is seen"),
        Err(why) => return Seen::unread("/sys/devices/virtual/misc", &why),
    }
    let bytes = match facts.tree.bytes(CCEL) {
        Ok(bytes) => bytes,
        Err(Unread::Absent) => return Seen::new(Verdict::Fail, "no CCEL table"),
        Err(why) => return Seen::unread(CCEL, &why),
    };
    let replayed = match replay(&bytes) {
        Ok(replayed) => replayed,
        Err(why) => return Seen::new(Verdict::Fail, why),
    };
    for (number, replayed) in replayed.iter().enumerate() {
        match register(facts, number) {
            Err(why) => return Seen::unread(&format!("rtmr{number}"), &why),
            Ok(found) if found != *replayed => {
                return Seen::new(
                    Verdict::Fail,
                    format!("RTMR{number} is {found}, the log replays to {replayed}"),
                );
            }
            Ok(_) => {}
        }
    }
    Seen::new(Verdict::Pass, "replays to RTMR0 to RTMR2")
}

/// RTMR0 to RTMR2 as a log explains them.
fn replay(bytes: &[u8]) -> Result<[Sha384; 3], String> {
    let log = parse_boot_log(bytes).map_err(|error| format!("the log is not one: {error}"))?;
    let mut registers = [Sha384::ZERO; 3];
    for event in log.events() {
        if event.event_type == EventType::NO_ACTION {
            continue;
        }
        let digest = event.digests.get(TpmHash::Sha384).and_then(|digest| digest.try_into().ok());
        let Some(digest) = digest.map(Sha384) else { return Err("an event has no SHA-384 digest".into()) };
        // A CCEL counts RTMR `n` as `n + 1`.
        let place = event.index.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        if let Some(register) = place.and_then(|place| registers.get_mut(place)) {
            *register = register.extend(&digest);
        }
    }
    Ok(registers)
}

/// A register as the report has it or, where there is none, as the kernel shows it.
fn register(facts: &Facts<'_>, number: usize) -> Result<Sha384, Unread> {
    if let Ok(Hardware::Tdx(quote)) = &facts.report {
        return quote.body.rtmr.get(number).map(|bytes| Sha384(**bytes)).ok_or(Unread::Absent);
    }
    let bytes = facts.tree.bytes(&format!("{REGISTERS}/rtmr{number}:sha384"))?;
    bytes.try_into().map(Sha384).map_err(|_| Unread::NotText)
}
