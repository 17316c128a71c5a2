//! The gateway: carries every byte between agents and to the outside, over sockets that were born in each
//! agent's own network namespace and handed over by the warden.
//!
//! What it is: the program's parts, as a library so that tests can run them. The socket that a connection
//! arrives on says who calls; no byte of the connection can change it, and no payload is ever parsed.
//! What it is not: a firewall, an HTTP proxy or a holder of secrets. It decides nothing but "is this address
//! one that a name may stand for" and "is this edge used up"; who may talk to whom is which sockets the warden hands
//! over, and which edges it closes again.
//! Who trusts it: agents, for reaching the declared peer and no other. It trusts the warden alone.

mod buffers;
mod carry;
mod connections;
mod control;
mod denials;
mod descriptors;
mod dials;
mod dns;
mod edges;
mod egress;
mod error;
mod gateway;
mod limits;
mod pools;
pub mod process;
mod resolver;
mod streams;

pub use error::{DescriptorFault, GatewayError};
pub use gateway::serve;
pub use limits::Limits;
