//! What the programs say to each other and what evidence is made of: shapes, bounds and canonical bytes.
//!
//! What it is: the claim sets (box, agent token, EAR), their CMW wrapping, the event log, the key-broker
//! messages (RCAR 0.4.0), and the messages between warden, courier, gateway, agents and the command line.
//! What it is not: cryptography or IO. Everything parsed here is an allegation until the verifier says otherwise.
//! Who trusts it: every program; the verifier for claim shapes.

pub mod agent_api;
pub mod agent_token;
pub mod box_claims;
pub mod cmw;
pub mod control;
pub mod controls;
pub mod courier;
pub mod ear;
pub mod edges;
pub mod event;
pub mod gateway;
pub mod inside;
pub mod jwk;
pub mod lifecycle;
pub mod nonce;
pub mod posture;
pub mod rcar;
pub mod refusal;
pub mod vtpm;

pub use nonce::Nonce;
pub use refusal::Refusal;
