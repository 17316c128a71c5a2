//! The gateway program against real sockets: the tests play the warden, the agents and the outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, reason = "tests")]

mod edges;
mod egress;
mod faults;
mod limits;
mod live;
mod names;
mod namespaces;
mod throughput;
mod traffic;
mod unix;
mod warden;
