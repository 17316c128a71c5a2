//! From a reference to an image in the store: the manifest first, then its blobs, several at once.
//!
//! Every digest and size is checked here and in the store, whatever the registry says of them.

use std::collections::{BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::io::Write as _;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use casemate_canon::Sha256;
use casemate_images::{BlobWriter, Descriptor, Document, ImageError, ImageInfo, Ingest, Progress, Store};
use casemate_protocol::Refusal;
use tokio::time::timeout;

use crate::connect::Connector;
use crate::credentials::DockerConfig;
use crate::error::RegistryError;
use crate::http::Response;
use crate::limits::Limits;
use crate::reference::Reference;
use crate::settings::{Mirror, Settings};
use crate::source::{Fetched as FetchedDocument, Source};

/// A client with its settings. Nothing is kept between two pulls.
pub struct Client {
    pub(crate) connector: Connector,
    pub(crate) docker_config: DockerConfig,
    pub(crate) token_servers: BTreeSet<String>,
    pub(crate) limits: Limits,
    mirrors: Vec<Mirror>,
}

/// What happens during a pull, for whoever shows it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A mirror failed; the next source is asked.
    SourceFailed {
        /// The source.
        source: String,
        /// Why.
        error: RegistryError,
    },
    /// The manifest is known, and with it all blobs.
    Resolved {
        /// Who answered.
        source: String,
        /// Digest of the manifest for this machine.
        manifest: Sha256,
        /// Blobs that will be fetched: digest and size in bytes.
        blobs: Vec<(Sha256, u64)>,
        /// Blobs that the store has.
        present: usize,
    },
    /// So much of a blob arrived.
    Arrived {
        /// Which.
        blob: Sha256,
        /// Bytes so far.
        bytes: u64,
    },
    /// A blob is whole and verified.
    Done {
        /// Which.
        blob: Sha256,
    },
    /// A request failed and is tried again.
    Retry {
        /// Why.
        error: RegistryError,
    },
}

/// All parts of an image, verified and not yet in the store. Dropping it leaves nothing behind.
pub struct Fetched<'s> {
    ingest: Ingest<'s>,
    manifest: Sha256,
}

impl Fetched<'_> {
    /// Digest of the manifest for this machine.
    #[must_use]
    pub fn manifest(&self) -> &Sha256 {
        &self.manifest
    }

    /// Unpacks the layers, builds the root file system and names the image. Takes as long as that takes.
    ///
    /// # Errors
    /// [`ImageError`]: content that is not what its digests say, or that the store refuses.
    pub fn finish(self, name: &str, progress: &mut dyn FnMut(Progress)) -> Result<ImageInfo, ImageError> {
        self.ingest.finish(name, &self.manifest, progress)
    }
}

impl Client {
    /// With these settings.
    ///
    /// # Errors
    /// [`RegistryError::Setting`] where a setting is not usable.
    pub fn new(settings: Settings) -> Result<Self, RegistryError> {
        let connector = Connector::new(
            settings.anchors.as_deref(),
            settings.plain_hosts,
            settings.proxies,
            &settings.limits,
        )?;
        Ok(Self {
            connector,
            docker_config: settings.docker_config,
            token_servers: settings.token_servers,
            limits: settings.limits,
            mirrors: settings.mirrors,
        })
    }

    /// Fetches all parts that the store does not have. Mirrors are asked first, each part falls back to the next
    /// source. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    /// [`RegistryError`], that of the last source.
    pub async fn fetch<'s>(
        &self,
        store: &'s Store,
        reference: &Reference,
        on_event: &dyn Fn(Event),
    ) -> Result<Fetched<'s>, RegistryError> {
        let sources = self.sources(reference).await?;
        let (mut rest, mut failed) = (sources.as_slice(), None);
        while let Some((source, later)) = rest.split_first() {
            match self.resolve(store, reference, source).await {
                Ok((ingest, manifest, blobs)) => {
                    let missing: Vec<_> =
                        blobs.iter().filter(|blob| !ingest.has(&blob.digest, blob.size)).cloned().collect();
                    on_event(Event::Resolved {
                        source: source.name.clone(),
                        manifest,
                        blobs: missing.iter().map(|blob| (blob.digest, blob.size)).collect(),
                        present: blobs.len().saturating_sub(missing.len()),
                    });
                    self.fetch_blobs(&ingest, missing, rest, on_event).await?;
                    return Ok(Fetched { ingest, manifest });
                }
                Err(error) if later.is_empty() => failed = Some(error),
                Err(error) => on_event(Event::SourceFailed { source: source.name.clone(), error }),
            }
            rest = later;
        }
        Err(failed.unwrap_or(RegistryError::NotFound { url: reference.to_string(), remark: String::new() }))
    }

    async fn sources(&self, reference: &Reference) -> Result<Vec<Source<'_>>, RegistryError> {
        let mut sources = Vec::new();
        for mirror in self.mirrors.iter().filter(|mirror| mirror.of == reference.registry()) {
            sources.push(Source::mirror(self, &mirror.url, reference)?);
        }
        sources.push(Source::registry(self, reference).await?);
        Ok(sources)
    }

    /// From the name to the manifest for this machine, through indexes.
    async fn resolve<'s>(
        &self,
        store: &'s Store,
        reference: &Reference,
        source: &Source<'_>,
    ) -> Result<(Ingest<'s>, Sha256, Vec<Descriptor>), RegistryError> {
        let mut ingest = store.ingest(&format!("{reference} from {}", source.name))?;
        let mut wanted = reference.wanted();
        let mut expected = reference.digest().copied();
        let mut size = None;
        loop {
            let fetched = source.manifest(&wanted).await?;
            let digest = verify_document(&fetched, expected.as_ref(), size)?;
            let document = ingest.document(&digest, &fetched.bytes)?;
            let is_index = matches!(document, Document::Index { .. });
            if is_index != (fetched.kind == crate::source::Kind::Index) {
                // One document that two programs read as two different things (GHSA-77vh-xpmg-72qh).
                let found = if is_index { "an index" } else { "a manifest" };
                return Err(Refusal::new("registry.manifest.type", fetched.kind.name(), found).into());
            }
            match document {
                Document::Index { chosen } => {
                    wanted = chosen.digest.to_string();
                    expected = Some(chosen.digest);
                    size = Some(chosen.size);
                }
                Document::Manifest { mut blobs } => {
                    let mut seen = BTreeSet::new();
                    blobs.retain(|blob| seen.insert(blob.digest));
                    return Ok((ingest, digest, blobs));
                }
            }
        }
    }

    async fn fetch_blobs(
        &self,
        ingest: &Ingest<'_>,
        blobs: Vec<Descriptor>,
        sources: &[Source<'_>],
        on_event: &dyn Fn(Event),
    ) -> Result<(), RegistryError> {
        let workers = self.limits.blobs_at_once_max.clamp(1, blobs.len().max(1));
        let queue = Mutex::new(VecDeque::from(blobs));
        let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let worker = || async {
            while let Some(blob) = take() {
                self.fetch_from_any(ingest, &blob, sources, on_event).await?;
                on_event(Event::Done { blob: blob.digest });
            }
            Ok(())
        };
        all_of((0..workers).map(|_| Box::pin(worker()) as Worker<'_>).collect()).await
    }

    async fn fetch_from_any(
        &self,
        ingest: &Ingest<'_>,
        blob: &Descriptor,
        sources: &[Source<'_>],
        on_event: &dyn Fn(Event),
    ) -> Result<(), RegistryError> {
        let mut rest = sources;
        loop {
            let Some((source, later)) = rest.split_first() else {
                return Err(ImageError::NotFound { what: blob.digest.to_string() }.into());
            };
            let writer = ingest.blob(&blob.digest, blob.size)?;
            match self.fetch_blob(writer, blob, source, on_event).await {
                Ok(()) => return Ok(()),
                Err(error) if later.is_empty() => return Err(error),
                Err(error) => on_event(Event::SourceFailed { source: source.name.clone(), error }),
            }
            rest = later;
        }
    }

    /// One blob from one source. What a broken connection brought is kept, and the rest asked for.
    async fn fetch_blob(
        &self,
        mut writer: BlobWriter,
        blob: &Descriptor,
        source: &Source<'_>,
        on_event: &dyn Fn(Event),
    ) -> Result<(), RegistryError> {
        let (mut attempt, mut progress) = (1, 0);
        loop {
            let error = match self.fetch_once(&mut writer, blob, source, on_event).await {
                Ok(()) => return Ok(writer.commit()?),
                Err(error) => error,
            };
            let written = writer.written_bytes();
            if written.saturating_sub(progress) >= self.limits.progress_bytes_min {
                (attempt, progress) = (1, written);
            }
            match source.wait_before_retry(&error, attempt).await {
                Some(()) => on_event(Event::Retry { error }),
                None => return Err(error),
            }
            attempt = attempt.saturating_add(1);
        }
    }

    async fn fetch_once(
        &self,
        writer: &mut BlobWriter,
        blob: &Descriptor,
        source: &Source<'_>,
        on_event: &dyn Fn(Event),
    ) -> Result<(), RegistryError> {
        let from = writer.written_bytes();
        let mut response = source.blob(&blob.digest.to_string(), from).await?;
        let skip = check_range(&response, from, blob.size)?;
        let left = blob.size.saturating_sub(from);
        let seconds = left / self.limits.body_bytes_per_s_min.max(1);
        let ms = self.limits.stall_ms_max.saturating_add(seconds.saturating_mul(1000));
        let url = response.url.to_string();
        let on_bytes = |bytes| on_event(Event::Arrived { blob: blob.digest, bytes });
        let copying = copy(&mut response, writer, skip, &on_bytes);
        timeout(Duration::from_millis(ms), copying).await.unwrap_or(Err(RegistryError::TimedOut {
            url,
            what: "the blob was not whole",
            ms,
        }))
    }
}

/// The digest of a document, after a look that it is the one that was asked for.
fn verify_document(
    fetched: &FetchedDocument,
    expected: Option<&Sha256>,
    size: Option<u64>,
) -> Result<Sha256, RegistryError> {
    let found = Sha256::of(&fetched.bytes);
    let length = fetched.bytes.len() as u64;
    if let Some(size) = size.filter(|size| *size != length) {
        return Err(Refusal::new("registry.manifest.size", size, length).into());
    }
    if let Some(expected) = expected.filter(|expected| **expected != found) {
        return Err(Refusal::new("registry.manifest.digest", expected, found).into());
    }
    // Only for a tag: a digest that was asked for is the better witness.
    if let (None, Some(header)) = (expected, &fetched.digest_header)
        && header.starts_with("sha256:")
        && *header != found.to_string()
    {
        return Err(Refusal::new("registry.manifest.digest", header, found).into());
    }
    if fetched.bytes.is_empty() {
        return Err(RegistryError::form(&fetched.url, "a manifest", "nothing"));
    }
    Ok(found)
}

/// How many bytes of the answer are there already.
fn check_range(response: &Response, from: u64, size: u64) -> Result<u64, RegistryError> {
    let (skip, length) = if response.status.as_u16() == 206 {
        let range = response.header("content-range").unwrap_or_default();
        if !range.starts_with(&format!("bytes {from}-")) {
            let expected = "the part that was asked for";
            return Err(RegistryError::form(&response.url, expected, &format!("`{range}`")));
        }
        (0, size.saturating_sub(from))
    } else {
        (from, size)
    };
    match response.content_length() {
        Some(found) if found != length => Err(Refusal::new("registry.blob.size", length, found).into()),
        _ => Ok(skip),
    }
}

/// Writes the body behind its first `skip` bytes. The writer ends it where more comes than announced.
async fn copy(
    response: &mut Response,
    writer: &mut BlobWriter,
    mut skip: u64,
    on_bytes: &dyn Fn(u64),
) -> Result<(), RegistryError> {
    while let Some(piece) = response.next().await? {
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
        skip = skip.saturating_sub(skipped as u64);
        let new = piece.get(skipped..).unwrap_or_default();
        writer.write_all(new).map_err(|error| match error.downcast::<ImageError>() {
            Ok(error) => RegistryError::Image(error),
            Err(error) => RegistryError::Image(ImageError::Io {
                what: "write",
                path: "a blob below the image store".to_owned(),
                kind: error.kind(),
                problem: error.to_string(),
            }),
        })?;
        on_bytes(writer.written_bytes());
    }
    Ok(())
}

/// One of several things that go on at once.
type Worker<'a> = Pin<Box<dyn Future<Output = Result<(), RegistryError>> + 'a>>;

/// Waits for all, or for the first error; the others are dropped then.
async fn all_of(mut futures: Vec<Worker<'_>>) -> Result<(), RegistryError> {
    poll_fn(|cx| {
        let mut failed = None;
        futures.retain_mut(|future| match future.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(error)) => {
                failed.get_or_insert(error);
                false
            }
        });
        match failed {
            Some(error) => Poll::Ready(Err(error)),
            None if futures.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}
