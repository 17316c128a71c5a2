//! From security versions to a status: Intel's levels, module levels and how they combine.
//!
//! Order and combination follow Intel's quote verification library (QuoteVerifier, TCB level checks).

use std::fmt;

use super::tcb_info::{IsvLevel, TcbInfo, TcbLevel, TcbStatus};
use crate::time::UnixTime;

/// The platform's security versions, from the PCK certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PckTcb {
    pub(crate) components: [u8; 16],
    pub(crate) pcesvn: u16,
}

/// A status and the advisories behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TcbVerdict {
    pub(crate) status: TcbStatus,
    /// Date of the platform's level.
    pub(crate) date: UnixTime,
    /// In order, each once.
    pub(crate) advisories: Vec<String>,
}

impl fmt::Display for TcbVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)?;
        if self.advisories.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.advisories.join(", "))
    }
}

/// Why there is no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TcbError {
    #[error("no TCB level matches: platform not supported")]
    NotSupported,
    #[error("TCB information has no TDX module of version {version}")]
    NoModule { version: u8 },
    #[error("no level of TDX module version {version} matches security version {svn}")]
    NoModuleLevel { version: u8, svn: u8 },
    #[error("no level of the quoting enclave matches security version {svn}")]
    NoQeLevel { svn: u16 },
}

/// The major version of the TDX module: 0 where it has no identity of its own.
pub(crate) const fn module_version(tee_tcb_svn: &[u8; 16]) -> u8 {
    let [_, version, ..] = *tee_tcb_svn;
    version
}

/// `TDX_%02X`, the identifier of a module version.
pub(crate) fn module_id(version: u8) -> String {
    format!("TDX_{version:02X}")
}

/// Status of the platform and its module for these security versions.
pub(crate) fn platform_verdict(
    info: &TcbInfo,
    pck: &PckTcb,
    tee_tcb_svn: &[u8; 16],
) -> Result<TcbVerdict, TcbError> {
    let level = matching_level(&info.tcb_levels, pck, tee_tcb_svn).ok_or(TcbError::NotSupported)?;
    let platform = verdict(level.tcb_status, level.tcb_date, &level.advisory_ids);
    Ok(match module_verdict(info, tee_tcb_svn)? {
        Some(module) => converge(platform, module),
        None => platform,
    })
}

/// Status of the TDX module alone, where it has an identity of its own.
pub(crate) fn module_verdict(info: &TcbInfo, tee_tcb_svn: &[u8; 16]) -> Result<Option<TcbVerdict>, TcbError> {
    let [svn, version, ..] = *tee_tcb_svn;
    if version == 0 {
        return Ok(None);
    }
    let id = module_id(version);
    let module = info
        .tdx_module_identities
        .iter()
        .find(|module| module.id == id)
        .ok_or(TcbError::NoModule { version })?;
    let level =
        isv_level(&module.tcb_levels, u16::from(svn)).ok_or(TcbError::NoModuleLevel { version, svn })?;
    Ok(Some(verdict(level.tcb_status, level.tcb_date, &level.advisory_ids)))
}

/// Status of the quoting enclave.
pub(crate) fn qe_verdict(levels: &[IsvLevel], svn: u16) -> Result<TcbVerdict, TcbError> {
    let level = isv_level(levels, svn).ok_or(TcbError::NoQeLevel { svn })?;
    Ok(verdict(level.tcb_status, level.tcb_date, &level.advisory_ids))
}

/// The platform's status with that of a part of it: the part can only make it worse.
pub(crate) fn converge(platform: TcbVerdict, part: TcbVerdict) -> TcbVerdict {
    use TcbStatus::{
        ConfigurationAndSwHardeningNeeded, ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded,
        Revoked, SwHardeningNeeded, UpToDate,
    };
    let status = match (platform.status, part.status) {
        (Revoked, _) | (_, Revoked) => Revoked,
        (platform, UpToDate) => platform,
        (UpToDate | SwHardeningNeeded, OutOfDate) => OutOfDate,
        (ConfigurationNeeded | ConfigurationAndSwHardeningNeeded, OutOfDate) => OutOfDateConfigurationNeeded,
        (platform, part) => platform.max(part),
    };
    joined(platform, part, status)
}

/// For trust domains whose module was updated under them: what they were launched with, and what runs now, both with
/// the quoting enclave. A relaunch mends nothing but the module: whatever else is out of date is so in both.
pub(crate) fn relaunch(launched: TcbVerdict, now: TcbVerdict) -> TcbVerdict {
    use TcbStatus::{
        ConfigurationAndSwHardeningNeeded, ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded,
        Revoked, SwHardeningNeeded, TdRelaunchAdvised, TdRelaunchAdvisedConfigurationNeeded, UpToDate,
    };
    let status = match (launched.status, now.status) {
        (_, Revoked) => Revoked,
        (OutOfDate, UpToDate | SwHardeningNeeded) => TdRelaunchAdvised,
        (OutOfDate, ConfigurationNeeded | ConfigurationAndSwHardeningNeeded)
        | (
            OutOfDateConfigurationNeeded,
            UpToDate | SwHardeningNeeded | ConfigurationNeeded | ConfigurationAndSwHardeningNeeded,
        ) => TdRelaunchAdvisedConfigurationNeeded,
        (launched, now) => launched.max(now),
    };
    joined(launched, now, status)
}

/// For trust domains whose module was not out of date when they were launched: the worse of both.
pub(crate) fn worse(launched: TcbVerdict, now: TcbVerdict) -> TcbVerdict {
    let status = launched.status.max(now.status);
    joined(launched, now, status)
}

/// Both verdicts' advisories, and the earlier date.
fn joined(one: TcbVerdict, other: TcbVerdict, status: TcbStatus) -> TcbVerdict {
    let mut advisories = one.advisories;
    advisories.extend(other.advisories);
    advisories.sort_unstable();
    advisories.dedup();
    TcbVerdict { status, date: one.date.min(other.date), advisories }
}

/// The highest level that the platform reaches. Intel sorts levels; the order in the file is not relied on.
fn matching_level<'a>(levels: &'a [TcbLevel], pck: &PckTcb, tee_tcb_svn: &[u8; 16]) -> Option<&'a TcbLevel> {
    // With a module identity, the first two components are judged by the module's own levels.
    let judged_apart = if module_version(tee_tcb_svn) > 0 { 2 } else { 0 };
    let reaches = |level: &&TcbLevel| {
        let sgx = pck.components.iter().zip(&level.tcb.sgx).all(|(has, needs)| *has >= needs.svn);
        let tdx =
            tee_tcb_svn.iter().zip(&level.tcb.tdx).skip(judged_apart).all(|(has, needs)| *has >= needs.svn);
        sgx && pck.pcesvn >= level.tcb.pcesvn && tdx
    };
    levels.iter().filter(reaches).max_by(|a, b| a.tcb.cmp(&b.tcb))
}

fn isv_level(levels: &[IsvLevel], svn: u16) -> Option<&IsvLevel> {
    levels.iter().filter(|level| svn >= level.tcb.isvsvn).max_by_key(|level| level.tcb.isvsvn)
}

fn verdict(status: TcbStatus, date: UnixTime, advisories: &[String]) -> TcbVerdict {
    TcbVerdict { status, date, advisories: advisories.to_vec() }
}

#[cfg(test)]
#[path = "tcb_tests.rs"]
mod tests;
