//! Writing a policy file.

use std::fmt::Write as _;

use super::place::list;
use super::{PolicyValues, agents, boot_log, snp, tdx, vtpm};
use crate::roots::Roots;

/// The file for these values.
pub(super) fn render(values: &PolicyValues) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_all(&mut out, values);
    out
}

fn write_all(out: &mut String, values: &PolicyValues) -> std::fmt::Result {
    writeln!(
        out,
        "# What evidence must show before a secret is released. Every value is expected; none means \"any\"."
    )?;
    writeln!(out, "version = 1\n\n[platform]")?;
    writeln!(out, "tee = {}", list(values.tee_names()))?;
    match &values.roots {
        Roots::Production => writeln!(out, "roots = \"production\"")?,
        Roots::Development(keys) => {
            writeln!(
                out,
                "# Simulated hardware: worth nothing outside development.\nroots = \"development\""
            )?;
            writeln!(out, "development-roots = {}", list(keys))?;
        }
    }
    writeln!(out, "# Of what Intel renews every 30 days; AMD's CRL has a key of its own.")?;
    writeln!(out, "collateral-age-max-days = {}", values.collateral_age_max_days)?;
    if !values.bundle_signers.is_empty() {
        writeln!(out, "bundle-signers = {}", list(&values.bundle_signers))?;
    }
    if let Some(expected) = &values.tdx {
        tdx::write(out, "tdx", expected)?;
    }
    if let Some(expected) = &values.snp {
        snp::write(out, "snp", expected)?;
    }
    if let Some(expected) = &values.vtpm {
        vtpm::write(out, expected)?;
    }
    if let Some(expected) = &values.boot_log {
        boot_log::write(out, expected)?;
    }
    if let Some(composition) = &values.composition {
        agents::write(out, composition)?;
    }
    Ok(())
}
