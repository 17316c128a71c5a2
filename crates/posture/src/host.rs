//! `casemate doctor --host`: for people who set up a machine that runs TDX or SEV-SNP guests, and known errors.
//!
//! Sources: Linux, Documentation/arch/x86/tdx.rst and Documentation/virt/kvm/x86/amd-memory-encryption.rst; the issue
//! trackers of canonical/tdx and virtee/snphost for what goes wrong.

use std::borrow::Cow;

use crate::doctor::{Finding, Heading, Vantage, Verdict};
use crate::tree::{Tree, Unread};

/// Vendor of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vendor {
    Intel,
    Amd,
}

/// A check of the host.
#[derive(Debug, Clone, Copy)]
pub struct HostCheck {
    /// Stable name.
    pub id: &'static str,
    /// What it looks at, in words.
    pub what: &'static str,
    /// Where.
    pub place: &'static str,
    /// What it expects.
    pub expected: &'static str,
    /// What goes wrong else.
    pub otherwise: &'static str,
    /// What to do.
    pub fix: &'static str,
    vendor: Vendor,
    look: fn(&Tree) -> Result<(Verdict, String), Unread>,
}

/// The checks, TDX first.
pub const CHECKS: [HostCheck; 9] = [
    HostCheck {
        id: "H01.tdx-kvm",
        what: "KVM can start TDX guests",
        place: "/sys/module/kvm_intel/parameters/tdx",
        expected: "Y",
        otherwise: "QEMU: `vm-type tdx not supported by KVM`",
        fix: "boot with `kvm_intel.tdx=1`; Linux 6.16 or later on the host; TDX on in the BIOS",
        vendor: Vendor::Intel,
        look: |tree| yes(tree, "/sys/module/kvm_intel/parameters/tdx"),
    },
    HostCheck {
        id: "H02.tdx-module",
        what: "the TDX module is loaded",
        place: "/dev/kmsg: virt/tdx",
        expected: "virt/tdx: module initialized, or TDX-Module initialized",
        otherwise: "no TDX guest starts",
        fix: "boot with `nohibernate` where the log says that hibernation support is enabled; in the BIOS: TME and TME-MT on, memory integrity of TME-MT off, TDX on, SEAM loader on, TDX key split not 0, SGX on; then look for `virt/tdx` in the kernel log",
        vendor: Vendor::Intel,
        look: tdx_module,
    },
    HostCheck {
        id: "H03.sgx",
        what: "SGX, which the quoting enclave needs",
        place: "/dev/{sgx_enclave,sgx_provision}",
        expected: "both",
        otherwise: "quotes are empty: the quoting service cannot start its enclave",
        fix: "switch SGX on in the BIOS, with SGX Auto MP Registration; put the service's user into the group `sgx_prv`",
        vendor: Vendor::Intel,
        look: |tree| devices(tree, &["sgx_enclave", "sgx_provision"]),
    },
    HostCheck {
        id: "H04.qgs",
        what: "the quote generation service runs",
        place: "/proc/*/comm",
        expected: "qgs",
        otherwise: "guests get no quote: outblob stays empty",
        fix: "install tdx-qgs, `systemctl enable --now qgsd`; give QEMU `-object tdx-guest,...,quote-generation-socket=...`",
        vendor: Vendor::Intel,
        look: quote_service,
    },
    HostCheck {
        id: "H05.vsock",
        what: "vsock for guests, by which they ask for quotes on some hosts",
        place: "/dev/vhost-vsock",
        expected: "there",
        otherwise: "guests that ask over vsock get no quote",
        fix: "modprobe vhost_vsock; needed only where the guest asks over vsock and not by TDG.VP.VMCALL",
        vendor: Vendor::Intel,
        look: |tree| devices(tree, &["vhost-vsock"]),
    },
    HostCheck {
        id: "H06.snp-kvm",
        what: "KVM can start SEV-SNP guests",
        place: "/sys/module/kvm_amd/parameters/sev_snp",
        expected: "Y",
        otherwise: "QEMU: `sev-snp not supported`",
        fix: "Linux 6.11 or later on the host; SNP and `SEV-SNP Support` on in the BIOS; no `mem_encrypt=off`",
        vendor: Vendor::Amd,
        look: |tree| yes(tree, "/sys/module/kvm_amd/parameters/sev_snp"),
    },
    HostCheck {
        id: "H07.sev",
        what: "the security processor answers",
        place: "/dev/sev",
        expected: "there",
        otherwise: "no guest starts, and no certificates of the chip can be had",
        fix: "modprobe ccp; look for `ccp` and `SEV API` in the kernel log",
        vendor: Vendor::Amd,
        look: |tree| devices(tree, &["sev"]),
    },
    HostCheck {
        id: "H08.rmp",
        what: "the reverse map table covers memory",
        place: "/dev/kmsg: SEV-SNP",
        expected: "SEV-SNP: RMP table physical range, or Segmented RMP base table physical range",
        otherwise: "no SEV-SNP guest starts",
        fix: "in the BIOS: `SNP Memory (RMP Table) Coverage` on",
        vendor: Vendor::Amd,
        look: reverse_map,
    },
    HostCheck {
        id: "H09.iommu",
        what: "the IOMMU keeps devices from guests' memory",
        place: "/dev/kmsg: AMD-Vi",
        expected: "AMD-Vi, and no `iommu=pt` on the command line",
        otherwise: "SNP is refused at the start of the host",
        fix: "IOMMU on in the BIOS; remove `iommu=pt` and `amd_iommu=off`",
        vendor: Vendor::Amd,
        look: iommu,
    },
];

/// Runs the checks of the host. Those of the other vendor are not applicable; where the vendor is not known, all are run.
#[must_use]
pub fn run(tree: &Tree) -> Vec<Finding> {
    let vendor = vendor(tree);
    CHECKS.iter().map(|check| finding(tree, vendor, check)).collect()
}

fn finding(tree: &Tree, vendor: Option<Vendor>, check: &HostCheck) -> Finding {
    let (verdict, observed) = if vendor.is_some_and(|vendor| vendor != check.vendor) {
        (Verdict::NotApplicable, "another vendor's processor".to_owned())
    } else {
        (check.look)(tree).unwrap_or_else(|why| (Verdict::Unknown, why.describe()))
    };
    Finding {
        id: Cow::Borrowed(check.id),
        heading: Heading::AttestationScope,
        about: None,
        what: Cow::Borrowed(check.what),
        observed,
        expected: Cow::Borrowed(check.expected),
        verdict,
        // Whoever asks is on the host itself.
        vantage: Vantage::HostClaimed,
        attack: Cow::Borrowed(check.otherwise),
        fix: Cow::Borrowed(check.fix),
        source: Cow::Owned(crate::sources::words(check.id)),
    }
}

fn vendor(tree: &Tree) -> Option<Vendor> {
    let text = tree.text("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("vendor_id"))?;
    match line.rsplit(' ').next()? {
        "GenuineIntel" => Some(Vendor::Intel),
        "AuthenticAMD" => Some(Vendor::Amd),
        _ => None,
    }
}

fn yes(tree: &Tree, path: &str) -> Result<(Verdict, String), Unread> {
    match tree.line(path)?.as_str() {
        on @ ("Y" | "1") => Ok((Verdict::Pass, on.to_owned())),
        off @ ("N" | "0") => Ok((Verdict::Fail, off.to_owned())),
        _ => Err(Unread::NotText),
    }
}

fn devices(tree: &Tree, wanted: &[&str]) -> Result<(Verdict, String), Unread> {
    let found = tree.list("/dev")?;
    let missing: Vec<&str> =
        wanted.iter().copied().filter(|name| !found.iter().any(|one| one == name)).collect();
    Ok(if missing.is_empty() {
        (Verdict::Pass, "there".to_owned())
    } else {
        (Verdict::Fail, format!("missing: {}", missing.join(" ")))
    })
}

fn logged(tree: &Tree, wanted: &str) -> Result<(Verdict, String), Unread> {
    let log = tree.kernel_log()?;
    match log.iter().find(|message| message.contains(wanted)) {
        Some(message) => Ok((Verdict::Pass, message.clone())),
        None if log.iter().any(|message| message.starts_with("Linux version ")) => {
            Ok((Verdict::Fail, "not in the kernel log".to_owned()))
        }
        None => Err(Unread::Failed("the first messages of the kernel log are gone".into())),
    }
}

fn tdx_module(tree: &Tree) -> Result<(Verdict, String), Unread> {
    let (verdict, said) = logged(tree, "virt/tdx: ")?;
    if verdict == Verdict::Fail {
        return Ok((verdict, said));
    }
    // Linux says it in either way, by its age.
    for wanted in ["virt/tdx: module initialized", "virt/tdx: TDX-Module initialized"] {
        let initialised = logged(tree, wanted)?;
        if initialised.0 == Verdict::Pass {
            return Ok(initialised);
        }
    }
    Ok((Verdict::Fail, said))
}

/// A table in one piece, or in segments.
fn reverse_map(tree: &Tree) -> Result<(Verdict, String), Unread> {
    let whole = logged(tree, "SEV-SNP: RMP table physical range")?;
    if whole.0 == Verdict::Pass {
        return Ok(whole);
    }
    logged(tree, "SEV-SNP: Segmented RMP base table physical range")
}

fn quote_service(tree: &Tree) -> Result<(Verdict, String), Unread> {
    let mut any = false;
    for name in tree.list("/proc")?.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        match tree.line(&format!("/proc/{name}/comm")) {
            Ok(name) if name == "qgs" || name == "qgsd" => return Ok((Verdict::Pass, name)),
            Ok(_) => any = true,
            // A process that ended in between.
            Err(_) => {}
        }
    }
    if any { Ok((Verdict::Fail, "no such process".to_owned())) } else { Err(Unread::Absent) }
}

fn iommu(tree: &Tree) -> Result<(Verdict, String), Unread> {
    let line = tree.line("/proc/cmdline")?;
    let bad = ["iommu=pt", "amd_iommu=off", "iommu=off"];
    if let Some(word) = line.split_whitespace().find(|word| bad.contains(word)) {
        return Ok((Verdict::Fail, word.to_owned()));
    }
    logged(tree, "AMD-Vi")
}

/// An error that is known: words of its text, cause and what to do.
#[derive(Debug, Clone, Copy)]
pub struct KnownError {
    /// Words that are all in the text, in lower case.
    pub words: &'static [&'static str],
    /// What it comes from.
    pub cause: &'static str,
    /// What to do.
    pub fix: &'static str,
}

/// Errors that people meet when they set up hosts.
pub const KNOWN_ERRORS: [KnownError; 11] = [
    KnownError {
        words: &["0xb033"],
        cause: "the quoting library could not fetch the certificates of this platform from the PCCS. Codes 0xb000 and up are those of its network part; what 0xb033 itself means was confirmed in no source",
        fix: "look at `journalctl -u pccs`; register the platform (PCKIDRetrievalTool), fill the PCCS cache, and look at `use_secure_cert` and the URL in /etc/sgx_default_qcnl.conf",
    },
    KnownError {
        words: &["no certificate data for this platform"],
        cause: "the PCCS has no certificates of this platform, and did not get them from Intel",
        fix: "register the platform (PCKIDRetrievalTool), fill the PCCS cache, and look at `journalctl -u pccs`",
    },
    KnownError {
        words: &["outblob", "empty"],
        cause: "the quote service gave no quote",
        fix: "see H03 and H04 of `casemate doctor --host`; look at `journalctl -u qgsd`; the guest's `generation` must not change while it reads",
    },
    KnownError {
        words: &["quote", "empty"],
        cause: "the quote service gave no quote",
        fix: "see H03 and H04 of `casemate doctor --host`; look at `journalctl -u qgsd`",
    },
    KnownError {
        words: &["429"],
        cause: "AMD's key service answers about one request for a VCEK in ten seconds for an address",
        fix: "keep the certificates: `casemate bundle create` fetches each once, and they do not change for one chip and TCB",
    },
    KnownError {
        words: &["too many requests"],
        cause: "AMD's key service answers about one request for a VCEK in ten seconds for an address",
        fix: "keep the certificates: `casemate bundle create` fetches each once, and they do not change for one chip and TCB",
    },
    KnownError {
        words: &["pccs", "certificate"],
        cause: "the PCCS has a certificate of its own that the quoting library does not accept",
        fix: "set `\"use_secure_cert\": false` in /etc/sgx_default_qcnl.conf where PCCS is on this machine, else install its certificate",
    },
    KnownError {
        words: &["pccs", "tls"],
        cause: "the PCCS has a certificate of its own that the quoting library does not accept",
        fix: "set `\"use_secure_cert\": false` in /etc/sgx_default_qcnl.conf where PCCS is on this machine, else install its certificate",
    },
    KnownError {
        words: &["self", "signed", "certificate"],
        cause: "the PCCS has a certificate of its own that the quoting library does not accept",
        fix: "set `\"use_secure_cert\": false` in /etc/sgx_default_qcnl.conf where PCCS is on this machine, else install its certificate",
    },
    KnownError {
        words: &["platform", "not", "registered"],
        cause: "Intel does not know the keys of this platform: no SGX Auto MP Registration, or a pre-production processor",
        fix: "switch SGX Auto MP Registration on in the BIOS and look at `mpa_manage -get_last_registration_error_code`; pre-production processors cannot be registered",
    },
    KnownError {
        words: &["cert_chain", "null"],
        cause: "on bare metal the hypervisor passes no certificates along",
        fix: "`snphost import` on the host, or fetch the VCEK elsewhere with the URL that `snphost show vcek-url` names, into a bundle",
    },
];

/// What is known of an error's text.
#[must_use]
pub fn explain(text: &str) -> Option<&'static KnownError> {
    let text = text.to_lowercase();
    KNOWN_ERRORS.iter().find(|known| known.words.iter().all(|word| text.contains(word)))
}
