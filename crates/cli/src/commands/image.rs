//! `casemate image`: the images that agents are made from.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::Global;
use crate::commands::pull;
use crate::failure::Outcome;
use crate::inputs;
use crate::lines;
use crate::project::Home;

/// What `image` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate image ls")]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Subcommand, Debug)]
enum ImageCommand {
    /// Import an image from a file or a directory: an OCI image layout, what `docker save` writes, or
    /// the tar of a root file system; plain, gzip or zstd. Says which it was.
    #[command(before_help = "Example: casemate image import app.tar --name localhost/app:1")]
    Import(ImportArgs),
    /// Get images from their registries
    #[command(before_help = "Example: casemate image pull python:3.12")]
    Pull(pull::PullArgs),
    /// List the images
    #[command(before_help = "Example: casemate image ls")]
    Ls,
    /// Show all about an image: what pins it, how it runs, its layers, where it came from
    #[command(before_help = "Example: casemate image inspect demo/python:1")]
    Inspect {
        /// Image name, or digest of its manifest or index
        reference: String,
    },
    /// Take the name of an image away; `image gc` then frees the space
    #[command(before_help = "Example: casemate image rm demo/python:1")]
    Rm {
        /// Image name
        reference: String,
    },
    /// Remove what no named image needs
    #[command(before_help = "Example: casemate image gc --dry-run")]
    Gc {
        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// What `image import` takes.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The file or directory; with `--tar`, the name instead
    #[arg(value_name = "FILE|DIR")]
    pub(crate) source: PathBuf,
    /// Name to give it [default: the one it has in the file]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Which image, where there are several [default: the one called as `--name` says]
    #[arg(long, value_name = "NAME")]
    pub(crate) select: Option<String>,
    /// What the file is [default: told from its content]
    #[arg(long, value_enum)]
    pub(crate) format: Option<FormatArg>,
    /// The tar of a root file system, whose name is then the argument: `import NAME --tar FILE`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "select", "format"])]
    pub(crate) tar: Option<PathBuf>,
    /// Program and leading arguments of a root file system; repeat for each
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) entrypoint: Vec<String>,
}

/// Kinds of files with images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// The tar of a root file system
    Rootfs,
    /// An OCI image layout
    OciLayout,
    /// What `docker save` writes
    DockerArchive,
}

/// Works on the image store.
pub(crate) fn run(global: &Global, args: ImageArgs) -> Outcome {
    let home = Home::find()?;
    inputs::make_dir(&home.0)?;
    let store = inputs::open_store(&home)?;
    match args.command {
        ImageCommand::Import(args) => inputs::import_image(global, &store, &args),
        ImageCommand::Pull(args) => pull::run(global, &store, &args),
        ImageCommand::Ls => list(global, &store),
        ImageCommand::Inspect { reference } => inputs::inspect_image(global, &store, &reference),
        ImageCommand::Rm { reference } => {
            store.remove(&reference).map_err(|error| inputs::image_failure(&error))?;
            if global.json {
                lines::print(serde_json::json!({ "removed": reference }));
            } else {
                lines::print(format!("removed {reference}"));
            }
            Ok(0)
        }
        ImageCommand::Gc { dry_run } => collect(global, &store, dry_run),
    }
}

fn list(global: &Global, store: &casemate_images::Store) -> Outcome {
    let images = store.list().map_err(|error| inputs::image_failure(&error))?;
    if global.json {
        let images: Vec<serde_json::Value> = images.iter().map(inputs::image_json).collect();
        lines::print(serde_json::Value::from(images));
        return Ok(0);
    }
    if images.is_empty() {
        lines::note("no images; `casemate image pull` and `casemate image import` bring some");
    }
    for image in &images {
        lines::print(inputs::image_line(image));
    }
    Ok(0)
}

fn collect(global: &Global, store: &casemate_images::Store, dry_run: bool) -> Outcome {
    let report = if dry_run { store.gc_preview() } else { store.gc() };
    let report = report.map_err(|error| inputs::image_failure(&error))?;
    if global.json {
        lines::print(serde_json::json!({
            "removed": !dry_run, "files": report.files, "bytes": report.bytes,
        }));
    } else {
        let what = if dry_run { "would remove" } else { "removed" };
        lines::print(format!("{what} {} files, {}", report.files, inputs::bytes_text(report.bytes)));
    }
    Ok(0)
}
