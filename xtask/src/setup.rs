//! `cargo xtask setup`: Debian packages, a Docker Compose to compare with, and gVisor. Says what it installs; safe to repeat.

use std::process::Command;
use std::time::Duration;

use crate::{docker_compose, gvisor, process};

/// Package and why it is needed.
const PACKAGES: [(&str, &str); 24] = [
    ("erofs-utils", "mkfs.erofs builds the read-only root file systems of agents"),
    ("e2fsprogs", "mke2fs makes the file systems of volumes that have a size"),
    ("busybox-static", "the small root file system of tests and measurements"),
    ("iproute2", "tests of the gateway make network namespaces"),
    ("bubblewrap", "the measure that `bench launch` compares with"),
    ("runc", "likewise"),
    ("docker-registry", "the registry that images are pulled from in tests"),
    ("skopeo", "puts images there, copies them into every form, and is the measure of what comes back"),
    ("umoci", "makes images for tests, and unpacks them to compare with"),
    ("buildah", "likewise makes images"),
    ("python3", "docs/recompute.py, which recomputes locks in tests and demo"),
    ("python3-pip-whl", "what tests install inside a compartment, with pip"),
    ("python3-setuptools-whl", "likewise"),
    ("nodejs", "a program that tests run inside a compartment"),
    ("sqlite3", "likewise"),
    ("git", "likewise"),
    ("curl", "likewise; outside it calls an HTTP/2 server and checks its certificate"),
    ("swtpm", "the TPM whose quotes a system test verifies"),
    ("tpm2-tools", "makes that TPM's keys and quotes"),
    ("postgresql", "the server that a test asks through the gateway, and its client"),
    ("nghttp2-server", "the HTTP/2 server that tests call through the gateway, with and without TLS"),
    ("nghttp2-client", "HTTP/2 streams both ways at once, and many over one connection"),
    ("openssl", "makes that certificate"),
    ("chromium-headless-shell", "opens the page of `casemate posture` in a test"),
];

/// Time that installing may take.
const INSTALL_BOUND: Duration = Duration::from_secs(900);
/// Time that a look may take.
const LOOK_BOUND: Duration = Duration::from_secs(30);

/// Installs what is missing.
pub(crate) fn run() -> Result<(), String> {
    install(&PACKAGES)
}

/// Likewise, and gets what only tests need.
pub(crate) fn run_for_tests() -> Result<(), String> {
    run()?;
    docker_compose::setup();
    gvisor::setup()
}

/// Installs what is missing of these.
pub(crate) fn install(packages: &[(&str, &str)]) -> Result<(), String> {
    let mut missing = Vec::new();
    for (package, why) in packages {
        if !is_installed(package)? {
            println!("setup: will install {package}: {why}");
            missing.push(*package);
        }
    }
    if missing.is_empty() {
        println!("setup: all packages are there");
        return Ok(());
    }
    if !is_root()? {
        return Err(format!(
            "packages are missing; run as root, or run: apt-get install {}",
            missing.join(" ")
        ));
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        process::run(&mut command, INSTALL_BOUND)
    };
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&missing);
    if apt(&install).is_err() {
        // The package lists may be old or absent.
        apt(&["update", "-q"])?;
        apt(&install)?;
    }
    Ok(())
}

/// Whether this process is root.
pub(crate) fn is_root() -> Result<bool, String> {
    let output = process::capture(Command::new("id").arg("-u"), LOOK_BOUND)?;
    Ok(output.stdout.trim() == "0")
}

fn is_installed(package: &str) -> Result<bool, String> {
    let mut command = Command::new("dpkg-query");
    command.args(["-W", "-f", "${db:Status-Status}", package]);
    let output = process::capture(&mut command, LOOK_BOUND)
        .map_err(|error| format!("{error}; this task knows Debian 12 only: install {package} by hand"))?;
    Ok(output.stdout == "installed")
}
