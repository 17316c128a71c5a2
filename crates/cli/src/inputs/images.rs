//! Images of the local store.

use std::collections::BTreeMap;

use casemate_images::{ImageError, ImportOptions, ListedImage, Store};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::commands::image::{ImportArgs, no_archive};
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

/// Imports an archive.
pub(crate) fn import_image(global: &Global, store: &Store, args: &ImportArgs) -> Outcome {
    let mut tar = std::fs::File::open(&args.tar).map_err(|error| no_archive(&args.tar, &error))?;
    if tar.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(no_archive(&args.tar, &std::io::ErrorKind::IsADirectory.into()));
    }
    let options = ImportOptions {
        entrypoint: args.entrypoint.clone(),
        command: Vec::new(),
        environment: BTreeMap::from([(
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        )]),
        working_dir: "/".to_owned(),
        user: casemate_composition::lock::User { uid: 0, gid: 0 },
    };
    let info = store.import_rootfs(&args.reference, &mut tar, &options, &mut |_| {}).map_err(|error| {
        let failure = image_failure(&error);
        if matches!(error, ImageError::Reference { .. }) || failure.kind != Kind::Input {
            return failure;
        }
        Failure { what: format!("{}: {}", args.tar.display(), failure.what), ..failure }
    })?;
    if global.json {
        lines::print(json!({"reference": args.reference, "manifest": info.manifest}));
    } else {
        lines::print(format!("{}@{}", args.reference, info.manifest));
    }
    Ok(0)
}

/// One image as a line.
pub(crate) fn image_line(image: &ListedImage) -> String {
    format!("{}@{}", image.reference, image.manifest)
}

/// One image as JSON.
pub(crate) fn image_json(image: &ListedImage) -> Value {
    json!({"reference": image.reference, "manifest": image.manifest})
}
