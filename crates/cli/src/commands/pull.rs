//! `casemate image pull`: images from registries into the store.

use casemate_images::Store;
use clap::Args;
use serde_json::json;

use crate::cli::Global;
use crate::failure::{Failure, Kind, Outcome};
use crate::inputs::{self, Pulled, Puller, RegistryArgs};
use crate::lines;
use crate::project::ComposeFile;
use crate::transfer::Shown;

/// What `image pull` takes.
#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    /// Images, for example `python:3.12` or `ghcr.io/team/app@sha256:...` [default: all of the Compose file]
    #[arg(value_name = "REF")]
    references: Vec<String>,
    /// Refuse unless this is the platform of this machine, for example `linux/amd64`: images of another one do not run here
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    platform: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Pulls all that is named, and says of each what it is pinned to. One that fails does not keep the others away.
pub(crate) fn run(global: &Global, store: &Store, args: &PullArgs) -> Outcome {
    if let Some(platform) = &args.platform {
        check_platform(platform)?;
    }
    let names =
        if args.references.is_empty() { of_composition(global, store)? } else { args.references.clone() };
    let shown = if args.quiet || global.json { Shown::Problems } else { Shown::All };
    let puller = Puller::new(store, &args.registry, shown)?;
    let mut failures = Vec::new();
    for name in &names {
        match puller.pull(name) {
            Ok(pulled) => show(global, &pulled),
            Err(failure) if failure.kind == Kind::Interrupted => return Err(failure),
            Err(failure) => failures.push(Failure { what: format!("{name}: {}", failure.what), ..failure }),
        }
    }
    let mut failures = failures.into_iter();
    match failures.next() {
        Some(first) => Err(Failure { more: failures.collect(), ..first }),
        None => Ok(0),
    }
}

fn of_composition(global: &Global, store: &Store) -> Outcome<Vec<String>> {
    let file = ComposeFile::find(global).map_err(|failure| Failure {
        todo: format!("name an image, as in `casemate image pull python:3.12`, or {}", failure.todo),
        ..failure
    })?;
    inputs::images_to_pull(&file, store)
}

fn show(global: &Global, pulled: &Pulled) {
    if global.json {
        lines::print(json!({
            "reference": pulled.name,
            "pinned": pulled.pinned,
            "manifest": pulled.info.manifest,
            "config": pulled.info.config,
            "previous": pulled.before,
            "layers_bytes": pulled.info.layers_bytes,
            "rootfs_bytes": pulled.info.rootfs_bytes,
        }));
    } else {
        inputs::note_move(pulled);
        lines::print(&pulled.pinned);
    }
}

/// The store takes images of this machine alone, so any other platform is a mistake.
fn check_platform(platform: &str) -> Outcome<()> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let own = format!("linux/{architecture}");
    if platform == own {
        return Ok(());
    }
    Err(Failure::input(
        format!("platform `{platform}` is not this machine's, and its images do not run here"),
        format!("leave out `--platform`, or write `--platform {own}`"),
    ))
}
