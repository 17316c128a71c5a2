//! Key-broker (RCAR 0.4.0) client: what to say to a broker, and a small TLS transport to say it with.
//!
//! What it is: [`session`], the protocol as types without IO (begin, challenged, attested); [`jwe`], which takes a
//! sealed secret apart; [`broker`], a bounded HTTP/1.1 client over TLS that trusts one certificate file only.
//! What it is not: a holder of keys or secrets. All it carries is public or sealed.
//! Who trusts it: the courier. What it returns is still the network's word.

pub mod broker;
pub mod error;
pub mod jwe;
pub mod session;

pub use broker::BrokerClient;
pub use error::ClientError;
pub use jwe::decode_jwe;
pub use session::{Attested, Challenged};
