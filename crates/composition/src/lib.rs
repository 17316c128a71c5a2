//! Compose file to lock, measurements and Merkle proofs: strings in, values out.
//!
//! What it is: the typed reading of a Compose file, the lock it resolves to, and the digests that evidence
//! carries for it. What it is not: a runner; nothing here touches a file, a clock or a network.
//! Who trusts it: the warden measures with it, the verifier recomputes with it.

pub mod compose;
pub mod cores;
pub mod explain;
pub mod host;
mod interpolate;
pub mod keys;
pub mod load;
pub mod lock;
pub mod lock_file;
pub mod merkle;
pub mod network;
pub mod one_off;
pub mod order;
pub mod plan;
pub mod problem;
pub mod replicas;
pub mod resolve;
pub mod rules;
pub mod sockets;
mod source;
pub mod suggest;
mod units;
mod yaml;

pub use compose::Compose;
pub use lock::Lock;
pub use lock_file::LockError;
pub use merkle::Proof;
pub use plan::Plan;
pub use problem::{Problem, Problems};
pub use resolve::ImageFacts;
