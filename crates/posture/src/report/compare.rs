//! The same composition under other boundaries, side by side. Figures are those that were measured, with date and machine;
//! everything else is `not measured`.

use serde::Serialize;

use super::{Calls, Report, trusted_lines};

/// A boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// A native compartment for each agent.
    Compartment,
    /// A gVisor sandbox for each agent.
    Gvisor,
    /// A VM for each agent.
    Vm,
}

impl Choice {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Compartment, Self::Gvisor, Self::Vm];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compartment => "compartment",
            Self::Gvisor => "gvisor",
            Self::Vm => "vm",
        }
    }
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// Under which boundary.
    pub choice: Choice,
    /// What is so there.
    pub value: String,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// What is compared.
    pub what: &'static str,
    /// Each boundary.
    pub figures: Vec<Figure>,
}

/// Where figures of memory and time are from.
pub(super) const MEASURED: &str = "docs/performance.md, 2026-11-28: 2 vCPU of an AMD EPYC (family 25, model 17), Linux 6.18, no confidential VM";
/// Figures of the same document, as it prints them; a test holds them against it.
const START_NATIVE: &str = "4.66";
const START_GVISOR: &str = "142.0";
const START_VM: &str = "2033";
const MEMORY_PRIVATE: &str = "12.6";
const MEMORY_SHARED: &str = "8.0";
const MEMORY_GVISOR: &str = "41.5";
const MEMORY_VM: &str = "270.7";
/// A VM is started by nothing of ours, and on hardware it would be another one.
const EMULATED: &str = "a plain VM whose processor QEMU emulates, so slower and larger than on hardware";

/// Compares the composition of a report under these boundaries; `rules` are the filters of both backends.
#[must_use]
pub fn compare(report: &Report, choices: &[Choice], rules: &[Calls]) -> Vec<Comparison> {
    let row = |what: &'static str, value: &dyn Fn(Choice) -> String| Comparison {
        what,
        figures: choices.iter().map(|choice| Figure { choice: *choice, value: value(*choice) }).collect(),
    };
    let agents = report.agents.len();
    let calls = |backend: &str| {
        let found = rules.iter().find(|calls| calls.backend == backend);
        found.map_or_else(
            || "not seen: the rules of this backend could not be read".to_owned(),
            |calls| {
                format!(
                    "{} system calls, {} of them with conditions",
                    calls.reachable(),
                    calls.conditional.len()
                )
            },
        )
    };
    vec![
        row("boundary between agents", &|choice| boundary(choice).to_owned()),
        row("who breaks it needs", &|choice| needs(choice).to_owned()),
        row("of the guest's kernel, in reach", &|choice| match choice {
            Choice::Compartment => format!("{} of each agent", calls("native")),
            Choice::Gvisor => format!(
                "{} of each sandbox; its agent's own calls end in gVisor, but for sockets",
                calls("gvisor")
            ),
            Choice::Vm => "all of a kernel of its own; of the peers' kernel nothing".to_owned(),
        }),
        row("trusted by all agents", &trusted),
        row("memory, one more idle Python agent", &|choice| match choice {
            Choice::Compartment => {
                format!("{MEMORY_PRIVATE} MiB PSS, root of its own ({MEMORY_SHARED} with `share`)")
            }
            Choice::Gvisor => format!("{MEMORY_GVISOR} MiB PSS"),
            Choice::Vm => format!("{MEMORY_VM} MiB PSS: {EMULATED}"),
        }),
        row("start, to the first instruction", &|choice| match choice {
            Choice::Compartment => format!("{START_NATIVE} ms, a program of 160 bytes"),
            Choice::Gvisor => format!("{START_GVISOR} ms, a program of 160 bytes"),
            Choice::Vm => format!("{START_VM} ms, a program of 160 bytes: {EMULATED}"),
        }),
        row("start in this box, root and compartment", &|choice| in_this_box(report, choice)),
        row("evidence", &|choice| match choice {
            Choice::Vm => format!("{agents} boxes, each with evidence of the hardware"),
            _ => format!("one box with evidence of the hardware, {agents} agent tokens under its key"),
        }),
        row("stays shared", &|choice| shared(choice).to_owned()),
    ]
}

const fn boundary(choice: Choice) -> &'static str {
    match choice {
        Choice::Compartment => "namespaces, filter, Landlock and control groups of one guest kernel",
        Choice::Gvisor => {
            "a kernel in user space for each agent; below it a filtered process of one guest kernel"
        }
        Choice::Vm => "memory of a confidential VM for each agent, kept apart by the hardware",
    }
}

const fn needs(choice: Choice) -> &'static str {
    match choice {
        Choice::Compartment => "one bug of the guest's kernel",
        Choice::Gvisor => "a bug of gVisor, then one of the guest's kernel; or one in its network code",
        Choice::Vm => "a bug of the TDX module or SEV firmware, or of the processor",
    }
}

fn trusted(choice: Choice) -> String {
    match choice {
        Choice::Compartment | Choice::Gvisor => format!(
            "guest kernel (lines not counted); warden, launcher, gateway and courier: {} lines of Rust, at most {} of the \
             crates in them, and the C of aws-lc (not counted)",
            trusted_lines::OURS,
            trusted_lines::OTHERS
        ),
        Choice::Vm => {
            "nothing inside of the guest; the hardware's module or firmware (lines not counted)".to_owned()
        }
    }
}

const fn shared(choice: Choice) -> &'static str {
    match choice {
        Choice::Compartment => "kernel and its counters, processor, disk, network, host",
        Choice::Gvisor => "kernel, pages of runsc, processor, disk, network, host",
        Choice::Vm => "processor, memory bus, disk, network, host",
    }
}

/// Times of this box's agents under that backend.
fn in_this_box(report: &Report, choice: Choice) -> String {
    let backend = match choice {
        Choice::Compartment => "native",
        Choice::Gvisor => "gvisor",
        Choice::Vm => return "not measured: this box starts no VM".to_owned(),
    };
    let times: Vec<String> = report
        .agents
        .iter()
        .filter(|(_, agent)| agent.backend == backend)
        .filter_map(|(name, agent)| Some(format!("{name} {} ms", agent.build_ms?)))
        .collect();
    if times.is_empty() { "not measured: no agent of this box runs so".to_owned() } else { times.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn figures_are_those_of_the_document_that_is_named() {
        let document = include_str!("../../../../docs/performance.md");
        for row in [
            format!("| casemate native | {START_NATIVE} |"),
            format!("| casemate gvisor / `runsc run` | {START_GVISOR} /"),
            format!("| VM in QEMU, emulated | {START_VM} | {MEMORY_VM} |"),
            format!("| native, private root | {MEMORY_PRIVATE} |"),
            format!("| native, shared root | {MEMORY_SHARED} |"),
            format!("| gvisor | {MEMORY_GVISOR} |"),
        ] {
            assert!(document.contains(&row), "docs/performance.md has no row {row:?}");
        }
    }

    #[test]
    fn what_this_box_does_not_start_has_no_time_of_this_box() {
        let report = Report::new(sample::input());
        let rows = compare(&report, &Choice::ALL, &sample::input().calls);
        for row in
            rows.iter().filter(|row| row.what.starts_with("memory") || row.what.starts_with("start, to"))
        {
            assert!(row.figures.last().unwrap().value.contains("QEMU emulates"), "{row:?}");
        }
        let times = rows.iter().find(|row| row.what.starts_with("start in this box")).unwrap();
        assert_eq!(times.figures[0].value, "alpha 12 ms, beta 14 ms");
        assert!(times.figures[1].value.starts_with("not measured"));
        assert!(times.figures[2].value.starts_with("not measured"));
    }
}
