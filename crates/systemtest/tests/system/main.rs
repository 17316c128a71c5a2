//! System tests: the real programs, with real namespaces, mounts, cgroups, sockets and signals.
//!
//! Each test has a project and a root directory of its own, and counts what it left on the machine. They run as root
//! on the programs that `cargo xtask dist` builds; `CASEMATE_DIST` names another folder of programs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod browser;
mod campaign;
mod census;
mod controls;
mod cores;
mod doctor;
mod edges;
mod exhaustion;
mod faults;
mod gvisor;
mod happy;
mod hooks;
mod image;
mod inputs;
mod inside;
mod interrupts;
mod keys;
mod lifecycle;
mod lifecycle_ends;
mod lifecycle_up;
mod limits;
mod offline;
mod peers;
mod plan;
mod platform;
mod posture;
mod posture_evidence;
mod preflight;
mod probe;
mod probe_controls;
mod programs;
mod project;
mod quickstart;
mod refusals;
mod replicas;
mod roots;
mod run;
mod secrets;
mod statements;
mod terminals;
mod unix_edges;
mod volumes;
mod weaker;
