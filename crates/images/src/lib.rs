//! OCI images on disk, and the read-only root file systems made from them.
//!
//! What it is: a store (an OCI image layout, image specification 1.1, plus two EROFS files per set of
//! layers), the import of a root file system from a tar, and the verification of every byte before
//! an agent may use it. What it is not: a registry client yet, and nothing that mounts.
//! Who trusts it: the resolver takes an image's digests from [`Store::info`] into the lock; the
//! warden mounts only what [`Store::verified_rootfs`] returned. Whatever lies in the store or comes
//! in a tar is an allegation until it is verified against digests that the caller brings.

mod accounts;
mod blob;
mod compression;
mod docker_archive;
mod document;
mod error;
mod files;
mod formats;
mod hash;
#[doc(hidden)]
pub mod hostile;
mod import;
mod ingest;
mod inspect;
mod limits;
mod lockfile;
mod mkfs;
mod oci_layout;
mod parts;
mod progress;
mod reference;
mod rootfs;
mod store;
mod tar_entry;
mod tree;
mod unpack;
mod verify;

pub use document::Descriptor;
pub use error::{EntryProblem, ImageError, UserProblem};
pub use formats::{Format, ImportRequest, Imported};
pub use import::ImportOptions;
pub use ingest::{BlobWriter, Document, Ingest};
pub use inspect::{Inspection, LayerInfo, ListedImage, Source};
pub use limits::Limits;
pub use progress::{Progress, Step};
pub use store::{GcReport, ImageInfo, Store};
pub use verify::VerifiedRootfs;
