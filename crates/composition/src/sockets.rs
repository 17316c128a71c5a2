//! Unix sockets by which agents meet: the paths that an edge may lead to, and where its caller finds it.
//!
//! What it is: the form of such a path, and the place below [`CALLERS_FOLDER`] that stands for it inside a caller. Derived
//! from the lock alone, so launcher and gateway come to the same places. What it is not: a look at any file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::lock::{Agent, AgentName};

/// Below it, inside a caller, each edge to a socket has its own: `/run/casemate/edges/NAME/PATH`. No agent may write there.
pub const CALLERS_FOLDER: &str = "/run/casemate/edges";
/// Longest path of a Unix socket, in bytes: `sun_path` without its final NUL (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Below these lies what is not the agent's own: the kernel's files, the box's sockets, secrets.
const NOT_ITS_OWN: [&str; 4] = ["/proc", "/sys", "/run/casemate", "/run/secrets"];

/// An absolute path of a Unix socket inside an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketPath(String);

/// Why a text is no path of a socket that an edge may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketPathError {
    /// It does not begin with `/`, ends with it, or has an empty part, `.` or `..`.
    #[error("it is not an absolute path without `.` and `..`")]
    NotAbsolute,
    /// It has a character besides those of ASCII that are seen, or a colon.
    #[error("it has a space, a colon, or a character that is not ASCII")]
    Character,
    /// It is longer than a socket's path can be.
    #[error("it is longer than {SOCKET_PATH_BYTES_MAX} bytes")]
    TooLong,
    /// It lies where the box puts its own.
    #[error("it lies below {0}, where no socket is the agent's own")]
    NotItsOwn(&'static str),
}

impl SocketPath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SocketPath {
    type Err = SocketPathError;

    fn from_str(text: &str) -> Result<Self, SocketPathError> {
        let inner = text.strip_prefix('/').ok_or(SocketPathError::NotAbsolute)?;
        if inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(SocketPathError::NotAbsolute);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            return Err(SocketPathError::Character);
        }
        if text.len() > SOCKET_PATH_BYTES_MAX {
            return Err(SocketPathError::TooLong);
        }
        let below = |folder: &&&str| text.strip_prefix(**folder).is_some_and(|rest| rest.starts_with('/'));
        match NOT_ITS_OWN.iter().find(below) {
            Some(folder) => Err(SocketPathError::NotItsOwn(folder)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for SocketPath {
    type Error = SocketPathError;

    fn try_from(text: String) -> Result<Self, SocketPathError> {
        text.parse()
    }
}

impl From<SocketPath> for String {
    fn from(path: SocketPath) -> Self {
        path.0
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// "May open a connection to this Unix socket of that agent."
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketEdge {
    /// The agent that is called.
    pub to: AgentName,
    /// Its socket.
    pub path: SocketPath,
}

impl SocketEdge {
    /// Where the caller finds it.
    #[must_use]
    pub fn callers_path(&self) -> String {
        format!("{CALLERS_FOLDER}/{}{}", self.to, self.path)
    }
}

impl fmt::Display for SocketEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.to, self.path)
    }
}

/// Each socket that is born inside `agent` for an edge: its place, and where it leads. In one order everywhere.
pub fn listeners(agent: &Agent) -> impl Iterator<Item = (String, &SocketEdge)> {
    agent.socket_edges.iter().map(|edge| (edge.callers_path(), edge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_absolute_paths_that_are_the_agents_own_and_no_others() {
        let read = |text: &str| text.parse::<SocketPath>().map(drop);
        for good in ["/s", "/run/postgresql/.s.PGSQL.5432", "/run/casemate-2/s", "/procs/a"] {
            assert_eq!(read(good), Ok(()), "{good}");
        }
        for bad in ["", "s", "/", "//s", "/a//b", "/a/", "/a/../b", "/a/./b", "@abstract"] {
            assert_eq!(read(bad), Err(SocketPathError::NotAbsolute), "{bad}");
        }
        for bad in ["/a b", "/a:b", "/\u{e9}", "/a\0"] {
            assert_eq!(read(bad), Err(SocketPathError::Character), "{bad:?}");
        }
        let long = format!("/{}", "a".repeat(SOCKET_PATH_BYTES_MAX));
        assert_eq!(read(&long), Err(SocketPathError::TooLong));
        assert_eq!(read(&long[..SOCKET_PATH_BYTES_MAX]), Ok(()));
        for folder in NOT_ITS_OWN {
            assert_eq!(read(&format!("{folder}/s")), Err(SocketPathError::NotItsOwn(folder)));
        }
    }

    #[test]
    fn a_caller_finds_it_below_the_name_of_whom_it_calls() {
        let edge = SocketEdge { to: "db".parse().unwrap(), path: "/run/pg/s".parse().unwrap() };
        assert_eq!(edge.callers_path(), "/run/casemate/edges/db/run/pg/s");
        assert_eq!(edge.to_string(), "db:/run/pg/s");
    }
}
