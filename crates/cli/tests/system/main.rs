//! System tests: real programs, namespaces, mounts and cgroups. `cargo xtask test` builds the programs and runs them.
//!
//! Each test has a project and a root directory of its own, and counts what it left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bench;
mod faults;
mod inputs;
mod refusals;
mod secrets;
