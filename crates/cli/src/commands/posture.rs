//! `casemate posture`: what separates agents, what evidence covers, what the host can do, what agents share.

mod collect;
mod sharing;
mod starts;

use std::path::PathBuf;

use casemate_posture::report::{self, Choice, Report};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::Global;
use crate::failure::Outcome;
use crate::inputs;
use crate::lines;
use crate::project::Project;

/// What `posture` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate posture --html posture.html",
    after_help = "Everything is looked at now, on the running box; nothing is tried: `casemate probe` does that, and its last \
        batteries are shown with their age. What was not seen is `not seen` or `not run`, with its reason. One piece of \
        evidence is asked for. Page frames are counted where the user may (root). docs/posture.md says what the report \
        does not say, and describes --json."
)]
pub(crate) struct PostureArgs {
    /// Only what each two agents share, and what it costs to have it apart
    #[arg(long, conflicts_with_all = ["html", "compare"])]
    sharing: bool,
    /// Write the report as one page that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show the same composition under these boundaries, side by side
    #[arg(long, value_name = "BOUNDARY", value_delimiter = ',', value_enum)]
    compare: Vec<Boundary>,
}

/// A boundary between agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Boundary {
    /// A native compartment for each
    Compartment,
    /// A gVisor sandbox for each
    Gvisor,
    /// A VM for each, which is not built yet
    Vm,
}

impl Boundary {
    const fn choice(self) -> Choice {
        match self {
            Self::Compartment => Choice::Compartment,
            Self::Gvisor => Choice::Gvisor,
            Self::Vm => Choice::Vm,
        }
    }
}

/// Shows the report.
pub(crate) fn run(global: &Global, args: &PostureArgs) -> Outcome {
    let project = Project::find(global)?;
    if args.sharing {
        return sharing::run(global, &project);
    }
    let report = Report::new(collect::input(&project)?);
    let choices: Vec<Choice> = args.compare.iter().map(|boundary| boundary.choice()).collect();
    let comparison = report::compare(&report, &choices, &collect::rules());
    let compared = if choices.is_empty() { &[][..] } else { &comparison[..] };
    if let Some(path) = &args.html {
        inputs::write_file(path, report::html(&report, compared).as_bytes())?;
    }
    match (global.json, choices.is_empty()) {
        (true, true) => lines::print(json!(report)),
        (true, false) => lines::print(json!({ "report": report, "comparison": compared })),
        (false, _) if args.html.is_some() => {
            let path = args.html.as_deref().unwrap_or_else(|| std::path::Path::new("-"));
            lines::print(format!("posture of project {} is in {}", project.name, path.display()));
        }
        (false, true) => report::text(&report).iter().for_each(lines::print),
        (false, false) => report::comparison(compared).iter().for_each(lines::print),
    }
    Ok(0)
}
