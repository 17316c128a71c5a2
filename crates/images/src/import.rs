//! A tar of a root file system becomes an image.
//!
//! The one layer is stored uncompressed: it is local, so there is nothing to transfer; digest and
//! diff-id are one hash; a start does not decompress; and no small file can become a large one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Seek as _};

use casemate_canon::Sha256;
use casemate_composition::lock::User;

use crate::accounts::Accounts;
use crate::compression::Compression;
use crate::document::{self, Config, Descriptor, Execution, MEDIA_CONFIG, MEDIA_LAYER_TAR, Rootfs};
use crate::error::ImageError;
use crate::hash::{CHUNK_BYTES, Hashing};
use crate::ingest;
use crate::progress::{Meter, Progress, Step};
use crate::reference::parse_reference;
use crate::rootfs;
use crate::store::{ImageInfo, Store};
use crate::tar_entry::from_read;
use crate::unpack::{Guard, Layer};

/// How the imported image wants to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOptions {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program where there is no entrypoint.
    pub command: Vec<String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// Working directory, absolute.
    pub working_dir: String,
    /// User and group.
    pub user: User,
}

impl ImportOptions {
    /// Nothing to run, the usual search path, root.
    #[must_use]
    pub fn plain() -> Self {
        const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Self {
            entrypoint: Vec::new(),
            command: Vec::new(),
            environment: BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]),
            working_dir: "/".to_owned(),
            user: User { uid: 0, gid: 0 },
        }
    }
}

impl Store {
    /// Imports a tar (plain, gzip or zstd) of a root file system under the name `reference`. The tar is
    /// unpacked at once, so a tar that would be refused later is refused now and leaves nothing.
    pub fn import_rootfs(
        &self,
        reference: &str,
        tar: &mut dyn Read,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ImageInfo, ImageError> {
        self.import_tar(reference, tar, options, "a root file system in a tar", progress)
    }

    /// The same; `origin` says where the tar comes from.
    pub(crate) fn import_tar(
        &self,
        reference: &str,
        tar: &mut dyn Read,
        options: &ImportOptions,
        origin: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ImageInfo, ImageError> {
        let reference = parse_reference(reference)?;
        let _use = self.start_use()?;
        let mut file = self.layout.temporary()?;
        let (digest, size) = self.copy_layer(tar, file.as_file_mut(), progress)?;

        let config = config_of(digest, options);
        // Whatever will refuse the image later must refuse it before anything is kept.
        document::parse_run(config.config.clone(), &Accounts::default())?;
        let layer = Layer { file: reopen(&file)?, compression: Compression::None, digest, diff_id: digest };
        let built = rootfs::build(vec![layer], &self.layout.tmp(), &self.limits, progress)?;

        self.layout.persist(file, &self.layout.blob(&digest))?;
        let config_bytes = document::to_bytes("image configuration", &config)?;
        let config_digest = self.layout.write_document(&config_bytes)?;
        let config_descriptor = Descriptor::new(MEDIA_CONFIG, config_digest, config_bytes.len() as u64);
        let layer = Descriptor::new(MEDIA_LAYER_TAR, digest, size);
        let manifest = document::manifest_of(config_descriptor, vec![layer]);
        let manifest_bytes = document::to_bytes("image manifest", &manifest)?;
        let manifest_digest = self.layout.write_document(&manifest_bytes)?;
        self.keep_rootfs(&rootfs::build_key(&config.rootfs.diff_ids)?, built)?;
        let info = self.describe(&manifest_digest, progress)?;
        let notes = ingest::notes(origin, &[]);
        self.name_image(reference, &manifest_digest, manifest_bytes.len() as u64, notes)?;
        Ok(info)
    }

    /// Copies the tar to `file`, decompressed, and returns its digest and size.
    fn copy_layer(
        &self,
        tar: &mut dyn Read,
        file: &mut File,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Sha256, u64), ImageError> {
        let mut tar = BufReader::with_capacity(CHUNK_BYTES, tar);
        let compression = Compression::of_start(tar.fill_buf().map_err(from_read)?);
        let plain = compression.reader(tar, self.limits.window_bytes_max);
        let mut plain = Hashing::new(Guard::new(plain, self.limits.layer_bytes_max));
        let mut meter = Meter::new(Step::Import, None, progress);
        meter.copy(&mut plain, file, &self.layout.tmp())?;
        meter.done();
        let (digest, size, _) = plain.finish();
        Ok((digest, size))
    }
}

fn reopen(file: &tempfile::NamedTempFile) -> Result<File, ImageError> {
    let mut again = file.reopen().map_err(|error| ImageError::io("open", file.path(), &error))?;
    again.rewind().map_err(|error| ImageError::io("rewind", file.path(), &error))?;
    Ok(again)
}

fn config_of(diff_id: Sha256, options: &ImportOptions) -> Config {
    let pairs = options.environment.iter().map(|(name, value)| format!("{name}={value}"));
    Config {
        architecture: document::architecture().to_owned(),
        os: "linux".to_owned(),
        config: Execution {
            entrypoint: Some(options.entrypoint.clone()),
            cmd: Some(options.command.clone()),
            env: Some(pairs.collect()),
            working_dir: Some(options.working_dir.clone()),
            user: Some(format!("{}:{}", options.user.uid, options.user.gid)),
        },
        rootfs: Rootfs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
    }
}
