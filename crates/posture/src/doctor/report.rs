//! Group 5, and what group 1 asks of the report: fields of a TDX quote or an SNP report.
//!
//! The report is an allegation until `casemate verify` has checked its signature.

use casemate_evidence::{PlatformBit, PolicyBit, SigningKey, SnpReport, TdxQuote};

use super::facts::{Facts, Hardware};
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};

/// TD attributes (Intel TDX module ABI 348551, "ATTRIBUTES"): the first byte is TUD, of which bit 0 is DEBUG.
const SEPT_VE_DISABLE: u64 = 1 << 28;
const MIGRATABLE: u64 = 1 << 29;
/// Family 19h, models 00h to 0Fh: Milan.
const MILAN_FAMILY: u8 = 0x19;
const MILAN_MODEL_MAX: u8 = 0x0f;

struct Row {
    id: &'static str,
    what: &'static str,
    expected: &'static str,
    attack: &'static str,
    fix: &'static str,
    verdicts: &'static [Verdict],
    look: fn(&Facts<'_>) -> Seen,
}

/// The checks of this group.
pub(crate) fn checks() -> Vec<Check> {
    let check = |row: &Row| Check {
        id: row.id,
        heading: if row.id == "D01.config" || row.id == "D05.signed" {
            Heading::AttestationScope
        } else {
            Heading::HypervisorSurface
        },
        vantage: Vantage::HardwareSigned,
        what: row.what,
        place: "report",
        expected: row.expected,
        attack: row.attack,
        fix: row.fix,
        verdicts: row.verdicts,
        look: Look::Machine(row.look),
    };
    ROWS.iter().map(check).collect()
}

const ROWS: [Row; 13] = [
    Row {
        id: "D01.config",
        what: "composition bound at launch (MRCONFIGID, HOST_DATA)",
        expected: "not all zero; the verifier compares it with the composition",
        attack: "the host starts the measured image with another composition",
        fix: "give the composition digest to the launch of the VM",
        verdicts: says::PASS_FAIL,
        look: |facts| {
            by_kind(
                facts,
                |quote| {
                    good_if(
                        quote.body.mr_config_id.iter().any(|b| *b != 0),
                        "MRCONFIGID is set",
                        "MRCONFIGID is zero",
                    )
                },
                |report| {
                    good_if(report.host_data.iter().any(|b| *b != 0), "HOST_DATA is set", "HOST_DATA is zero")
                },
            )
        },
    },
    Row {
        id: "D05.signed",
        what: "key that signed the report (SEV-SNP)",
        expected: "VCEK or VLEK",
        attack: "an unsigned report says what the host likes",
        fix: "have the host not mask the chip key (MASK_CHIP_KEY)",
        verdicts: says::PASS_FAIL_NONE,
        look: |facts| {
            snp(facts, |report| match report.signing_key {
                SigningKey::Vcek => Seen::new(Verdict::Pass, "VCEK"),
                SigningKey::Vlek => Seen::new(Verdict::Pass, "VLEK"),
                SigningKey::None => Seen::new(Verdict::Fail, "none"),
            })
        },
    },
    Row {
        id: "D05.debug",
        what: "debugging by the host",
        expected: "off (TDX: TUD byte 0; SEV-SNP: POLICY.DEBUG 0)",
        attack: "the host reads and writes memory of a debuggable guest",
        fix: "launch without the debug attribute",
        verdicts: says::PASS_FAIL,
        look: |facts| {
            by_kind(
                facts,
                |quote| good_if(quote.body.td_attributes.first() == Some(&0), "off", "TUD byte is not 0"),
                |report| policy_off(report, PolicyBit::Debug),
            )
        },
    },
    Row {
        id: "D05.migration",
        what: "migration agent",
        expected: "none (TDX: MIGRATABLE 0, MR_SERVICETD 0; SEV-SNP: MIGRATE_MA 0)",
        attack: "a migration agent or service domain is trusted with the guest's state; the review of TDX 1.5 in 2026 found five holes, live migration among what it looked at",
        fix: "launch without migration",
        verdicts: says::PASS_FAIL,
        look: |facts| by_kind(facts, not_migratable, |report| policy_off(report, PolicyBit::MigrationAgent)),
    },
    Row {
        id: "D05.page-faults",
        what: "page faults that the host causes are not the guest's to handle (TDX)",
        expected: "SEPT_VE_DISABLE 1 at the launch",
        attack: "the host takes a page away and adds it again: the guest gets #VE at an instruction that the host chose",
        fix: "launch with SEPT_VE_DISABLE; a guest whose module allows it may switch #VE off, or on again, later, which no quote shows",
        verdicts: says::PASS_FAIL_NONE,
        look: |facts| tdx(facts, |quote| good_if(attributes(quote) & SEPT_VE_DISABLE != 0, "1", "0")),
    },
    Row {
        id: "D05.module",
        what: "signer of the TDX module",
        expected: "Intel (MRSIGNERSEAM zero)",
        attack: "a module of somebody else answers for the hardware",
        fix: "have the host load Intel's module",
        verdicts: says::PASS_FAIL_NONE,
        look: |facts| {
            tdx(facts, |quote| {
                good_if(quote.body.mr_signer_seam.iter().all(|b| *b == 0), "Intel", "another signer")
            })
        },
    },
    Row {
        id: "D05.smt-policy",
        what: "second threads allowed by the guest's policy (SEV-SNP)",
        expected: "0",
        attack: "StackWarp (CVE-2025-29943): the sibling thread changes the guest's stack pointer",
        fix: "launch with POLICY.SMT 0",
        verdicts: says::PASS_WARN_NONE,
        look: |facts| snp(facts, |report| warn_if(report.policy.has(PolicyBit::Smt), "1", "0")),
    },
    Row {
        id: "D05.smt",
        what: "second threads on at the host (SEV-SNP)",
        expected: "PLATFORM_INFO.SMT_EN 0",
        attack: "StackWarp (CVE-2025-29943), port contention",
        fix: "have the host switch SMT off",
        verdicts: says::PASS_WARN_NONE,
        look: |facts| snp(facts, |report| warn_if(report.platform_info.has(PlatformBit::Smt), "1", "0")),
    },
    Row {
        id: "D05.alias",
        what: "memory checked for aliases (SEV-SNP)",
        expected: "PLATFORM_INFO.ALIAS_CHECK_COMPLETE 1",
        attack: "BadRAM (CVE-2024-21944): a memory module that lies about its size",
        fix: "have the host update its firmware",
        verdicts: says::PASS_FAIL_NONE,
        look: |facts| {
            snp(facts, |report| good_if(report.platform_info.has(PlatformBit::AliasCheckComplete), "1", "0"))
        },
    },
    Row {
        id: "D05.ciphertext",
        what: "ciphertext hidden from the host (SEV-SNP)",
        expected: "PLATFORM_INFO.CIPHERTEXT_HIDING 1",
        attack: "CipherLeaks, Heracles: the host sees which memory contents repeat",
        fix: "needs processor, firmware and BIOS that have it, kvm-amd.ciphertext_hiding_asids with Linux 6.18 or later on the host, and POLICY bit 24",
        verdicts: says::PASS_WARN_NONE,
        look: |facts| {
            snp(facts, |report| warn_if(!report.platform_info.has(PlatformBit::CiphertextHiding), "0", "1"))
        },
    },
    Row {
        id: "D05.pages",
        what: "pages cannot be moved by the host (SEV-SNP)",
        expected: "POLICY.PAGE_SWAP_DISABLE 1",
        attack: "Heracles (CCS 2025): moving and swapping pages encrypts chosen text anew",
        fix: "launch with policy bit 25, where the firmware knows it",
        verdicts: says::PASS_WARN_NONE,
        look: |facts| snp(facts, |report| warn_if(!report.policy.has(PolicyBit::PageSwapDisable), "0", "1")),
    },
    Row {
        id: "D05.product",
        what: "processor (SEV-SNP)",
        expected: "not Milan",
        attack: "BadFuse, MilanLaunchy (arXiv 2605.12990): software takes the seed of Milan's signing key",
        fix: "use Genoa, Turin or later",
        verdicts: says::PASS_FAIL_NONE,
        look: |facts| snp(facts, product),
    },
    Row {
        id: "D05.level",
        what: "privilege level that asked for the report (SEV-SNP)",
        expected: "0; above 0 a paravisor or SVSM below is trusted too",
        attack: "a paravisor that nobody measured reads the guest",
        fix: "have the verifier pin the measurement of the SVSM or paravisor",
        verdicts: says::PASS_WARN_NONE,
        look: |facts| {
            snp(facts, |report| {
                let verdict = if report.vmpl == 0 { Verdict::Pass } else { Verdict::Warn };
                Seen::new(verdict, report.vmpl.to_string())
            })
        },
    },
];

fn by_kind(facts: &Facts<'_>, tdx: fn(&TdxQuote<'_>) -> Seen, snp: fn(&SnpReport<'_>) -> Seen) -> Seen {
    match &facts.report {
        Ok(Hardware::Tdx(quote)) => tdx(quote),
        Ok(Hardware::Snp(report)) => snp(report),
        Err(why) => Seen::unknown(why.as_str()),
    }
}

fn tdx(facts: &Facts<'_>, look: fn(&TdxQuote<'_>) -> Seen) -> Seen {
    by_kind(facts, look, |_| Seen::not_applicable("a field of TDX quotes"))
}

fn snp(facts: &Facts<'_>, look: fn(&SnpReport<'_>) -> Seen) -> Seen {
    by_kind(facts, |_| Seen::not_applicable("a field of SNP reports"), look)
}

fn good_if(good: bool, is: &str, is_not: &str) -> Seen {
    if good { Seen::new(Verdict::Pass, is) } else { Seen::new(Verdict::Fail, is_not) }
}

fn warn_if(bad: bool, is: &str, is_not: &str) -> Seen {
    if bad { Seen::new(Verdict::Warn, is) } else { Seen::new(Verdict::Pass, is_not) }
}

fn policy_off(report: &SnpReport<'_>, bit: PolicyBit) -> Seen {
    good_if(!report.policy.has(bit), "off", "on")
}

fn attributes(quote: &TdxQuote<'_>) -> u64 {
    u64::from_le_bytes(*quote.body.td_attributes)
}

fn not_migratable(quote: &TdxQuote<'_>) -> Seen {
    if attributes(quote) & MIGRATABLE != 0 {
        return Seen::new(Verdict::Fail, "MIGRATABLE is 1");
    }
    match quote.body.version_15 {
        Some(part) if part.mr_service_td.iter().any(|b| *b != 0) => {
            Seen::new(Verdict::Fail, "MR_SERVICETD is set")
        }
        _ => Seen::new(Verdict::Pass, "none"),
    }
}

fn product(report: &SnpReport<'_>) -> Seen {
    let Some(cpuid) = report.cpuid else {
        return Seen::unknown(format!("a report of version {} does not say", report.version));
    };
    let text = format!("family {:02x}h model {:02x}h", cpuid.family, cpuid.model);
    let is_milan = cpuid.family == MILAN_FAMILY && cpuid.model <= MILAN_MODEL_MAX;
    Seen::new(if is_milan || cpuid.family == 0 { Verdict::Fail } else { Verdict::Pass }, text)
}
