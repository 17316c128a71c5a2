//! Images of the local store.

use casemate_images::{Format, ImageError, ImportOptions, ImportRequest, Imported, ListedImage, Store};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::commands::image::{FormatArg, ImportArgs};
use crate::failure::{Failure, Kind, Outcome};
use crate::lines;
use crate::project::Home;

/// Opens the store.
pub(crate) fn open_store(home: &Home) -> Outcome<Store> {
    super::make_dir(&home.images())?;
    Store::open(&home.images()).map_err(|error| image_failure(&error))
}

/// The failure that an error of the store is.
pub(crate) fn image_failure(error: &ImageError) -> Failure {
    match error {
        ImageError::Refused(refusal) => {
            Failure::refused("the image is not what its digest says", refusal.clone(), error.todo())
        }
        ImageError::Busy { .. } | ImageError::Tool { .. } | ImageError::Io { .. } => {
            Failure::environment(error, error.todo())
        }
        _ => Failure::input(error, error.todo()),
    }
}

/// Imports an image from a file or directory.
pub(crate) fn import_image(global: &Global, store: &Store, args: &ImportArgs) -> Outcome {
    let source = args.tar.as_ref().unwrap_or(&args.source);
    let options = ImportOptions { entrypoint: args.entrypoint.clone(), ..ImportOptions::plain() };
    let request = match &args.tar {
        Some(_) => ImportRequest {
            name: Some(args.source.to_string_lossy().into_owned()),
            select: None,
            format: Some(Format::Rootfs),
            rootfs: Some(options),
        },
        None => ImportRequest {
            name: args.name.clone(),
            select: args.select.clone(),
            format: args.format.map(format_of),
            rootfs: (!args.entrypoint.is_empty()).then_some(options),
        },
    };
    check_readable(source, args)?;
    let imported = store.import(source, &request, &mut |_| {}).map_err(|error| {
        let failure = image_failure(&error);
        if matches!(error, ImageError::Reference { .. }) || failure.kind != Kind::Input {
            return failure;
        }
        Failure { what: format!("{}: {}", source.display(), failure.what), ..failure }
    })?;
    let Imported { reference, format, info } = imported;
    if global.json {
        lines::print(json!({
            "reference": reference, "manifest": info.manifest, "format": format_name(format),
        }));
    } else {
        lines::note(format!("{}: {format}", source.display()));
        lines::print(format!("{reference}@{}", info.manifest));
    }
    Ok(0)
}

/// A file that is named and not there is the caller's mistake, not the store's.
fn check_readable(source: &std::path::Path, args: &ImportArgs) -> Outcome<()> {
    let todo = if args.tar.is_some() {
        "name a tar archive with `--tar FILE`"
    } else {
        "name a file or a directory"
    };
    let failed = |error: std::io::Error| Failure::input(format!("{}: {error}", source.display()), todo);
    let file = std::fs::File::open(source).map_err(failed)?;
    if args.tar.is_some() && file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    Ok(())
}

fn format_of(arg: FormatArg) -> Format {
    match arg {
        FormatArg::Rootfs => Format::Rootfs,
        FormatArg::OciLayout => Format::OciLayout,
        FormatArg::DockerArchive => Format::DockerArchive,
    }
}

/// The format as `--format` spells it.
fn format_name(format: Format) -> &'static str {
    match format {
        Format::Rootfs => "rootfs",
        Format::OciLayout => "oci-layout",
        Format::DockerArchive => "docker-archive",
    }
}

/// One image as a line.
pub(crate) fn image_line(image: &ListedImage) -> String {
    format!("{}@{}", image.reference, image.manifest)
}

/// One image as JSON.
pub(crate) fn image_json(image: &ListedImage) -> Value {
    json!({"reference": image.reference, "manifest": image.manifest})
}
