//! Pulls images from OCI registries (distribution specification 1.1) into the image store.
//!
//! What it is: names of images, credentials, and a client that asks as little as it can and believes nothing: every
//! document and blob is compared with the digest and the size that a verified document or the user names, before the
//! store keeps it. What it is not: a way to push, or anything that the box contains: only the command links it, so no
//! TLS and no registry code is in the warden's tree (`cargo xtask layers`).
//! Who trusts it: the user, for which manifest a *tag* names. That is the registry's word alone, or the mirror's; the
//! lock pins what it was.
//!
//! Architecture invariant: credentials go to the registry that they are for, and to its token server on the same site or
//! one that the user named. Never to the target of a redirect, never over plain HTTP to another machine.

mod auth;
mod connect;
mod credentials;
mod error;
#[doc(hidden)]
pub mod hostile;
mod http;
mod limits;
mod proxy;
mod pull;
mod reference;
mod settings;
mod source;
mod url;

pub use credentials::{Credential, DockerConfig};
pub use error::{CredentialsSent, RegistryError};
pub use limits::Limits;
pub use proxy::Proxies;
pub use pull::{Client, Event, Fetched};
pub use reference::{DOCKER_HUB, Reference, ReferenceError, ReferenceProblem};
pub use settings::{Mirror, Settings, parse_host};
