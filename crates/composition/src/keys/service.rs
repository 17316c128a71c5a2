//! Keys of a service: the 92 of the specification, and ours.

use super::{Extensions, FALSE, NOT_YET, Table, honoured, ignored, limited, no_effect, refused, unless};

const DESCRIBES: &str = "described to people, seen by no program of the agent";
const INFERENCE: &str = "declare the inference service under `x-casemate: egress`";

/// What is said of `scale` and of `replicas`.
pub(super) const REPLICAS: &str =
    "0 to 100; several are agents of their own, NAME-1 and on: no `ports`, no `container_name`";

/// A service.
pub const SERVICE: Table = Table {
    of: "service",
    path: "services.NAME",
    extensions: Extensions::Allowed,
    keys: &[
        no_effect("annotations", DESCRIBES),
        ignored("attach", "`up` shows progress of all agents, `logs` their output"),
        refused(
            "build",
            NOT_YET,
            "build it with another tool, import it with `casemate image import`, and name it under `image`",
        ),
        honoured("blkio_config"),
        refused(
            "cap_add",
            "an agent holds no capability",
            "remove it; ports below 1024 work without one, and files of the image can belong to `user`",
        ),
        limited("cap_drop", "accepted: all capabilities are dropped anyway"),
        unless(
            refused("cgroup", "sharing the control group tree shows one agent to another", "remove it"),
            &["private"],
        ),
        refused("cgroup_parent", "the warden alone arranges control groups", "remove it"),
        honoured("command"),
        limited("configs", "mounted read-only; the image has the file, or it lies below /run or a tmpfs"),
        limited("container_name", "another name for the agents that may call it; not the name of the agent"),
        ignored("cpu_count", "Windows only"),
        ignored("cpu_percent", "Windows only"),
        limited("cpu_period", "with `cpu_quota`, as a share of a core; the box's own period stays"),
        limited("cpu_quota", "as a share of a core in whole thousandths, as `cpus`"),
        ignored("cpu_rt_period", "no agent runs with real-time priority"),
        ignored("cpu_rt_runtime", "no agent runs with real-time priority"),
        honoured("cpu_shares"),
        honoured("cpus"),
        limited(
            "cpuset",
            "processors of the box; without it, trust groups get cores of their own where there are enough",
        ),
        refused("credential_spec", "managed service accounts are a Windows matter", "remove it"),
        honoured("depends_on"),
        limited("deploy", "`resources`, `restart_policy` and `replicas`"),
        refused("develop", NOT_YET, "import the image again after a change"),
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
        refused("gpus", "no device enters a compartment", INFERENCE),
        limited("group_add", "numeric"),
        honoured("healthcheck"),
        honoured("hostname"),
        limited("image", "pinned by digest in the lock"),
        limited("init", "accepted: the launcher's first process reaps children anyway"),
        unless(refused("ipc", "shared memory would join two agents", "remove it"), &["private", "none"]),
        unless(
            refused("isolation", "it chooses between Windows runtimes", "use `x-casemate: backend`"),
            &["default"],
        ),
        limited("label_file", "files of the project directory"),
        no_effect("labels", DESCRIBES),
        refused("links", "nobody is joined by link", "declare `x-casemate: talks-to: [\"service:port\"]`"),
        limited(
            "logging",
            "how much output is kept; `none`, `local` and `json-file` with a warning: it is kept in the box",
        ),
        ignored("mac_address", "an agent has no network card"),
        honoured("mem_limit"),
        limited("mem_reservation", "at most `mem_limit`; memory that the kernel takes last from the agent"),
        ignored("mem_swappiness", "agents do not swap"),
        limited("memswap_limit", "equal to `mem_limit`: agents do not swap"),
        refused("models", NOT_YET, INFERENCE),
        unless(
            refused(
                "network_mode",
                "it would open a network besides the declared edges",
                "declare `x-casemate: talks-to` and `egress`",
            ),
            &["none"],
        ),
        limited(
            "networks",
            "`aliases` name the agent to its callers; networks join nobody, and a warning says so",
        ),
        unless(refused("oom_kill_disable", "an agent over its limit would stop the box", "remove it"), FALSE),
        limited("oom_score_adj", "0 to 1000: no agent outlives the box's own programs"),
        refused("pid", "seeing processes of another joins two agents", "remove it: each agent has its own"),
        honoured("pids_limit"),
        limited("platform", "`linux/amd64`; a variant is not checked against the processor"),
        limited(
            "ports",
            "TCP, with a port of the box; on 127.0.0.1 of the box where no address is written. Between agents, use \
             `expose` and the caller's `x-casemate: talks-to`",
        ),
        limited(
            "post_start",
            "measured, and run in the compartment, confined as the agent; one that fails ends the start",
        ),
        limited(
            "pre_stop",
            "measured, and run in the compartment, confined as the agent, within `stop_grace_period`",
        ),
        unless(
            refused(
                "privileged",
                "it removes the boundary around the agent",
                "remove it; what a program needs it for, such as a device or a mount of the host, is refused as well",
            ),
            FALSE,
        ),
        honoured("profiles"),
        refused(
            "provider",
            "it runs a program on the host, outside what is measured",
            "run the service as an agent, or declare it under `x-casemate: egress`",
        ),
        limited(
            "pull_policy",
            "what `casemate image pull` does; `lock` and `up` pull only with `--pull`, and nothing that has `never`",
        ),
        ignored("pull_refresh_after", "images are pinned by digest"),
        limited("read_only", "true: the root is always read-only"),
        limited("restart", "`no`, `always`, `on-failure[:N]`, `unless-stopped`"),
        refused("runtime", "the launcher is the only runtime", "use `x-casemate: backend`"),
        limited("scale", REPLICAS),
        limited("secrets", "mode 0400, owned by the agent's user"),
        limited("security_opt", "`no-new-privileges:true`"),
        honoured("shm_size"),
        limited(
            "stdin_open",
            "for `casemate attach`, which taints the agent; without it an agent reads nothing",
        ),
        honoured("stop_grace_period"),
        honoured("stop_signal"),
        refused("storage_opt", "the root is read-only", "limit each `tmpfs` by `size`"),
        refused("sysctls", NOT_YET, "remove it; ports below 1024 are open to every agent"),
        limited("tmpfs", "options `size` and `mode`; the image has the folder"),
        limited(
            "tty",
            "a terminal of the agent's own, for `casemate attach`; its output is logged as it comes",
        ),
        limited("ulimits", "without core dumps, real-time and raised priority"),
        unless(
            refused("use_api_socket", "the container engine's socket is power over the host", "remove it"),
            FALSE,
        ),
        limited("user", "numeric"),
        refused("userns_mode", "each agent has a user namespace of its own", "remove it"),
        refused("uts", "each agent has a host name of its own", "use `hostname`"),
        limited("volumes", "named volumes and tmpfs; the image has the folder"),
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
    path: "services.NAME.x-casemate",
    extensions: Extensions::Unknown,
    keys: &[
        limited("talks-to", "\"service:port\" or \"service:/path/of/its/socket\", or a mapping with limits"),
        limited("egress", "\"host:port\", or a mapping with limits"),
        limited(
            "sockets",
            "paths of Unix sockets; only to agents that declare `talks-to`; bytes alone pass: see docs/decisions/0022-unix-sockets.md",
        ),
        limited(
            "backend",
            "`native`, or `gvisor`, with the digest of its program `runsc` in the lock; see docs/decisions/0011-gvisor.md",
        ),
        limited(
            "trust",
            "the name of a trust group, the agent's own by default; measured, for policies to read",
        ),
        limited(
            "share",
            "the name of a group with one `trust`: its agents that have the same image use one mount of it, and each can \
             tell what the others read of it",
        ),
        limited(
            "memory",
            "`deny-write-execute`: no memory is or becomes writable and executable; programs that compile while they run, \
             such as Node.js, do not start",
        ),
        limited(
            "exec",
            "`allow`, the default: the operator may use `casemate exec`, `cp` and `attach`, which taint the agent, or \
             `deny`: the box refuses",
        ),
        limited("partition", "`compartment`"),
        limited("secrets", "`file`: below /run/secrets"),
    ],
};

/// One of `talks-to` or `egress` with limits.
pub const X_ENDPOINT: Table = Table {
    of: "endpoint",
    path: "services.NAME.x-casemate.talks-to[]",
    extensions: Extensions::Unknown,
    keys: &[
        limited(
            "to",
            "as the short form: \"service:port\" or \"service:/path\", under `egress` \"host:port\"",
        ),
        limited("connections", "open at a time, 1 to 1024"),
        limited("rate", "bytes in one second, both ways together: from 1k"),
        limited("bytes", "in the life of the box, both ways together"),
    ],
};

/// One of `ports` in its long form.
pub const PORT: Table = Table {
    of: "port",
    path: "services.NAME.ports[]",
    extensions: Extensions::Allowed,
    keys: &[
        no_effect("name", DESCRIBES),
        honoured("target"),
        limited("published", "one port: a random one would not be what was measured"),
        limited("host_ip", "an address of the box; 127.0.0.1 by default"),
        limited("protocol", "`tcp`"),
        limited("mode", "`host` and `ingress`, which are one here"),
        no_effect("app_protocol", DESCRIBES),
    ],
};

/// One of `post_start` or `pre_stop`.
const fn hook(path: &'static str) -> Table {
    Table { of: "hook", path, extensions: Extensions::Allowed, keys: HOOK }
}

const HOOK: &[super::Key] = &[
    honoured("command"),
    limited("user", "numeric"),
    unless(refused("privileged", "it would have more than its agent has", "remove it"), FALSE),
    honoured("working_dir"),
    honoured("environment"),
];

/// One of `post_start`.
pub const POST_START: Table = hook("services.NAME.post_start[]");

/// One of `pre_stop`.
pub const PRE_STOP: Table = hook("services.NAME.pre_stop[]");

/// One dependency of `depends_on` in its long form.
pub const DEPENDENCY: Table = Table {
    of: "depends_on",
    path: "services.NAME.depends_on.NAME",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("condition"),
        limited("restart", "where a user restarts the dependency; not where it ended by itself"),
        honoured("required"),
    ],
};

const NO_ADDRESS: &str = "agents have no addresses of their own";
const BY_NAME: &str = "call the agent by its service name";
const NO_CARD: &str = "an agent has no network card";

/// A network of a service in its long form.
pub const SERVICE_NETWORK: Table = Table {
    of: "network of a service",
    path: "services.NAME.networks.NAME",
    extensions: Extensions::Allowed,
    keys: &[
        limited("aliases", "names under which the agents that declare `talks-to` may call it"),
        ignored("interface_name", NO_CARD),
        refused("ipv4_address", NO_ADDRESS, BY_NAME),
        refused("ipv6_address", NO_ADDRESS, BY_NAME),
        refused("link_local_ips", NO_ADDRESS, "remove it"),
        ignored("mac_address", NO_CARD),
        refused("driver_opts", "there is no network driver", "remove it"),
        ignored("priority", NO_CARD),
        ignored("gw_priority", NO_CARD),
    ],
};
