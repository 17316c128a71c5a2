//! Keys that say what an agent finds in its file system: mounts, volumes, configs, secrets.

use super::{Extensions, FALSE, NOT_YET, Table, honoured, ignored, limited, no_effect, refused, unless};

/// What to write where files of the host were to be mounted.
pub(crate) const INSTEAD_OF_BIND: &str = "put files that never change into the image, settings under `configs:`, \
    and what the agent writes into a named volume";

/// A mount of `volumes` in its long form.
pub const MOUNT: Table = Table {
    of: "volume mount",
    path: "services.NAME.volumes[]",
    extensions: Extensions::Allowed,
    keys: &[
        limited("type", "`volume` and `tmpfs`"),
        honoured("source"),
        honoured("target"),
        honoured("read_only"),
        honoured("volume"),
        honoured("tmpfs"),
        ignored("consistency", "mounts are local"),
        refused("bind", "files of the host are not measured", INSTEAD_OF_BIND),
        refused("image", NOT_YET, "put the files into the agent's own image"),
    ],
};

/// `volume` of a mount.
pub const MOUNT_VOLUME: Table = Table {
    of: "volume mount `volume`",
    path: "services.NAME.volumes[].volume",
    extensions: Extensions::Allowed,
    keys: &[
        unless(refused("nocopy", NOT_YET, "remove it: the image is never copied into a volume"), &["true"]),
        refused("subpath", NOT_YET, "use a volume of its own"),
        no_effect("labels", "described to people"),
    ],
};

/// `tmpfs` of a mount.
pub const MOUNT_TMPFS: Table = Table {
    of: "volume mount `tmpfs`",
    path: "services.NAME.volumes[].tmpfs",
    extensions: Extensions::Allowed,
    keys: &[honoured("size"), honoured("mode")],
};

/// A config of a service in its long form.
pub const SERVICE_CONFIG: Table = Table {
    of: "config",
    path: "services.NAME.configs[]",
    extensions: Extensions::Allowed,
    keys: &[honoured("source"), honoured("target"), honoured("uid"), honoured("gid"), honoured("mode")],
};

/// A secret of a service in its long form.
pub const SERVICE_SECRET: Table = Table {
    of: "secret",
    path: "services.NAME.secrets[]",
    extensions: Extensions::Allowed,
    keys: &[
        honoured("source"),
        limited("target", "a file name below /run/secrets"),
        refused("uid", "a secret belongs to the agent's user", "remove it"),
        refused("gid", "a secret belongs to the agent's user", "remove it"),
        unless(refused("mode", "secrets are always mode 0400", "remove it"), &["0400", "0o400"]),
    ],
};

const ENGINE_NAME: &str = "it names an object of a container engine, and none is made here";
const FROM_BROKER: &str = "secrets come from the broker";
const TO_BROKER: &str = "write `external: true` and give it to the broker with `casemate secret put`";

/// A volume of the top level.
pub const VOLUME: Table = Table {
    of: "top-level volume",
    path: "volumes.NAME",
    extensions: Extensions::Allowed,
    keys: &[
        limited("name", "1 to 63 of a-z, 0-9, `-` and `_`; within this composition"),
        unless(refused("driver", "volumes are directories of the box", "remove it"), &["local"]),
        limited("driver_opts", "`size`"),
        unless(refused("external", "volumes belong to one composition", "remove it"), FALSE),
        no_effect("labels", "described to people"),
        honoured("x-casemate"),
    ],
};

const MOUNTS_ANYTHING: &str = "it can mount anything of the host";

/// `driver_opts` of a volume.
pub const VOLUME_OPTIONS: Table = Table {
    of: "volume `driver_opts`",
    path: "volumes.NAME.driver_opts",
    extensions: Extensions::Unknown,
    keys: &[
        limited(
            "size",
            "at least 16m, what the file system itself takes included; set aside on the box's disk, and never exceeded",
        ),
        refused("type", MOUNTS_ANYTHING, "remove it"),
        refused("device", MOUNTS_ANYTHING, "remove it"),
        refused("o", MOUNTS_ANYTHING, "write `size` by itself"),
    ],
};

/// Ours, in a volume of the top level.
pub const VOLUME_X_CASEMATE: Table = Table {
    of: "volume x-casemate",
    path: "volumes.NAME.x-casemate",
    extensions: Extensions::Unknown,
    keys: &[limited("size", "as `driver_opts: size`, for files that an engine without quotas reads too")],
};

/// A config of the top level.
pub const CONFIG: Table = Table {
    of: "top-level config",
    path: "configs.NAME",
    extensions: Extensions::Allowed,
    keys: &[
        no_effect("name", ENGINE_NAME),
        limited("content", "at most 64 KiB; it is in the lock, so measured, and not secret"),
        limited("environment", "the variable's value when the lock is made; in the lock, and not secret"),
        limited("file", "UTF-8 text of the project directory, at most 64 KiB; read when the lock is made"),
        unless(
            refused(
                "external",
                "what a container engine keeps is not measured",
                "write the text under `content`",
            ),
            FALSE,
        ),
        no_effect("labels", "described to people"),
        refused("template_driver", "configs are mounted as they are written", "remove it"),
    ],
};

/// A secret of the top level.
pub const SECRET: Table = Table {
    of: "top-level secret",
    path: "secrets.NAME",
    extensions: Extensions::Allowed,
    keys: &[
        limited("name", "the broker's name for it"),
        refused("environment", "a variable of the shell is in the host's hands", TO_BROKER),
        refused("file", "a file next to the composition is in the host's hands", TO_BROKER),
        limited("external", "true"),
        no_effect("labels", "described to people"),
        refused("driver", FROM_BROKER, "write `external: true`"),
        refused("driver_opts", FROM_BROKER, "write `external: true`"),
        refused("template_driver", FROM_BROKER, "write `external: true`"),
    ],
};
