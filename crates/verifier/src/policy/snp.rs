//! `[platform.snp]`: what a policy expects of an SEV-SNP box.
//!
//! Keys that weaken are named `allow-…` (and `vlek-clouds`, `report-version-max`); without them the strict rule holds.
//! Keys that narrow are named `require-…`, `…-min`, or for what they list; without them nothing more is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use casemate_evidence::snp::SNP_VERSION_KNOWN_MAX;
use casemate_evidence::{PlatformBit, PolicyBit};
use serde::Deserialize;
use toml::Spanned;

use super::place::{Place, Strings, hex_array, list};
use super::{Measurement, PolicyError};
use crate::hex_text::Hex;
use crate::snp::SnpProduct;

/// Oldest version of a report that is read at all.
const REPORT_VERSION_MIN: u32 = 2;
/// First bit of a guest policy that has no meaning here, and last bit.
const UNKNOWN_POLICY_BITS: std::ops::RangeInclusive<u8> = 26..=63;

/// Expectations of an SEV-SNP box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpExpectations {
    /// Launch measurement: every value that is accepted.
    pub measurement: Vec<Measurement>,
    /// Privilege level that asked for the report.
    pub vmpl: u32,
    /// Processors that are accepted, each with its lowest security versions. Naming [`SnpProduct::Milan`] accepts its
    /// weakness ([`SnpProduct::weakness`]).
    pub products: BTreeMap<SnpProduct, SnpTcbMin>,
    /// Whether simultaneous multithreading may be on.
    pub smt: Smt,
    /// Oldest CRL of AMD accepted, counted from when it was issued.
    pub crl_age_max_days: u32,
    /// What is accepted beyond the strict rules.
    pub allow: SnpAllowances,
    /// What is asked for beyond the rules that always hold.
    pub require: SnpRequirements,
}

/// Lowest security versions of an SEV-SNP platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnpTcbMin {
    /// First mutable code; Turin only, 0 elsewhere.
    pub fmc: u8,
    /// Boot loader of the security processor.
    pub bootloader: u8,
    /// Its operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

/// Whether simultaneous multithreading may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Smt {
    /// It may be.
    Allowed,
    /// The guest policy must forbid it, and it must be off.
    Refused,
}

/// What weakens an SEV-SNP box, and is refused unless the policy names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpAllowances {
    /// Each by its name.
    pub flags: BTreeSet<SnpAllowance>,
    /// Bits of the guest policy without a meaning here that may be set.
    pub policy_bits: u64,
    /// Clouds whose VLEK is accepted: the whole CSP_ID. None: reports must be signed by a VCEK.
    pub vlek_clouds: Vec<String>,
    /// Highest version of a report that is accepted.
    pub report_version_max: u32,
}

impl SnpAllowances {
    /// The strict rules: nothing is allowed.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            flags: BTreeSet::new(),
            policy_bits: 0,
            vlek_clouds: Vec::new(),
            report_version_max: SNP_VERSION_KNOWN_MAX,
        }
    }
}

/// Something that weakens an SEV-SNP box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SnpAllowance {
    /// The host may read and change the guest's memory.
    Debug,
    /// A migration agent may move the guest to another host.
    MigrationAgent,
    /// The guest's memory may lie on devices on CXL.
    Cxl,
    /// The host may go back to the older firmware that it is committed to.
    ProvisionalFirmware,
    /// The report does not name its chip.
    MaskedChipId,
    /// Bytes that the report's version reserves are set.
    ReservedBytes,
}

impl SnpAllowance {
    /// Each of them.
    pub const ALL: [Self; 6] = [
        Self::Debug,
        Self::MigrationAgent,
        Self::Cxl,
        Self::ProvisionalFirmware,
        Self::MaskedChipId,
        Self::ReservedBytes,
    ];

    /// The key of the policy file.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Debug => "allow-debug",
            Self::MigrationAgent => "allow-migration-agent",
            Self::Cxl => "allow-cxl",
            Self::ProvisionalFirmware => "allow-provisional-firmware",
            Self::MaskedChipId => "allow-masked-chip-id",
            Self::ReservedBytes => "allow-reserved-bytes",
        }
    }
}

/// What is asked of an SEV-SNP box beyond the rules that always hold. Empty lists and zeros ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpRequirements {
    /// Bits of the guest policy that must be set.
    pub policy: BTreeSet<PolicyBit>,
    /// Bits of the platform information that must be set.
    pub platform: BTreeSet<PlatformBit>,
    /// Firmware mitigations that must have been verified at launch and be in force: one bit each.
    pub mitigations: u64,
    /// Lowest version of a report that is accepted.
    pub report_version_min: u32,
    /// Lowest firmware that the platform must be committed to.
    pub firmware_min: Option<SnpFirmware>,
    /// Lowest security version that the guest's owner gave.
    pub guest_svn_min: u32,
    /// Chips that are accepted.
    pub chips: Vec<SnpChip>,
    /// Digests of the key that signed the identity block.
    pub id_key_digest: Vec<Measurement>,
    /// Digests of the key that certified the identity key.
    pub author_key_digest: Vec<Measurement>,
    /// Families that the guest's owner gave.
    pub family_id: Vec<[u8; 16]>,
    /// Images that the guest's owner gave.
    pub image_id: Vec<[u8; 16]>,
    /// What the host had bound in at launch. Where the policy names a composition, that says it besides.
    pub host_data: Vec<[u8; 32]>,
}

impl SnpRequirements {
    /// Nothing more is asked for.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            policy: BTreeSet::new(),
            platform: BTreeSet::new(),
            mitigations: 0,
            report_version_min: REPORT_VERSION_MIN,
            firmware_min: None,
            guest_svn_min: 0,
            chips: Vec::new(),
            id_key_digest: Vec::new(),
            author_key_digest: Vec::new(),
            family_id: Vec::new(),
            image_id: Vec::new(),
            host_data: Vec::new(),
        }
    }
}

/// A version of the SNP firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpFirmware {
    /// ABI version, major.
    pub major: u8,
    /// ABI version, minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

/// A chip's identity: CHIP_ID of a report, 64 bytes; on Turin 8 bytes and zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnpChip(pub [u8; 64]);

impl SnpChip {
    /// From 128 lower-case hexadecimal digits, or 16 for a chip of Turin. A chip of zeros is none.
    fn parse(text: &str) -> Option<Self> {
        let mut chip = [0; 64];
        match text.len() {
            16 => chip.get_mut(..8)?.copy_from_slice(&hex_array::<8>(text)?),
            _ => chip = hex_array(text)?,
        }
        (chip != [0; 64]).then_some(Self(chip))
    }
}

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Table {
    measurement: Strings,
    vmpl: Spanned<u32>,
    products: Spanned<BTreeMap<Spanned<String>, Product>>,
    allow_smt: bool,
    crl_age_max_days: Spanned<u32>,
    allow_debug: Option<bool>,
    allow_migration_agent: Option<bool>,
    allow_cxl: Option<bool>,
    allow_provisional_firmware: Option<bool>,
    allow_masked_chip_id: Option<bool>,
    allow_reserved_bytes: Option<bool>,
    allow_policy_bits: Option<Spanned<Vec<Spanned<u8>>>>,
    vlek_clouds: Option<Strings>,
    report_version_max: Option<Spanned<u32>>,
    require_policy: Option<Strings>,
    require_platform: Option<Strings>,
    require_mitigations: Option<Spanned<Vec<Spanned<u8>>>>,
    report_version_min: Option<Spanned<u32>>,
    firmware_min: Option<SnpFirmware>,
    guest_svn_min: Option<u32>,
    chips: Option<Strings>,
    id_key_digest: Option<Strings>,
    author_key_digest: Option<Strings>,
    family_id: Option<Strings>,
    image_id: Option<Strings>,
    host_data: Option<Strings>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Product {
    tcb_min: Spanned<TcbMin>,
    allow_extractable_seed: Option<Spanned<bool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcbMin {
    fmc: Option<Spanned<u8>>,
    bootloader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

/// What the table says.
pub(super) fn read(place: &Place<'_>, table: &Table) -> Result<SnpExpectations, PolicyError> {
    if *table.vmpl.get_ref() > 3 {
        let what = format!("vmpl {} is not possible", table.vmpl.get_ref());
        return Err(place.error(&table.vmpl.span(), what, "write a number from 0 to 3"));
    }
    if table.products.get_ref().is_empty() {
        let todo = "add [platform.snp.products.Genoa] with tcb-min, or another product's";
        return Err(place.error(&table.products.span(), "no product is named, so nothing could pass", todo));
    }
    let products = table.products.get_ref().iter().map(|(name, product)| read_product(place, name, product));
    Ok(SnpExpectations {
        measurement: place.measurements(&table.measurement)?,
        vmpl: *table.vmpl.get_ref(),
        products: products.collect::<Result<_, _>>()?,
        smt: if table.allow_smt { Smt::Allowed } else { Smt::Refused },
        crl_age_max_days: place.days(&table.crl_age_max_days)?,
        allow: read_allowances(place, table)?,
        require: read_requirements(place, table)?,
    })
}

fn read_product(
    place: &Place<'_>,
    name: &Spanned<String>,
    product: &Product,
) -> Result<(SnpProduct, SnpTcbMin), PolicyError> {
    let Some(known) = SnpProduct::from_name(name.get_ref()) else {
        let what = format!("`{}` is not Milan, Genoa or Turin", name.get_ref());
        return Err(place.error(&name.span(), what, "write Milan, Genoa or Turin"));
    };
    let allowed = product.allow_extractable_seed.as_ref();
    match (known.weakness(), allowed) {
        (Some(_), Some(allowed)) if *allowed.get_ref() => {}
        (Some(why), _) => {
            let todo = "remove it, or add allow-extractable-seed = true if you accept that";
            return Err(place.error(&name.span(), format!("{known} is refused: {why}"), todo));
        }
        (None, Some(allowed)) => {
            let what = format!("allow-extractable-seed has no meaning for {known}");
            return Err(place.error(&allowed.span(), what, "remove it"));
        }
        (None, None) => {}
    }
    let min = product.tcb_min.get_ref();
    let fmc = match (known, &min.fmc) {
        (SnpProduct::Turin, Some(fmc)) => *fmc.get_ref(),
        (SnpProduct::Turin, None) => {
            return Err(place.error(&product.tcb_min.span(), "fmc is missing, which Turin has", "add fmc"));
        }
        (SnpProduct::Milan | SnpProduct::Genoa, Some(fmc)) => {
            return Err(place.error(&fmc.span(), format!("{known} has no fmc"), "remove fmc"));
        }
        (SnpProduct::Milan | SnpProduct::Genoa, None) => 0,
    };
    let TcbMin { bootloader, tee, snp, microcode, .. } = *min;
    Ok((known, SnpTcbMin { fmc, bootloader, tee, snp, microcode }))
}

fn read_allowances(place: &Place<'_>, table: &Table) -> Result<SnpAllowances, PolicyError> {
    let flag = |allowance| match allowance {
        SnpAllowance::Debug => table.allow_debug,
        SnpAllowance::MigrationAgent => table.allow_migration_agent,
        SnpAllowance::Cxl => table.allow_cxl,
        SnpAllowance::ProvisionalFirmware => table.allow_provisional_firmware,
        SnpAllowance::MaskedChipId => table.allow_masked_chip_id,
        SnpAllowance::ReservedBytes => table.allow_reserved_bytes,
    };
    let cloud = |text: &str| {
        let possible = !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        (possible && !text.contains(['"', '\\'])).then(|| text.to_owned())
    };
    let strict = SnpAllowances::none();
    let version_max = table.report_version_max.as_ref();
    if let Some(version) = version_max.filter(|version| *version.get_ref() < REPORT_VERSION_MIN) {
        let what = format!("reports of version {} are never accepted", version.get_ref());
        return Err(place.error(&version.span(), what, "write 5, or a later version"));
    }
    Ok(SnpAllowances {
        flags: SnpAllowance::ALL.into_iter().filter(|each| flag(*each).unwrap_or(false)).collect(),
        policy_bits: bits(place, table.allow_policy_bits.as_ref(), UNKNOWN_POLICY_BITS)?,
        vlek_clouds: match &table.vlek_clouds {
            Some(clouds) => {
                place.each(clouds, "the CSP_ID of a VLEK, as in CN=cc-us-east-2.amazonaws.com", cloud)?
            }
            None => strict.vlek_clouds,
        },
        report_version_max: version_max.map_or(strict.report_version_max, |version| *version.get_ref()),
    })
}

fn read_requirements(place: &Place<'_>, table: &Table) -> Result<SnpRequirements, PolicyError> {
    let none = SnpRequirements::none();
    let measurements =
        |list: &Option<Strings>| place.optional_measurements(list.as_ref()).map(Option::unwrap_or_default);
    let ids = |list: &Option<Strings>| match list {
        Some(list) => place.each(list, "32 lower-case hexadecimal digits", hex_array::<16>),
        None => Ok(Vec::new()),
    };
    let version_min = table.report_version_min.as_ref();
    let version_max = table.report_version_max.as_ref().map_or(SNP_VERSION_KNOWN_MAX, |max| *max.get_ref());
    if let Some(version) = version_min.filter(|version| *version.get_ref() > version_max) {
        let what = format!("no report of version {} could pass", version.get_ref());
        return Err(place.error(&version.span(), what, "write a version that is accepted"));
    }
    Ok(SnpRequirements {
        policy: named_bits(place, table.require_policy.as_ref(), &PolicyBit::ALL, PolicyBit::name)?,
        platform: named_bits(place, table.require_platform.as_ref(), &PlatformBit::ALL, PlatformBit::name)?,
        mitigations: bits(place, table.require_mitigations.as_ref(), 0..=63)?,
        report_version_min: version_min.map_or(none.report_version_min, |version| *version.get_ref()),
        firmware_min: table.firmware_min,
        guest_svn_min: table.guest_svn_min.unwrap_or(none.guest_svn_min),
        chips: match &table.chips {
            Some(chips) => {
                place.each(chips, "128 lower-case hexadecimal digits, or 16 on Turin", SnpChip::parse)?
            }
            None => none.chips,
        },
        id_key_digest: measurements(&table.id_key_digest)?,
        author_key_digest: measurements(&table.author_key_digest)?,
        family_id: ids(&table.family_id)?,
        image_id: ids(&table.image_id)?,
        host_data: match &table.host_data {
            Some(list) => place.each(list, "64 lower-case hexadecimal digits", hex_array::<32>)?,
            None => none.host_data,
        },
    })
}

/// Bits by number, as a mask.
fn bits(
    place: &Place<'_>,
    numbers: Option<&Spanned<Vec<Spanned<u8>>>>,
    possible: std::ops::RangeInclusive<u8>,
) -> Result<u64, PolicyError> {
    let Some(numbers) = numbers else { return Ok(0) };
    let todo = format!("write bits from {} to {}", possible.start(), possible.end());
    if numbers.get_ref().is_empty() {
        return Err(place.error(&numbers.span(), "no bit is named", "write the bits, or remove the key"));
    }
    numbers.get_ref().iter().try_fold(0_u64, |mask, number| {
        let bit = Some(*number.get_ref()).filter(|bit| possible.contains(bit));
        let bit = bit.and_then(|bit| 1_u64.checked_shl(bit.into()));
        let what = || format!("bit {} cannot be named here", number.get_ref());
        bit.map(|bit| mask | bit).ok_or_else(|| place.error(&number.span(), what(), &todo))
    })
}

/// Bits by name.
fn named_bits<T: Copy + Ord>(
    place: &Place<'_>,
    names: Option<&Strings>,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<BTreeSet<T>, PolicyError> {
    let Some(names) = names else { return Ok(BTreeSet::new()) };
    let known: Vec<&str> = all.iter().map(|bit| name(*bit)).collect();
    let expected = format!("one of {}", known.join(", "));
    let read = |text: &str| all.iter().copied().find(|bit| name(*bit) == text);
    place.each(names, &expected, read).map(BTreeSet::from_iter)
}

/// The table for these values, by this name below `platform`.
pub(super) fn write(out: &mut String, table: &str, snp: &SnpExpectations) -> std::fmt::Result {
    writeln!(out, "\n# The box's firmware, kernel and warden.\n[platform.{table}]")?;
    writeln!(out, "measurement = {}", list(&snp.measurement))?;
    writeln!(out, "vmpl = {}", snp.vmpl)?;
    writeln!(out, "allow-smt = {}", snp.smt == Smt::Allowed)?;
    writeln!(out, "# The list's own dates are looked at besides.")?;
    writeln!(out, "crl-age-max-days = {}", snp.crl_age_max_days)?;
    write_allowances(out, &snp.allow)?;
    write_requirements(out, &snp.require)?;
    for (product, min) in &snp.products {
        writeln!(out, "[platform.{table}.products.{product}]")?;
        let SnpTcbMin { fmc, bootloader, tee, snp, microcode } = min;
        let fmc = if *product == SnpProduct::Turin { format!("fmc = {fmc}, ") } else { String::new() };
        writeln!(
            out,
            "tcb-min = {{ {fmc}bootloader = {bootloader}, tee = {tee}, snp = {snp}, microcode = {microcode} }}"
        )?;
        if let Some(why) = product.weakness() {
            writeln!(out, "# Accepted although {why}.\nallow-extractable-seed = true")?;
        }
    }
    Ok(())
}

fn write_allowances(out: &mut String, allow: &SnpAllowances) -> std::fmt::Result {
    let strict = SnpAllowances::none();
    for flag in &allow.flags {
        writeln!(out, "{} = true", flag.key())?;
    }
    write_bits(out, "allow-policy-bits", allow.policy_bits)?;
    if allow.vlek_clouds != strict.vlek_clouds {
        writeln!(out, "vlek-clouds = {}", list(&allow.vlek_clouds))?;
    }
    if allow.report_version_max != strict.report_version_max {
        writeln!(out, "report-version-max = {}", allow.report_version_max)?;
    }
    Ok(())
}

fn write_requirements(out: &mut String, require: &SnpRequirements) -> std::fmt::Result {
    let none = SnpRequirements::none();
    if require.policy != none.policy {
        writeln!(out, "require-policy = {}", list(require.policy.iter().map(|bit| bit.name())))?;
    }
    if require.platform != none.platform {
        writeln!(out, "require-platform = {}", list(require.platform.iter().map(|bit| bit.name())))?;
    }
    write_bits(out, "require-mitigations", require.mitigations)?;
    if require.report_version_min != none.report_version_min {
        writeln!(out, "report-version-min = {}", require.report_version_min)?;
    }
    if let Some(SnpFirmware { major, minor, build }) = require.firmware_min {
        writeln!(out, "firmware-min = {{ major = {major}, minor = {minor}, build = {build} }}")?;
    }
    if require.guest_svn_min != none.guest_svn_min {
        writeln!(out, "guest-svn-min = {}", require.guest_svn_min)?;
    }
    if require.chips != none.chips {
        writeln!(out, "chips = {}", list(require.chips.iter().map(|chip| Hex(chip.0))))?;
    }
    for (key, digests) in
        [("id-key-digest", &require.id_key_digest), ("author-key-digest", &require.author_key_digest)]
    {
        if !digests.is_empty() {
            writeln!(out, "{key} = {}", list(digests))?;
        }
    }
    for (key, ids) in [("family-id", &require.family_id), ("image-id", &require.image_id)] {
        if !ids.is_empty() {
            writeln!(out, "{key} = {}", list(ids.iter().map(|id| Hex(*id))))?;
        }
    }
    if !require.host_data.is_empty() {
        writeln!(out, "host-data = {}", list(require.host_data.iter().map(|data| Hex(*data))))?;
    }
    Ok(())
}

fn write_bits(out: &mut String, key: &str, mask: u64) -> std::fmt::Result {
    if mask == 0 {
        return Ok(());
    }
    let bits: Vec<String> = (0..64_u32)
        .filter(|bit| mask.checked_shr(*bit).is_some_and(|rest| rest & 1 == 1))
        .map(|bit| bit.to_string())
        .collect();
    writeln!(out, "{key} = [{}]", bits.join(", "))
}

#[cfg(test)]
#[path = "snp_tests.rs"]
mod tests;
