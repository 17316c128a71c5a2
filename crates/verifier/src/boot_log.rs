//! Event logs of firmware: replay against signed registers, and what that proves of each event.
//!
//! What it is: the step from a log that anybody may have written to statements that a signed register carries. What
//! it is not: trust in the log. Replay shows that exactly these digests were extended, in this order, into this
//! register. It shows nothing about data whose digest is something else, and nothing at all about an event's type:
//! [`EventLabel`] says for each event how far it goes. Who trusts it: appraisals, and the tables people read.
//!
//! Source: TCG PC Client Platform Firmware Profile, family 2.0, version 1.05 revision 23 ("PFP"); for TDX the UEFI
//! specification 2.10, section 38.4.1 (which measurement register stands for which PCR).

mod appraise;
mod label;
mod register;
mod replay;
mod statement;
mod table;
mod text;

#[cfg(test)]
mod appraise_tests;
#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
mod platform_tests;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod vector_tests;

pub use label::EventLabel;
pub use register::{Measured, Register, RegisterKind, RegisterValue};
pub(crate) use statement::appraise_beside;
pub use table::{BootLogRow, boot_log_rows};
