//! Every key of the Compose specification, and what happens to it here: data, read top to bottom.
//!
//! A key is honoured, refused with a reason and what to write instead, or has no effect and says so. `NotYet`
//! marks keys that the design honours and this version does not: they are refused, never dropped. A test
//! compares the names with the specification's (compose-spec schema, 92 service keys).

/// A key and what happens to it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As written in the file.
    pub name: &'static str,
    /// What happens to it.
    pub disposition: Disposition,
    /// Values that ask for what is so anyway, and are accepted although the key is refused.
    pub harmless: &'static [&'static str],
}

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It does what the Compose specification says.
    Honoured,
    /// It does so within these limits.
    Limited(&'static str),
    /// It would weaken the boundary or has no meaning here.
    Refused {
        /// Why.
        reason: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// It will be honoured and is not yet: refused.
    NotYet(&'static str),
    /// It has no effect, and a warning says so.
    Ignored(&'static str),
    /// It has no effect on what runs, silently.
    NoEffect(&'static str),
}

/// The keys of one mapping.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// The mapping, for messages: `service`.
    pub of: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Whether `x-` keys of others may stand here.
    pub extensions: Extensions,
}

/// What happens to `x-` keys that are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extensions {
    /// They are somebody else's: no effect.
    Allowed,
    /// They are unknown keys like any other.
    Unknown,
}

impl Table {
    /// The key called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn honoured(name: &'static str) -> Key {
    Key { name, disposition: Disposition::Honoured, harmless: &[] }
}

const fn limited(name: &'static str, limits: &'static str) -> Key {
    Key { name, disposition: Disposition::Limited(limits), harmless: &[] }
}

const fn refused(name: &'static str, reason: &'static str, instead: &'static str) -> Key {
    Key { name, disposition: Disposition::Refused { reason, instead }, harmless: &[] }
}

const fn not_yet(name: &'static str, instead: &'static str) -> Key {
    Key { name, disposition: Disposition::NotYet(instead), harmless: &[] }
}

const fn ignored(name: &'static str, reason: &'static str) -> Key {
    Key { name, disposition: Disposition::Ignored(reason), harmless: &[] }
}

const fn no_effect(name: &'static str, reason: &'static str) -> Key {
    Key { name, disposition: Disposition::NoEffect(reason), harmless: &[] }
}

const fn unless(key: Key, harmless: &'static [&'static str]) -> Key {
    Key { harmless, ..key }
}

const FALSE: &[&str] = &["false"];

/// The top level.
pub const TOP: Table = Table {
    of: "file",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("name"),
        honoured("services"),
        limited("volumes", "named volumes with the local driver"),
        limited("secrets", "external secrets only; `name` chooses the broker's name"),
        ignored("version", "the Compose specification dropped it"),
        ignored("networks", "networks join nobody here, only `x-casemate: talks-to` does"),
        not_yet("configs", "put the file into the image, or the text into `environment`"),
        limited("include", "files of the project directory; names are never merged"),
        not_yet("models", "declare the inference service under `x-casemate: egress`"),
        not_yet("x-casemate", "remove it from the top level: only services have it so far"),
    ],
};

/// A service: the 92 keys of the specification, and ours.
pub const SERVICE: Table = Table {
    of: "service",
    extensions: Extensions::Allowed,
    keys: &[
        no_effect("annotations", "described to people, seen by no program of the agent"),
        ignored("attach", "`up` shows progress of all agents, `logs` their output"),
        not_yet("build", "build the image first, import it, and name it under `image`"),
        ignored("blkio_config", "no block device belongs to one agent"),
        refused("cap_add", "an agent holds no capability", "remove it; ports below 1024 work without one"),
        limited("cap_drop", "accepted: all capabilities are dropped anyway"),
        unless(
            refused("cgroup", "sharing the control group tree shows one agent to another", "remove it"),
            &["private"],
        ),
        refused("cgroup_parent", "the warden alone arranges control groups", "remove it"),
        honoured("command"),
        not_yet("configs", "put the file into the image, or the text into `environment`"),
        no_effect("container_name", "agents are named after their service"),
        ignored("cpu_count", "Windows only"),
        ignored("cpu_percent", "Windows only"),
        not_yet("cpu_period", "use `cpus`"),
        not_yet("cpu_quota", "use `cpus`"),
        ignored("cpu_rt_period", "no agent runs with real-time priority"),
        ignored("cpu_rt_runtime", "no agent runs with real-time priority"),
        not_yet("cpu_shares", "use `cpus`"),
        honoured("cpus"),
        not_yet("cpuset", "use `cpus`"),
        refused("credential_spec", "managed service accounts are a Windows matter", "remove it"),
        limited("depends_on", "without `restart: true` and `required: false`"),
        limited("deploy", "`resources.limits` and one replica"),
        not_yet("develop", "import the image again after a change"),
        refused("device_cgroup_rules", "no device enters a compartment", "remove it"),
        refused(
            "devices",
            "no device enters a compartment",
            "reach the device through a service outside the box",
        ),
        refused("dns", "the only resolver is the gateway's", "declare hosts under `x-casemate: egress`"),
        ignored("dns_opt", "the only resolver is the gateway's"),
        ignored("dns_search", "names are resolved as they are written"),
        ignored("domainname", "an agent has a host name without domain"),
        honoured("entrypoint"),
        limited("env_file", "files of the project directory"),
        honoured("environment"),
        limited("expose", "TCP; only to agents that declare `talks-to`"),
        limited("extends", "services of files of the project directory"),
        refused(
            "external_links",
            "nothing outside the composition is reached by link",
            "declare the host under `x-casemate: egress`",
        ),
        limited("extra_hosts", "addresses of hosts named under `x-casemate: egress`"),
        not_yet("gpus", "declare the inference service under `x-casemate: egress`"),
        not_yet("group_add", "give the files of the image to the agent's own group"),
        limited("healthcheck", "without `start_interval`"),
        honoured("hostname"),
        limited("image", "pinned by digest in the lock"),
        limited("init", "accepted: the launcher's first process reaps children anyway"),
        unless(refused("ipc", "shared memory would join two agents", "remove it"), &["private", "none"]),
        unless(
            refused("isolation", "it chooses between Windows runtimes", "use `x-casemate: backend`"),
            &["default"],
        ),
        limited("label_file", "files of the project directory"),
        no_effect("labels", "described to people, seen by no program of the agent"),
        refused("links", "nobody is joined by link", "declare `x-casemate: talks-to: [\"service:port\"]`"),
        not_yet("logging", "remove it: output is kept in the box and shown by `logs`"),
        ignored("mac_address", "an agent has no network card"),
        honoured("mem_limit"),
        not_yet("mem_reservation", "use `mem_limit`"),
        ignored("mem_swappiness", "agents do not swap"),
        not_yet("memswap_limit", "remove it: agents do not swap"),
        not_yet("models", "declare the inference service under `x-casemate: egress`"),
        unless(
            refused(
                "network_mode",
                "it would open a network besides the declared edges",
                "declare `x-casemate: talks-to` and `egress`",
            ),
            &["none"],
        ),
        limited("networks", "accepted with a warning, without aliases and addresses: they join nobody"),
        unless(refused("oom_kill_disable", "an agent over its limit would stop the box", "remove it"), FALSE),
        not_yet("oom_score_adj", "use `mem_limit`"),
        refused("pid", "seeing processes of another joins two agents", "remove it: each agent has its own"),
        honoured("pids_limit"),
        not_yet("platform", "remove it: images are for linux/amd64"),
        not_yet("ports", "use `expose` and `x-casemate: talks-to` between agents"),
        not_yet("post_start", "do it at the start of `command`"),
        not_yet("pre_stop", "do it when SIGTERM arrives"),
        unless(
            refused(
                "privileged",
                "it removes the boundary around the agent",
                "remove it and say what it was for",
            ),
            FALSE,
        ),
        honoured("profiles"),
        refused(
            "provider",
            "it runs a program on the host, outside what is measured",
            "run the service as an agent, or declare it under `x-casemate: egress`",
        ),
        not_yet("pull_policy", "remove it: images are taken from the local store"),
        ignored("pull_refresh_after", "images are pinned by digest"),
        limited("read_only", "true: the root is always read-only"),
        limited("restart", "`no`, `always`, `on-failure[:N]`, `unless-stopped`"),
        not_yet("runtime", "use `x-casemate: backend: native`"),
        not_yet("scale", "write one service for each agent"),
        limited("secrets", "mode 0400, owned by the agent's user"),
        limited("security_opt", "`no-new-privileges:true`"),
        not_yet("shm_size", "mount a `tmpfs` where the program can be told to use it"),
        unless(not_yet("stdin_open", "remove it: agents read nothing from a terminal"), FALSE),
        honoured("stop_grace_period"),
        honoured("stop_signal"),
        not_yet("storage_opt", "limit each `tmpfs` by `size`"),
        not_yet("sysctls", "remove it"),
        limited("tmpfs", "options `size` and `mode`"),
        unless(not_yet("tty", "remove it: agents have no terminal"), FALSE),
        limited("ulimits", "`nofile`"),
        unless(
            refused("use_api_socket", "the container engine's socket is power over the host", "remove it"),
            FALSE,
        ),
        limited("user", "numeric"),
        refused("userns_mode", "each agent has a user namespace of its own", "remove it"),
        refused("uts", "each agent has a host name of its own", "use `hostname`"),
        limited("volumes", "named volumes and tmpfs"),
        refused(
            "volumes_from",
            "it shares all files of another agent",
            "name the volume under `volumes` of both",
        ),
        honoured("working_dir"),
        honoured("x-casemate"),
    ],
};

/// Ours, in a service.
pub const X_CASEMATE: Table = Table {
    of: "x-casemate",
    extensions: Extensions::Unknown,
    keys: &[
        honoured("talks-to"),
        honoured("egress"),
        limited("backend", "`native`"),
        not_yet("trust", "remove it: each agent is a trust group of its own"),
        not_yet("share", "remove it: nothing is shared"),
        not_yet("partition", "remove it: each agent has a compartment"),
        not_yet("secrets", "use `secrets` of the service: files below /run/secrets"),
    ],
};

/// `deploy`.
pub const DEPLOY: Table = Table {
    of: "deploy",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("resources"),
        unless(not_yet("replicas", "write one service for each agent"), &["1"]),
        unless(not_yet("mode", "write one service for each agent"), &["replicated"]),
        not_yet("restart_policy", "use `restart`"),
        no_effect("labels", "described to people"),
        ignored("endpoint_mode", "agents are reached over declared edges"),
        ignored("placement", "there is one box"),
        ignored("update_config", "agents are not replaced one by one"),
        ignored("rollback_config", "agents are not replaced one by one"),
    ],
};

/// `deploy.resources`.
pub const RESOURCES: Table = Table {
    of: "deploy.resources",
    extensions: Extensions::Allowed,
    keys: &[honoured("limits"), not_yet("reservations", "use `limits`")],
};

/// `deploy.resources.limits`.
pub const RESOURCE_LIMITS: Table = Table {
    of: "deploy.resources.limits",
    extensions: Extensions::Allowed,
    keys: &[honoured("cpus"), honoured("memory"), honoured("pids")],
};

/// `ulimits`.
pub const ULIMITS: Table = Table {
    of: "ulimits",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("nofile"),
        not_yet("nproc", "use `pids_limit`"),
        not_yet("core", "remove it"),
        not_yet("memlock", "remove it"),
        not_yet("stack", "remove it"),
        not_yet("fsize", "remove it"),
        not_yet("rtprio", "remove it: no agent runs with real-time priority"),
    ],
};

/// `ulimits.nofile` in its long form.
pub const ULIMIT: Table = Table {
    of: "ulimits.nofile",
    extensions: Extensions::Allowed,
    keys: &[honoured("soft"), honoured("hard")],
};

/// `healthcheck`.
pub const HEALTHCHECK: Table = Table {
    of: "healthcheck",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("test"),
        honoured("interval"),
        honoured("timeout"),
        honoured("retries"),
        honoured("start_period"),
        honoured("disable"),
        not_yet("start_interval", "use `interval`"),
    ],
};

/// One dependency of `depends_on` in its long form.
pub const DEPENDENCY: Table = Table {
    of: "depends_on",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("condition"),
        unless(not_yet("restart", "remove it: the dependent agent is not restarted"), FALSE),
        unless(not_yet("required", "remove it: dependencies are required"), &["true"]),
    ],
};

/// A mount of `volumes` in its long form.
pub const MOUNT: Table = Table {
    of: "volume mount",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("type"),
        honoured("source"),
        honoured("target"),
        honoured("read_only"),
        honoured("volume"),
        honoured("tmpfs"),
        ignored("consistency", "mounts are local"),
        refused("bind", "bind mounts bring unmeasured files of the host", "use a named volume, or the image"),
        not_yet("image", "put the files into the agent's own image"),
    ],
};

/// `volume` of a mount.
pub const MOUNT_VOLUME: Table = Table {
    of: "volume mount `volume`",
    extensions: Extensions::Allowed,
    keys: &[
        unless(not_yet("nocopy", "remove it: the image is never copied into a volume"), &["true"]),
        not_yet("subpath", "use a volume of its own"),
        no_effect("labels", "described to people"),
    ],
};

/// `tmpfs` of a mount.
pub const MOUNT_TMPFS: Table = Table {
    of: "volume mount `tmpfs`",
    extensions: Extensions::Allowed,
    keys: &[honoured("size"), honoured("mode")],
};

/// A secret of a service in its long form.
pub const SERVICE_SECRET: Table = Table {
    of: "secret",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("source"),
        honoured("target"),
        unless(refused("mode", "secrets are always mode 0400", "remove it"), &["0400", "0o400"]),
        refused("uid", "a secret belongs to the agent's user", "remove it"),
        refused("gid", "a secret belongs to the agent's user", "remove it"),
    ],
};

/// A secret of the top level.
pub const SECRET: Table = Table {
    of: "top-level secret",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("external"),
        honoured("name"),
        refused(
            "file",
            "a file next to the composition is in the host's hands",
            "write `external: true` and give it to the broker with `casemate secret put`",
        ),
        refused(
            "environment",
            "a variable of the shell is in the host's hands",
            "write `external: true` and give it to the broker with `casemate secret put`",
        ),
        no_effect("labels", "described to people"),
        refused("driver", "secrets come from the broker", "write `external: true`"),
        refused("driver_opts", "secrets come from the broker", "write `external: true`"),
        refused("template_driver", "secrets come from the broker", "write `external: true`"),
    ],
};

/// A volume of the top level.
pub const VOLUME: Table = Table {
    of: "top-level volume",
    extensions: Extensions::Allowed,
    keys: &[
        unless(refused("driver", "volumes are directories of the box", "remove it"), &["local"]),
        refused("driver_opts", "they can mount anything of the host", "remove it"),
        unless(refused("external", "volumes belong to one composition", "remove it"), FALSE),
        not_yet("name", "remove it: the key is the volume's name"),
        no_effect("labels", "described to people"),
    ],
};

/// A network of a service in its long form.
pub const SERVICE_NETWORK: Table = Table {
    of: "network of a service",
    extensions: Extensions::Allowed,
    keys: &[
        not_yet("aliases", "call the agent by its service name"),
        ignored("interface_name", "an agent has no network card"),
        refused(
            "ipv4_address",
            "agents have no addresses of their own",
            "call the agent by its service name",
        ),
        refused(
            "ipv6_address",
            "agents have no addresses of their own",
            "call the agent by its service name",
        ),
        refused("link_local_ips", "agents have no addresses of their own", "remove it"),
        ignored("mac_address", "an agent has no network card"),
        refused("driver_opts", "there is no network driver", "remove it"),
        ignored("priority", "an agent has no network card"),
        ignored("gw_priority", "an agent has no network card"),
    ],
};
