//! Where the facts are described that checks and tables stand on, as looked up on 2026-11-28.
//!
//! What it is: one row for each group of statements, with the document and, where something in it was found nowhere or only
//! at second hand, what that is. What it is not: a copy of those documents. Who trusts it: who reads a finding and asks why.
//! docs/sources.md is written from it.

use crate::report::component_sources;

/// Where statements come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Of which checks: an id, or the beginning of ids up to a dot.
    pub of: &'static str,
    /// Document and section, file of Linux, or CVE and subject of the commit.
    pub document: &'static str,
    /// What of it could not be confirmed. Empty where all was.
    pub open: &'static str,
}

impl Source {
    /// In words that do not hide what is open.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.document, self.open) {
            (document, "") => document.to_owned(),
            ("", open) => format!("not confirmed against a source: {open}"),
            (document, open) => format!("{document}; not confirmed against a source: {open}"),
        }
    }
}

const fn row(of: &'static str, document: &'static str) -> Source {
    Source { of, document, open: "" }
}

const fn part(of: &'static str, document: &'static str, open: &'static str) -> Source {
    Source { of, document, open }
}

/// The row with the longest beginning of an id; none where there is no row.
#[must_use]
pub fn of(id: &str) -> Option<&'static Source> {
    let is_of = |source: &&Source| {
        id.strip_prefix(source.of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    SOURCES.iter().filter(is_of).max_by_key(|source| source.of.len())
}

/// The words for an id.
#[must_use]
pub fn words(id: &str) -> String {
    of(id).map_or_else(|| "not confirmed against a source: all of it".to_owned(), Source::words)
}

/// All of them as tables, for docs/sources.md.
#[must_use]
pub fn markdown() -> String {
    let rows = |title: &str, sources: &mut dyn Iterator<Item = Source>| {
        let mut out = format!("## {title}\n\n| of | source | not confirmed |\n|---|---|---|\n");
        for source in sources {
            let document = if source.document.is_empty() { "none" } else { source.document };
            let cells =
                [source.of, document, source.open].map(|text| text.replace('|', "\\|").replace('*', "\\*"));
            out.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        out.push('\n');
        out
    };
    let checks = rows("Checks of doctor, by the longest beginning of an id", &mut SOURCES.iter().copied());
    let parts = rows("What the host controls (posture, heading 3)", &mut component_sources());
    format!("{checks}{parts}")
}

const HARDENING: &str = "Intel, Linux Guest Kernel Security Specification for TDX (ccc-linux-guest-hardening-docs), Kernel command line";
const SEV_STATUS: &str = "Linux, sev_status_feat_names (arch/x86/coco/sev/core.c) and MSR_AMD64_SNP_* (msr-index.h); that a guest ends where it does not implement a feature: SNP_FEATURES_IMPL_REQ and SNP_FEATURES_PRESENT (arch/x86/boot/compressed/sev.c)";
const APM: &str =
    "that the host cannot intercept this register (said to be in AMD64 manual, volume 2, 15.34.10)";
const SNP_ABI: &str = "AMD 56860 (at second hand), guest policy, PLATFORM_INFO and ATTESTATION_REPORT, as virtee/sev and go-sev-guest describe their bits";
const TDX_ABI: &str = "Intel 348551 (at second hand), TD attributes and TDREPORT, as Intel's quote verification library reads them";
const SYSCTL: &str = "names seen on Linux 6.18, or of distributions";
const SYSCTL_OPEN: &str = "what the values mean: Documentation/admin-guide/sysctl was not read";
const OF_LINUX: &str = "names and form seen on Linux 6.18";
const BY_HAND: &str = "the paper itself was not read";

/// All rows, by group.
pub const SOURCES: &[Source] = &[
    row("D01.provider", "Linux, Documentation/ABI/testing/configfs-tsm-report (6.7)"),
    row("D01.registers", "Linux, Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest (6.16)"),
    row("D01.vmpl", "Linux, Documentation/ABI/testing/sysfs-devices-system-cpu, /sys/devices/system/cpu/sev"),
    part(
        "D01.config",
        "Linux, Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest, mrconfigid; AMD 56860 (at second hand), SNP_LAUNCH_FINISH",
        "the AMD section was not read",
    ),
    row(
        "D02.guest",
        "Linux, print_mem_encrypt_feature_info (arch/x86/mm/mem_encrypt.c); lines of TDX and SEV-SNP guests in public reports",
    ),
    part("D02", SEV_STATUS, APM),
    part(
        "D02.injection",
        "CVE-2024-25742, CVE-2024-25743, CVE-2024-25744 (CVE records, of which two name AMD-SB-3008); Linux, sev_status_feat_names and SNP_FEATURES_PRESENT",
        APM,
    ),
    row(
        "D02.smt",
        "AMD64 manual, volume 2, 15.36.17, SMT Protection, as quoted on the kvm list; CVE-2025-29943, AMD-SB-3027; Linux, sev_status_feat_names",
    ),
    part("D02.debug-swap", SEV_STATUS, "what a host gains where it is off"),
    part("D02.registers", SEV_STATUS, "what VMSARegProt masks"),
    part("D03", "", "names of devices, and that these modes are enough: our own choice"),
    part(
        "D04",
        "Intel, TDX Virtual Firmware Design Guide, TD measurement; ACPI 6.5, CCEL",
        "neither text was read: the replay is tested with logs of real machines",
    ),
    row("D05", SNP_ABI),
    row(
        "D05.debug",
        "Intel 348551 (at second hand), TD attributes (TUD is bits 7 to 0), as Intel's quote verification library reads them; AMD 56860 (at second hand), guest policy bit 19",
    ),
    part(
        "D05.migration",
        "Intel 348551 (at second hand), TD attributes bit 29; AMD 56860 (at second hand), guest policy bit 18; joint review of TDX 1.5 by Google and Intel (2026): five vulnerabilities, live migration in scope",
        "what each of the five allowed",
    ),
    row(
        "D05.page-faults",
        "Intel, Linux Guest Kernel Security Specification for TDX, Safety against #VE in kernel code; Linux, disable_sept_ve (arch/x86/coco/tdx/tdx.c): the attribute is the state at launch",
    ),
    row("D05.module", TDX_ABI),
    row("D05.smt-policy", "CVE-2025-29943, AMD-SB-3027; AMD 56860 (at second hand), guest policy bit 16"),
    row("D05.smt", "CVE-2025-29943, AMD-SB-3027; AMD 56860 (at second hand), PLATFORM_INFO bit 0"),
    row("D05.alias", "CVE-2024-21944, AMD-SB-3015; AMD 56860 (at second hand), PLATFORM_INFO bit 5"),
    part(
        "D05.ciphertext",
        "AMD-SB-3021; AMD 56860 (at second hand), guest policy bit 24, PLATFORM_INFO bit 4; Linux 6.18, kvm-amd.ciphertext_hiding_asids",
        "which processors have it",
    ),
    part(
        "D05.pages",
        "AMD 56860 (at second hand), guest policy bit 25 (SNP_PAGE_MOVE, SNP_SWAP_OUT, SNP_SWAP_IN), as virtee/sev describes it; AMD-SB-3021",
        "Heracles: the paper itself was not read",
    ),
    row("D05.product", "arXiv 2605.12990, abstract; AMD 56860 (at second hand), CPUID fields of the report"),
    row("D06", HARDENING),
    row(
        "D06.filter",
        "Intel, Linux Guest Kernel Security Specification for TDX, threat table (NRDDI/L) and Kernel command line. Mainline Linux has none of it",
    ),
    row(
        "D06.devices",
        "Intel, Linux Guest Kernel Security Specification for TDX, Device passthrough and Kernel command line",
    ),
    part(
        "D06.acpi",
        "Intel, Linux Guest Kernel Security Specification for TDX, BIOS-supplied ACPI tables; BadAML (CCS 2025), reproduced by Edgeless Systems",
        BY_HAND,
    ),
    part(
        "D06.swiotlb",
        "Linux, Documentation/arch/x86/tdx.rst, Shared Memory Conversions",
        "what swiotlb=noforce does in a TDX or SNP guest",
    ),
    row("D06.mitigations", "Linux, Documentation/admin-guide/hw-vuln/attack_vector_controls.rst"),
    row("D06.user-user", "Linux, Documentation/admin-guide/hw-vuln/attack_vector_controls.rst"),
    row("D06.user-kernel", "Linux, Documentation/admin-guide/hw-vuln/attack_vector_controls.rst"),
    row("D06.guest-guest", "Linux, Documentation/admin-guide/hw-vuln/attack_vector_controls.rst"),
    row("D06.cross-thread", "Linux, Documentation/admin-guide/hw-vuln/attack_vector_controls.rst"),
    part("D06.shell", "systemd-debug-generator(8)", "the page was not read"),
    part(
        "D06.init",
        "Linux, Documentation/admin-guide/kernel-parameters.txt, init= and rdinit=",
        "the page was not read",
    ),
    part(
        "D06.console",
        "Intel, Linux Guest Kernel Security Specification for TDX, IO ports; Linux, Documentation/admin-guide/kernel-parameters.txt, console=",
        "the second page was not read",
    ),
    row(
        "D07",
        "Intel, Linux Guest Kernel Security Specification for TDX, TSC and other timers; names seen on Linux 6.18",
    ),
    row(
        "D08",
        "Linux, drivers/char/hw_random/core.c: default_quality is the most that a source is credited with, 1024 unless set; Intel, same specification, Randomness",
    ),
    part(
        "D09",
        "Intel, Linux Guest Kernel Security Specification for TDX, VirtIO and shared memory; Virtio 1.3, section 5, device numbers",
        "the second was not read",
    ),
    row("D09.console", OF_LINUX),
    row("D10.swap", OF_LINUX),
    row(
        "D10.disks",
        "cryptsetup 2.8, names CRYPT-SUBDEV-UUID-NAME_dif, before it CRYPT-INTEGRITY-UUID-NAME_dif (coreos-installer#1681); LUKS2 headers are not authenticated: CVE-2025-59054",
    ),
    row(
        "D11",
        "CVE-2024-25744: x86/coco: Disable 32-bit emulation by default on TDX and SEV (b82a8dbd3d2f); Linux 55617fb991df; names of the configuration seen on Linux 6.18",
    ),
    row(
        "D12.CVE-2026-31431",
        "CVE record: crypto: algif_aead - Revert to operating out-of-place (a664bf3d603d)",
    ),
    row(
        "D12.CVE-2026-43284",
        "CVE record: xfrm: esp: avoid in-place decrypt on shared skb frags (f4c50a4034e6)",
    ),
    part(
        "D12.CVE-2026-43500",
        "CVE record of May 2026: rxrpc: Also unshare DATA/RESPONSE packets when paged frags are present (aa54b1d27fe0)",
        "series older than 6.18",
    ),
    part(
        "D12.CVE-2026-43503",
        "CVE record of May 2026: net: skbuff: preserve shared-frag marker during coalescing, and its companion CVE-2026-46300",
        "that 7.1-rc5 is the first of mainline: said at second hand",
    ),
    part(
        "D12.CVE-2026-46300",
        "CVE record of May 2026: net: skbuff: propagate shared-frag marker through frag-transfer helpers (Fragnesia)",
        "that 7.1-rc5 is the first of mainline: said at second hand",
    ),
    row(
        "D12.CVE-2024-25744",
        "CVE record: x86/coco: Disable 32-bit emulation by default on TDX and SEV (b82a8dbd3d2f), 6.6.7",
    ),
    row(
        "D12.CVE-2024-25742",
        "CVE record: x86/sev: Harden #VC instruction emulation somewhat (e3ef461af35a), 6.9; AMD-SB-3008",
    ),
    part(
        "D13",
        "Linux, Documentation/ABI/testing/sysfs-devices-system-cpu; all names seen on Linux 6.18",
        "what each hole is: Documentation/admin-guide/hw-vuln was not read",
    ),
    part(
        "D13.vmscape",
        "CVE-2025-40300",
        "that a guest cannot see it: Documentation/admin-guide/hw-vuln/vmscape.rst was not read",
    ),
    row("D14", "Linux, Documentation/ABI/testing/sysfs-devices-system-cpu, smt"),
    row("D15", "Linux, fs/proc/array.c; names seen on Linux 6.18"),
    part(
        "D15.cookie",
        "Linux, Documentation/admin-guide/hw-vuln/core-scheduling.rst",
        "the page was not read",
    ),
    part(
        "D16",
        "Linux, fs/proc/base.c (ksm_stat); names seen on Linux 6.18",
        "what is written to `run`: Documentation/admin-guide/mm/ksm.rst was not read",
    ),
    row("D17", "docs/residual-surface.md: measured by the probe"),
    row(
        "D18",
        "Linux, Documentation/filesystems/erofs.rst: domain_id is not shown in mountinfo, inode_share is, and sharing needs both; superblock_share was proposed in 2026",
    ),
    part("D19", "form seen on Linux 6.18", "that huge pages make eviction sets cheap: general knowledge"),
    part(
        "D20",
        "numbers: Edera, User Namespaces Are Not a Security Boundary (2026), as a second article gives them; switches: Debian and Ubuntu",
        "the numbers in Edera's own text",
    ),
    part("D21", SYSCTL, SYSCTL_OPEN),
    part("D21.perf", SYSCTL, "what the values mean, and value 3, which is of distributions' patches"),
    part("D22", SYSCTL, SYSCTL_OPEN),
    row("D23.af-alg", "CVE-2026-31431"),
    row("D23.esp", "CVE-2026-43284, CVE-2026-46300, CVE-2026-43503"),
    row("D23.rxrpc", "CVE-2026-43500"),
    part("D23.key", "", "that AF_KEY is a second way to IPsec: general knowledge"),
    part("D23.nf-tables", "Edera (2026), as a second article gives it", "the number in Edera's own text"),
    part(
        "D23.vsock",
        "canonical/tdx and Intel's tdx-qgs serve quotes over vsock",
        "names in /proc/net/protocols",
    ),
    part("D23.packet", "", "general knowledge"),
    row("D24.landlock", "Linux, Documentation/userspace-api/landlock.rst, Kernel support"),
    row(
        "D24.landlock-version",
        "Landlock ABI 6 (Linux 6.12), ABI 9 (Linux 7.1): LANDLOCK_ACCESS_FS_RESOLVE_UNIX",
    ),
    part("D24.mandatory", "", "names of modules, and our own choice that one of four is expected"),
    part("D24.lockdown", "kernel_lockdown(7); Linux, security/lockdown", "the page was not read"),
    part(
        "D25",
        "Linux, Documentation/filesystems/proc.rst (hidepid, subset); lockdown reason LOCKDOWN_KCORE",
        "the pages were not read; the form of mounts is tested on Linux 6.18",
    ),
    part(
        "D26",
        "Linux, Documentation/admin-guide/cgroup-v2.rst; cgroups(7)",
        "the pages were not read; names are tested on a machine",
    ),
    part(
        "D27",
        "Linux, Documentation/networking/proc_net_tcp.rst",
        "the page was not read; the form is tested on Linux 6.18",
    ),
    part(
        "H01",
        "Linux, arch/x86/kvm/vmx (module parameter tdx); QEMU's text in canonical/tdx's tests",
        "that Linux 6.16 is the first",
    ),
    part(
        "H02",
        "Linux, Documentation/arch/x86/tdx.rst: `TDX-Module initialized`, before it `module initialized` (canonical/tdx#155)",
        "names of BIOS switches: canonical/tdx",
    ),
    part("H03", "canonical/tdx, README; issue 142 (group sgx_prv)", "names of BIOS switches"),
    row("H04", "canonical/tdx, issues 142 and 313 (qgsd)"),
    part("H05", "canonical/tdx", "on which hosts vsock is needed"),
    part(
        "H06",
        "Linux, arch/x86/kvm/svm/sev.c (module parameter sev_snp)",
        "that Linux 6.11 is the first; QEMU's text; names of BIOS switches",
    ),
    part("H07", "Linux, drivers/crypto/ccp/sev-dev.c (device sev)", "what the log says"),
    row(
        "H08",
        "Linux, arch/x86/virt/svm/sev.c: `RMP table physical range`, of a segmented table `Segmented RMP base table physical range`; its errors name the BIOS",
    ),
    row(
        "H09",
        "Linux, drivers/iommu/amd/init.c: SNP: IOMMU disabled or configured in passthrough mode, SNP cannot be supported",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor, host};

    fn ids() -> Vec<&'static str> {
        let checks = doctor::checks().into_iter().map(|check| check.id);
        checks.chain(host::CHECKS.iter().map(|check| check.id)).collect()
    }

    #[test]
    fn each_check_has_a_source_and_each_source_a_check() {
        for id in ids() {
            assert!(of(id).is_some(), "{id}");
        }
        for source in SOURCES {
            assert!(ids().iter().any(|id| of(id) == Some(source)), "{}", source.of);
        }
    }

    #[test]
    fn a_row_says_where_or_that_nothing_was_found() {
        for source in SOURCES {
            assert!(!source.document.is_empty() || !source.open.is_empty(), "{}", source.of);
            assert!(!source.words().ends_with('.'), "{}", source.of);
            assert_eq!(source.open.is_empty(), !source.words().contains("not confirmed"), "{}", source.of);
        }
    }

    #[test]
    fn the_longest_beginning_wins_and_ends_at_a_dot() {
        assert_eq!(of("D02.smt").unwrap().of, "D02.smt");
        assert_eq!(of("D02.time").unwrap().of, "D02");
        assert_eq!(of("D0"), None);
        assert!(words("D99.x").starts_with("not confirmed"));
    }
}
