//! Keys of the top level, and mappings whose keys share the fate of the key above them.

use super::{Extensions, NOT_YET, Table, Whole, honoured, ignored, limited, refused};

/// The top level.
pub const TOP: Table = Table {
    of: "file",
    path: "",
    extensions: Extensions::Allowed,
    keys: &[
        ignored("version", "the Compose specification dropped it"),
        limited("name", "1 to 63 of a-z, 0-9, `-` and `_`"),
        limited("include", "files of the project directory; names are never merged"),
        honoured("services"),
        refused("models", NOT_YET, "declare the inference service under `x-casemate: egress`"),
        ignored("networks", "networks join nobody here, only `x-casemate: talks-to` does"),
        limited("volumes", "named volumes with the local driver"),
        limited("secrets", "external secrets only; `name` chooses the broker's name"),
        limited("configs", "`content`, `file` and `environment`"),
        honoured("x-casemate"),
    ],
};

/// Ours, at the top level: for whoever verifies, not for the box. Not in the lock, not measured.
pub const TOP_X_CASEMATE: Table = Table {
    of: "top-level x-casemate",
    path: "x-casemate",
    extensions: Extensions::Unknown,
    keys: &[
        limited("policy", "path of the policy that `verify` uses by default, from the file's folder"),
        limited("collateral-age", "default of `verify --max-age`: 1d and more, such as 30d"),
    ],
};

/// One entry of `include`, read while files are loaded.
pub const INCLUDE: Table = Table {
    of: "include",
    path: "include[]",
    extensions: Extensions::Unknown,
    keys: &[honoured("path"), honoured("env_file"), honoured("project_directory")],
};

/// One entry of `env_file`, likewise.
pub const ENV_FILE: Table = Table {
    of: "env_file",
    path: "services.NAME.env_file[]",
    extensions: Extensions::Unknown,
    keys: &[honoured("path"), limited("format", "`raw`"), honoured("required")],
};

/// `extends`, likewise.
pub const EXTENDS: Table = Table {
    of: "extends",
    path: "services.NAME.extends",
    extensions: Extensions::Unknown,
    keys: &[honoured("service"), honoured("file")],
};

const fn whole(path: &'static str, decided_by: &'static str, names: &'static [&'static str]) -> Whole {
    Whole { path, names, decided_by }
}

const HOOK: &[&str] = &["command", "user", "privileged", "working_dir", "environment"];
const GPU: &[&str] = &["capabilities", "count", "device_ids", "driver", "options"];
const UPDATE: &[&str] = &["parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order"];

/// Mappings whose keys share the fate of the key above them.
pub const WHOLES: [Whole; 26] = [
    whole("models.NAME", "models", &["name", "model", "context_size", "runtime_flags"]),
    whole(
        "networks.NAME",
        "networks",
        &[
            "name",
            "driver",
            "driver_opts",
            "ipam",
            "external",
            "internal",
            "enable_ipv4",
            "enable_ipv6",
            "attachable",
            "labels",
        ],
    ),
    whole("networks.NAME.ipam", "networks", &["driver", "config", "options"]),
    whole("networks.NAME.ipam.config[]", "networks", &["subnet", "ip_range", "gateway", "aux_addresses"]),
    whole("networks.NAME.external", "networks", &["name"]),
    whole("volumes.NAME.external", "volumes.NAME.external", &["name"]),
    whole("configs.NAME.external", "configs.NAME.external", &["name"]),
    whole("secrets.NAME.external", "secrets.NAME.external", &["name"]),
    whole(
        "services.NAME.build",
        "services.NAME.build",
        &[
            "context",
            "dockerfile",
            "dockerfile_inline",
            "entitlements",
            "args",
            "ssh",
            "labels",
            "cache_from",
            "cache_to",
            "no_cache",
            "no_cache_filter",
            "additional_contexts",
            "network",
            "provenance",
            "sbom",
            "pull",
            "target",
            "shm_size",
            "extra_hosts",
            "isolation",
            "privileged",
            "secrets",
            "tags",
            "ulimits",
            "platforms",
        ],
    ),
    whole(
        "services.NAME.blkio_config.weight_device[]",
        "services.NAME.blkio_config.weight_device",
        &["path", "weight"],
    ),
    whole("services.NAME.credential_spec", "services.NAME.credential_spec", &["config", "file", "registry"]),
    whole("services.NAME.devices[]", "services.NAME.devices", &["source", "target", "permissions"]),
    whole("services.NAME.develop", "services.NAME.develop", &["watch"]),
    whole(
        "services.NAME.develop.watch[]",
        "services.NAME.develop",
        &["ignore", "include", "path", "action", "target", "exec", "initial_sync"],
    ),
    whole("services.NAME.develop.watch[].exec", "services.NAME.develop", HOOK),
    whole("services.NAME.gpus[]", "services.NAME.gpus", GPU),
    whole("services.NAME.models.NAME", "services.NAME.models", &["endpoint_var", "model_var"]),
    whole("services.NAME.provider", "services.NAME.provider", &["type", "options"]),
    whole(
        "services.NAME.volumes[].bind",
        "services.NAME.volumes[].bind",
        &["propagation", "create_host_path", "recursive", "selinux"],
    ),
    whole("services.NAME.volumes[].image", "services.NAME.volumes[].image", &["subpath"]),
    whole(
        "services.NAME.deploy.placement",
        "services.NAME.deploy.placement",
        &["constraints", "preferences", "max_replicas_per_node"],
    ),
    whole("services.NAME.deploy.placement.preferences[]", "services.NAME.deploy.placement", &["spread"]),
    whole("services.NAME.deploy.update_config", "services.NAME.deploy.update_config", UPDATE),
    whole("services.NAME.deploy.rollback_config", "services.NAME.deploy.rollback_config", UPDATE),
    whole(
        "services.NAME.deploy.resources.reservations.devices[]",
        "services.NAME.deploy.resources.reservations.devices",
        GPU,
    ),
    whole(
        "services.NAME.deploy.resources.reservations.generic_resources[].discrete_resource_spec",
        "services.NAME.deploy.resources.reservations.generic_resources",
        &["kind", "value"],
    ),
];
