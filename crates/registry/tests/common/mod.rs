//! Shared by the tests: a small image, a store to pull into, and a server that answers as a test says.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod server;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use casemate_canon::Sha256;
use casemate_images::{ImageInfo, Store};
use casemate_registry::{Client, Event, Limits, Reference, RegistryError, Settings};
use serde_json::{Value, json};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image in parts.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
}

impl Image {
    /// With one layer of one file that holds `content`.
    pub(crate) fn new(architecture: &str, content: &[u8]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, "content", content).unwrap();
        let layer = tar.into_inner().unwrap();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Entrypoint": ["/content"]},
            "rootfs": {"type": "layers", "diff_ids": [Sha256::of(&layer)]},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config), "layers": [descriptor(LAYER, &layer)],
        });
        Self { manifest: serde_json::to_vec(&manifest).unwrap(), config, layer }
    }

    pub(crate) fn digest(&self) -> Sha256 {
        Sha256::of(&self.manifest)
    }

    /// The blob that a path ends in.
    pub(crate) fn blob(&self, target: &str) -> Option<&[u8]> {
        let target = target.split('?').next().unwrap_or_default();
        [&self.config, &self.layer]
            .into_iter()
            .find(|blob| target.ends_with(&Sha256::of(blob).to_string()))
            .map(Vec::as_slice)
    }

    pub(crate) fn layer_path(&self) -> String {
        format!("blobs/{}", Sha256::of(&self.layer))
    }
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Sha256::of(bytes), "size": bytes.len()})
}

/// An index over an image of this machine and one of another.
pub(crate) fn index_of(own: &Image, other: &Image) -> Vec<u8> {
    let entry = |image: &Image, architecture: &str| {
        let mut entry = descriptor(MANIFEST, &image.manifest);
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        entry
    };
    let (own_name, other_name) = architectures();
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [entry(other, other_name), entry(own, own_name)],
    });
    serde_json::to_vec(&index).unwrap()
}

/// This machine's architecture, and another.
pub(crate) fn architectures() -> (&'static str, &'static str) {
    if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") }
}

pub(crate) fn own_image(content: &[u8]) -> Image {
    Image::new(architectures().0, content)
}

/// A store that goes away.
pub(crate) struct TestStore {
    dir: tempfile::TempDir,
    pub(crate) store: Store,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap();
        Self { dir, store }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    /// Everything in the store but its own marks.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = files_below(&self.path());
        files.retain(|file| !["oci-layout", "use.lock", "index.lock"].contains(&file.as_str()));
        files
    }

    pub(crate) fn read_blob(&self, digest: &Sha256) -> Vec<u8> {
        std::fs::read(self.path().join("blobs/sha256").join(digest.to_hex())).unwrap()
    }
}

pub(crate) fn files_below(dir: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                out.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut out = Vec::new();
    walk(dir, dir, &mut out);
    out.sort();
    out
}

/// Limits short enough for tests.
pub(crate) const QUICK: Limits = Limits {
    attempts_max: 3,
    connect_ms_max: 2_000,
    head_ms_max: 500,
    stall_ms_max: 300,
    retry_ms_min: 10,
    retry_ms_max: 1_000,
    ..Limits::STANDARD
};

pub(crate) fn settings() -> Settings {
    Settings { limits: QUICK, ..Settings::plain() }
}

/// Pulls and collects what happened on the way.
pub(crate) fn pull(
    store: &Store,
    name: &str,
    settings: Settings,
) -> (Result<ImageInfo, RegistryError>, Vec<Event>) {
    let events = RefCell::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let reference: Reference = name.parse()?;
        let client = Client::new(settings)?;
        client.fetch(store, &reference, &|event| events.borrow_mut().push(event)).await
    });
    let outcome = outcome.and_then(|fetched| Ok(fetched.finish(name, &mut |_| {})?));
    (outcome, events.into_inner())
}

/// The error of a pull that must fail, after a look that it left nothing.
pub(crate) fn refused(name: &str, settings: Settings) -> RegistryError {
    let store = TestStore::new();
    let error = pull(&store.store, name, settings).0.expect_err("the pull must fail");
    assert_eq!(store.files(), [""; 0], "a failed pull leaves nothing");
    error
}

/// Docker's `config.json` with one entry.
pub(crate) fn docker_config(dir: &Path, registry: &str, entry: Value) -> casemate_registry::DockerConfig {
    let path = dir.join("config.json");
    let auths = BTreeMap::from([(registry, entry)]);
    std::fs::write(&path, json!({"auths": auths}).to_string()).unwrap();
    casemate_registry::DockerConfig::load(&path).unwrap()
}

/// A certificate for a host, as a server has it and as an authority in PEM.
pub(crate) fn certificate(host: &str) -> (Arc<rustls::ServerConfig>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), made.cert.pem().into_bytes())
}
