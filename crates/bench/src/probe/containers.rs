//! Two containers: as services of Docker Compose, and as bundles of runc, each with what it does by default.
//!
//! Neither sets limits by default. So that attacks that take all of something end there and not with the machine, both
//! containers are in one control group, in place of a small machine.

use std::cell::Cell;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use casemate_probe::attack::Attack;
use casemate_probe::target::{Guard, Side, Streams, Target, TargetError};
use casemate_sys::cgroup::{self, Group, GroupLimits};
use serde_json::{Value, json};

use super::tree::{PROGRAM, SECRET, SECRET_PATH, Tree};
use super::{BY_THE_TARGET, file_in};
use crate::compartments::docker::{Docker, Published, bounded_output};
use crate::compartments::peers::Runtime;
use crate::compartments::{Outcome, Setup};

/// The small machine that both containers are on.
const MEMORY_BYTES_MAX: u64 = 128 << 20;
const PIDS_MAX: u32 = 400;
/// Name of the image.
const IMAGE: &str = "casemate-bench-probe";
const PROJECT: &str = "casemate-bench-probe";

const fn name_of(side: Side) -> &'static str {
    match side {
        Side::Victim => "victim",
        Side::Attacker => "attacker",
    }
}

/// One control group for both. Dropping it removes it in all hierarchies.
struct SmallMachine {
    name: String,
    group: Group,
}

impl SmallMachine {
    fn new(kind: &str) -> Outcome<Self> {
        let name = format!("bench-probe-{kind}-{}", std::process::id());
        let limits = GroupLimits {
            memory_bytes: MEMORY_BYTES_MAX,
            pids: PIDS_MAX,
            memory_reserved_bytes: None,
            cpu_milli: None,
            cpu_shares: 1024,
        };
        let group = Group::create(&name, "both", limits)?;
        Ok(Self { name, group })
    }

    /// As runtimes name it.
    fn path(&self) -> String {
        format!("/casemate/{}/both", self.name)
    }
}

impl Drop for SmallMachine {
    fn drop(&mut self) {
        let _ = self.group.remove();
        let _ = cgroup::remove_box(&self.name);
        // Runtimes made it where it has no limits, too.
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            for path in [self.path(), format!("/casemate/{}", self.name), "/casemate".to_owned()] {
                let _ = fs::remove_dir(hierarchy.path().join(path.trim_start_matches('/')));
            }
        }
    }
}

/// A container that runs: dropping it ends its client, and then it.
struct Container {
    client: Child,
    remove: Command,
}

impl Container {
    fn start(mut run: Command, remove: Command) -> Result<Streams, TargetError> {
        let failed = |error: std::io::Error| TargetError::Start(format!("container: {error}"));
        run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut container = Self { client: run.spawn().map_err(failed)?, remove };
        let pipes = container.client.stdin.take().zip(container.client.stdout.take());
        let (input, output) = pipes.ok_or_else(|| TargetError::Start("container: it has no pipes".into()))?;
        let guard = Box::new(container);
        Ok(Streams { input: OwnedFd::from(input), output: OwnedFd::from(output), guard })
    }
}

impl Guard for Container {}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
        let quiet = self.remove.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = quiet.status();
    }
}

/// Two services of one Compose file, from one image, on the network that all services get.
pub(super) struct DockerPair {
    // Dropped in this order: containers have ended before.
    docker: Docker,
    _machine: SmallMachine,
    compose: Option<PathBuf>,
    file: PathBuf,
    secret: PathBuf,
    cgroup: String,
    made: Cell<u32>,
}

impl DockerPair {
    pub(super) fn start(setup: &Setup, tree: &Tree) -> Outcome<Self> {
        let machine = SmallMachine::new("docker")?;
        let docker = Docker::start(&setup.work, Published::ByProxy)?;
        docker.import(&tree.root, IMAGE)?;
        let secret = file_in(&tree.dir, "docker-secret", SECRET)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o400))?;
        let cgroup = machine.path();
        let service = |side: Side, more: &str| {
            let name = name_of(side);
            format!(
                "  {name}:\n    image: {IMAGE}\n    command: [{PROGRAM}]\n    cgroup_parent: {cgroup}\n{more}"
            )
        };
        let both = service(Side::Victim, "    secrets: [peer]\n") + &service(Side::Attacker, "");
        let text = format!("services:\n{both}secrets:\n  peer:\n    file: {}\n", secret.display());
        let file = file_in(&tree.dir, "docker-compose.yaml", &text)?;
        let mut pair =
            Self { docker, _machine: machine, compose: None, file, secret, cgroup, made: Cell::new(0) };
        let compose = setup.work.join("../docker-compose/docker-compose");
        let said = tree.dir.join("compose-said");
        // A Compose that the daemon does not understand makes nothing here.
        match bounded_output(&mut pair.composed(&compose, &["create"]), &said) {
            Ok(_) => pair.compose = Some(compose),
            Err(problem) => println!("docker: by `docker run`, not by Compose: {problem}"),
        }
        Ok(pair)
    }

    fn composed(&self, compose: &Path, words: &[&str]) -> Command {
        let file = self.file.display().to_string();
        self.docker.tool(compose, &[&["-p", PROJECT, "-f", &file], words].concat())
    }

    fn run(&self, side: Side, name: &str) -> Command {
        if let Some(compose) = &self.compose {
            return self.composed(compose, &["run", "--rm", "-T", "--name", name, name_of(side)]);
        }
        let secret = format!("{}:{SECRET_PATH}:ro", self.secret.display());
        let mut words = vec!["run", "--rm", "-i", "--name", name, "--cgroup-parent", &self.cgroup];
        if side == Side::Victim {
            words.extend(["-v", &secret]);
        }
        self.docker.client(&[&words[..], &[IMAGE, PROGRAM]].concat())
    }
}

impl Drop for DockerPair {
    fn drop(&mut self) {
        if let Some(compose) = self.compose.clone() {
            let said = self.file.with_extension("said");
            let _ = bounded_output(&mut self.composed(&compose, &["down", "-t", "0"]), &said);
        }
    }
}

impl Target for DockerPair {
    fn name(&self) -> String {
        match self.compose {
            Some(_) => "two services of Docker Compose, with its defaults".into(),
            None => "two containers of Docker, with its defaults".into(),
        }
    }

    fn start(&self, side: Side) -> Result<Streams, TargetError> {
        self.made.set(self.made.get().saturating_add(1));
        // Not one that Compose gives by itself.
        let name = format!("probe-{}-{}", name_of(side), self.made.get());
        Container::start(self.run(side, &name), self.docker.client(&["rm", "-f", &name]))
    }

    fn stops(&self, _: &Attack, _: &'static str) -> Option<String> {
        Some(BY_THE_TARGET.to_owned())
    }

    fn box_socket(&self) -> Option<String> {
        Some(self.docker.socket().display().to_string())
    }

    fn secret(&self) -> Option<(String, String)> {
        Some((SECRET_PATH.to_owned(), SECRET.to_owned()))
    }
}

/// Two bundles as `runc spec` writes them, on one root file system.
pub(super) struct RuncPair {
    runtime: Runtime,
    dir: PathBuf,
    made: Cell<u32>,
    _machine: SmallMachine,
}

impl RuncPair {
    pub(super) fn new(tree: &Tree) -> Outcome<Self> {
        let runtime = Runtime::runc()?;
        let machine = SmallMachine::new("runc")?;
        let secret = file_in(&tree.dir, "runc-secret", SECRET)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o400))?;
        for side in [Side::Victim, Side::Attacker] {
            let bundle = tree.dir.join(name_of(side));
            fs::create_dir_all(&bundle)?;
            let mut spec = Command::new(runtime.program());
            bounded_output(spec.arg("spec").arg("--bundle").arg(&bundle), &tree.dir.join("runc-said"))?;
            let file = bundle.join("config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
            let cgroup = format!("{}/{}", machine.path(), name_of(side));
            set(&mut config, "/process", "terminal", json!(false))?;
            set(&mut config, "/process", "args", json!([PROGRAM]))?;
            set(&mut config, "/root", "path", json!(tree.root))?;
            set(&mut config, "/linux", "cgroupsPath", json!(cgroup))?;
            let mounts = config.get_mut("mounts").and_then(Value::as_array_mut);
            if let (Side::Victim, Some(mounts)) = (side, mounts) {
                mounts.push(json!({
                    "destination": SECRET_PATH, "type": "bind", "source": secret, "options": ["bind", "ro"],
                }));
            }
            fs::write(&file, serde_json::to_vec(&config)?)?;
        }
        Ok(Self { runtime, dir: tree.dir.clone(), made: Cell::new(0), _machine: machine })
    }
}

/// Sets a key of the object at `place` (RFC 6901).
fn set(config: &mut Value, place: &str, key: &str, value: Value) -> Outcome<()> {
    let object = config.pointer_mut(place).and_then(Value::as_object_mut);
    let object = object.ok_or_else(|| format!("runc's specification has no object {place}"))?;
    object.insert(key.to_owned(), value);
    Ok(())
}

impl Target for RuncPair {
    fn name(&self) -> String {
        "two bundles as `runc spec` writes them, on one root file system".into()
    }

    fn start(&self, side: Side) -> Result<Streams, TargetError> {
        self.made.set(self.made.get().saturating_add(1));
        let id = format!("{PROJECT}-{}-{}-{}", name_of(side), std::process::id(), self.made.get());
        let state = self.dir.join("runc-state");
        let run = self.runtime.run(&state, &self.dir.join(name_of(side)), &id);
        Container::start(run, self.runtime.delete(&state, &id))
    }

    fn stops(&self, _: &Attack, _: &'static str) -> Option<String> {
        Some(BY_THE_TARGET.to_owned())
    }

    fn secret(&self) -> Option<(String, String)> {
        Some((SECRET_PATH.to_owned(), SECRET.to_owned()))
    }
}
