//! `cargo xtask bench`: measurements.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{capture, cargo, root, run as run_command, target_dir};
use crate::{bench_compartments, bench_probe, demo_image, dist, setup};

/// Time for building and for one run.
const BOUND: Duration = Duration::from_secs(900);
/// Time that a look may take.
const LOOK_BOUND: Duration = Duration::from_secs(30);
/// What `sev` needs for its faster way of computing.
const OPENSSL: [(&str, &str); 2] = [
    ("pkg-config", "finds OpenSSL for `sev`, a measure that `bench verify` compares with"),
    ("libssl-dev", "OpenSSL for it"),
];

/// Runs a measurement.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    match args {
        ["launch"] => launch(),
        ["verify"] => verify(),
        ["roots"] => roots(),
        ["images"] => images(),
        ["compartments", words @ ..] => bench_compartments::run(words),
        ["probe", words @ ..] => bench_probe::run(words),
        ["abuse", names @ ..] => abuse(names),
        _ => {
            Err("the measurements are `cargo xtask bench` with launch, compartments, probe, abuse, verify, roots or images"
                .into())
        }
    }
}

fn launch() -> Result<(), String> {
    setup::run()?;
    let launcher = dist::launcher(dist::Profile::Release)?;
    build(&[])?;
    run_command(Command::new(program("casemate-bench")).arg("launch").arg(launcher), BOUND)
}

/// With OpenSSL where it is or can be installed, because `sev` is faster with it.
fn verify() -> Result<(), String> {
    if !has_openssl()
        && let Err(problem) = setup::install(&OPENSSL)
    {
        println!("bench: `sev` is measured without OpenSSL, and so slower than it can be: {problem}");
    }
    build(if has_openssl() { &["--no-default-features", "--features", "sev-openssl"] } else { &[] })?;
    run_command(Command::new(program("casemate-bench")).arg("verify"), BOUND)?;
    run_command(&mut Command::new(program("casemate-bench-memory")), BOUND)
}

/// Two agents with one image, in every way to give it to both.
fn roots() -> Result<(), String> {
    setup::run()?;
    let tar = rootfs_tar()?;
    build(&[])?;
    // Mounts end with the namespace, whatever happens.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(program("casemate-bench"));
    run_command(command.arg("roots").arg(tar), BOUND)
}

/// An agent beside others that take all they can get, with the programs of the tests.
fn abuse(names: &[&str]) -> Result<(), String> {
    setup::run()?;
    let bin = dist::run()?;
    run_command(
        cargo(&["build", "--quiet", "--release", "--package", "casemate-systemtest"])
            .args(["--bin", "systemtest-agent"]),
        BOUND,
    )?;
    build(&[])?;
    let mut command = Command::new(program("casemate-bench"));
    run_command(command.arg("abuse").arg(bin).arg(program("systemtest-agent")).args(names), BOUND)
}

/// An image of some 300 MB: Python, the compiler's own files and the headers, three layers with gzip.
fn images() -> Result<(), String> {
    setup::run()?;
    let tar = rootfs_tar()?;
    build(&[])?;
    let layout = target_dir().join("bench/layout");
    if !layout.join("complete").is_file() {
        make_layout(&layout, &tar)?;
    }
    run_command(Command::new(program("casemate-bench")).arg("images").arg(layout), BOUND)
}

fn make_layout(layout: &Path, rootfs: &Path) -> Result<(), String> {
    let _ = std::fs::remove_dir_all(layout);
    let parent = layout.parent().unwrap_or(layout);
    std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let image = format!("{}:bench", layout.display());
    let umoci = |args: &[&str]| run_command(Command::new("umoci").args(args), BOUND);
    umoci(&["init", "--layout", &layout.display().to_string()])?;
    umoci(&["new", "--image", &image])?;
    umoci(&["raw", "add-layer", "--image", &image, &rootfs.display().to_string()])?;
    for folder in ["usr/lib/gcc", "usr/include"] {
        let tar = parent.join("layer.tar");
        let mut command = Command::new("tar");
        command.args(["--sort=name", "--mtime=@0", "--numeric-owner", "--format=gnu", "-C", "/", "-cf"]);
        run_command(command.arg(&tar).arg(folder), BOUND)?;
        umoci(&["raw", "add-layer", "--image", &image, &tar.display().to_string()])?;
        std::fs::remove_file(&tar).map_err(|error| format!("{}: {error}", tar.display()))?;
    }
    let complete = layout.join("complete");
    std::fs::write(&complete, "").map_err(|error| format!("{}: {error}", complete.display()))
}

fn rootfs_tar() -> Result<PathBuf, String> {
    let tar = target_dir().join("demo/rootfs.tar");
    std::fs::create_dir_all(target_dir().join("demo"))
        .map_err(|error| format!("{}: {error}", tar.display()))?;
    demo_image::build_rootfs_tar(&tar, &root().join("examples/research-desk/agents"))?;
    Ok(tar)
}

fn build(features: &[&str]) -> Result<(), String> {
    let mut command = cargo(&["build", "--quiet", "--release", "--package", "casemate-bench"]);
    run_command(command.args(features), BOUND)
}

fn program(name: &str) -> std::path::PathBuf {
    target_dir().join("release").join(name)
}

fn has_openssl() -> bool {
    let looked = capture(Command::new("pkg-config").args(["--exists", "openssl"]), LOOK_BOUND);
    looked.is_ok_and(|output| output.status.success())
}
