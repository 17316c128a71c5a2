//! One file per subcommand.

pub(crate) mod attest;
pub(crate) mod bundle;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod down;
pub(crate) mod ear;
pub(crate) mod edges;
pub(crate) mod events;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod kill;
pub(crate) mod lock;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod restart;
pub(crate) mod secret;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod up;
pub(crate) mod verify;
pub(crate) mod wait;
pub(crate) mod why;
