//! `[platform.tdx]`: what a policy expects of a TDX box.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Deserialize;
use toml::Spanned;

use super::place::{Place, Strings, hex_array, list};
use super::{Measurement, PolicyError};
use crate::hex_text::Hex;
use crate::tdx::{TcbStatus, TdAttributes};
use crate::time::UnixTime;

/// Expectations of a TDX box. Each list names every value that is accepted. Optional members narrow further, but for
/// those whose names begin with `allow`, which weaken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxExpectations {
    /// TCB status; never [`TcbStatus::Revoked`].
    pub tcb_status: Vec<TcbStatus>,
    /// Lowest `tcbEvaluationDataNumber` of TCB information and QE identity: against older ones that are still unexpired.
    pub tcb_evaluation_min: u32,
    /// Earliest date of the platform's TCB level.
    pub tcb_date_min: Option<UnixTime>,
    /// Advisories that a level may carry.
    pub allow_advisories: BTreeSet<String>,
    /// Whether the attribute SEPT_VE_DISABLE must be set.
    pub sept_ve_disable: SeptVeDisable,
    /// Attributes that may be set besides the harmless ones.
    pub allow_attributes: TdAttributes,
    /// Bits of XFAM that may be set besides those that the TDX module of today knows.
    pub allow_xfam: u64,
    /// Measurement of the initial contents.
    pub mrtd: Vec<Measurement>,
    /// Run-time measurement registers 0, 1 and 2.
    pub rtmr: [Vec<Measurement>; 3],
    /// Run-time measurement register 3 of a quote alone; in evidence of an agent the event log says what it must be.
    pub rtmr3: Vec<Measurement>,
    /// MRCONFIGID of a quote alone; in evidence of an agent it must be the composition digest.
    pub mrconfigid: Vec<Measurement>,
    /// MROWNER.
    pub mrowner: Vec<Measurement>,
    /// MROWNERCONFIG.
    pub mrownerconfig: Vec<Measurement>,
    /// MRSERVICETD: service trust domains, which can migrate this one.
    pub mrservicetd: Vec<Measurement>,
    /// Measurement of the TDX module, where one is asked for.
    pub mrseam: Option<Vec<Measurement>>,
    /// Platform families by FMSPC, where they are limited.
    pub fmspc: Option<BTreeSet<[u8; 6]>>,
    /// Single platforms by PPID, where they are limited.
    pub ppid: Option<BTreeSet<[u8; 16]>>,
    /// Properties of the platform in its PCK certificate that are refused.
    pub refuse_platform: BTreeSet<PlatformProperty>,
    /// Oldest CRL of Intel's root accepted, where that is limited. Intel issues one for about a year.
    pub root_crl_age_max_days: Option<u32>,
}

/// What Intel certifies of a platform's configuration (PCK certificate profile, "Configuration").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlatformProperty {
    /// Packages can be added later.
    DynamicPlatform,
    /// The registration server keeps platform keys.
    CachedKeys,
    /// Simultaneous multithreading is on.
    Smt,
}

impl PlatformProperty {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::DynamicPlatform, Self::CachedKeys, Self::Smt];

    /// Its name in a policy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DynamicPlatform => "dynamic-platform",
            Self::CachedKeys => "cached-keys",
            Self::Smt => "smt",
        }
    }
}

/// Whether a trust domain must have SEPT_VE_DISABLE: without it, the host can raise a virtualization exception at any
/// access of the guest to its own memory, by taking the page away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeptVeDisable {
    /// It must be set.
    Required,
    /// It may be clear, for guests whose kernel handles such an exception safely.
    NotRequired,
}

impl TdxExpectations {
    /// The strictest expectations with these measurements: an up-to-date platform, nothing unusual bound or allowed.
    #[must_use]
    pub fn strict(mrtd: Measurement, rtmr: [Measurement; 3], tcb_evaluation_min: u32) -> Self {
        let zero = || vec![Measurement([0; 48])];
        Self {
            tcb_status: vec![TcbStatus::UpToDate],
            tcb_evaluation_min,
            tcb_date_min: None,
            allow_advisories: BTreeSet::new(),
            sept_ve_disable: SeptVeDisable::Required,
            allow_attributes: TdAttributes::NONE,
            allow_xfam: 0,
            mrtd: vec![mrtd],
            rtmr: rtmr.map(|value| vec![value]),
            rtmr3: zero(),
            mrconfigid: zero(),
            mrowner: zero(),
            mrownerconfig: zero(),
            mrservicetd: zero(),
            mrseam: None,
            fmspc: None,
            ppid: None,
            refuse_platform: BTreeSet::new(),
            root_crl_age_max_days: None,
        }
    }
}

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Table {
    tcb_status: Strings,
    tcb_evaluation_min: u32,
    tcb_date_min: Option<Spanned<String>>,
    allow_advisories: Option<Spanned<Vec<Spanned<String>>>>,
    require_sept_ve_disable: bool,
    allow_attributes: Option<Strings>,
    allow_xfam: Option<Spanned<String>>,
    mrtd: Strings,
    rtmr0: Strings,
    rtmr1: Strings,
    rtmr2: Strings,
    rtmr3: Option<Strings>,
    mrconfigid: Option<Strings>,
    mrowner: Option<Strings>,
    mrownerconfig: Option<Strings>,
    mrservicetd: Option<Strings>,
    mrseam: Option<Strings>,
    fmspc: Option<Strings>,
    ppid: Option<Strings>,
    refuse_platform: Option<Strings>,
    root_crl_age_max_days: Option<Spanned<u32>>,
}

/// What the table says.
pub(super) fn read(place: &Place<'_>, table: &Table) -> Result<TdxExpectations, PolicyError> {
    let zero_or = |list: &Option<Strings>| {
        let named = place.optional_measurements(list.as_ref())?;
        Ok::<_, PolicyError>(named.unwrap_or_else(|| vec![Measurement([0; 48])]))
    };
    let required = table.require_sept_ve_disable;
    Ok(TdxExpectations {
        tcb_status: read_status(place, &table.tcb_status)?,
        tcb_evaluation_min: table.tcb_evaluation_min,
        tcb_date_min: table.tcb_date_min.as_ref().map(|text| read_date(place, text)).transpose()?,
        allow_advisories: read_set(place, &table.allow_advisories, "an advisory, INTEL-SA-…", |text| {
            let named = text.contains('-')
                && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
            named.then(|| text.to_owned())
        })?,
        sept_ve_disable: if required { SeptVeDisable::Required } else { SeptVeDisable::NotRequired },
        allow_attributes: read_attributes(place, table.allow_attributes.as_ref())?,
        allow_xfam: table.allow_xfam.as_ref().map_or(Ok(0), |text| read_bits(place, text))?,
        mrtd: place.measurements(&table.mrtd)?,
        rtmr: [
            place.measurements(&table.rtmr0)?,
            place.measurements(&table.rtmr1)?,
            place.measurements(&table.rtmr2)?,
        ],
        rtmr3: zero_or(&table.rtmr3)?,
        mrconfigid: zero_or(&table.mrconfigid)?,
        mrowner: zero_or(&table.mrowner)?,
        mrownerconfig: zero_or(&table.mrownerconfig)?,
        mrservicetd: zero_or(&table.mrservicetd)?,
        mrseam: place.optional_measurements(table.mrseam.as_ref())?,
        fmspc: read_bytes_set(place, table.fmspc.as_ref(), "12 lower-case hexadecimal digits")?,
        ppid: read_bytes_set(place, table.ppid.as_ref(), "32 lower-case hexadecimal digits")?,
        refuse_platform: read_set(
            place,
            &table.refuse_platform,
            "dynamic-platform, cached-keys or smt",
            |text| PlatformProperty::ALL.into_iter().find(|property| property.name() == text),
        )?,
        root_crl_age_max_days: table
            .root_crl_age_max_days
            .as_ref()
            .map(|days| place.days(days))
            .transpose()?,
    })
}

fn read_status(place: &Place<'_>, list: &Strings) -> Result<Vec<TcbStatus>, PolicyError> {
    let revoked = list.get_ref().iter().find(|status| status.get_ref() == TcbStatus::Revoked.name());
    if let Some(revoked) = revoked {
        let what = "`Revoked` platforms are never accepted";
        return Err(place.error(&revoked.span(), what, "remove it; Intel does not vouch for such platforms"));
    }
    let status = |text: &str| TcbStatus::ALL.into_iter().find(|status| status.name() == text);
    place.each(list, "one of Intel's TCB status names", status)
}

fn read_date(place: &Place<'_>, text: &Spanned<String>) -> Result<UnixTime, PolicyError> {
    UnixTime::from_rfc3339(text.get_ref()).ok_or_else(|| {
        let what = format!("`{}` is not a date", text.get_ref());
        place.error(&text.span(), what, "write it as 2024-03-13T00:00:00Z")
    })
}

fn read_attributes(place: &Place<'_>, list: Option<&Strings>) -> Result<TdAttributes, PolicyError> {
    let Some(list) = list else { return Ok(TdAttributes::NONE) };
    let expected = "debug, profiling, migratable, perfmon or bit-<number>";
    let named = place.each(list, expected, TdAttributes::from_name)?;
    Ok(named.into_iter().fold(TdAttributes::NONE, TdAttributes::union))
}

fn read_bits(place: &Place<'_>, text: &Spanned<String>) -> Result<u64, PolicyError> {
    text.get_ref().strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(
        || {
            let what = format!("`{}` is not a set of bits", text.get_ref());
            place.error(&text.span(), what, "write them as \"0x…\", at most 16 digits")
        },
    )
}

fn read_bytes_set<const N: usize>(
    place: &Place<'_>,
    list: Option<&Strings>,
    expected: &str,
) -> Result<Option<BTreeSet<[u8; N]>>, PolicyError> {
    let named = list.map(|list| place.each(list, expected, hex_array)).transpose()?;
    Ok(named.map(|values| values.into_iter().collect()))
}

fn read_set<T: Ord>(
    place: &Place<'_>,
    list: &Option<Strings>,
    expected: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<BTreeSet<T>, PolicyError> {
    let Some(list) = list else { return Ok(BTreeSet::new()) };
    if list.get_ref().is_empty() {
        return Err(place.error(&list.span(), "an empty list says nothing", "leave the key out"));
    }
    Ok(place.each(list, expected, read)?.into_iter().collect())
}

/// The table for these values, by this name below `platform`. Optional keys that say nothing are left out.
pub(super) fn write(out: &mut String, table: &str, tdx: &TdxExpectations) -> std::fmt::Result {
    writeln!(out, "\n# The box's firmware, kernel and warden.\n[platform.{table}]")?;
    writeln!(out, "tcb-status = {}", list(&tdx.tcb_status))?;
    writeln!(out, "# Intel counts its releases of TCB information. Older ones stay unexpired for 30 days.")?;
    writeln!(out, "tcb-evaluation-min = {}", tdx.tcb_evaluation_min)?;
    if let Some(date) = tdx.tcb_date_min {
        writeln!(out, "tcb-date-min = \"{date}\"")?;
    }
    write_unless_empty(out, "allow-advisories", tdx.allow_advisories.iter())?;
    writeln!(
        out,
        "# Without this attribute the host can raise exceptions in the guest by taking its pages away."
    )?;
    let required = tdx.sept_ve_disable == SeptVeDisable::Required;
    writeln!(out, "require-sept-ve-disable = {required}")?;
    write_unless_empty(out, "allow-attributes", tdx.allow_attributes.names().into_iter())?;
    if tdx.allow_xfam != 0 {
        writeln!(out, "allow-xfam = \"{:#x}\"", tdx.allow_xfam)?;
    }
    writeln!(out, "mrtd = {}", list(&tdx.mrtd))?;
    for (index, rtmr) in tdx.rtmr.iter().enumerate() {
        writeln!(out, "rtmr{index} = {}", list(rtmr))?;
    }
    let zero_unless_given = [
        ("rtmr3", &tdx.rtmr3),
        ("mrconfigid", &tdx.mrconfigid),
        ("mrowner", &tdx.mrowner),
        ("mrownerconfig", &tdx.mrownerconfig),
        ("mrservicetd", &tdx.mrservicetd),
    ];
    for (key, values) in zero_unless_given {
        if values.as_slice() != [Measurement([0; 48])] {
            writeln!(out, "{key} = {}", list(values))?;
        }
    }
    // A limit that lets nothing pass is written as it is, and no file may say so: it does not read back as no limit.
    if let Some(values) = &tdx.mrseam {
        writeln!(out, "mrseam = {}", list(values))?;
    }
    if let Some(values) = &tdx.fmspc {
        writeln!(out, "fmspc = {}", list(values.iter().map(|value| Hex(*value))))?;
    }
    if let Some(values) = &tdx.ppid {
        writeln!(out, "ppid = {}", list(values.iter().map(|value| Hex(*value))))?;
    }
    if let Some(days) = tdx.root_crl_age_max_days {
        writeln!(out, "root-crl-age-max-days = {days}")?;
    }
    write_unless_empty(out, "refuse-platform", tdx.refuse_platform.iter().map(|property| property.name()))
}

fn write_unless_empty<T: std::fmt::Display>(
    out: &mut String,
    key: &str,
    values: impl Iterator<Item = T>,
) -> std::fmt::Result {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    writeln!(out, "{key} = {}", list(values))
}
