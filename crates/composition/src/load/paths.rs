//! Paths that a Compose file names: below the project directory, or refused.

use std::fmt;

/// Longest path in bytes.
const PATH_BYTES_MAX: usize = 1024;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathFault {
    /// It names no file: empty, too long, or with control characters.
    NoPath,
    /// It is on another machine.
    Remote,
    /// It leaves the project directory.
    Outside,
}

impl PathFault {
    /// What to write instead.
    pub(super) const fn todo(self) -> &'static str {
        match self {
            Self::NoPath => "write a path below the project directory, such as ./common.yaml",
            Self::Remote => {
                "copy the file into the project: what is measured must not depend on another machine"
            }
            Self::Outside => {
                "move the file below the project directory, or name another one with --project-directory"
            }
        }
    }
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPath => "is no path of a file",
            Self::Remote => "is not a local file",
            Self::Outside => "leaves the project directory",
        })
    }
}

/// `written` as seen from `base`, both relative to the project directory: `base/written`. Absolute paths, addresses and
/// what begins with `~` stay as they are, and so does a path that is there already.
pub(super) fn join(base: &str, written: &str) -> String {
    if base.is_empty() || written.starts_with(['/', '~']) || is_remote(written) {
        return written.to_owned();
    }
    format!("./{base}/{}", written.strip_prefix("./").unwrap_or(written))
}

/// A path relative to the project directory without `.`, `..` and empty parts. `directory` is the project directory's
/// absolute path, for paths written in that way; empty where it is not known.
pub(super) fn confine(written: &str, directory: &str) -> Result<String, PathFault> {
    if written.is_empty() || written.len() > PATH_BYTES_MAX || written.chars().any(char::is_control) {
        return Err(PathFault::NoPath);
    }
    if is_remote(written) {
        return Err(PathFault::Remote);
    }
    let below = if written.starts_with('/') {
        let root = directory.strip_suffix('/').unwrap_or(directory);
        let rest = written.strip_prefix(root).filter(|rest| !root.is_empty() && rest.starts_with('/'));
        rest.ok_or(PathFault::Outside)?
    } else if written.starts_with('~') {
        return Err(PathFault::Outside);
    } else {
        written
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in below.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or(PathFault::Outside)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The folder of a file, both relative to the project directory.
pub(super) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn is_remote(text: &str) -> bool {
    text.contains("://") || text.starts_with("git@")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confines_paths_to_the_project_directory() {
        for (written, want) in [
            ("a.yaml", "a.yaml"),
            ("./b//a.yaml", "b/a.yaml"),
            ("b/../a.yaml", "a.yaml"),
            ("/srv/desk/b/a.yaml", "b/a.yaml"),
            (".", ""),
            ("...", "..."),
        ] {
            assert_eq!(confine(written, "/srv/desk").as_deref(), Ok(want), "{written}");
        }
        for (written, want) in [
            ("../a.yaml", PathFault::Outside),
            ("b/../../a.yaml", PathFault::Outside),
            ("/srv/desktop/a.yaml", PathFault::Outside),
            ("/srv/desk/../a.yaml", PathFault::Outside),
            ("/etc/passwd", PathFault::Outside),
            ("~/a.yaml", PathFault::Outside),
            ("https://example.com/a.yaml", PathFault::Remote),
            ("oci://example.com/a", PathFault::Remote),
            ("git@example.com:a/b.git", PathFault::Remote),
            ("", PathFault::NoPath),
            ("a\0b", PathFault::NoPath),
        ] {
            assert_eq!(confine(written, "/srv/desk"), Err(want), "{written}");
        }
        assert_eq!(confine("/a", ""), Err(PathFault::Outside));
        assert_eq!(confine(&"a".repeat(1025), ""), Err(PathFault::NoPath));
    }

    #[test]
    fn joins_only_what_is_relative() {
        assert_eq!(join("b", "./a"), "./b/a");
        assert_eq!(join("b", "../a"), "./b/../a");
        assert_eq!(join("", "./a"), "./a");
        assert_eq!(join("b", "/a"), "/a");
        assert_eq!(join("b", "oci://a"), "oci://a");
        assert_eq!(folder("b/c/a"), "b/c");
        assert_eq!(folder("a"), "");
    }
}
