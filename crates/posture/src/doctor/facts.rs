//! What checks look at: the tree, the agents, a hardware report, and what of the tree several checks need.

use std::io::Read as _;

use casemate_evidence::{SNP_REPORT_BYTES, SnpReport, TdxQuote, parse_snp_report, parse_tdx_quote};

use crate::agents::AgentFacts;
use crate::tree::{TEXT_BYTES_MAX, Tree, Unread};

/// The messages of the kernel, at one time.
#[derive(Debug, Clone)]
pub struct KernelLog(Result<Vec<String>, Unread>);

impl KernelLog {
    /// Of now.
    #[must_use]
    pub fn read(tree: &Tree) -> Self {
        Self(tree.kernel_log())
    }
}

/// What checks look at.
#[derive(Debug)]
pub struct Facts<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) agents: Option<&'a [AgentFacts]>,
    pub(crate) report: Result<Hardware<'a>, String>,
    pub(crate) landlock_abi: Option<u32>,
    config: Result<KernelConfig, Unread>,
    log: Result<Vec<String>, Unread>,
}

/// A hardware report taken apart. Its signature is not checked here.
#[derive(Debug)]
pub(crate) enum Hardware<'a> {
    Tdx(Box<TdxQuote<'a>>),
    Snp(Box<SnpReport<'a>>),
}

/// What kind of confidential VM the kernel of this guest drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    Tdx,
    Snp,
}

impl<'a> Facts<'a> {
    /// Facts of a machine: the tree below its root folder; its agents, or none where no box runs; a TDX quote or SNP
    /// report of this boot, or none; the version of Landlock that the kernel answered with, or none where nobody asked.
    #[must_use]
    pub fn new(
        tree: &'a Tree,
        agents: Option<&'a [AgentFacts]>,
        report: Option<&'a [u8]>,
        landlock_abi: Option<u32>,
    ) -> Self {
        let report = report.map_or_else(|| Err("no report".to_owned()), hardware);
        Self { tree, agents, report, landlock_abi, config: KernelConfig::read(tree), log: tree.kernel_log() }
    }

    /// With the kernel's messages of an earlier time: who looks again and again reads them once, because whoever makes the
    /// kernel say much pushes the first ones out.
    #[must_use]
    pub fn with_log(mut self, log: KernelLog) -> Self {
        self.log = log.0;
        self
    }

    /// The words of the kernel's command line.
    pub(crate) fn command_line(&self) -> Result<Vec<String>, Unread> {
        Ok(self.tree.line("/proc/cmdline")?.split_whitespace().map(str::to_owned).collect())
    }

    /// The configuration that the kernel was built with.
    pub(crate) fn config(&self) -> Result<&KernelConfig, &Unread> {
        self.config.as_ref()
    }

    /// The messages of the kernel since its start; an error where the first ones are gone.
    pub(crate) fn boot_log(&self) -> Result<&[String], Unread> {
        let log = self.log.as_ref().map_err(Clone::clone)?;
        let is_whole = log.iter().take(8).any(|message| message.starts_with("Linux version "));
        if is_whole { Ok(log) } else { Err(Unread::Failed("its first messages are gone".into())) }
    }

    /// By the drivers that the kernel has bound; none where there is neither.
    pub(crate) fn platform(&self) -> Result<Option<Platform>, Unread> {
        let devices = self.tree.list("/sys/devices/virtual/misc")?;
        let has = |name: &str| devices.iter().any(|device| device == name);
        Ok(match (has("tdx_guest"), has("sev-guest")) {
            (true, _) => Some(Platform::Tdx),
            (_, true) => Some(Platform::Snp),
            _ => None,
        })
    }
}

fn hardware(bytes: &[u8]) -> Result<Hardware<'_>, String> {
    if bytes.len() == SNP_REPORT_BYTES {
        return parse_snp_report(bytes)
            .map(|report| Hardware::Snp(Box::new(report)))
            .map_err(|error| format!("the report is no SNP report: {error}"));
    }
    parse_tdx_quote(bytes)
        .map(|quote| Hardware::Tdx(Box::new(quote)))
        .map_err(|error| format!("the report is no TDX quote: {error}"))
}

/// The configuration of a kernel, whole.
#[derive(Debug)]
pub(crate) struct KernelConfig(String);

/// What a symbol of the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    BuiltIn,
    Module,
    Not,
}

impl KernelConfig {
    fn read(tree: &Tree) -> Result<Self, Unread> {
        let text = match tree.bytes("/proc/config.gz") {
            Ok(bytes) => inflate(&bytes)?,
            Err(_) => tree.text(&format!("/boot/config-{}", tree.line("/proc/sys/kernel/osrelease")?))?,
        };
        // First and last section of every configuration: a symbol that is in neither form is one that was not built.
        let is_whole = text.contains("\nCONFIG_64BIT=y\n") && text.contains("\n# end of Kernel hacking\n");
        if is_whole { Ok(Self(text)) } else { Err(Unread::NotText) }
    }

    pub(crate) fn get(&self, symbol: &str) -> Setting {
        let value = self.0.lines().find_map(|line| line.strip_prefix(symbol)?.strip_prefix('='));
        match value {
            None | Some("n") => Setting::Not,
            Some("m") => Setting::Module,
            Some(_) => Setting::BuiltIn,
        }
    }
}

fn inflate(bytes: &[u8]) -> Result<String, Unread> {
    let mut text = String::new();
    let mut from = flate2::read::GzDecoder::new(bytes).take(TEXT_BYTES_MAX);
    from.read_to_string(&mut text).map_err(|_| Unread::NotText)?;
    Ok(text)
}
