//! `casemate init`: a Compose file to start from.

mod ask;
mod example;
mod existing;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use casemate_composition::lock::AgentName;
use clap::Args;

use crate::cli::Global;
use crate::composition::{COMPOSE_NAMES, normalised};
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;

use ask::ask;
use example::{Program, Template};

/// What the agents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// One agent
    Agent,
    /// Two agents, an edge between them, and a secret of one
    Team,
    /// Those of a Compose file that is there: say what is refused in it, and write an override to begin with
    Existing,
}

/// What `init` takes. What is not given is asked for on a terminal.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate init --template agent --image python")]
pub(crate) struct InitArgs {
    /// What the agents are
    #[arg(long, value_enum)]
    template: Option<Choice>,
    /// What they run: python, shell, or the name of an image with its own command [default: python]
    #[arg(long, value_name = "IMAGE", value_parser = Program::parse)]
    image: Option<Program>,
    /// Project name [default: from the folder's name]
    #[arg(long, value_name = "NAME")]
    name: Option<AgentName>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Ask nothing: one agent in Python, unless flags say otherwise
    #[arg(short, long)]
    yes: bool,
}

/// Writes the example, but over no file unless told so.
pub(crate) fn run(global: &Global, args: &InitArgs) -> Outcome {
    let asks = !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let choice = match args.template {
        Some(choice) => choice,
        None if asks => ask(QUESTION, "1", which)?,
        None if args.yes => Choice::Agent,
        None => {
            return Err(Failure::input(
                "no terminal to ask on",
                "say it with flags: `casemate init --template agent|team --image python|shell|IMAGE`, \
                 `--template existing`, or `--yes`",
            ));
        }
    };
    let template = match choice {
        Choice::Agent => Template::Agent,
        Choice::Team => Template::Team,
        Choice::Existing => return existing(global, args, asks),
    };
    let path = match global.file.as_slice() {
        [] => PathBuf::from("compose.yaml"),
        [path] => path.clone(),
        _ => return Err(Failure::input("`init` writes one file", "name it with `casemate -f FILE init`")),
    };
    if !args.force {
        refuse_to_overwrite(global, &path)?;
    }
    let program = match &args.image {
        Some(program) => program.clone(),
        None if asks => {
            ask("What do they run: python, shell, or an image's name?", "python", Program::parse)?
        }
        None => Program::Python,
    };
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of_folder(&path)?,
    };
    let text = example::text(template, &program, name.as_str());
    inputs::write_file(&path, text.as_bytes())?;
    let flag = if global.file.is_empty() { String::new() } else { format!(" -f {}", path.display()) };
    lines::print(format!("wrote {}; next:", path.display()));
    for next in example::next_commands(template, &program, &flag) {
        lines::print(format!("  {next}"));
    }
    Ok(0)
}

const QUESTION: &str =
    "What are your agents: 1 one agent, 2 several agents that talk, 3 those of a Compose file?";

fn existing(global: &Global, args: &InitArgs, asks: bool) -> Outcome {
    if args.image.is_some() || args.name.is_some() {
        return Err(Failure::input(
            "`--image` and `--name` are those of the file that is there",
            "leave them out, or choose `--template agent` or `team`",
        ));
    }
    let mut global = global.clone();
    let found = COMPOSE_NAMES.iter().find(|name| Path::new(name).exists());
    if asks && global.file.is_empty() {
        let default = found.copied().unwrap_or("compose.yaml");
        let read = |answer: &str| {
            let path = PathBuf::from(answer);
            if path.is_file() { Ok(path) } else { Err(format!("{answer} is not there")) }
        };
        let path = ask("Which file?", default, read)?;
        // The usual name is left to be found, with what is laid over it.
        if found.is_none_or(|found| path != Path::new(found)) {
            global.file = vec![path];
        }
    }
    existing::run(&global, args.force)
}

fn which(answer: &str) -> Result<Choice, String> {
    match answer {
        "1" | "agent" | "one" => Ok(Choice::Agent),
        "2" | "team" | "several" => Ok(Choice::Team),
        "3" | "existing" | "file" => Ok(Choice::Existing),
        _ => Err("answer 1, 2 or 3".into()),
    }
}

/// Refuses where the file is there, or where one is that it would hide: the first of the usual names is the one read.
fn refuse_to_overwrite(global: &Global, path: &Path) -> Outcome<()> {
    let hidden = COMPOSE_NAMES.iter().map(Path::new).filter(|_| global.file.is_empty());
    let there = std::iter::once(path).chain(hidden).find(|path| path.symlink_metadata().is_ok());
    match there {
        None => Ok(()),
        Some(there) => Err(Failure::input(
            format!("{}: there is a file already", there.display()),
            "name another with `casemate -f FILE init`, or write over it with `--force`",
        )),
    }
}

/// The project's name as Compose makes it of the folder's; `agents` where nothing is left of it.
fn name_of_folder(path: &Path) -> Outcome<AgentName> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(|error| {
        Failure::input(format!("{}: {error}", folder.display()), "name a file in a folder that exists")
    })?;
    let name = normalised(&folder.file_name().unwrap_or_default().to_string_lossy());
    let name = if name.is_empty() { "agents" } else { &name };
    name.parse().map_err(|error| Failure::input(format!("project {error}"), "name it with `--name NAME`"))
}
