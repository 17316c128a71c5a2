//! What a verified report says, claim by claim.

use std::fmt::Display;

use casemate_evidence::snp::SNP_VERSION_KNOWN_MAX;
use casemate_evidence::{PlatformBit, PolicyBit, SigningKey};

use super::report::{ChipBinding, VerifiedSnp};
use super::vek::VekIdentity;
use crate::hex_text::Hex;
use crate::ledger::{Ledger, Voucher};
use crate::platform::{Known, Memory, Weakness};

/// Adds what the report says to the claims.
pub(crate) fn claim_all(ledger: &mut Ledger, verified: &VerifiedSnp<'_>, voucher: Voucher) {
    let report = &verified.report;
    let mut claim = |name: &str, value: &dyn Display| ledger.claim("platform", name, value, voucher);
    claim("tee", &"snp");
    claim("report-version", &report.version);
    claim("report-version-known", &(report.version <= SNP_VERSION_KNOWN_MAX));
    claim("reserved-bytes-set", &report.reserved_set.is_some());
    claim("product", &verified.vek.extensions.product);
    if let Some(cpuid) = report.cpuid {
        let [family, model, stepping] = [cpuid.family, cpuid.model, cpuid.stepping];
        claim("processor", &format_args!("family {family:#04x} model {model:#04x} stepping {stepping:#04x}"));
    }
    claim_key(&mut claim, verified);
    claim("reported-tcb", &verified.tcb.reported);
    claim("current-tcb", &verified.tcb.current);
    claim("committed-tcb", &verified.tcb.committed);
    claim("launch-tcb", &verified.tcb.launch);
    for (name, [build, minor, major]) in
        [("current-firmware", report.current_version), ("committed-firmware", report.committed_version)]
    {
        claim(name, &format_args!("{major}.{minor}.{build}"));
    }
    if let Some(mitigations) = report.mitigations {
        claim("launch-mitigations", &format_args!("{:#x}", mitigations.launch));
        claim("current-mitigations", &format_args!("{:#x}", mitigations.current));
    }
    claim_bits(&mut claim, verified);
    claim("vmpl", &report.vmpl);
    claim("guest-svn", &report.guest_svn);
    claim("family-id", &Hex(*report.family_id));
    claim("image-id", &Hex(*report.image_id));
    claim("measurement", &Hex(*report.measurement));
    claim("host-data", &Hex(*report.host_data));
    claim("id-key-digest", &Hex(*report.id_key_digest));
    claim("author-key-enabled", &report.author_key_enabled);
    claim("author-key-digest", &Hex(*report.author_key_digest));
    claim("report-id", &Hex(*report.report_id));
    claim("report-id-ma", &Hex(*report.report_id_ma));
}

/// What stands against genuine hardware that a policy accepts all the same: a product with a known weakness, whatever a
/// policy must allow by name before it passes, and a guest that the host may debug.
pub(crate) fn known(verified: &VerifiedSnp<'_>) -> Known {
    let (report, policy) = (&verified.report, verified.report.policy);
    let debug = policy.has(PolicyBit::Debug);
    let weak = verified.vek.extensions.product.weakness().is_some()
        || policy.has(PolicyBit::MigrationAgent)
        || policy.has(PolicyBit::Cxl)
        || policy.unknown() != 0
        || report.reserved_set.is_some()
        || report.version > SNP_VERSION_KNOWN_MAX
        || verified.chip == ChipBinding::Masked
        || verified.tcb.current != verified.tcb.committed;
    Known {
        platform: if weak { Weakness::Known } else { Weakness::None },
        memory: if debug { Memory::Debuggable } else { Memory::Closed },
    }
}

/// Whose key signed, and what ties it to a chip.
fn claim_key(claim: &mut impl FnMut(&str, &dyn Display), verified: &VerifiedSnp<'_>) {
    let vek = &verified.vek;
    claim("signing-key", if vek.kind == SigningKey::Vlek { &"vlek" } else { &"vcek" });
    match &vek.extensions.identity {
        VekIdentity::Chip(hwid) => claim("hwid", &Hex(*hwid)),
        VekIdentity::Cloud(cloud) => claim("csp-id", cloud),
    }
    claim(
        "key-bound-to",
        match verified.chip {
            ChipBinding::Equal | ChipBinding::Masked => &"chip",
            ChipBinding::Cloud => &"cloud",
        },
    );
    claim("chip-id", &Hex(*verified.report.chip_id));
    claim("chip-id-masked", &(*verified.report.chip_id == [0; 64]));
    claim("chip-key-masked", &verified.report.chip_key_masked);
}

/// Guest policy and platform information: as numbers, and each bit with a meaning by its name.
fn claim_bits(claim: &mut impl FnMut(&str, &dyn Display), verified: &VerifiedSnp<'_>) {
    let (policy, platform) = (verified.report.policy, verified.report.platform_info);
    claim("policy", &format_args!("{:#x}", policy.0));
    let (major, minor) = policy.abi();
    claim("policy.abi", &format_args!("{major}.{minor}"));
    for bit in PolicyBit::ALL {
        claim(policy_claim(bit), &policy.has(bit));
    }
    claim("policy.unknown-bits", &format_args!("{:#x}", policy.unknown()));
    claim("platform-info", &format_args!("{:#x}", platform.0));
    for bit in PlatformBit::ALL {
        claim(platform_claim(bit), &platform.has(bit));
    }
    claim("platform-info.unknown-bits", &format_args!("{:#x}", platform.unknown()));
}

const fn policy_claim(bit: PolicyBit) -> &'static str {
    match bit {
        PolicyBit::Smt => "policy.smt",
        PolicyBit::AlwaysOne => "policy.always-one",
        PolicyBit::MigrationAgent => "policy.migration-agent",
        PolicyBit::Debug => "policy.debug",
        PolicyBit::SingleSocket => "policy.single-socket",
        PolicyBit::Cxl => "policy.cxl",
        PolicyBit::MemAes256Xts => "policy.mem-aes-256-xts",
        PolicyBit::RaplDis => "policy.rapl-dis",
        PolicyBit::CiphertextHiding => "policy.ciphertext-hiding",
        PolicyBit::PageSwapDisable => "policy.page-swap-disable",
    }
}

const fn platform_claim(bit: PlatformBit) -> &'static str {
    match bit {
        PlatformBit::Smt => "platform-info.smt",
        PlatformBit::Tsme => "platform-info.tsme",
        PlatformBit::Ecc => "platform-info.ecc",
        PlatformBit::RaplDis => "platform-info.rapl-dis",
        PlatformBit::CiphertextHiding => "platform-info.ciphertext-hiding",
        PlatformBit::AliasCheckComplete => "platform-info.alias-check-complete",
        PlatformBit::Tio => "platform-info.tio",
    }
}
