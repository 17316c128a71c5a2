//! Writing a policy file.

use std::fmt::Write as _;

use super::{
    AgentExpectations, Measurement, PolicyValues, SeptVeDisable, Smt, SnpExpectations, Taint, TdxExpectations,
};
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
    let tee = [("tdx", values.tdx.is_some()), ("snp", values.snp.is_some())];
    writeln!(out, "tee = {}", list(tee.iter().filter(|(_, named)| *named).map(|(name, _)| *name)))?;
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
    if let Some(tdx) = &values.tdx {
        write_tdx(out, tdx)?;
    }
    if let Some(snp) = &values.snp {
        write_snp(out, snp)?;
    }
    writeln!(out, "\n# The resolved Compose file.\n[composition]\ndigest = \"{}\"", values.composition)?;
    if values.agents.is_empty() {
        writeln!(out, "\n# No agent: nothing is released.\n[agents]")?;
    }
    for (name, agent) in &values.agents {
        write_agent(out, name.as_str(), agent)?;
    }
    Ok(())
}

fn write_tdx(out: &mut String, tdx: &TdxExpectations) -> std::fmt::Result {
    writeln!(out, "\n# The box's firmware, kernel and warden.\n[platform.tdx]")?;
    writeln!(out, "tcb-status = {}", list(&tdx.tcb_status))?;
    writeln!(
        out,
        "# Without this attribute the host can raise exceptions in the guest by taking its pages away."
    )?;
    let required = tdx.sept_ve_disable == SeptVeDisable::Required;
    writeln!(out, "require-sept-ve-disable = {required}")?;
    writeln!(out, "mrtd = {}", list(&tdx.mrtd))?;
    for (index, rtmr) in tdx.rtmr.iter().enumerate() {
        writeln!(out, "rtmr{index} = {}", list(rtmr))?;
    }
    Ok(())
}

fn write_snp(out: &mut String, snp: &SnpExpectations) -> std::fmt::Result {
    writeln!(out, "\n# The box's firmware, kernel and warden.\n[platform.snp]")?;
    writeln!(out, "measurement = {}", list::<&Measurement>(&snp.measurement))?;
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

fn write_agent(out: &mut String, name: &str, agent: &AgentExpectations) -> std::fmt::Result {
    writeln!(out, "\n[agents.{name}]")?;
    writeln!(out, "measurement = \"{}\"", agent.measurement)?;
    writeln!(out, "secrets = {}", list(&agent.secrets))?;
    writeln!(out, "allow-weaker = {}", list(agent.allow_weaker.iter().map(|control| control.name())))?;
    writeln!(out, "allow-tainted = {}", agent.taint == Taint::Allowed)
}

/// A TOML array of strings, none of which needs an escape.
fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}
