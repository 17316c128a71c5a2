//! Keys that say what an agent may use, how it is started again, and how its health is told.

use super::service::REPLICAS;
use super::{Extensions, NOT_YET, Table, honoured, ignored, limited, no_effect, refused, unless};

/// `deploy`.
pub const DEPLOY: Table = Table {
    of: "deploy",
    path: "services.NAME.deploy",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("resources"),
        limited("replicas", REPLICAS),
        unless(refused("mode", NOT_YET, "write one service for each agent"), &["replicated"]),
        honoured("restart_policy"),
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
    path: "services.NAME.deploy.resources",
    extensions: Extensions::Allowed,
    keys: &[honoured("limits"), limited("reservations", "memory")],
};

/// `deploy.resources.limits`.
pub const RESOURCE_LIMITS: Table = Table {
    of: "deploy.resources.limits",
    path: "services.NAME.deploy.resources.limits",
    extensions: Extensions::Allowed,
    keys: &[honoured("cpus"), honoured("memory"), honoured("pids")],
};

/// `deploy.resources.reservations`.
pub const RESERVATIONS: Table = Table {
    of: "deploy.resources.reservations",
    path: "services.NAME.deploy.resources.reservations",
    extensions: Extensions::Allowed,
    keys: &[
        ignored("cpus", "no core is set aside for one agent"),
        limited("memory", "as `mem_reservation`"),
        refused("generic_resources", "there is one box, and it has none", "remove it"),
        refused(
            "devices",
            "no device enters a compartment",
            "declare the inference service under `x-casemate: egress`",
        ),
    ],
};

/// `deploy.restart_policy`.
pub const RESTART_POLICY: Table = Table {
    of: "deploy.restart_policy",
    path: "services.NAME.deploy.restart_policy",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("condition"),
        limited("delay", "at least 100ms; without it the pause doubles from 100ms to 60s"),
        honoured("max_attempts"),
        limited("window", "an agent that ran this long begins to count its attempts anew"),
    ],
};

const RATES: &str = "one entry, for each disk that holds the agent's volumes or the box's state";
const NO_WEIGHT: &str =
    "what a weight does hangs on the scheduler of the box's disk: use `device_read_bps` and its like";

/// `blkio_config`.
pub const BLKIO: Table = Table {
    of: "blkio_config",
    path: "services.NAME.blkio_config",
    extensions: Extensions::Allowed,
    keys: &[
        limited("device_read_bps", RATES),
        limited("device_read_iops", RATES),
        limited("device_write_bps", RATES),
        limited("device_write_iops", RATES),
        ignored("weight", NO_WEIGHT),
        ignored("weight_device", NO_WEIGHT),
    ],
};

/// An entry of `blkio_config`.
pub const BLKIO_DEVICE: Table = Table {
    of: "blkio_config entry",
    path: "services.NAME.blkio_config.device_*[]",
    extensions: Extensions::Allowed,
    keys: &[
        limited("path", "any: the box's own disks are meant, whatever they are called there"),
        honoured("rate"),
    ],
};

/// `ulimits`.
pub const ULIMITS: Table = Table {
    of: "ulimits",
    path: "services.NAME.ulimits",
    extensions: Extensions::Allowed,
    keys: &[
        unless(
            refused("core", "a core dump leaves the boundary with the agent's memory", "remove it"),
            &["0"],
        ),
        honoured("cpu"),
        honoured("data"),
        honoured("fsize"),
        ignored("locks", "Linux has not looked at it since 2.4.25"),
        honoured("memlock"),
        honoured("msgqueue"),
        unless(refused("nice", "no agent raises its own priority", "use `cpu_shares`"), &["0"]),
        honoured("nofile"),
        honoured("nproc"),
        ignored("rss", "Linux has not looked at it since 2.4.30: use `mem_limit`"),
        unless(refused("rtprio", "no agent runs with real-time priority", "use `cpu_shares`"), &["0"]),
        ignored("rttime", "no agent runs with real-time priority"),
        honoured("sigpending"),
        honoured("stack"),
    ],
};

/// One of `ulimits` in its long form.
pub const ULIMIT: Table = Table {
    of: "ulimits entry",
    path: "services.NAME.ulimits.NAME",
    extensions: Extensions::Allowed,
    keys: &[honoured("soft"), honoured("hard")],
};

/// `healthcheck`.
pub const HEALTHCHECK: Table = Table {
    of: "healthcheck",
    path: "services.NAME.healthcheck",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("test"),
        honoured("interval"),
        honoured("timeout"),
        honoured("retries"),
        honoured("start_period"),
        limited("start_interval", "without it, checks come every 250ms until one passes"),
        honoured("disable"),
    ],
};

/// `logging`.
pub const LOGGING: Table = Table {
    of: "logging",
    path: "services.NAME.logging",
    extensions: Extensions::Allowed,
    keys: &[
        limited("driver", "`none`, `local`, `json-file`: accepted with a warning"),
        limited(
            "options",
            "`max-size` from 4k to 1g, 16m without it, and `max-file` from 1 to 100, 2 without it; others with a warning",
        ),
    ],
};
