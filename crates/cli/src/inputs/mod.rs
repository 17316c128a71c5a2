//! What commands read and write: files with bounds, the Compose file, its lock, images, and what trust rests on.

mod compose;
mod files;
mod images;
mod keys;
mod lock;
mod reference;
mod registry;
mod sandbox;
mod trust;

pub(crate) use compose::*;
pub(crate) use files::*;
pub(crate) use images::*;
pub(crate) use keys::*;
pub(crate) use lock::*;
pub(crate) use reference::*;
pub(crate) use registry::*;
pub(crate) use sandbox::*;
pub(crate) use trust::*;
