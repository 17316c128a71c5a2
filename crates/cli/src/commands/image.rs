//! `casemate image`: the images that agents are made from.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
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
    /// Make an image of a root file system in a tar archive
    #[command(
        before_help = "Example: casemate image import demo/python:1 --tar rootfs.tar --entrypoint /usr/bin/python3"
    )]
    Import(ImportArgs),
    /// List the images
    #[command(before_help = "Example: casemate image ls")]
    Ls,
    /// Remove an image
    #[command(before_help = "Example: casemate image rm demo/python:1")]
    Rm {
        /// Image name
        reference: String,
    },
}

/// What `image import` takes.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// Name to give it
    pub(crate) reference: String,
    /// The archive
    #[arg(long, value_name = "FILE")]
    pub(crate) tar: PathBuf,
    /// Program and leading arguments; repeat for each
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) entrypoint: Vec<String>,
}

/// Works on the image store.
pub(crate) fn run(global: &Global, args: ImageArgs) -> Outcome {
    let home = Home::find()?;
    inputs::make_dir(&home.0)?;
    let store = inputs::open_store(&home)?;
    match args.command {
        ImageCommand::Import(args) => inputs::import_image(global, &store, &args),
        ImageCommand::Ls => list(global, &store),
        ImageCommand::Rm { reference } => {
            store.remove(&reference).map_err(|error| inputs::image_failure(&error))?;
            lines::print(format!("removed {reference}"));
            Ok(0)
        }
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
        lines::note("no images; `casemate image import` makes one");
    }
    for image in &images {
        lines::print(inputs::image_line(image));
    }
    Ok(0)
}

/// A failure of the archive named on the command line.
pub(crate) fn no_archive(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::input(format!("{}: {error}", path.display()), "name a tar archive with `--tar FILE`")
}
