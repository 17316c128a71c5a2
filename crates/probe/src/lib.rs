//! The peer probe: attacks from one agent on another, each tried, and none called blocked that was not seen to work.
//!
//! What it is: a battery of attacks, one file each; the program that plays victim and attacker (`casemate-probe`); and the
//! driver that has both play in a target, in the positive control (two plain processes of one user) and in the negative one
//! (a victim that does nothing), and says what came of it. What it is not: a proof. It tries what is known, on this machine,
//! now. Who trusts it: people who decide whether two agents may live in one box; docs/residual-surface.md.

pub mod attack;
pub mod attacks;
pub mod battery;
pub mod channel;
pub mod matrix;
pub mod plain;
pub mod program;
pub mod run;
pub mod target;
pub mod verdict;
mod wire;
