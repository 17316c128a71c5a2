//! A real registry (Debian's docker-registry) on loopback, with images that skopeo put there.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod common;

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use casemate_canon::Sha256;
use casemate_registry::{CredentialsSent, RegistryError, Settings};
use common::{
    Image, TestStore, architectures, docker_config, files_below, index_of, own_image, pull, refused, settings,
};
use serde_json::json;

/// Longest run of one external command.
const BOUND: Duration = Duration::from_secs(60);
/// `user:sesame`, as `htpasswd -nbBC 5 user sesame` writes it.
const HTPASSWD: &str = "user:$2y$05$XGVk.w3fl8rn86vcTFCyY.9RmLvjVH.1N3M5qfCPANmlsuvfh7XMO\n";

/// A registry that ends with the test.
struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

enum Access {
    Plain,
    /// TLS and a password.
    Guarded,
}

impl Registry {
    fn start(access: &Access) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let port = free_port();
        let mut http = format!("http:\n  addr: 127.0.0.1:{port}\n");
        if matches!(access, Access::Guarded) {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
            std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
            std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
            http.push_str(&format!(
                "  tls:\n    certificate: {}\n    key: {}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                path("cert.pem").display(),
                path("key.pem").display(),
                path("htpasswd").display()
            ));
        }
        let storage = path("storage");
        std::fs::create_dir(&storage).unwrap();
        let config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n{http}",
            storage.display()
        );
        std::fs::write(path("config.yml"), config).unwrap();
        let log = File::create(path("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry starts: `cargo xtask setup` installs it");
        let registry = Self { child, dir, port };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < BOUND, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `skopeo copy`, of whole indexes too. `host` is what the certificate names.
    fn copy(&self, arguments: &[&str]) {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--all", "--quiet", "--preserve-digests"]).args(arguments);
        run(&mut command, &self.path("skopeo.log"));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn pulls_by_tag_and_by_digest_what_skopeo_put_there() {
    let registry = Registry::start(&Access::Plain);
    let image = own_image(&b"content ".repeat(300_000));
    let layout = registry.path("layout");
    write_layout(&layout, &[&image], None);
    let remote = format!("127.0.0.1:{}/team/app", registry.port);
    registry.copy(&[
        "--dest-tls-verify=false",
        &format!("oci:{}", layout.display()),
        &format!("docker://{remote}:1.0"),
    ]);

    for name in [format!("{remote}:1.0"), format!("{remote}@{}", image.digest())] {
        let store = TestStore::new();
        let info = pull(&store.store, &name, settings()).0.unwrap();
        assert_eq!((info.manifest, info.entrypoint), (image.digest(), vec!["/content".to_owned()]));
        for bytes in [&image.manifest, &image.config, &image.layer] {
            assert!(store.read_blob(&Sha256::of(bytes)) == *bytes);
        }
        // The same bytes as skopeo brings back.
        let back = registry.path("back");
        registry.copy(&[
            "--src-tls-verify=false",
            &format!("docker://{remote}:1.0"),
            &format!("oci:{}", back.display()),
        ]);
        for blob in files_below(&back.join("blobs/sha256")) {
            let bytes = std::fs::read(back.join("blobs/sha256").join(&blob)).unwrap();
            assert!(store.read_blob(&Sha256::of(&bytes)) == bytes, "{blob}");
        }
        std::fs::remove_dir_all(back).unwrap();
    }

    let missing = refused(&format!("{remote}:2.0"), settings());
    assert!(matches!(missing, RegistryError::NotFound { .. }), "{missing:?}");
    let missing = refused(&format!("127.0.0.1:{}/team/other:1.0", registry.port), settings());
    assert!(matches!(missing, RegistryError::NotFound { .. }), "{missing:?}");
}

#[test]
fn chooses_this_machines_image_from_an_index() {
    let registry = Registry::start(&Access::Plain);
    let (own, other) = (own_image(b"own"), Image::new(architectures().1, b"other"));
    let index = index_of(&own, &other);
    let layout = registry.path("layout");
    write_layout(&layout, &[&own, &other], Some(&index));
    let remote = format!("127.0.0.1:{}/multi", registry.port);
    registry.copy(&[
        "--dest-tls-verify=false",
        &format!("oci:{}", layout.display()),
        &format!("docker://{remote}:latest"),
    ]);

    for name in [remote.clone(), format!("{remote}@{}", Sha256::of(&index))] {
        let store = TestStore::new();
        let info = pull(&store.store, &name, settings()).0.unwrap();
        assert_eq!(info.manifest, own.digest());
        assert!(store.read_blob(&Sha256::of(&index)) == index, "the index is kept");
        // Both digests mean the image, now without the registry.
        for digest in [Sha256::of(&index), own.digest()] {
            assert_eq!(store.store.info(&digest.to_string()).unwrap(), info);
        }
        assert!(!store.files().iter().any(|file| file.ends_with(&other.digest().to_hex())));
    }
    let error = refused(&format!("{remote}@{}", other.digest()), settings());
    assert!(error.to_string().contains(architectures().1), "{error}");
}

#[test]
fn a_registry_with_tls_and_a_password() {
    let registry = Registry::start(&Access::Guarded);
    let image = own_image(b"guarded");
    let layout = registry.path("layout");
    write_layout(&layout, &[&image], None);
    let remote = format!("localhost:{}/guarded", registry.port);
    registry.copy(&[
        "--dest-tls-verify=false",
        "--dest-creds=user:sesame",
        &format!("oci:{}", layout.display()),
        &format!("docker://{remote}:1"),
    ]);

    let host = format!("localhost:{}", registry.port);
    let name = format!("{remote}:1");
    let authority = std::fs::read(registry.path("cert.pem")).unwrap();
    let with = |auth: Option<&str>| Settings {
        anchors: Some(authority.clone()),
        docker_config: match auth {
            Some(auth) => docker_config(registry.dir.path(), &host, json!({"auth": auth})),
            None => casemate_registry::DockerConfig::none(),
        },
        ..settings()
    };
    let stranger = refused(&name, settings());
    assert!(matches!(&stranger, RegistryError::Tls { host: found, .. } if *found == host), "{stranger:?}");
    let nobody = refused(&name, with(None));
    assert!(matches!(nobody, RegistryError::Denied { credentials: CredentialsSent::None, .. }), "{nobody:?}");
    // `user:wrong`
    let wrong = refused(&name, with(Some("dXNlcjp3cm9uZw==")));
    assert!(matches!(wrong, RegistryError::Denied { credentials: CredentialsSent::Known, .. }), "{wrong:?}");
    // `user:sesame`
    let store = TestStore::new();
    let info = pull(&store.store, &name, with(Some("dXNlcjpzZXNhbWU="))).0.unwrap();
    assert_eq!(info.manifest, image.digest());
    // A name that the certificate does not have.
    let other = refused(&format!("127.0.0.1:{}/guarded:1", registry.port), with(None));
    assert!(matches!(other, RegistryError::Tls { .. }), "{other:?}");
}

/// An OCI layout with these images, named by the index where there is one.
fn write_layout(dir: &Path, images: &[&Image], index: Option<&[u8]>) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let write = |bytes: &[u8]| std::fs::write(blobs.join(Sha256::of(bytes).to_hex()), bytes).unwrap();
    for image in images {
        for bytes in [&image.manifest, &image.config, &image.layer] {
            write(bytes);
        }
    }
    let named = match index {
        Some(index) => {
            write(index);
            common::descriptor(common::INDEX, index)
        }
        None => common::descriptor(common::MANIFEST, &images[0].manifest),
    };
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let top = json!({"schemaVersion": 2, "manifests": [named]});
    std::fs::write(dir.join("index.json"), top.to_string()).unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn run(command: &mut Command, log: &Path) {
    let output = File::create(log).unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .expect("skopeo starts: `cargo xtask setup` installs it");
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > BOUND {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} takes more than {BOUND:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{command:?}: {}", std::fs::read_to_string(log).unwrap());
}
