//! Hypervisor attack surface: each part of the machine that the host controls, what TDX and SEV-SNP protect of it, and what
//! remains. A row is a claim about platforms, with its source; what this box shows is the checks of this run that it names.

use serde::Serialize;

use super::Input;
use crate::doctor::{Finding, Vantage, Verdict};
use crate::sources::Source;

/// A part of what the host controls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Component {
    /// What it is.
    pub component: &'static str,
    /// What TDX protects.
    pub tdx: &'static str,
    /// What SEV-SNP protects.
    pub snp: &'static str,
    /// What remains in either.
    pub remains: &'static str,
    /// Where that is described.
    pub source: &'static str,
    /// What of it could not be confirmed against a source. Empty where all was.
    pub not_confirmed: &'static str,
    /// What checks of this run showed. Empty where none of doctor's checks is about it.
    pub here: Vec<Shown>,
    /// Why nothing was seen, where nothing was.
    pub not_seen: Option<&'static str>,
}

impl Component {
    /// The source, and what of the row was not confirmed.
    #[must_use]
    pub fn source_words(&self) -> String {
        Source { of: self.component, document: self.source, open: self.not_confirmed }.words()
    }
}

/// Where each row comes from.
pub fn sources() -> impl Iterator<Item = Source> {
    ROWS.iter().map(|row| Source { of: row.component, document: row.source, open: row.open })
}

/// What one check showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its id.
    pub id: String,
    /// What it says.
    pub verdict: Verdict,
    /// Who vouches for it.
    pub vantage: Vantage,
    /// What was there.
    pub observed: String,
}

/// What checks showed, those that say and see alike together, without those that saw nothing.
pub(super) fn grouped(here: &[Shown]) -> Vec<(Verdict, Vantage, Vec<&str>)> {
    let mut groups: Vec<(Verdict, Vantage, Vec<&str>)> = Vec::new();
    for shown in here.iter().filter(|shown| shown.verdict != Verdict::Unknown) {
        let is_like =
            |group: &&mut (Verdict, Vantage, Vec<&str>)| (group.0, group.1) == (shown.verdict, shown.vantage);
        match groups.iter_mut().find(is_like) {
            Some(group) => group.2.push(&shown.id),
            None => groups.push((shown.verdict, shown.vantage, vec![&shown.id])),
        }
    }
    groups.sort_by_key(|(verdict, ..)| std::cmp::Reverse(*verdict));
    groups
}

/// A row of the table.
struct Row {
    component: &'static str,
    tdx: &'static str,
    snp: &'static str,
    remains: &'static str,
    source: &'static str,
    /// What of it was confirmed nowhere.
    open: &'static str,
    /// Ids of checks, or their beginnings.
    checks: &'static [&'static str],
}

const ROWS: [Row; 15] = [
    Row {
        component: "vCPU scheduling",
        tdx: "not when or where a vCPU runs; the module watches for single-stepping and zero-stepping",
        snp: "not when or where a vCPU runs",
        remains: "the host stops, starves and steps vCPUs, measures how long code runs between two exits, and puts another guest on the sibling thread",
        source: "Intel, Linux Guest Kernel Security Specification for TDX, Safety against #VE in kernel code; tdxray.cpusec.org (S&P 2026); CVE-2025-29943, AMD-SB-3027 (StackWarp); AMD64 manual, volume 2, 15.36.17, as quoted on the kvm list",
        open: "TDXdown (CCS 2024) and SEV-Step: the papers themselves were not read",
        checks: &["D05.smt", "D02.smt", "D02.host-ibs", "D14."],
    },
    Row {
        component: "interrupt injection",
        tdx: "vectors 0 to 30 cannot be injected; others and NMI can",
        snp: "nothing, unless Restricted or Alternate Injection or Secure AVIC is on, which the guest's kernel must implement",
        remains: "the host chooses when and which interrupts come, and drops those between vCPUs; a kernel without the fixes takes int 0x80 and #VC from it. SEV-SNP: vectors 0 and 14, of which no fixed version of Linux is named (CVE-2024-25743)",
        source: "Intel, Linux Guest Kernel Security Specification for TDX, Interrupt handling and APIC; CVE-2024-25742, CVE-2024-25743, CVE-2024-25744; AMD-SB-3008; Linux, SNP_FEATURES_PRESENT (arch/x86/boot/compressed/sev.c)",
        open: "",
        checks: &["D02.injection", "D11.", "D12.CVE-2024"],
    },
    Row {
        component: "state save and restore",
        tdx: "registers of a vCPU are kept and restored by the module, out of the host's reach",
        snp: "the save area is encrypted; a changed one is not run",
        remains: "with SEV-SNP, repeated ciphertext tells of repeated registers where ciphertext is not hidden; a debug or migration policy opens all of it",
        source: "Linux, Documentation/arch/x86/tdx.rst; KVM, SEV-ES hypervisor support, cover letter (2020), and AMD64 manual, volume 2, 15.35; CipherLeaks (USENIX Security 2021); Linux 6.18, kvm-amd.ciphertext_hiding_asids; AMD-SB-3021",
        open: "that a changed save area is not run with SEV-SNP, too: the text is of SEV-ES",
        checks: &["D02.registers", "D02.debug-swap", "D05.debug", "D05.migration", "D05.ciphertext"],
    },
    Row {
        component: "page remapping",
        tdx: "secure EPT: a private page is where the guest accepted it. One that the host takes away stops the vCPU; one that it adds again is empty until accepted, and raises #VE where SEPT_VE_DISABLE is not set",
        snp: "reverse map table: one owner and one guest address for each page, validated by the guest",
        remains: "the host sees which pages are touched; it can move and swap pages (SEV-SNP), and a memory module that lies about its size aliases them",
        source: "Linux, Documentation/arch/x86/tdx.rst, #VE on Private Pages; Intel, Linux Guest Kernel Security Specification for TDX, Lazy conversion; Linux, pull request x86_sev_for_v5.19_rc1; tdxray.cpusec.org; CVE-2024-21944 (BadRAM); AMD-SB-3021; AMD 56860 (at second hand), guest policy bit 25",
        open: "Heracles (CCS 2025): the paper itself was not read",
        checks: &["D05.page-faults", "D05.alias", "D05.pages", "D02.guest"],
    },
    Row {
        component: "ACPI tables",
        tdx: "the virtual firmware measures them into a register; their content is the host's",
        snp: "nothing: they come from the host after the launch is measured",
        remains: "the kernel runs code of these tables (AML) with all its rights; mainline Linux has no list of tables that it takes",
        source: "Intel, Linux Guest Kernel Security Specification for TDX, BIOS-supplied ACPI tables; Linux, Documentation/arch/x86/tdx.rst, Attestation; BadAML (CCS 2025), reproduced by Edgeless Systems",
        open: "the paper itself; that the register is RTMR0",
        checks: &["D06.acpi", "D04."],
    },
    Row {
        component: "CPUID and MSRs",
        tdx: "the module answers most CPUID leaves and fixes or refuses most MSRs; of other leaves Linux asks the host for 0x40000000 to 0x400000FF and takes 0 for the rest",
        snp: "CPUID is checked by the firmware where the guest uses the CPUID page; numbers of APIC, core and node in it, and intercepted MSRs, are the host's word",
        remains: "which cores share what, and which mitigations the processor has, can be as the host says",
        source: "Intel, Linux Guest Kernel Security Specification for TDX, MSRs and CPUID; Linux, Documentation/arch/x86/tdx.rst, CPUID Behavior; Linux, snp_cpuid_postprocess (arch/x86/boot/startup/sev-shared.c)",
        open: "",
        checks: &["D13.", "D14.", "D15.branches", "D15.stores", "D02.branches"],
    },
    Row {
        component: "time",
        tdx: "the time stamp counter only goes on, and alike on each vCPU; that it tells real time, nothing says",
        snp: "the counter is the guest's own where SecureTSC is on; else it is the host's, too",
        remains: "the host chooses the date: expired certificates and tokens can be valid again",
        source: "Intel, Linux Guest Kernel Security Specification for TDX, TSC and other timers; Linux, snp_secure_tsc_init (arch/x86/coco/sev/core.c)",
        open: "who sets the pace of a TDX guest's counter",
        checks: &["D07.", "D06.kvmclock", "D02.time"],
    },
    Row {
        component: "entropy",
        tdx: "RDRAND and RDSEED are the processor's",
        snp: "likewise",
        remains: "the host can drain both, and times interrupts; what virtio-rng or the loader give, it knows: where the kernel credits it, keys can be guessed. RDSEED of some AMD processors returned values that others influence (CVE-2025-62626)",
        source: "Intel, Linux Guest Kernel Security Specification for TDX, Randomness; Linux, x86/coco: Require seeding RNG with RDRAND on CoCo systems (99485c4c026f); drivers/char/hw_random/core.c; CVE-2025-62626, AMD-SB-7055",
        open: "",
        checks: &["D08.", "D06.entropy"],
    },
    Row {
        component: "devices",
        tdx: "DMA reaches shared memory alone; drivers read what the device says",
        snp: "likewise",
        remains: "each driver that the kernel binds parses bytes of the host, and mainline Linux has no filter of drivers; a console shows it what is printed",
        source: "Intel, Linux Guest Kernel Security Specification for TDX, Device filter mechanism, VirtIO and shared memory; Linux, Documentation/security/snp-tdx-threat-model.rst",
        open: "devices that are attested and reach private memory (TDX Connect, SEV-TIO) were not looked at",
        checks: &["D09.", "D06.filter", "D06.devices", "D06.pci", "D06.swiotlb", "D06.console"],
    },
    Row {
        component: "network",
        tdx: "nothing",
        snp: "nothing",
        remains: "the host sees, drops, delays and forges packets; what is not under TLS of the agent's own is its to read. The gateway carries bytes, it does not encrypt",
        source: "Linux, Documentation/security/snp-tdx-threat-model.rst, CoCo guest data attacks; docs/threat-model.md",
        open: "",
        checks: &["D27.tcp"],
    },
    Row {
        component: "disks",
        tdx: "nothing",
        snp: "nothing",
        remains: "volumes lie in clear unless the machine encrypts and authenticates its disks; sizes and times of access show anyway",
        source: "Linux, Documentation/security/snp-tdx-threat-model.rst, CoCo guest data attacks; Intel, Linux Guest Kernel Security Specification for TDX, Storage protection; docs/threat-model.md",
        open: "",
        checks: &["D10."],
    },
    Row {
        component: "snapshots and rollback",
        tdx: "memory of a guest cannot be put back under it; a migration service domain could move it",
        snp: "likewise; a migration agent could",
        remains: "disks can be put back to an old state, and nothing here notices; the whole VM can be started anew",
        source: "docs/threat-model.md",
        open: "that nothing but migration brings memory back, in either",
        checks: &["D05.migration"],
    },
    Row {
        component: "branch predictors and caches",
        tdx: "predictors: not confirmed that the module keeps those of host and guest apart; caches are common",
        snp: "predictors are apart where BTBIsol is on; caches are common",
        remains: "the host and other guests on the machine see cache sets and page-level access",
        source: "tdxray.cpusec.org (S&P 2026): page, cache and monitor signals; Linux, sev_status_feat_names; CVE-2023-20592 (CacheWarp, closed by microcode); CVE-2025-40300 (VMScape)",
        open: "what the TDX module does with predictions at entry and exit",
        checks: &["D02.branches", "D06.guest-guest", "D13.vmscape"],
    },
    Row {
        component: "command line and faults",
        tdx: "measured into a register where firmware and boot loader do; the host chooses it at a direct boot",
        snp: "in MEASUREMENT where the launch has its hash; else the host's",
        remains: "a word of it can open a shell, switch mitigations off, or let the kernel go on after a fault that the host caused",
        source: "Intel, Linux Guest Kernel Security Specification for TDX, Kernel command line; Linux, Documentation/security/snp-tdx-threat-model.rst, Guest malicious configuration",
        open: "what of a direct boot the launch of SEV-SNP measures",
        checks: &[
            "D06.mce",
            "D06.oops",
            "D06.mitigations",
            "D06.user",
            "D06.cross-thread",
            "D06.shell",
            "D06.init",
        ],
    },
    Row {
        component: "firmware and microcode",
        tdx: "versions are in the quote, and the policy judges them",
        snp: "versions are in the report, and the policy judges them",
        remains: "bugs that no version names yet; on Milan, the seed of the key that signs; physical access to memory buses, which takes attestation keys",
        source: "GHSA-4xq7-4mgh-gp6w, AMD-SB-3019 (EntrySign); CVE-2025-0033, AMD-SB-3020 (RMPocalypse); CVE-2025-54510, AMD-SB-3034 (Fabricked); arXiv 2605.12990 (BadFuse), abstract; review of TDX 1.5 by Google and Intel (2026)",
        open: "RMPocalypse, Fabricked, TEE.fail and Battering RAM: at second hand",
        checks: &["D05.module", "D05.product", "D05.signed", "D05.level", "D01.vmpl"],
    },
];

/// What is not protected.
pub(super) fn not_protected() -> Vec<String> {
    [
        "availability: the host can stop, starve, delay and delete the VM at any time",
        "access patterns and timing: which pages, cache sets and devices are used, and when",
        "everything on disks and networks that agents do not encrypt themselves; old states of disks come back unnoticed",
        "physical attacks on memory, buses and chips",
        "what cannot be seen from inside of the guest: whether the sibling thread runs somebody else, whether the host has its own mitigations, who has physical access",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The table, with what this run's checks showed.
pub(super) fn components(input: &Input) -> Vec<Component> {
    ROWS.iter().map(|row| component(row, &input.findings)).collect()
}

fn component(row: &Row, findings: &[Finding]) -> Component {
    let concerns = |finding: &&Finding| {
        finding.about.is_none() && row.checks.iter().any(|check| finding.id.starts_with(check))
    };
    let here: Vec<Shown> = findings
        .iter()
        .filter(concerns)
        .filter(|finding| finding.verdict != Verdict::NotApplicable)
        .map(|finding| Shown {
            id: finding.id.to_string(),
            verdict: finding.verdict,
            vantage: finding.vantage,
            observed: finding.observed.clone(),
        })
        .collect();
    let seen = here.iter().any(|shown| shown.verdict != Verdict::Unknown);
    Component {
        component: row.component,
        tdx: row.tdx,
        snp: row.snp,
        remains: row.remains,
        source: row.source,
        not_confirmed: row.open,
        not_seen: (!seen).then_some("no check of this run could see anything of it from inside of the guest"),
        here,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::doctor;

    #[test]
    fn each_row_names_checks_that_exist_and_a_source() {
        let known: Vec<&str> = doctor::checks().iter().map(|check| check.id).collect();
        for row in &ROWS {
            assert!(!row.source.is_empty() && !row.remains.is_empty(), "{}", row.component);
            for check in row.checks {
                assert!(known.iter().any(|id| id.starts_with(check)), "{}: {check}", row.component);
            }
        }
    }

    #[test]
    fn each_check_of_the_hypervisors_surface_is_in_a_row() {
        use crate::doctor::Heading;
        let checks = doctor::checks();
        let of_it = checks.iter().filter(|check| check.heading == Heading::HypervisorSurface);
        let missing: Vec<&str> = of_it
            .map(|check| check.id)
            .filter(|id| !ROWS.iter().any(|row| row.checks.iter().any(|check| id.starts_with(check))))
            .collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn a_row_without_a_check_that_saw_anything_says_so() {
        let rows = components(&sample::input());
        let row = |name: &str| rows.iter().find(|row| row.component == name).unwrap();
        assert_eq!(row("time").not_seen, None);
        assert!(row("snapshots and rollback").not_seen.is_some());
    }
}
