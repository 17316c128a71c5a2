//! Request bodies: how much of them the broker takes in, from whom, and for how long.
//!
//! What it is: limits in bytes, seconds and places, before anything is parsed. What it is not: parsing. Memory is
//! paid for byte by byte as it fills: whoever opens a request and sends nothing holds nothing that others wait for.
//! Who trusts it: the routes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use casemate_protocol::rcar::REQUEST_BYTES_MAX;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::ApiError;

/// Most bytes of evidence in memory at a time, in KiB.
const EVIDENCE_KIB_MAX: usize = 96 << 10;
/// Most evidence that is parsed and appraised at a time.
const APPRAISALS_MAX: usize = 4;
/// Time for the body of a request, in seconds.
const BODY_S_MAX: u64 = 10;
/// Time for a place, in seconds.
const PLACE_S_MAX: u64 = 5;
/// Time for the rest of a body that is not wanted any more, in seconds.
const DISCARD_S_MAX: u64 = 5;

/// The places for evidence.
pub(super) struct Intake {
    memory: Arc<Semaphore>,
    appraisals: Arc<Semaphore>,
    sessions: Mutex<HashSet<String>>,
}

/// Right to work on the evidence of one session; ends when dropped.
pub(super) struct SessionPlace {
    intake: Arc<Intake>,
    id: String,
}

/// Bytes, with their places in memory.
pub(super) struct Taken {
    /// The body.
    pub(super) bytes: Vec<u8>,
    places: Option<OwnedSemaphorePermit>,
}

impl Intake {
    /// Every place free.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: Arc::new(Semaphore::new(EVIDENCE_KIB_MAX)),
            appraisals: Arc::new(Semaphore::new(APPRAISALS_MAX)),
            sessions: Mutex::new(HashSet::new()),
        })
    }

    /// The one place of a session.
    pub(super) fn session(self: &Arc<Self>, id: &str) -> Result<SessionPlace, ApiError> {
        let mut sessions =
            self.sessions.lock().map_err(|_| ApiError::Unavailable { what: "the table of bodies failed" })?;
        if !sessions.insert(id.to_owned()) {
            return Err(ApiError::TooMany { what: "evidence of this session is already on its way" });
        }
        Ok(SessionPlace { intake: Arc::clone(self), id: id.to_owned() })
    }

    /// A place to appraise in.
    pub(super) async fn appraisal(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        place(&self.appraisals, 1).await
    }

    /// Reads the body of evidence.
    pub(super) async fn read(&self, body: Body) -> Result<Taken, ApiError> {
        read_within(body, REQUEST_BYTES_MAX, Some(&self.memory)).await
    }
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        if let Ok(mut sessions) = self.intake.sessions.lock() {
            sessions.remove(&self.id);
        }
    }
}

/// Reads a small body.
pub(super) async fn read_small(body: Body, max: usize) -> Result<Vec<u8>, ApiError> {
    read_within(body, max, None).await.map(|taken| taken.bytes)
}

/// Reads a body to nowhere, for a bounded time: a sender that is cut off in its middle does not see the answer.
pub(super) async fn discard(mut body: Body) {
    let reading = async {
        let mut left = REQUEST_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, |data| data.len());
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    };
    // Late or not, the answer follows.
    let _ = timeout(Duration::from_secs(DISCARD_S_MAX), reading).await;
}

async fn read_within(body: Body, max: usize, memory: Option<&Arc<Semaphore>>) -> Result<Taken, ApiError> {
    timeout(Duration::from_secs(BODY_S_MAX), read_frames(body, max, memory))
        .await
        .map_err(|_| ApiError::Malformed { what: "body takes too long" })?
}

async fn read_frames(mut body: Body, max: usize, memory: Option<&Arc<Semaphore>>) -> Result<Taken, ApiError> {
    let mut taken = Taken { bytes: Vec::new(), places: None };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::Malformed { what: "body ended early" })?;
        let Some(data) = frame.data_ref() else { continue };
        let length = taken.bytes.len().saturating_add(data.len());
        if length > max {
            return Err(ApiError::TooLong { max });
        }
        if let Some(memory) = memory {
            let held = taken.places.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = length.div_ceil(1024).saturating_sub(held);
            if more > 0 {
                let more = place(memory, more).await?;
                match &mut taken.places {
                    Some(places) => places.merge(more),
                    none => *none = Some(more),
                }
            }
        }
        taken.bytes.extend_from_slice(data);
    }
    Ok(taken)
}

async fn place(places: &Arc<Semaphore>, count: usize) -> Result<OwnedSemaphorePermit, ApiError> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    timeout(Duration::from_secs(PLACE_S_MAX), Arc::clone(places).acquire_many_owned(count))
        .await
        .map_err(|_| ApiError::Unavailable { what: "too much evidence at a time" })?
        .map_err(|_| ApiError::Unavailable { what: "the broker is stopping" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn a_session_has_one_body_at_a_time() {
        let intake = Intake::new();
        let first = intake.session("a").unwrap();
        let what = "evidence of this session is already on its way";
        assert_eq!(intake.session("a").err(), Some(ApiError::TooMany { what }));
        intake.session("b").unwrap();
        drop(first);
        intake.session("a").unwrap();
    }

    #[test]
    fn a_body_holds_as_much_memory_as_it_has_filled() {
        block_on(async {
            let intake = Intake::new();
            let whole = intake.read(Body::from(vec![0; 3000])).await.unwrap();
            assert_eq!(intake.memory.available_permits(), EVIDENCE_KIB_MAX - 3);
            drop(whole);
            assert_eq!(intake.memory.available_permits(), EVIDENCE_KIB_MAX);
            let error = intake.read(Body::from(vec![0; REQUEST_BYTES_MAX + 1])).await.err();
            assert_eq!(error, Some(ApiError::TooLong { max: REQUEST_BYTES_MAX }));
            assert_eq!(intake.memory.available_permits(), EVIDENCE_KIB_MAX);
        });
    }

    #[test]
    fn says_that_it_is_busy_when_no_place_becomes_free() {
        block_on(async {
            let intake = Intake::new();
            let all = Arc::clone(&intake.memory).acquire_many_owned(96 << 10).await.unwrap();
            let busy = ApiError::Unavailable { what: "too much evidence at a time" };
            assert_eq!(intake.read(Body::from("x")).await.err(), Some(busy));
            drop(all);
            assert_eq!(intake.read(Body::from("x")).await.unwrap().bytes, b"x");
        });
    }
}
