//! Attestation scope: each layer from the hardware to an agent's memory, who measures it, and where that is bound.
//!
//! The rows say what this code and the platforms do (docs/measurement.md, docs/threat-model.md); `here` is what this run saw.

use casemate_evidence::{SNP_REPORT_BYTES, parse_snp_report, parse_tdx_quote};
use serde::Serialize;

use super::Input;

/// What is said first where an emulator signs.
pub(super) const SIMULATED: &str = "everything: evidence of this box is SIMULATED. An emulator signs it under a development root; no hardware vouches for anything";

/// Why a field of such a report says nothing.
pub(super) const FROM_THE_EMULATOR: &str = "the report is the emulator's, and says nothing of hardware";

/// Whether evidence covers a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cover {
    /// By the hardware or firmware, before the guest runs, or by what it measured.
    Hardware,
    /// By the measured programs of the box, and bound to evidence of the hardware.
    Box,
    /// In part: the row says what not.
    Part,
    /// By nothing.
    NotCovered,
}

impl Cover {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Box => "box",
            Self::Part => "in part",
            Self::NotCovered => "NOT COVERED",
        }
    }
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// What it is.
    pub layer: &'static str,
    /// Whether evidence covers it.
    pub cover: Cover,
    /// Who measures it; of what is not covered, why.
    pub measured: &'static str,
    /// Where TDX binds it.
    pub tdx: &'static str,
    /// Where SEV-SNP binds it.
    pub snp: &'static str,
    /// What this run saw of it, or why nothing.
    pub here: String,
    /// Whether an emulator stands in for the hardware that all of it hangs on.
    pub simulated: bool,
}

impl Layer {
    /// Whether it is covered, in words that do not hide that nothing real covers it.
    #[must_use]
    pub fn cover_name(&self) -> String {
        let simulated = if self.simulated && self.cover != Cover::NotCovered { ", SIMULATED" } else { "" };
        format!("{}{simulated}", self.cover.name())
    }
}

type Row = (&'static str, Cover, &'static str, &'static str, &'static str);

/// Where nothing is bound.
const NOWHERE: &str = "nowhere";

const ROWS: [Row; 20] = [
    (
        "processor, microcode, TDX module or SEV firmware",
        Cover::Hardware,
        "the processor; versions are judged by the policy",
        "TEE TCB SVN, MRSEAM, MRSIGNERSEAM",
        "reported, committed and launch TCB",
    ),
    ("virtual firmware", Cover::Hardware, "TDX module or SEV firmware, at launch", "MRTD", "MEASUREMENT"),
    (
        "configuration of the virtual firmware, ACPI tables",
        Cover::Part,
        "the virtual firmware, where it measures; their content is the host's",
        "RTMR0, and the boot log",
        "not bound, unless the firmware's image has it",
    ),
    (
        "boot loader, kernel, command line, initrd",
        Cover::Part,
        "firmware and boot loader, where they measure",
        "RTMR1, RTMR2, and the boot log",
        "MEASUREMENT where the launch has their hashes; else not bound",
    ),
    (
        "programs of the box: warden, launcher, gateway, courier",
        Cover::Part,
        "whoever builds the box's image; covered where they lie in the initrd or in a root that the command line pins. This project builds no image of the box yet",
        "RTMR1, RTMR2",
        "MEASUREMENT, as above",
    ),
    (
        "composition",
        Cover::Hardware,
        "the launch of the VM is given it; the verifier compares it, the warden does not",
        "MRCONFIGID = composition digest",
        "HOST_DATA = SHA-256 of it",
    ),
    (
        "image of an agent",
        Cover::Box,
        "the warden compares the root file system with the lock's digest at each start",
        "agent measurement in the composition digest",
        "likewise",
    ),
    (
        "command, environment, mounts, configs, limits of an agent",
        Cover::Box,
        "the warden starts what the lock says",
        "agent measurement in the composition digest",
        "likewise",
    ),
    (
        "backend and its program (runsc)",
        Cover::Box,
        "the warden compares the program with the lock's digest",
        "agent measurement; `backend` of the agent token",
        "likewise",
    ),
    (
        "controls of an agent",
        Cover::Box,
        "the warden looks from outside, the launcher tries",
        "agent token, under the box key in report_data",
        "likewise",
    ),
    (
        "posture: checks of the machine, common mounts, probe",
        Cover::Box,
        "the warden; of the probe it takes the word of root in the box",
        "digest in the agent token",
        "likewise",
    ),
    (
        "an agent's key",
        Cover::Box,
        "the warden makes it for each start",
        "`cnf` of the agent token",
        "likewise",
    ),
    (
        "secrets: their names, and that they were delivered",
        Cover::Box,
        "the warden logs each before the agent runs",
        "agent measurement, event log",
        "likewise",
    ),
    (
        "starts, ends, exec, cp, attach, edges opened by hand",
        Cover::Part,
        "the warden logs them, and what is done to an agent before it happens. SEV-SNP has no register at run time: what was logged since the last report, the next one binds",
        "RTMR3 and report_data",
        "report_data of the next report alone",
    ),
    (
        "contents of secrets",
        Cover::NotCovered,
        "a name is measured, a content never; its digest would tell of it",
        NOWHERE,
        NOWHERE,
    ),
    (
        "contents of volumes",
        Cover::NotCovered,
        "not encrypted and not versioned: the host reads them, changes them, puts old ones back",
        NOWHERE,
        NOWHERE,
    ),
    (
        "contents of an image read after its verification",
        Cover::NotCovered,
        "the kernel reads pages again from the disk; there is no dm-verity",
        NOWHERE,
        NOWHERE,
    ),
    (
        "what an agent fetches, writes and runs by itself",
        Cover::NotCovered,
        "evidence says what it started as",
        NOWHERE,
        NOWHERE,
    ),
    (
        "memory and state of running programs",
        Cover::NotCovered,
        "nothing measures what runs after its start, the box's own programs neither",
        NOWHERE,
        NOWHERE,
    ),
    (
        "time",
        Cover::NotCovered,
        "the clock is the host's; claims that depend on it are marked host-claimed",
        NOWHERE,
        NOWHERE,
    ),
];

/// The layers, with what this run saw.
pub(super) fn layers(input: &Input) -> Vec<Layer> {
    let unseen = "not seen: nothing here compares it, `casemate verify` does";
    let row = |(layer, cover, measured, tdx, snp): Row| Layer {
        layer,
        cover,
        measured,
        tdx,
        snp,
        simulated: input.platform.simulated,
        here: match (layer, cover) {
            ("composition", _) => launch(input),
            ("controls of an agent", _) => controls(input),
            ("starts, ends, exec, cp, attach, edges opened by hand", _) => afterwards(input),
            ("posture: checks of the machine, common mounts, probe", _) => {
                format!(
                    "{} checks and {} batteries in this run's view",
                    input.findings.len(),
                    input.probes.len()
                )
            }
            (_, Cover::NotCovered) => "not seen: nothing measures it".to_owned(),
            _ => unseen.to_owned(),
        },
    };
    ROWS.into_iter().map(row).collect()
}

/// Whether the report of this run has the composition digest of this box.
fn launch(input: &Input) -> String {
    let Some(report) = &input.report else {
        let reason = input.platform.reason.as_deref().unwrap_or("the box made no report that is read here");
        return format!("not seen: {reason}");
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (field, found, expected) = if report.len() == SNP_REPORT_BYTES {
        match parse_snp_report(report) {
            Ok(report) => ("HOST_DATA", hex(report.host_data), input.host_data.clone()),
            Err(error) => return format!("not seen: the report is no SNP report: {error}"),
        }
    } else {
        match parse_tdx_quote(report) {
            Ok(quote) => {
                let digest = input.composition.strip_prefix("sha384:").unwrap_or(&input.composition);
                ("MRCONFIGID", hex(quote.body.mr_config_id), digest.to_owned())
            }
            Err(error) => return format!("not seen: the report is no TDX quote: {error}"),
        }
    };
    let by = if input.platform.simulated { " (simulated)" } else { ", its signature not checked here" };
    if found == expected {
        format!("{field} is this composition's{by}")
    } else {
        format!("{field} is NOT this composition's{by}")
    }
}

fn controls(input: &Input) -> String {
    let running = input.agents.values().filter(|agent| agent.runs).count();
    format!("statuses of {running} of {} agents, below each pair", input.agents.len())
}

fn afterwards(input: &Input) -> String {
    let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let tainted = input.agents.iter().filter(|(_, agent)| agent.tainted).map(|(name, _)| name.as_str());
    let added = input.edges.iter().filter(|edge| edge.added).count();
    format!("tainted agents: {}; edges opened by hand: {added}", list(tainted.collect()))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn each_layer_has_a_reason_or_a_place_and_what_was_not_seen_says_so() {
        for layer in layers(&sample::input()) {
            assert!(!layer.measured.is_empty() && !layer.here.is_empty(), "{layer:?}");
            assert_eq!(layer.cover == Cover::NotCovered, layer.tdx == NOWHERE, "{layer:?}");
        }
    }

    #[test]
    fn a_report_of_another_composition_shows() {
        let mut input = sample::input();
        assert!(launch(&input).starts_with("not seen: no evidence was asked for"));
        input.report = Some(vec![0; 3]);
        assert!(launch(&input).starts_with("not seen: the report is no TDX quote"));
    }
}
