//! Images in files: which kind of file it is, and how each kind enters the store.
//!
//! Known kinds: an OCI image layout (image specification 1.1, "OCI Image Layout"; a directory or a tar
//! of one, as `skopeo`, `umoci`, `buildah` and newer `docker save` make), the archive of older
//! `docker save` (`manifest.json` beside layers in tar), and the tar of a root file system.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _};
use std::path::Path;

use crate::compression::Compression;
use crate::docker_archive;
use crate::error::ImageError;
use crate::files::{Files, Tar};
use crate::hash::CHUNK_BYTES;
use crate::import::ImportOptions;
use crate::oci_layout;
use crate::progress::{Meter, Progress, Step};
use crate::store::{ImageInfo, Store};
use crate::unpack::Guard;

/// What a file or directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The tar of a root file system.
    Rootfs,
    /// An OCI image layout.
    OciLayout,
    /// What `docker save` wrote before it wrote layouts.
    DockerArchive,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rootfs => "root file system in a tar",
            Self::OciLayout => "OCI image layout",
            Self::DockerArchive => "docker save archive",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What to import from a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportRequest {
    /// Name that the image gets. None: the one it has in the file.
    pub name: Option<String>,
    /// Which image of the file. None: the one called `name`, or the only one.
    pub select: Option<String>,
    /// What the file holds. None: told from its content.
    pub format: Option<Format>,
    /// How a root file system wants to be run; refused with other formats, which say so themselves.
    pub rootfs: Option<ImportOptions>,
}

/// An image that came from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The name it has now.
    pub reference: String,
    /// What the file was.
    pub format: Format,
    /// What it is.
    pub info: ImageInfo,
}

impl Store {
    /// Imports an image from a file or directory. What is refused leaves nothing.
    pub fn import(
        &self,
        source: &Path,
        request: &ImportRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Imported, ImageError> {
        let files = self.open_source(source, progress)?;
        let format = match request.format {
            Some(format) => format,
            None => recognise(&files, self.limits.document_bytes_max, source)?,
        };
        if format != Format::Rootfs && request.rootfs.is_some() {
            return Err(ImageError::OwnEntrypoint { format: format.name() });
        }
        let origin = format!("{format} {}", source.display());
        let (reference, info) = match (format, files) {
            (Format::OciLayout, files) => oci_layout::import(self, &files, &origin, request, progress)?,
            (Format::DockerArchive, files) => {
                docker_archive::import(self, &files, &origin, request, progress)?
            }
            (Format::Rootfs, Files::Tar(tar)) => {
                let found = "a root file system has no name of its own".to_owned();
                let name = request.name.clone().ok_or(ImageError::NoName { found })?;
                let options = request.rootfs.clone().unwrap_or_else(ImportOptions::plain);
                let mut file = tar.into_file();
                file.rewind().map_err(|error| ImageError::io("read", source, &error))?;
                let info = self.import_tar(&name, &mut file, &options, &origin, progress)?;
                (name, info)
            }
            (Format::Rootfs, Files::Directory { .. }) => {
                return Err(ImageError::Unsupported {
                    what: "directory of files",
                    found: crate::error::printable(source),
                });
            }
        };
        Ok(Imported { reference, format, info })
    }

    /// The files of a directory, or of a tar that is plain or was decompressed below `tmp/`.
    fn open_source(&self, source: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Files, ImageError> {
        let failed = |error: io::Error| ImageError::io("read", source, &error);
        let file = File::open(source).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Files::directory(source);
        }
        let total_bytes = metadata.is_file().then_some(metadata.len());
        let mut reader = BufReader::with_capacity(CHUNK_BYTES, file);
        let compression = Compression::of_start(reader.fill_buf().map_err(failed)?);
        if compression == Compression::None && metadata.is_file() {
            let mut file = reader.into_inner();
            file.rewind().map_err(failed)?;
            return Tar::index(file, &self.limits).map(Files::Tar);
        }
        let (tmp, limits) = (self.layout.tmp(), &self.limits);
        let mut plain =
            tempfile::tempfile_in(&tmp).map_err(|error| ImageError::io("make a file in", &tmp, &error))?;
        let mut meter = Meter::new(Step::Read, total_bytes, progress);
        let stream = BufReader::with_capacity(CHUNK_BYTES, meter.reader(reader));
        let stream = compression.reader(stream, limits.window_bytes_max);
        let bytes_max = total_bytes.map_or(limits.layer_bytes_max, |bytes| limits.expanded_bytes_max(bytes));
        Meter::silent().copy(Guard::new(stream, bytes_max), &mut plain, &tmp)?;
        Tar::index(plain, &self.limits).map(Files::Tar)
    }
}

/// Tells the format from the content.
fn recognise(files: &Files, document_bytes_max: u64, source: &Path) -> Result<Format, ImageError> {
    if files.has("oci-layout") && files.has("index.json") {
        return Ok(Format::OciLayout);
    }
    // A root file system may hold a file of this name too; that of `docker save` is an array.
    let manifest = files.read("manifest.json", document_bytes_max);
    let is_array = |bytes: &[u8]| bytes.trim_ascii_start().first() == Some(&b'[');
    match (manifest, files) {
        (Ok(Some(bytes)), _) if is_array(&bytes) => Ok(Format::DockerArchive),
        (_, Files::Tar(_)) => Ok(Format::Rootfs),
        (_, Files::Directory { .. }) => {
            Err(ImageError::Unsupported { what: "directory", found: crate::error::printable(source) })
        }
    }
}
