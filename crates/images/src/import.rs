//! A tar of a root file system becomes an image.
//!
//! The one layer is stored uncompressed: it is local, so there is nothing to transfer; digest and
//! diff-id are one hash; a start does not decompress; and no small file can become a large one.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};

use casemate_canon::Sha256;
use casemate_composition::lock::User;

use crate::compression::Compression;
use crate::document::{self, Config, Execution, MEDIA_CONFIG, MEDIA_LAYER_TAR, Rootfs};
use crate::error::ImageError;
use crate::hash::CHUNK_BYTES;
use crate::progress::{Meter, Progress, Step};
use crate::reference::parse_reference;
use crate::store::{ImageInfo, Store};
use crate::tar_entry::from_read;

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
        parse_reference(reference)?;
        let mut ingest = self.ingest(origin)?;
        let mut tar = BufReader::with_capacity(CHUNK_BYTES, tar);
        let compression = Compression::of_start(tar.fill_buf().map_err(from_read)?);
        let mut plain = compression.reader(tar, self.limits.window_bytes_max);
        let mut meter = Meter::new(Step::Import, None, progress);
        let layer = ingest.add(&mut plain, MEDIA_LAYER_TAR, &mut meter)?;
        meter.done();
        drop(plain);
        let config = document::to_bytes("image configuration", &config_of(layer.digest, options))?;
        let config = ingest.add(&mut &config[..], MEDIA_CONFIG, &mut Meter::silent())?;
        let manifest = document::to_bytes("image manifest", &document::manifest_of(config, vec![layer]))?;
        let digest = Sha256::of(&manifest);
        ingest.document(&digest, &manifest)?;
        ingest.finish(reference, &digest, progress)
    }
}

fn config_of(diff_id: Sha256, options: &ImportOptions) -> Config {
    let pairs = options.environment.iter().map(|(name, value)| format!("{name}={value}"));
    Config {
        architecture: document::architecture().to_owned(),
        os: "linux".to_owned(),
        variant: None,
        created: None,
        config: Execution {
            entrypoint: Some(options.entrypoint.clone()),
            cmd: Some(options.command.clone()),
            env: Some(pairs.collect()),
            working_dir: Some(options.working_dir.clone()),
            user: Some(format!("{}:{}", options.user.uid, options.user.gid)),
            labels: None,
        },
        rootfs: Rootfs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
    }
}
