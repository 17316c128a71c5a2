//! One service: each key that has an effect, read by its own function.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::compose::PullPolicy;
use crate::host::HostName;
use crate::interpolate::looks_secret;
use crate::keys;
use crate::lock::{AgentName, Dependency, Health, Hook, Mount, Port, Restart, User};
use crate::problem::{At, Findings, Place, printable};
use crate::yaml::{Member, Node, Value};

use super::hooks;
use super::limits::{self, WrittenLimits};
use super::logging;
use super::mounts::{self, ConfigUse, SecretUse};
use super::ports;
use super::reach::{self, Extension};
use super::read::{self, walk};
use super::replicas;
use super::run;

/// Longest image reference in bytes.
const IMAGE_BYTES_MAX: usize = 512;
/// Most variables of one agent.
const VARIABLES_MAX: usize = 1024;

/// A service as written.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) place: Place,
    pub(crate) image: Option<At<String>>,
    pub(crate) pull_policy: Option<PullPolicy>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) environment: BTreeMap<String, At<String>>,
    pub(crate) working_dir: Option<String>,
    pub(crate) user: Option<User>,
    pub(crate) groups: BTreeSet<u32>,
    pub(crate) hostname: Option<At<String>>,
    pub(crate) mounts: Vec<At<Mount>>,
    pub(crate) configs: Vec<At<ConfigUse>>,
    pub(crate) secrets: Vec<At<SecretUse>>,
    pub(crate) limits: WrittenLimits,
    pub(crate) expose: BTreeSet<u16>,
    pub(crate) ports: Vec<At<Port>>,
    pub(crate) extension: Extension,
    /// Further names by which its callers may call it.
    pub(crate) aliases: BTreeMap<AgentName, Place>,
    pub(crate) extra_hosts: BTreeMap<HostName, At<IpAddr>>,
    pub(crate) restart: Option<At<Restart>>,
    pub(crate) health: Option<Health>,
    pub(crate) depends_on: BTreeMap<AgentName, At<Dependency>>,
    pub(crate) stop_signal: Option<i32>,
    pub(crate) stop_grace_ms: Option<u64>,
    pub(crate) stdin_open: bool,
    pub(crate) tty: bool,
    pub(crate) post_start: Vec<Hook>,
    pub(crate) pre_stop: Vec<Hook>,
    pub(crate) log: logging::WrittenLog,
    /// How many agents run it, where that is said.
    pub(crate) replicas: Option<At<u32>>,
    /// Where `container_name` stands.
    pub(crate) container_name: Option<Place>,
}

impl Service {
    fn empty(place: Place) -> Self {
        Self {
            place,
            image: None,
            pull_policy: None,
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            working_dir: None,
            user: None,
            groups: BTreeSet::new(),
            hostname: None,
            mounts: Vec::new(),
            configs: Vec::new(),
            secrets: Vec::new(),
            limits: WrittenLimits::default(),
            expose: BTreeSet::new(),
            ports: Vec::new(),
            extension: Extension::default(),
            aliases: BTreeMap::new(),
            extra_hosts: BTreeMap::new(),
            restart: None,
            health: None,
            depends_on: BTreeMap::new(),
            stop_signal: None,
            stop_grace_ms: None,
            stdin_open: false,
            tty: false,
            post_start: Vec::new(),
            pre_stop: Vec::new(),
            log: logging::WrittenLog::default(),
            replicas: None,
            container_name: None,
        }
    }

    /// The volumes that it mounts, by their keys at the top level.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = &AgentName> {
        self.mounts.iter().filter_map(|mount| match &mount.value {
            Mount::Volume { name, .. } => Some(name),
            _ => None,
        })
    }

    /// How many agents run it.
    pub(crate) fn replicas(&self) -> u32 {
        self.replicas.as_ref().map_or(1, |at| at.value)
    }
}

/// The service that `member` of `services` describes.
pub(crate) fn service(
    member: &Member,
    variables: &BTreeMap<String, String>,
    f: &mut Findings<'_>,
) -> Service {
    let mut service = Service::empty(member.key_place);
    walk(&keys::SERVICE, &member.node, f, |f, key, member| {
        if !files(&mut service, key, member, f) && !running(&mut service, key, member, variables, f) {
            // The table promises what no reader keeps: our mistake, and still never silent.
            f.problem(member.key_place, format!("`{key}` is not supported"), "report this as a bug");
        }
    });
    limits::cross_check(&mut service.limits, f);
    mounts::cross_check(&service.configs, &service.mounts, f);
    let names_image = match &member.node.value {
        // `build` has its own problem, which says the same.
        Value::Map(members) => members.iter().any(|member| matches!(member.key.as_str(), "image" | "build")),
        _ => true,
    };
    if !names_image {
        let what = format!("service `{}` has no image", printable(&member.key));
        f.problem(member.key_place, what, "write image: name:tag");
    }
    for host in service.extra_hosts.keys() {
        if !service.extension.egress.iter().any(|egress| egress.value.0 == *host) {
            let place = service.extra_hosts.get(host).map_or(member.key_place, |address| address.place);
            let what = format!("`extra_hosts` names `{host}`, which this service may not reach");
            f.warning(place, what, format!("add \"{host}:443\" to `x-casemate: egress`, or remove it"));
        }
    }
    service
}

/// Image, file system and reach. Whether `key` was one of these.
fn files(service: &mut Service, key: &str, member: &Member, f: &mut Findings<'_>) -> bool {
    let node = &member.node;
    match key {
        "image" => service.image = image(member, f),
        "pull_policy" => service.pull_policy = pull_policy(node, f),
        "tmpfs" => mounts::tmpfs(node, &mut service.mounts, f),
        "volumes" => mounts::volumes(node, &mut service.mounts, f),
        "secrets" => service.secrets = mounts::secrets(node, f),
        "expose" => service.expose = reach::expose(node, f),
        "ports" => service.ports = ports::ports(node, f),
        "extra_hosts" => service.extra_hosts = reach::extra_hosts(node, f),
        "x-casemate" => service.extension = reach::extension(node, f),
        "networks" => reach::networks(node, &mut service.aliases, f),
        "container_name" => {
            service.container_name = Some(node.place);
            container_name(node, &mut service.aliases, f);
        }
        "configs" => service.configs = mounts::configs(node, f),
        "read_only" => {
            if read::truth(node, key, f) == Some(false) {
                let what = "`read_only: false` is refused: a writable root would not be what was measured";
                f.problem(node.place, what, "mount a tmpfs or a volume where the program writes");
            }
        }
        "cap_drop" => drop(read::texts(node, key, f)),
        "security_opt" => security_opt(member, f),
        _ => return false,
    }
    true
}

/// How it runs. Whether `key` was one of these.
fn running(
    service: &mut Service,
    key: &str,
    member: &Member,
    variables: &BTreeMap<String, String>,
    f: &mut Findings<'_>,
) -> bool {
    let node = &member.node;
    match key {
        "command" => service.command = run::command(node, key, f),
        "entrypoint" => service.entrypoint = run::command(node, key, f),
        "environment" => service.environment = environment(member, variables, f),
        "working_dir" => {
            let read = read::parsed(node, key, "an absolute path", f, read::absolute_path);
            service.working_dir = read.map(|at| at.value);
        }
        "user" => service.user = run::user(node, f),
        "hostname" => service.hostname = run::hostname(node, f),
        "group_add" => service.groups = run::groups(node, f),
        "deploy" => limits::deploy(node, service, f),
        "scale" => replicas::count(node, key, &mut service.replicas, f),
        "healthcheck" => service.health = run::health(node, f),
        "restart" => {
            let read = run::restart(node, f);
            run::set_restart(&mut service.restart, read, f);
        }
        "depends_on" => service.depends_on = run::depends_on(node, f),
        "stop_signal" => service.stop_signal = run::stop_signal(node, f),
        "stop_grace_period" => service.stop_grace_ms = run::stop_grace(node, f),
        "init" => drop(read::truth(node, key, f)),
        "platform" => platform(node, f),
        "logging" => service.log = logging::logging(node, f),
        "stdin_open" => service.stdin_open = read::truth(node, key, f).unwrap_or(false),
        "tty" => service.tty = read::truth(node, key, f) == Some(true),
        "post_start" => service.post_start = hooks::hooks(node, key, variables, f),
        "pre_stop" => service.pre_stop = hooks::hooks(node, key, variables, f),
        _ => return limits::limit(key, node, &mut service.limits, f),
    }
    true
}

/// `container_name`: peers call a container by it, so it is one more name.
fn container_name(node: &Node, aliases: &mut BTreeMap<AgentName, Place>, f: &mut Findings<'_>) {
    let Some(name) = read::text(node, "container_name", f) else { return };
    match name.parse() {
        Ok(name) => drop(aliases.insert(name, node.place)),
        Err(_) => {
            let what =
                format!("`container_name` `{}` has no effect: it is no host name here", printable(&name));
            f.warning(node.place, what, "write 1 to 63 of a-z, 0-9, `-` and `_`, or remove it");
        }
    }
}

fn platform(node: &Node, f: &mut Findings<'_>) {
    let wanted = "linux/amd64: other processors are not supported yet";
    let read = read::parsed(node, "platform", wanted, f, |text| match text {
        "linux/amd64" | "linux/amd64/v1" | "linux/x86_64" => Some(false),
        "linux/amd64/v2" | "linux/amd64/v3" | "linux/amd64/v4" => Some(true),
        _ => None,
    });
    if read.is_some_and(|variant| variant.value) {
        let what = "variant of `platform` is not checked against the processor of the box";
        f.warning(node.place, what, "write linux/amd64, or see that the box has such a processor");
    }
}

fn pull_policy(node: &Node, f: &mut Findings<'_>) -> Option<PullPolicy> {
    let wanted = "missing, if_not_present, never or always: an agent runs what the lock names by digest";
    let read = read::parsed(node, "pull_policy", wanted, f, |text| match text {
        "missing" | "if_not_present" => Some(PullPolicy::Missing),
        "never" => Some(PullPolicy::Never),
        "always" => Some(PullPolicy::Always),
        _ => None,
    })?;
    if read.value == PullPolicy::Always {
        let what = "`pull_policy: always` has no effect: `up` runs the image that the lock names by digest";
        f.warning(
            node.place,
            what,
            "pull the newer image with `casemate image pull`, or give `--pull always`",
        );
    }
    Some(read.value)
}

fn image(member: &Member, f: &mut Findings<'_>) -> Option<At<String>> {
    let value = read::text(&member.node, "image", f)?;
    let place = member.node.place;
    if value.is_empty() || value.len() > IMAGE_BYTES_MAX || !value.bytes().all(|b| b.is_ascii_graphic()) {
        f.problem(
            place,
            format!("`image` is `{}`", printable(&value)),
            "write name:tag or name@sha256:digest",
        );
        return None;
    }
    Some(At { place, value })
}

fn environment(
    member: &Member,
    variables: &BTreeMap<String, String>,
    f: &mut Findings<'_>,
) -> BTreeMap<String, At<String>> {
    let pairs = read::pairs(&member.node, "environment", variables, f);
    if pairs.len() > VARIABLES_MAX {
        f.problem(member.key_place, format!("more than {VARIABLES_MAX} variables"), "use fewer");
    }
    for (name, value) in &pairs {
        if looks_secret(name) && !value.value.is_empty() {
            let what =
                format!("variable `{}` looks like a secret, and the lock holds it in clear", printable(name));
            f.warning(value.place, what, "use `secrets:` and read the file below /run/secrets");
        }
    }
    pairs
}

fn security_opt(member: &Member, f: &mut Findings<'_>) {
    for option in read::texts(&member.node, "security_opt", f) {
        if !matches!(
            option.value.as_str(),
            "no-new-privileges:true" | "no-new-privileges=true" | "no-new-privileges"
        ) {
            let what =
                format!("`security_opt` `{}` is refused: the rules are the box's", printable(&option.value));
            f.problem(option.place, what, "keep no-new-privileges:true alone");
        }
    }
}
