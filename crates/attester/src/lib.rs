//! How a guest obtains evidence about itself: configfs-tsm, and the registers it may extend.
//!
//! What it is: file IO on the Linux ABIs `configfs-tsm-report` and `sysfs-devices-virtual-misc-tdx_guest`. The caller
//! names the directory and this crate knows nothing more: a real kernel and a development emulator look the same.
//! What it is not: a judge of what it read; evidence is an allegation until a verifier has appraised it. Who trusts it:
//! the warden, which alone may reach these files.

mod register;
mod tsm;

pub use register::{RegisterError, RuntimeRegister};
pub use tsm::{AUXBLOB_BYTES_MAX, OUTBLOB_BYTES_MAX, Provider, Report, Tsm, TsmError};
