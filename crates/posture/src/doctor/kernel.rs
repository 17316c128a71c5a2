//! Groups 23 to 25: code that agents might reach in the kernel, its own guards, and its views of everything.

use super::facts::{Facts, Setting};
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};

const LSM: &str = "/sys/kernel/security/lsm";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// Names of security modules in Linux: a list with another word is not understood.
const LSM_KNOWN: [&str; 15] = [
    "lockdown",
    "capability",
    "landlock",
    "yama",
    "loadpin",
    "safesetid",
    "selinux",
    "smack",
    "tomoyo",
    "apparmor",
    "bpf",
    "ima",
    "evm",
    "integrity",
    "ipe",
];
/// The version of Landlock that the launcher's rules need, and the first that covers sockets in files.
const LANDLOCK_NEEDED: u32 = 6;
const LANDLOCK_SOCKETS: u32 = 9;

/// Code of the kernel: id, modules, symbols, name in `/proc/net/protocols`, separated by `/`.
struct Code {
    id: &'static str,
    what: &'static str,
    verdicts: &'static [Verdict],
    parts: &'static str,
    attack: &'static str,
}

const CODE: [Code; 7] = [
    Code {
        id: "D23.af-alg",
        what: "AF_ALG (af_alg, algif_*)",
        verdicts: says::PASS_WARN_FAIL,
        parts: "af_alg algif_aead algif_hash algif_skcipher algif_rng/CONFIG_CRYPTO_USER_API_HASH CONFIG_CRYPTO_USER_API_SKCIPHER CONFIG_CRYPTO_USER_API_RNG CONFIG_CRYPTO_USER_API_AEAD/ALG/fail",
        attack: "Copy Fail (CVE-2026-31431): writes to cached pages",
    },
    Code {
        id: "D23.esp",
        what: "IPsec (esp4, esp6, ipcomp, ipcomp6)",
        verdicts: says::PASS_WARN_FAIL,
        parts: "esp4 esp6 ipcomp ipcomp6/CONFIG_INET_ESP CONFIG_INET6_ESP CONFIG_INET_IPCOMP CONFIG_INET6_IPCOMP/-/fail",
        attack: "Dirty Frag (CVE-2026-43284): writes to cached pages",
    },
    Code {
        id: "D23.rxrpc",
        what: "AF_RXRPC (rxrpc)",
        verdicts: says::PASS_WARN_FAIL,
        parts: "rxrpc/CONFIG_AF_RXRPC/RXRPC/fail",
        attack: "Dirty Frag (CVE-2026-43500): writes to cached pages",
    },
    Code {
        id: "D23.key",
        what: "AF_KEY (af_key)",
        verdicts: says::PASS_WARN_FAIL,
        parts: "af_key/CONFIG_NET_KEY/KEY/fail",
        attack: "a second, older way to IPsec",
    },
    Code {
        id: "D23.nf-tables",
        what: "packet filter (nf_tables)",
        verdicts: says::PASS_WARN,
        parts: "nf_tables/CONFIG_NF_TABLES/-/warn",
        attack: "43 % of the CVEs that need user namespaces are in netfilter (Edera)",
    },
    Code {
        id: "D23.vsock",
        what: "sockets to the host (vsock)",
        verdicts: says::PASS_WARN,
        parts: "vsock vmw_vsock_virtio_transport vsock_loopback/CONFIG_VSOCKETS/AF_VSOCK/warn",
        attack: "a channel to the host past the gateway; on some hosts TDX guests need it to fetch quotes",
    },
    Code {
        id: "D23.packet",
        what: "raw packets (AF_PACKET)",
        verdicts: says::PASS_WARN,
        parts: "af_packet/CONFIG_PACKET/PACKET/warn",
        attack: "a source of kernel holes for who has a user namespace",
    },
];

/// The checks of these groups.
pub(crate) fn checks() -> Vec<Check> {
    let code = |code: &Code| Check {
        id: code.id,
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: code.what,
        place: "/sys/module, /proc/net/protocols, /proc/config.gz, /boot/config-*",
        expected: "not built; or a module, not loaded, and loading is switched off",
        attack: code.attack,
        fix: "build the kernel without it, or set kernel.modules_disabled=1 after the start; agents' filter denies it besides",
        verdicts: code.verdicts,
        look: Look::Word(code.parts, reachable),
    };
    let mut checks: Vec<Check> = CODE.iter().map(code).collect();
    checks.extend(GUARDS);
    checks.extend(VIEWS);
    checks
}

const GUARDS: [Check; 4] = [
    Check {
        id: "D24.landlock",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "Landlock",
        place: LSM,
        expected: "in the list",
        attack: "a mount or a mode that is wider than meant lets an agent write",
        fix: "boot with `lsm=landlock,...`",
        verdicts: says::PASS_FAIL,
        look: Look::Machine(landlock),
    },
    Check {
        id: "D24.landlock-version",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "version of Landlock",
        place: "landlock_create_ruleset(2)",
        expected: "9 or more; 6 to 8 do not cover sockets in files",
        attack: "an agent connects to a socket in a file that it can see (nono#781)",
        fix: "use a newer kernel; no socket of another agent is in an agent's mounts in any case",
        verdicts: says::PASS_WARN_FAIL,
        look: Look::Machine(|facts| match facts.landlock_abi {
            None => Seen::unknown("nobody asked this kernel"),
            Some(version @ LANDLOCK_SOCKETS..) => Seen::new(Verdict::Pass, version.to_string()),
            Some(version @ LANDLOCK_NEEDED..) => Seen::new(Verdict::Warn, version.to_string()),
            Some(version) => Seen::new(Verdict::Fail, version.to_string()),
        }),
    },
    Check {
        id: "D24.mandatory",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "mandatory access control of the box's own services",
        place: LSM,
        expected: "apparmor, selinux, smack or tomoyo in the list",
        attack: "a service of the box that is broken into has all of the box",
        fix: "boot with `lsm=...,apparmor` and load a policy",
        verdicts: says::PASS_WARN,
        look: Look::Machine(mandatory),
    },
    Check {
        id: "D24.lockdown",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "lockdown of the kernel against its own root",
        place: LOCKDOWN,
        expected: "[integrity] or [confidentiality]",
        attack: "root of the box changes the measured kernel",
        fix: "boot with `lockdown=integrity`",
        verdicts: says::PASS_FAIL,
        look: Look::Machine(lockdown),
    },
];

const VIEWS: [Check; 3] = [
    Check {
        id: "D25.memory",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "devices of memory and ports in the box",
        place: "/dev/{mem,kmem,port}",
        expected: "none",
        attack: "whoever becomes root of the box reads all memory",
        fix: "build the kernel without DEVMEM and DEVPORT",
        verdicts: says::PASS_WARN,
        look: Look::Machine(|facts| absent(facts, "/dev", &["mem", "kmem", "port"])),
    },
    Check {
        id: "D25.kcore",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "memory of the kernel as a file in the box",
        place: "/proc/kcore",
        expected: "none, or kept shut by lockdown [confidentiality]",
        attack: "whoever becomes root of the box reads all memory",
        fix: "build the kernel without PROC_KCORE, or boot with `lockdown=confidentiality`",
        verdicts: says::PASS_WARN,
        look: Look::Machine(kcore),
    },
    Check {
        id: "D25.debug",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "debugfs and tracefs mounted in the box",
        place: "/proc/self/mountinfo",
        expected: "neither",
        attack: "interfaces that were never hardened; traces tell what agents do",
        fix: "do not mount them: mask sys-kernel-debug.mount and sys-kernel-tracing.mount",
        verdicts: says::PASS_WARN,
        look: Look::Machine(debug_mounts),
    },
];

/// Whether code is loaded, built, or can be loaded.
fn reachable(facts: &Facts<'_>, parts: &'static str) -> Seen {
    let mut parts = parts.split('/');
    let mut next = || parts.next().unwrap_or_default();
    let (modules, symbols, protocol, severity) = (next(), next(), next(), next());
    let bad = if severity == "fail" { Verdict::Fail } else { Verdict::Warn };
    if let Ok(loaded) = facts.tree.list("/sys/module")
        && let Some(found) = modules.split(' ').find(|name| loaded.iter().any(|one| one == name))
    {
        return Seen::new(bad, format!("{found} is loaded"));
    }
    if let Ok(text) = facts.tree.text("/proc/net/protocols")
        && text.lines().any(|line| line.split(' ').next() == Some(protocol))
    {
        return Seen::new(bad, format!("the kernel offers {protocol}"));
    }
    let config = match facts.config() {
        Ok(config) => config,
        Err(why) => return Seen::unread("not loaded; kernel configuration", why),
    };
    let settings: Vec<Setting> = symbols.split(' ').map(|symbol| config.get(symbol)).collect();
    if settings.contains(&Setting::BuiltIn) {
        return Seen::new(bad, "built in");
    }
    if settings.iter().all(|setting| *setting == Setting::Not) {
        return Seen::new(Verdict::Pass, "not built");
    }
    match facts.tree.line("/proc/sys/kernel/modules_disabled").as_deref() {
        Ok("1") => Seen::new(Verdict::Pass, "a module, not loaded, and loading is switched off"),
        _ => Seen::new(Verdict::Warn, "a module, not loaded; it loads on demand"),
    }
}

/// The security modules; an error is what to say.
fn modules(facts: &Facts<'_>) -> Result<Vec<String>, Seen> {
    // The kernel writes no line end here.
    let text = facts.tree.loose_text(LSM).map_err(|why| Seen::unread(LSM, &why))?;
    let names: Vec<String> = text.trim().split(',').map(str::to_owned).collect();
    let known = names.iter().all(|name| LSM_KNOWN.contains(&name.as_str()));
    if known { Ok(names) } else { Err(Seen::unknown(format!("{LSM}: not understood"))) }
}

fn landlock(facts: &Facts<'_>) -> Seen {
    match modules(facts) {
        Err(seen) => seen,
        Ok(names) => {
            let has = names.iter().any(|name| name == "landlock");
            Seen::new(if has { Verdict::Pass } else { Verdict::Fail }, names.join(","))
        }
    }
}

fn mandatory(facts: &Facts<'_>) -> Seen {
    match modules(facts) {
        Err(seen) => seen,
        Ok(names) => {
            let is_one = |name: &String| matches!(name.as_str(), "apparmor" | "selinux" | "smack" | "tomoyo");
            Seen::new(if names.iter().any(is_one) { Verdict::Pass } else { Verdict::Warn }, names.join(","))
        }
    }
}

fn lockdown(facts: &Facts<'_>) -> Seen {
    match facts.tree.line(LOCKDOWN).as_deref() {
        Err(why) => Seen::unread(LOCKDOWN, why),
        Ok(text @ ("none [integrity] confidentiality" | "none integrity [confidentiality]")) => {
            Seen::new(Verdict::Pass, text)
        }
        Ok(text) if text.starts_with("[none] ") => Seen::new(Verdict::Fail, text),
        Ok(text) => Seen::unknown(format!("not understood: {text}")),
    }
}

fn absent(facts: &Facts<'_>, folder: &str, names: &[&str]) -> Seen {
    match facts.tree.list(folder) {
        Err(why) => Seen::unread(folder, &why),
        Ok(found) => {
            let there: Vec<&str> =
                names.iter().copied().filter(|name| found.iter().any(|one| one == name)).collect();
            if there.is_empty() {
                Seen::new(Verdict::Pass, "none")
            } else {
                Seen::new(Verdict::Warn, there.join(", "))
            }
        }
    }
}

/// Lockdown leaves the file where it is, and nobody can open it.
fn kcore(facts: &Facts<'_>) -> Seen {
    let seen = absent(facts, "/proc", &["kcore"]);
    let is_shut = facts.tree.line(LOCKDOWN).as_deref() == Ok("none integrity [confidentiality]");
    if seen.verdict == Verdict::Warn && is_shut {
        return Seen::new(Verdict::Pass, "there, and lockdown keeps it shut");
    }
    seen
}

fn debug_mounts(facts: &Facts<'_>) -> Seen {
    match crate::agents::mounts(facts.tree, "self") {
        Err(why) => Seen::unread("mountinfo", &why),
        Ok(mounts) => {
            let is_one = |kind: &str| matches!(kind, "debugfs" | "tracefs");
            let found: Vec<&str> =
                mounts.iter().filter(|m| is_one(&m.kind)).map(|m| m.target.as_str()).collect();
            if found.is_empty() {
                Seen::new(Verdict::Pass, "neither")
            } else {
                Seen::new(Verdict::Warn, found.join(", "))
            }
        }
    }
}
