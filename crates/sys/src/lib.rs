//! What programs ask of the Linux kernel to build, watch and end a compartment.
//!
//! What it is: namespaces, mounts, seccomp, Landlock, cgroups and descriptor passing, as functions with typed
//! errors; the only crate with unsafe code, each block with the reason why it is sound. What it is not: policy.
//! It applies what it is told and says what it could not apply.
//! Who trusts it: launcher and warden, with root.

pub mod attack;
pub mod cgroup;
pub mod compartment;
pub mod cores;
pub mod descriptors;
mod handover;
pub mod hardening;
pub mod landlock_rules;
mod landlock_version;
pub mod loop_device;
pub mod netns;
pub mod observe;
pub mod preflight;
pub mod proc_view;
pub mod process;
pub mod root;
pub mod seccomp;
pub mod secret_memory;
pub mod spawn;
pub mod spec;
mod syscall;
pub mod terminal;
pub mod timing;
pub mod transfer;
pub mod unix_edge;
pub mod usage;

pub use landlock_version::landlock_version;
