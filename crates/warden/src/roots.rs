//! The root of each agent: the image verified, and mounted by the launcher or, where agents share it, here.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use casemate_composition::lock::{Agent, AgentName, ImagePin};
use casemate_images::{ImageError, Store, VerifiedRootfs};
use casemate_sys::root::{self, ImageFiles, RootError};
use tokio::sync::Mutex;

use crate::agent::blocking;
use crate::error::WardenError;

/// A group's name and the image that its agents share.
type Group = (AgentName, ImagePin);

/// The image store, and what is in use of it.
pub(crate) struct Roots {
    images: Arc<Store>,
    verified: Mutex<Vec<(ImagePin, Verified)>>,
    shared: Mutex<Vec<(Group, Rc<Shared>)>>,
}

struct Verified {
    image: Arc<VerifiedRootfs>,
    finished: Instant,
}

/// One mount for the agents of a group, of the very files that are verified before each use.
pub(crate) struct Shared {
    image: Arc<VerifiedRootfs>,
    mount: OwnedFd,
    number: u64,
}

/// What an agent's root is made of.
pub(crate) enum Root {
    /// A file system instance of its own, from a copy of the metadata with this number.
    Own(Arc<VerifiedRootfs>, u64),
    /// One more mount of its group's.
    Shared(Rc<Shared>),
}

impl Root {
    /// What the backend is given.
    pub(crate) fn object(&self) -> casemate_compartment::Root<'_> {
        match self {
            Self::Own(image, number) => casemate_compartment::Root::Image(files_of(image), *number),
            Self::Shared(shared) => casemate_compartment::Root::Shared(shared.mount.as_fd(), shared.number),
        }
    }
}

impl Roots {
    pub(crate) fn of(images: &Path) -> Result<Self, WardenError> {
        let images = Arc::new(Store::open(images).map_err(image_error)?);
        Ok(Self { images, verified: Mutex::new(Vec::new()), shared: Mutex::new(Vec::new()) })
    }

    /// The root of an agent that starts now. Its bytes are compared with the lock's digest at each start; agents that
    /// ask at the same time get the answer of one comparison.
    pub(crate) async fn root(&self, agent: &Agent) -> Result<Root, WardenError> {
        match &agent.share {
            None => Ok(Root::Own(self.verified(&agent.image, None).await?, fresh_number()?)),
            Some(group) => self.shared(group, &agent.image).await.map(Root::Shared),
        }
    }

    async fn shared(&self, group: &AgentName, pin: &ImagePin) -> Result<Rc<Shared>, WardenError> {
        let mut all = self.shared.lock().await;
        let is_it = |(known, of): &Group| known == group && of.rootfs == pin.rootfs;
        if let Some((_, shared)) = all.iter().find(|(key, _)| is_it(key)) {
            self.verified(pin, Some(&shared.image)).await?;
            return Ok(Rc::clone(shared));
        }
        let image = self.verified(pin, None).await?;
        let number = fresh_number()?;
        let mount = root::shared(files_of(&image), number).map_err(root_error)?;
        let shared = Rc::new(Shared { image, mount, number });
        all.push(((group.clone(), pin.clone()), Rc::clone(&shared)));
        Ok(shared)
    }

    /// The image, verified by a comparison that ended after the call began: `file` itself where there is one, else what
    /// the store has.
    async fn verified(
        &self,
        pin: &ImagePin,
        file: Option<&Arc<VerifiedRootfs>>,
    ) -> Result<Arc<VerifiedRootfs>, WardenError> {
        let asked = Instant::now();
        let mut verified = self.verified.lock().await;
        let is_wanted = |image: &Arc<VerifiedRootfs>| file.is_none_or(|file| Arc::ptr_eq(file, image));
        if let Some((_, known)) =
            verified.iter().find(|(known, of)| known == pin && of.finished >= asked && is_wanted(&of.image))
        {
            return Ok(Arc::clone(&known.image));
        }
        let (images, wanted, file) = (Arc::clone(&self.images), pin.clone(), file.cloned());
        let image = blocking(move || match file {
            Some(file) => file.verify_again().map(|()| file),
            None => images
                .verified_rootfs(&wanted.manifest, &wanted.config, &wanted.rootfs, &mut |_| {})
                .map(Arc::new),
        })
        .await?
        .map_err(image_error)?;
        verified.retain(|(known, _)| known != pin);
        let known = Verified { image: Arc::clone(&image), finished: Instant::now() };
        verified.push((pin.clone(), known));
        Ok(image)
    }
}

fn files_of(image: &VerifiedRootfs) -> ImageFiles<'_> {
    ImageFiles { metadata: image.metadata().as_fd(), data: image.data().as_fd() }
}

fn fresh_number() -> Result<u64, WardenError> {
    root::fresh_number().map_err(root_error)
}

fn root_error(error: RootError) -> WardenError {
    WardenError::control("private-root", format!("{error}: {}", error.errno()))
}

fn image_error(error: ImageError) -> WardenError {
    let todo = error.todo();
    match error {
        ImageError::Refused(refusal) => WardenError::Refused(refusal),
        other => WardenError::Environment { what: other.to_string(), todo },
    }
}
