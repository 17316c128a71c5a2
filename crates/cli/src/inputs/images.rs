//! Images of the local store.

use casemate_images::{
    Format, ImageError, ImportOptions, ImportRequest, Imported, LayerInfo, ListedImage, Source, Store,
};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::commands::image::{FormatArg, ImportArgs};
use crate::failure::{Failure, Kind, Outcome, one_line};
use crate::image_progress::ImageDisplay;
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
    let mut display = ImageDisplay::new(global);
    let imported = store.import(source, &request, &mut |progress| display.report(progress));
    display.finish();
    let imported = imported.map_err(|error| {
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

/// One image as a line: name and digest, sizes of layers and root file system, when it was stored.
pub(crate) fn image_line(image: &ListedImage) -> String {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "damaged".to_owned(), bytes_text);
    format!(
        "{}@{}  layers {}  rootfs {}  {}",
        image.reference,
        image.manifest,
        size(image.layers_bytes),
        image.rootfs_bytes.map_or_else(|| "not built".to_owned(), bytes_text),
        image.source.stored_seconds.map_or_else(|| "-".to_owned(), time_text),
    )
}

/// One image as JSON.
pub(crate) fn image_json(image: &ListedImage) -> Value {
    json!({
        "reference": image.reference, "manifest": image.manifest,
        "layers_bytes": image.layers_bytes, "rootfs_bytes": image.rootfs_bytes,
        "source": source_json(&image.source),
    })
}

/// Shows all about one image.
pub(crate) fn inspect_image(global: &Global, store: &Store, reference: &str) -> Outcome {
    let mut display = ImageDisplay::new(global);
    let found = store.inspect(reference, &mut |progress| display.report(progress));
    display.finish();
    let image = found.map_err(|error| image_failure(&error))?;
    let info = &image.info;
    if global.json {
        let layers: Vec<Value> = image.layers.iter().map(layer_json).collect();
        lines::print(json!({
            "references": image.references, "manifest": info.manifest, "config": info.config,
            "rootfs": {"digest": info.rootfs, "bytes": info.rootfs_bytes},
            "platform": image.platform, "created": image.created, "labels": image.labels,
            "entrypoint": info.entrypoint, "command": info.command, "environment": info.environment,
            "working_dir": info.working_dir, "user": {"uid": info.user.uid, "gid": info.user.gid},
            "layers": layers, "layers_bytes": info.layers_bytes, "source": source_json(&image.source),
        }));
        return Ok(0);
    }
    let row = |name: &str, value: &str| lines::print(format!("{name:12}{}", one_line(value)));
    let words = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
    row("names", &image.references.join(" "));
    row("manifest", &info.manifest.to_string());
    row("config", &info.config.to_string());
    row("rootfs", &format!("{}  {}", info.rootfs, bytes_text(info.rootfs_bytes)));
    row("platform", &image.platform);
    row("created", image.created.as_deref().unwrap_or("-"));
    row("stored", &image.source.stored_seconds.map_or_else(|| "-".to_owned(), time_text));
    row("from", image.source.origin.as_deref().unwrap_or("-"));
    for index in &image.source.indexes {
        row("chosen from", &index.to_string());
    }
    row("entrypoint", &words(&info.entrypoint));
    row("command", &words(&info.command));
    row("working dir", &info.working_dir);
    row("user", &format!("{}:{}", info.user.uid, info.user.gid));
    for (name, value) in &info.environment {
        row("environment", &format!("{name}={value}"));
    }
    for (name, value) in &image.labels {
        row("label", &format!("{name}={value}"));
    }
    for layer in &image.layers {
        row("layer", &format!("{}  {}", layer.digest, bytes_text(layer.bytes)));
    }
    Ok(0)
}

fn layer_json(layer: &LayerInfo) -> Value {
    json!({
        "digest": layer.digest, "diff_id": layer.diff_id, "bytes": layer.bytes,
        "media_type": layer.media_type,
    })
}

fn source_json(source: &Source) -> Value {
    json!({
        "origin": source.origin, "stored": source.stored_seconds.map(time_text), "indexes": source.indexes,
    })
}

/// Seconds since 1970 as RFC 3339.
fn time_text(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// Bytes for people: three digits, decimal units.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    let unit = UNITS.iter().find(|(size, _)| bytes >= *size);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(size, name)| {
            let tenths = bytes / (size / 10);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_times_read_well() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_999_999, "1.9 MB"), (12_345_678_901, "12.3 GB")]
        {
            assert_eq!(bytes_text(bytes), text);
        }
        assert_eq!(time_text(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(time_text(u64::MAX), "-");
    }
}
