//! `casemate config`: the composition as it is understood, all files merged.

use casemate_composition::load::{Interpolation, Loaded};
use casemate_composition::lock::AgentName;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::project::{ComposeFile, Project};

/// What `config` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate -f compose.yaml -f production.yaml config",
    after_help = "With --json, problems are printed as JSON too, each with its line."
)]
pub(crate) struct ConfigArgs {
    /// How it is printed [default: yaml, with --json json]
    #[arg(long)]
    format: Option<Format>,
    /// Print the names of the services
    #[arg(long, conflicts_with_all = ["images", "profiles", "hash", "quiet"])]
    services: bool,
    /// Print the references of the images
    #[arg(long, conflicts_with_all = ["profiles", "hash", "quiet"])]
    images: bool,
    /// Print the names of all profiles, active or not
    #[arg(long, conflicts_with_all = ["hash", "quiet"])]
    profiles: bool,
    /// Print the measurement of each agent, or of these; the images must be in the store
    #[arg(long, value_name = "AGENT", num_args = 0.., conflicts_with_all = ["quiet", "no_interpolate"])]
    hash: Option<Vec<AgentName>>,
    /// Print nothing; only say what is wrong
    #[arg(short, long)]
    quiet: bool,
    /// Leave `${VAR}` as it is written, and `env_file` with it; what is printed is then not checked as a model
    #[arg(long, conflicts_with_all = ["services", "images"])]
    no_interpolate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// Prints.
pub(crate) fn run(global: &Global, args: &ConfigArgs) -> Outcome {
    let file = ComposeFile::find(global)?;
    if let Some(agents) = &args.hash {
        return hashes(global, &file, agents);
    }
    let interpolation = if args.no_interpolate { Interpolation::LeftOut } else { Interpolation::Done };
    let loaded = match file.load(interpolation) {
        Ok(loaded) => loaded,
        Err(Err(failure)) => return Err(failure),
        Err(Ok(problems)) => {
            if global.json {
                lines::print(json!({"problems": problems.as_slice()}));
            }
            return Err(inputs::failure_of(problems));
        }
    };
    file.warn(&loaded);
    if let Some(all) = listed(&loaded, args) {
        list(global, &all);
    } else if !args.quiet {
        let default = if global.json { Format::Json } else { Format::Yaml };
        let text = match args.format.unwrap_or(default) {
            Format::Yaml => loaded.to_yaml(),
            Format::Json => loaded.to_json(),
        };
        lines::print_bytes(text.as_bytes());
    }
    Ok(0)
}

/// The names that are asked for.
fn listed(loaded: &Loaded, args: &ConfigArgs) -> Option<Vec<String>> {
    let compose = loaded.compose();
    if args.profiles {
        Some(loaded.profiles().iter().cloned().collect())
    } else if args.services {
        compose.map(|compose| compose.agents().map(ToString::to_string).collect())
    } else if args.images {
        compose.map(|compose| compose.images().into_iter().map(str::to_owned).collect())
    } else {
        None
    }
}

fn list(global: &Global, all: &[String]) {
    if global.json {
        lines::print(json!(all));
    } else {
        all.iter().for_each(lines::print);
    }
}

/// The measurements as the lock has them.
fn hashes(global: &Global, file: &ComposeFile, wanted: &[AgentName]) -> Outcome {
    let project = Project::of(global, file)?;
    let lock = inputs::resolve(file, &project)?;
    let all: Vec<AgentName> = lock.agents.keys().cloned().collect();
    let mut measurements = serde_json::Map::new();
    for name in if wanted.is_empty() { &all } else { wanted } {
        let agent = lock.agents.get(name).ok_or_else(|| inputs::no_such_agent(name, &all))?;
        let measurement = agent.measurement().map_err(|error| inputs::too_large(&error))?;
        measurements.insert(name.to_string(), json!(measurement.to_string()));
    }
    if global.json {
        lines::print(json!(measurements));
    } else {
        for (name, measurement) in &measurements {
            lines::print(format!("{name} {}", measurement.as_str().unwrap_or_default()));
        }
    }
    if measurements.is_empty() { Err(Failure::input("no agent", "write a service")) } else { Ok(0) }
}
