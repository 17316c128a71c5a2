//! Keys that say what an agent finds in its file system: tmpfs, volumes, configs, secrets.

use crate::keys;
use crate::lock::{AgentName, Mount};
use crate::problem::{At, Findings, Place, printable};
use crate::units;
use crate::yaml::{Node, Value};

use super::read::{absolute_path, list, parsed, scalar, text, text_or_texts, truth, walk};

/// Size of a tmpfs that names none.
pub(crate) const TMPFS_BYTES_DEFAULT: u64 = 64 << 20;
/// Permission bits of a tmpfs that names none.
pub(crate) const TMPFS_MODE_DEFAULT: u32 = 0o1777;
/// Largest tmpfs.
const TMPFS_BYTES_MAX: u64 = 1 << 40;
/// Where every agent has a tmpfs.
const TMP: &str = "/tmp";
/// Most mounts of one agent.
const MOUNTS_MAX: usize = 64;
/// Most secrets of one agent.
const SECRETS_MAX: usize = 64;

/// Most configs of one agent.
const CONFIGS_MAX: usize = 64;
/// Permission bits of a config that names none (as Compose).
const CONFIG_MODE_DEFAULT: u32 = 0o444;

/// Places that the launcher fills itself.
const RESERVED: [&str; 5] = ["/proc", "/sys", "/dev", "/run/secrets", "/run/casemate"];

/// Files that the launcher writes itself, over whatever is there.
const WRITTEN: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// A secret as a service names it.
#[derive(Debug, Clone)]
pub(crate) struct SecretUse {
    /// Key at the top level.
    pub(crate) source: String,
    /// File name below `/run/secrets`.
    pub(crate) target: String,
}

/// A config as a service names it.
#[derive(Debug, Clone)]
pub(crate) struct ConfigUse {
    /// Key at the top level.
    pub(crate) source: String,
    /// Where, absolute.
    pub(crate) target: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// `tmpfs`.
pub(crate) fn tmpfs(node: &Node, mounts: &mut Vec<At<Mount>>, f: &mut Findings<'_>) {
    for item in text_or_texts(node, "tmpfs", f) {
        let (path, options) = item.value.split_once(':').unwrap_or((&item.value, ""));
        let (mut size_bytes, mut mode) = (TMPFS_BYTES_DEFAULT, TMPFS_MODE_DEFAULT);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let read = match option.split_once('=') {
                Some(("size", size)) => tmpfs_size(size).map(|size| size_bytes = size),
                Some(("mode", bits)) => units::mode(bits, false).map(|bits| mode = bits),
                None if matches!(option, "rw" | "nosuid" | "nodev") => Some(()),
                _ => None,
            };
            if read.is_none() {
                let what =
                    format!("`tmpfs` option `{}` is not supported or has a wrong value", printable(option));
                f.problem(item.place, what, "use size=64m and mode=1777; nosuid and nodev always hold");
            }
        }
        push_tmpfs(path, item.place, size_bytes, mode, mounts, f);
    }
}

fn tmpfs_size(text: &str) -> Option<u64> {
    units::bytes(text).filter(|size| (4096..=TMPFS_BYTES_MAX).contains(size))
}

fn push_tmpfs(
    path: &str,
    place: Place,
    size_bytes: u64,
    mode: u32,
    mounts: &mut Vec<At<Mount>>,
    f: &mut Findings<'_>,
) {
    if path.trim_end_matches('/') == "/run" {
        f.warning(place, "`tmpfs` at /run has no effect: every agent has one", "remove it");
    } else if let Some(target) = target(path, place, f) {
        push(At { place, value: Mount::Tmpfs { target, size_bytes, mode } }, mounts, f);
    }
}

/// `volumes` of a service.
pub(crate) fn volumes(node: &Node, mounts: &mut Vec<At<Mount>>, f: &mut Findings<'_>) {
    for item in list(node, "volumes", f) {
        match &item.value {
            Value::Map(_) => long_volume(item, mounts, f),
            _ => short_volume(item, mounts, f),
        }
    }
}

fn short_volume(node: &Node, mounts: &mut Vec<At<Mount>>, f: &mut Findings<'_>) {
    let Some(text) = text(node, "volumes", f) else { return };
    let mut parts = text.split(':');
    let (source, path, mode) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if source.starts_with(['/', '.', '~']) && path.is_some() {
        return refuse_bind(source, node.place, f);
    }
    let Some(path) = path else {
        f.problem(
            node.place,
            "volume has no name",
            format!("write \"name:{}\" and declare `name`", printable(source)),
        );
        return;
    };
    let read_only = match mode {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(other) => {
            let what = format!("volume mode `{}` is not supported", printable(other));
            return f.problem(node.place, what, "write ro or rw");
        }
    };
    if parts.next().is_some() {
        return f.problem(node.place, "volume has more than three parts", "write \"name:/path:ro\"");
    }
    push_volume(source, path, read_only, node.place, mounts, f);
}

fn refuse_bind(source: &str, place: Place, f: &mut Findings<'_>) {
    if source.ends_with(".sock") {
        let what =
            format!("socket `{}` of the host is refused: it is power over the host", printable(source));
        f.problem(
            place,
            what,
            "remove it: an agent neither starts nor sees containers; write services here instead",
        );
    } else {
        let what = format!("bind mount of `{}` is refused: unmeasured files of the host", printable(source));
        f.problem(place, what, keys::INSTEAD_OF_BIND);
    }
}

fn long_volume(node: &Node, mounts: &mut Vec<At<Mount>>, f: &mut Findings<'_>) {
    let (mut kind, mut source, mut path, mut read_only) = (None, None, None, false);
    let (mut size_bytes, mut mode) = (TMPFS_BYTES_DEFAULT, TMPFS_MODE_DEFAULT);
    walk(&keys::MOUNT, node, f, |f, key, member| {
        let value = &member.node;
        match key {
            "type" => kind = text(value, key, f),
            "source" => source = text(value, key, f),
            "target" => path = text(value, key, f),
            "read_only" => read_only = truth(value, key, f).unwrap_or_default(),
            "volume" => walk(&keys::MOUNT_VOLUME, value, f, |_, _, _| {}),
            _ => walk(&keys::MOUNT_TMPFS, value, f, |f, key, member| {
                if key == "size" {
                    let read = parsed(
                        &member.node,
                        key,
                        "a size of at least 4096 bytes, such as 64m",
                        f,
                        tmpfs_size,
                    );
                    size_bytes = read.map_or(size_bytes, |at| at.value);
                } else {
                    mode = octal(&member.node, "an octal mode, such as 0o1777", f).unwrap_or(mode);
                }
            }),
        }
    });
    let Some(path) = path else {
        return f.problem(node.place, "volume mount has no `target`", "write target: /path");
    };
    match (kind.as_deref(), source) {
        (Some("volume"), Some(source)) => push_volume(&source, &path, read_only, node.place, mounts, f),
        (Some("volume"), None) => {
            f.problem(node.place, "volume mount has no `source`", "name a volume of the top level");
        }
        (Some("tmpfs"), None) if !read_only => push_tmpfs(&path, node.place, size_bytes, mode, mounts, f),
        (Some("tmpfs"), _) => {
            f.problem(
                node.place,
                "tmpfs mount has a `source` or is read-only",
                "write `type` and `target` alone",
            );
        }
        (Some("bind"), source) => refuse_bind(source.as_deref().unwrap_or("?"), node.place, f),
        (Some(other), _) => {
            let what = format!("mount type `{}` is not supported", printable(other));
            f.problem(node.place, what, "write type: volume or type: tmpfs");
        }
        (None, _) => f.problem(node.place, "volume mount has no `type`", "write type: volume"),
    }
}

fn push_volume(
    name: &str,
    path: &str,
    read_only: bool,
    place: Place,
    mounts: &mut Vec<At<Mount>>,
    f: &mut Findings<'_>,
) {
    let Ok(name) = name.parse::<AgentName>() else {
        let what = format!("volume name `{}` is not made of a-z, 0-9, `-` and `_`", printable(name));
        return f.problem(place, what, "rename the volume");
    };
    if let Some(target) = target(path, place, f) {
        push(At { place, value: Mount::Volume { name, target, read_only } }, mounts, f);
    }
}

fn target(path: &str, place: Place, f: &mut Findings<'_>) -> Option<String> {
    let Some(path) = absolute_path(path) else {
        let what = format!("mount target `{}` is not an absolute path without `.` and `..`", printable(path));
        f.problem(place, what, "write an absolute path");
        return None;
    };
    let inside =
        |outer: &str| path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let taken = path == "/" || path == "/run" || RESERVED.iter().chain(&WRITTEN).any(|taken| inside(taken));
    if taken {
        let what = format!("mount target `{}` belongs to the launcher", printable(&path));
        f.problem(place, what, "mount it elsewhere");
    }
    (!taken).then_some(path)
}

fn push(mount: At<Mount>, mounts: &mut Vec<At<Mount>>, f: &mut Findings<'_>) {
    let target = target_of(&mount.value);
    if mounts.iter().any(|other| target_of(&other.value) == target) {
        f.problem(mount.place, format!("two mounts at `{}`", printable(target)), "keep one of the two");
    } else if mounts.len() >= MOUNTS_MAX {
        f.problem(mount.place, format!("more than {MOUNTS_MAX} mounts"), "mount fewer");
    } else {
        mounts.push(mount);
    }
}

/// Where a mount stands.
pub(crate) fn target_of(mount: &Mount) -> &str {
    match mount {
        Mount::Tmpfs { target, .. } | Mount::Volume { target, .. } | Mount::Config { target, .. } => target,
    }
}

/// Permission bits: octal as text, `0440` or `0o440`; a plain 440 means different things to different readers.
fn octal(node: &Node, wanted: &str, f: &mut Findings<'_>) -> Option<u32> {
    let (_, plain) = scalar(node, "mode", f)?;
    parsed(node, "mode", wanted, f, |text| units::mode(text, plain)).map(|at| at.value)
}

/// Permission bits of a config: its mount ignores all other bits.
fn config_mode(node: &Node, f: &mut Findings<'_>) -> Option<u32> {
    let (_, plain) = scalar(node, "mode", f)?;
    let read = |text: &str| units::mode(text, plain).filter(|mode| *mode <= 0o777);
    parsed(node, "mode", "an octal mode up to 0o777, such as 0o440", f, read).map(|at| at.value)
}

/// `configs` of a service.
pub(crate) fn configs(node: &Node, f: &mut Findings<'_>) -> Vec<At<ConfigUse>> {
    let mut all: Vec<At<ConfigUse>> = Vec::new();
    for item in list(node, "configs", f) {
        let (mut source, mut path) = (None, None);
        let (mut uid, mut gid, mut mode) = (0, 0, CONFIG_MODE_DEFAULT);
        let numeric = "a number below 65536: names depend on files in the image";
        match &item.value {
            Value::Map(_) => walk(&keys::SERVICE_CONFIG, item, f, |f, key, member| {
                let node = &member.node;
                match key {
                    "source" => source = text(node, key, f),
                    "target" => path = text(node, key, f),
                    "uid" => uid = parsed(node, key, numeric, f, super::run::id).map_or(uid, |at| at.value),
                    "gid" => gid = parsed(node, key, numeric, f, super::run::id).map_or(gid, |at| at.value),
                    _ => mode = config_mode(node, f).unwrap_or(mode),
                }
            }),
            _ => source = text(item, "configs", f),
        }
        let Some(source) = source else {
            if let Value::Map(_) = item.value {
                f.problem(item.place, "config has no `source`", "name a config of the top level");
            }
            continue;
        };
        let path = path.unwrap_or_else(|| format!("/{source}"));
        let Some(target) = target(&path, item.place, f) else { continue };
        if mode & 0o222 != 0 {
            let what =
                format!("config at `{}` has mode {mode:o}, and is mounted read-only", printable(&target));
            f.warning(item.place, what, "leave the write bits out, such as 0o444");
        }
        if all.iter().any(|other| other.value.target == target) {
            f.problem(item.place, format!("two configs at `{}`", printable(&target)), "keep one of the two");
        } else if all.len() >= CONFIGS_MAX {
            f.problem(item.place, format!("more than {CONFIGS_MAX} configs"), "use fewer");
        } else {
            all.push(At { place: item.place, value: ConfigUse { source, target, uid, gid, mode } });
        }
    }
    all
}

/// Configs and mounts of one service lie at different places, and a mount inside no other one: what lies over the place
/// of another hides it, and what an agent writes into a volume must not say where a mount goes.
pub(crate) fn cross_check(configs: &[At<ConfigUse>], mounts: &[At<Mount>], f: &mut Findings<'_>) {
    let inside =
        |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    for mount in mounts {
        let target = target_of(&mount.value);
        let outer = mounts.iter().map(|outer| target_of(&outer.value)).find(|outer| inside(target, outer));
        let outer = outer.or_else(|| inside(target, TMP).then_some(TMP));
        if let Some(outer) = outer {
            let what =
                format!("mount at `{}` lies inside the one at `{}`", printable(target), printable(outer));
            f.problem(mount.place, what, "mount it elsewhere");
        }
    }
    for config in configs {
        let target = &config.value.target;
        let volumes = mounts.iter().filter(|mount| matches!(mount.value, Mount::Volume { .. }));
        if let Some(outer) = volumes.map(|outer| target_of(&outer.value)).find(|outer| inside(target, outer))
        {
            let what =
                format!("config at `{}` lies inside the volume at `{}`", printable(target), printable(outer));
            f.problem(config.place, what, "mount it elsewhere: it would leave a file in the volume");
        }
    }
    for config in configs {
        let target = &config.value.target;
        if mounts.iter().any(|mount| target_of(&mount.value) == target) {
            let what = format!("a config and a mount at `{}`", printable(target));
            f.problem(config.place, what, "keep one of the two");
        }
    }
}

/// `secrets` of a service.
pub(crate) fn secrets(node: &Node, f: &mut Findings<'_>) -> Vec<At<SecretUse>> {
    let mut all: Vec<At<SecretUse>> = Vec::new();
    for item in list(node, "secrets", f) {
        let (mut source, mut file) = (None, None);
        match &item.value {
            Value::Map(_) => walk(&keys::SERVICE_SECRET, item, f, |f, key, member| match key {
                "source" => source = text(&member.node, key, f),
                _ => file = text(&member.node, key, f),
            }),
            _ => source = text(item, "secrets", f),
        }
        let Some(source) = source else {
            if let Value::Map(_) = item.value {
                f.problem(item.place, "secret has no `source`", "name a secret of the top level");
            }
            continue;
        };
        let file = file.unwrap_or_else(|| source.clone());
        let target = file.strip_prefix("/run/secrets/").unwrap_or(&file).to_owned();
        if !is_plain_name(&target) {
            let what = format!("secret target `{}` is not a file name below /run/secrets", printable(&file));
            f.problem(item.place, what, "write a name of letters, digits, `_`, `-` and `.`");
        } else if all.iter().any(|other| other.value.target == target) {
            f.problem(item.place, format!("two secrets at `{}`", printable(&target)), "keep one of the two");
        } else if all.len() >= SECRETS_MAX {
            f.problem(item.place, format!("more than {SECRETS_MAX} secrets"), "use fewer");
        } else {
            all.push(At { place: item.place, value: SecretUse { source, target } });
        }
    }
    all
}

/// A part of a resource path of the key-broker protocol: `[a-zA-Z0-9_-]+[a-zA-Z0-9_.-]*`, bounded.
pub(crate) fn is_plain_name(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(ok)
}
