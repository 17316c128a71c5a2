//! `[platform.snp]`: what a policy expects of an SEV-SNP box.

use std::fmt::Write as _;

use serde::Deserialize;
use toml::Spanned;

use super::place::{Place, Strings, list};
use super::{Measurement, PolicyError};
use crate::snp::SnpProduct;

/// Expectations of an SEV-SNP box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpExpectations {
    /// Launch measurement: every value that is accepted.
    pub measurement: Vec<Measurement>,
    /// Privilege level that asked for the report.
    pub vmpl: u32,
    /// Processors that are accepted.
    pub products: Vec<SnpProduct>,
    /// Lowest security versions, each by itself.
    pub tcb_min: SnpTcbMin,
    /// Whether simultaneous multithreading may be on.
    pub smt: Smt,
    /// Oldest CRL of AMD accepted, counted from when it was issued.
    pub crl_age_max_days: u32,
}

/// Lowest security versions of an SEV-SNP platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnpTcbMin {
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
    /// The guest policy must forbid it.
    Refused,
}

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Table {
    measurement: Strings,
    vmpl: Spanned<u32>,
    products: Strings,
    tcb_min: TcbMin,
    allow_smt: bool,
    crl_age_max_days: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcbMin {
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
    Ok(SnpExpectations {
        measurement: place.measurements(&table.measurement)?,
        vmpl: *table.vmpl.get_ref(),
        products: place.each(&table.products, "Milan, Genoa or Turin", SnpProduct::from_name)?,
        tcb_min: SnpTcbMin {
            bootloader: table.tcb_min.bootloader,
            tee: table.tcb_min.tee,
            snp: table.tcb_min.snp,
            microcode: table.tcb_min.microcode,
        },
        smt: if table.allow_smt { Smt::Allowed } else { Smt::Refused },
        crl_age_max_days: place.days(&table.crl_age_max_days)?,
    })
}

/// The table for these values, by this name below `platform`.
pub(super) fn write(out: &mut String, table: &str, snp: &SnpExpectations) -> std::fmt::Result {
    writeln!(out, "\n# The box's firmware, kernel and warden.\n[platform.{table}]")?;
    writeln!(out, "measurement = {}", list(&snp.measurement))?;
    writeln!(out, "vmpl = {}", snp.vmpl)?;
    writeln!(out, "products = {}", list(&snp.products))?;
    let min = snp.tcb_min;
    writeln!(
        out,
        "tcb-min = {{ bootloader = {}, tee = {}, snp = {}, microcode = {} }}",
        min.bootloader, min.tee, min.snp, min.microcode
    )?;
    writeln!(out, "allow-smt = {}", snp.smt == Smt::Allowed)?;
    writeln!(
        out,
        "# AMD issues its CRL for far longer than Intel's 30 days: about a year passes between two."
    )?;
    writeln!(out, "crl-age-max-days = {}", snp.crl_age_max_days)
}
