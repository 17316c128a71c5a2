//! Groups 6 to 9: what the host can feed the guest: command line, time, entropy, devices.
//!
//! Source of the command line words: Intel, "Linux Guest Kernel Security Specification" for TDX guests. Three of them are
//! known to Intel's own kernels for guests alone: mainline has no filter of devices or ACPI tables.

use super::facts::Facts;
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};

const CMDLINE: &str = "/proc/cmdline";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
const RNG: &str = "/sys/devices/virtual/misc/hw_random/rng_current";
const QUALITY: &str = "/sys/module/rng_core/parameters/default_quality";
const CONSOLE: &str = "/sys/class/tty/console/active";

/// Virtio devices that a box needs (virtio 1.3, section 5): network, block, vsock.
const VIRTIO_ALLOWED: [u32; 3] = [1, 2, 19];
/// PCI classes that a box needs: storage, network, bridges.
const PCI_CLASSES_ALLOWED: [u8; 3] = [0x01, 0x02, 0x06];
/// Vendor of virtio devices, which are judged as such.
const PCI_VENDOR_VIRTIO: &str = "0x1af4";

/// A word of the command line: id, words of which one must be there (or none may be), attack, fix.
struct Word {
    id: &'static str,
    what: &'static str,
    words: &'static str,
    expected: &'static str,
    attack: &'static str,
}

const WANTED: [Word; 7] = [
    Word {
        id: "D06.mce",
        what: "machine check exceptions from the host",
        words: "mce=off",
        expected: "mce=off",
        attack: "the host injects machine checks into a handler that was not written for a hostile host",
    },
    Word {
        id: "D06.oops",
        what: "what an oops does",
        words: "oops=panic",
        expected: "oops=panic",
        attack: "a kernel that goes on after an oops that the host provoked",
    },
    Word {
        id: "D06.pci-early",
        what: "early PCI quirks",
        words: "pci=noearly",
        expected: "pci=noearly",
        attack: "unhardened drivers: the host answers configuration reads of early quirks",
    },
    Word {
        id: "D06.pci-mmconf",
        what: "memory-mapped PCI configuration",
        words: "pci=nommconf",
        expected: "pci=nommconf",
        attack: "unhardened drivers: the host answers reads of the mapped configuration space",
    },
    Word {
        id: "D06.kvmclock",
        what: "time page of the hypervisor",
        words: "no-kvmclock",
        expected: "no-kvmclock",
        attack: "the host turns the clock back: expired certificates and tokens are valid again",
    },
    Word {
        id: "D06.entropy-cpu",
        what: "entropy of the processor",
        words: "random.trust_cpu=y random.trust_cpu=1 random.trust_cpu=on",
        expected: "random.trust_cpu=y, 1 or on",
        attack: "a guest that waits for entropy takes it from what the host times and feeds",
    },
    Word {
        id: "D06.entropy-loader",
        what: "entropy of the boot loader",
        words: "random.trust_bootloader=n random.trust_bootloader=0 random.trust_bootloader=off",
        expected: "random.trust_bootloader=n, 0 or off",
        attack: "the host chooses the seed, and with it keys",
    },
];

/// Words of Intel's kernels for TDX guests: that one is not there says nothing of a kernel that does not know it.
const OF_INTEL: [Word; 3] = [
    Word {
        id: "D06.filter",
        what: "device filter of Intel's kernels for TDX guests",
        words: "tdx_disable_filter",
        expected: "no tdx_disable_filter; without it, see D09 for what the host offers",
        attack: "every driver takes a device that the host offers; with the filter, too, 198 init functions of Linux 5.15 run that can read from the host (Intel)",
    },
    Word {
        id: "D06.devices",
        what: "further devices let through",
        words: "authorize_allow_devs",
        expected: "no authorize_allow_devs",
        attack: "drivers that were not hardened are open to the host",
    },
    Word {
        id: "D06.acpi",
        what: "further ACPI tables let through",
        words: "tdx_allow_acpi",
        expected: "no tdx_allow_acpi",
        attack: "BadAML: ACPI code of the host writes memory of the guest",
    },
];

const UNWANTED: [Word; 8] = [
    Word {
        id: "D06.swiotlb",
        what: "bounce buffers",
        words: "swiotlb=noforce",
        expected: "no swiotlb=noforce",
        attack: "devices of the host reach memory that was meant to be private, or do not work at all",
    },
    Word {
        id: "D06.mitigations",
        what: "speculation mitigations",
        words: "mitigations=off",
        expected: "no mitigations=off",
        attack: "Spectre and its kind between agents",
    },
    Word {
        id: "D06.user-user",
        what: "mitigations between processes",
        words: "no_user_user",
        expected: "no no_user_user in mitigations=",
        attack: "Spectre v2 from agent to agent",
    },
    Word {
        id: "D06.user-kernel",
        what: "mitigations between processes and kernel",
        words: "no_user_kernel",
        expected: "no no_user_kernel in mitigations=",
        attack: "Spectre v2 and BHI from an agent to the kernel",
    },
    Word {
        id: "D06.cross-thread",
        what: "mitigations between threads of a core",
        words: "no_cross_thread",
        expected: "no no_cross_thread in mitigations=",
        attack: "an agent on the sibling thread reads what another leaves in buffers of the core",
    },
    Word {
        id: "D06.shell",
        what: "shell of root without a password",
        words: "systemd.debug_shell systemd.debug-shell",
        expected: "no systemd.debug_shell",
        attack: "whoever has the console has the box",
    },
    Word {
        id: "D06.init",
        what: "first process",
        words: "init=/bin/sh init=/bin/bash rdinit=/bin/sh rdinit=/bin/bash",
        expected: "no shell as first process",
        attack: "whoever has the console has the box",
    },
    Word {
        id: "D06.console",
        what: "console that the host sees",
        words: "console=ttyS console=hvc",
        expected: "no console=ttyS*, no console=hvc*",
        attack: "kernel and programs write to the host, and a getty there takes a password from it",
    },
];

/// A kernel that runs no guests of its own does not need these, and no agent gains by them.
const NARROWED: Word = Word {
    id: "D06.guest-guest",
    what: "mitigations between guests",
    words: "no_guest_guest no_guest_host",
    expected: "no no_guest_guest, no no_guest_host in mitigations=",
    attack: "the list of mitigations was narrowed: whoever wrote the line has taken the box for something else",
};

/// The checks of these groups.
pub(crate) fn checks() -> Vec<Check> {
    let word = |word: &Word, look: fn(&Facts<'_>, &'static str) -> Seen, verdicts| Check {
        id: word.id,
        heading: Heading::HypervisorSurface,
        vantage: Vantage::GuestObserved,
        what: word.what,
        place: CMDLINE,
        expected: word.expected,
        attack: word.attack,
        fix: "change the kernel command line of the measured image (UKI), and its reference values",
        verdicts,
        look: Look::Word(word.words, look),
    };
    let mut checks: Vec<Check> = WANTED.iter().map(|w| word(w, has_word, says::PASS_WARN)).collect();
    checks.extend(UNWANTED.iter().map(|w| word(w, lacks_word, says::PASS_FAIL)));
    checks.extend(OF_INTEL.iter().map(|w| word(w, lacks_word_of_intel, says::FAIL_NONE)));
    checks.push(word(&NARROWED, lacks_better_word, says::PASS_WARN));
    checks.extend(OTHERS);
    checks
}

/// Its absence passes nothing: whether this kernel has the filter, it does not say.
fn lacks_word_of_intel(facts: &Facts<'_>, words: &'static str) -> Seen {
    let seen = lacks_word(facts, words);
    if seen.verdict == Verdict::Pass {
        return Seen::not_applicable("not there; mainline Linux has no such filter, and knows no such word");
    }
    seen
}

fn lacks_better_word(facts: &Facts<'_>, words: &'static str) -> Seen {
    let seen = lacks_word(facts, words);
    if seen.verdict == Verdict::Fail {
        return Seen::new(Verdict::Warn, seen.observed);
    }
    seen
}

const OTHERS: [Check; 6] = [
    Check {
        id: "D07.current",
        heading: Heading::HypervisorSurface,
        vantage: Vantage::GuestObserved,
        what: "clock source",
        place: "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        expected: "tsc",
        attack: "the host turns the clock back: expired certificates and tokens are valid again",
        fix: "boot with `no-kvmclock tsc=reliable`",
        verdicts: says::PASS_FAIL,
        look: Look::Machine(clock),
    },
    Check {
        id: "D07.available",
        heading: Heading::HypervisorSurface,
        vantage: Vantage::GuestObserved,
        what: "clock sources to fall back to",
        place: "/sys/devices/system/clocksource/clocksource0/available_clocksource",
        expected: "tsc, and none of the hypervisor",
        attack: "the kernel falls back to a clock of the host when the TSC looks unstable",
        fix: "boot with `no-kvmclock tsc=reliable`",
        verdicts: says::PASS_WARN,
        look: Look::Machine(clocks),
    },
    Check {
        id: "D08.rng",
        heading: Heading::HypervisorSurface,
        vantage: Vantage::GuestObserved,
        what: "entropy of a device that the host provides",
        place: RNG,
        expected: "none; or virtio_rng with default_quality 0",
        attack: "the host chooses the entropy, and with it keys",
        fix: "remove virtio-rng, or boot with `rng_core.default_quality=0`",
        verdicts: says::PASS_WARN_FAIL,
        look: Look::Machine(rng),
    },
    Check {
        id: "D09.virtio",
        heading: Heading::HypervisorSurface,
        vantage: Vantage::GuestObserved,
        what: "virtio devices",
        place: "/sys/bus/virtio/devices/*/modalias",
        expected: "network, block and vsock alone",
        attack: "each device is a driver that parses what the host writes: balloon, rng, console, 9p, fs, gpu, input",
        fix: "start the VM without the devices named",
        verdicts: says::PASS_FAIL,
        look: Look::Machine(virtio),
    },
    Check {
        id: "D09.pci",
        heading: Heading::HypervisorSurface,
        vantage: Vantage::GuestObserved,
        what: "PCI devices besides virtio",
        place: "/sys/bus/pci/devices/*/{vendor,class}",
        expected: "storage, network and bridges alone",
        attack: "each device is a driver that parses what the host writes",
        fix: "start the VM without the devices named",
        verdicts: says::PASS_FAIL,
        look: Look::Machine(pci),
    },
    Check {
        id: "D09.console",
        heading: Heading::HypervisorSurface,
        vantage: Vantage::GuestObserved,
        what: "consoles in use",
        place: CONSOLE,
        expected: "no ttyS*, no hvc*",
        attack: "kernel and programs write to the host, and a getty there takes a password from it",
        fix: "start the VM without serial and virtio console, or remove `console=` of the command line",
        verdicts: says::PASS_FAIL,
        look: Look::Machine(console),
    },
];

fn has_word(facts: &Facts<'_>, words: &'static str) -> Seen {
    match facts.command_line() {
        Err(why) => Seen::unread(CMDLINE, &why),
        Ok(line) => match words.split(' ').find(|wanted| line.iter().any(|word| has_value(word, wanted))) {
            Some(found) => Seen::new(Verdict::Pass, found),
            None => Seen::new(Verdict::Warn, "not there"),
        },
    }
}

/// Whether `key=a,b` or `key` says `key=a` or `key`.
fn has_value(word: &str, wanted: &str) -> bool {
    match (word.split_once('='), wanted.split_once('=')) {
        (Some((key, values)), Some((wanted_key, value))) => {
            key == wanted_key && values.split(',').any(|one| one == value)
        }
        _ => word == wanted,
    }
}

fn lacks_word(facts: &Facts<'_>, words: &'static str) -> Seen {
    let line = match facts.command_line() {
        Err(why) => return Seen::unread(CMDLINE, &why),
        Ok(line) => line,
    };
    // `console=ttyS` stands for each serial line, `no_user_user` for a value of `mitigations=`, a word for its values.
    let is_bad = |word: &&String| {
        words.split(' ').any(|bad| {
            let as_value = word.strip_prefix("mitigations=").is_some_and(|v| v.split(',').any(|v| v == bad));
            let as_word = word.as_str() == bad || word.starts_with(&format!("{bad}="));
            as_value
                || as_word
                || has_value(word, bad)
                || (bad.starts_with("console=") && word.starts_with(bad))
        })
    };
    let found: Vec<&str> = line.iter().filter(is_bad).map(String::as_str).collect();
    if found.is_empty() {
        Seen::new(Verdict::Pass, "not there")
    } else {
        Seen::new(Verdict::Fail, found.join(" "))
    }
}

fn clock(facts: &Facts<'_>) -> Seen {
    match facts.tree.line(&format!("{CLOCK}/current_clocksource")) {
        Err(why) => Seen::unread(CLOCK, &why),
        Ok(name) => Seen::new(if name == "tsc" { Verdict::Pass } else { Verdict::Fail }, name),
    }
}

fn clocks(facts: &Facts<'_>) -> Seen {
    match facts.tree.line(&format!("{CLOCK}/available_clocksource")) {
        Err(why) => Seen::unread(CLOCK, &why),
        Ok(names) => {
            let mut found = names.split_whitespace();
            let has_tsc = names.split_whitespace().any(|name| name == "tsc");
            let are_own =
                found.all(|name| matches!(name, "tsc" | "tsc-early" | "jiffies" | "refined-jiffies"));
            Seen::new(if has_tsc && are_own { Verdict::Pass } else { Verdict::Warn }, names)
        }
    }
}

fn rng(facts: &Facts<'_>) -> Seen {
    let current = match facts.tree.line(RNG) {
        Err(why) => return Seen::unread(RNG, &why),
        Ok(current) => current,
    };
    if current == "none" {
        return Seen::new(Verdict::Pass, current);
    }
    if !current.starts_with("virtio_rng") {
        return Seen::new(
            Verdict::Warn,
            format!("{current}: a device that is not virtio; look who provides it"),
        );
    }
    match facts.tree.line(QUALITY) {
        Err(why) => Seen::unread(QUALITY, &why),
        Ok(quality) => {
            let verdict = if quality == "0" { Verdict::Pass } else { Verdict::Fail };
            Seen::new(verdict, format!("{current}, credited with quality {quality}"))
        }
    }
}

fn virtio(facts: &Facts<'_>) -> Seen {
    const FOLDER: &str = "/sys/bus/virtio/devices";
    let devices = match facts.tree.list(FOLDER) {
        Err(why) => return Seen::unread(FOLDER, &why),
        Ok(devices) => devices,
    };
    let mut other = Vec::new();
    for device in &devices {
        let id = match facts.tree.line(&format!("{FOLDER}/{device}/modalias")) {
            Err(why) => return Seen::unread(device, &why),
            Ok(alias) => virtio_id(&alias),
        };
        match id {
            None => return Seen::unknown(format!("{device}: modalias not understood")),
            Some(id) if VIRTIO_ALLOWED.contains(&id) => {}
            Some(id) => other.push(virtio_name(id)),
        }
    }
    if other.is_empty() {
        Seen::new(Verdict::Pass, format!("{} devices, each of them needed", devices.len()))
    } else {
        Seen::new(Verdict::Fail, other.join(", "))
    }
}

/// `virtio:dXXXXXXXXvXXXXXXXX`.
fn virtio_id(alias: &str) -> Option<u32> {
    let (device, vendor) = alias.strip_prefix("virtio:d")?.split_once('v')?;
    (vendor.len() == 8).then_some(())?;
    u32::from_str_radix(device, 16).ok()
}

fn virtio_name(id: u32) -> String {
    match id {
        3 => "console".into(),
        4 => "rng".into(),
        5 => "balloon".into(),
        8 => "scsi".into(),
        9 => "9p".into(),
        16 => "gpu".into(),
        18 => "input".into(),
        20 => "crypto".into(),
        24 => "mem".into(),
        26 => "fs".into(),
        other => format!("device {other}"),
    }
}

fn pci(facts: &Facts<'_>) -> Seen {
    const FOLDER: &str = "/sys/bus/pci/devices";
    let devices = match facts.tree.list(FOLDER) {
        Err(why) => return Seen::unread(FOLDER, &why),
        Ok(devices) => devices,
    };
    let mut other = Vec::new();
    for device in &devices {
        let read = |file: &str| facts.tree.line(&format!("{FOLDER}/{device}/{file}"));
        let (vendor, class) = match (read("vendor"), read("class")) {
            (Ok(vendor), Ok(class)) => (vendor, class),
            (Err(why), _) | (_, Err(why)) => return Seen::unread(device, &why),
        };
        let number = class.strip_prefix("0x").filter(|hex| hex.len() == 6);
        let base = number.and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        let is_vendor = vendor.strip_prefix("0x").is_some_and(|hex| u16::from_str_radix(hex, 16).is_ok());
        match base.filter(|_| is_vendor) {
            None => return Seen::unknown(format!("{device}: vendor or class not understood")),
            Some(base) if PCI_CLASSES_ALLOWED.contains(&base) || vendor == PCI_VENDOR_VIRTIO => {}
            Some(_) => other.push(format!("{device} class {class}")),
        }
    }
    if other.is_empty() {
        Seen::new(Verdict::Pass, format!("{} devices, each of them needed", devices.len()))
    } else {
        Seen::new(Verdict::Fail, other.join(", "))
    }
}

fn console(facts: &Facts<'_>) -> Seen {
    match facts.tree.text(CONSOLE) {
        Err(why) => Seen::unread(CONSOLE, &why),
        Ok(text) => {
            let names: Vec<&str> = text.split_whitespace().collect();
            let is_own = |name: &&str| {
                name.strip_prefix("tty").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
            };
            let verdict = if names.is_empty() {
                return Seen::unknown(format!("{CONSOLE}: names none"));
            } else if names.iter().all(is_own) {
                Verdict::Pass
            } else {
                Verdict::Fail
            };
            Seen::new(verdict, names.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_among_several_and_not_inside_another() {
        assert!(has_value("pci=noearly,nommconf", "pci=nommconf"));
        assert!(!has_value("pci=nommconfig", "pci=nommconf"));
        assert!(!has_value("xpci=nommconf", "pci=nommconf"));
        assert!(has_value("no-kvmclock", "no-kvmclock"));
    }
}
