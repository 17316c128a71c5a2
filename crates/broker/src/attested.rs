//! What was appraised: results in memory, found by session cookie or by token, for as long as the token lives.
//!
//! What it is: a bounded table. What it is not: persistent: after a restart an agent is appraised anew. A token is
//! compared whole, by digest: only a token of this very table is found, and its signature needs no second look.
//! Who trusts it: the resource route.

use std::collections::HashMap;
use std::sync::Arc;

use casemate_canon::{Sha256, Sha384};
use casemate_verifier::Appraisal;

use crate::store::decisions::Subject;
use crate::store::sessions::SESSIONS_MAX;

/// Most resources that one session may ask for.
pub(crate) const FETCHES_MAX: u32 = 1_000;

/// One appraisal in force.
#[derive(Clone)]
pub(crate) struct Attested {
    /// The result.
    pub(crate) appraisal: Arc<Appraisal>,
    /// The policy that it rests on.
    pub(crate) policy_id: Sha384,
    /// Whom it is about, for the log.
    pub(crate) subject: Subject,
    /// Its nonce, for the log.
    pub(crate) nonce: String,
    /// Last second of its life.
    pub(crate) expires_at: u64,
}

/// Why there is nothing in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAttested {
    /// None, or none any more.
    Unknown,
    /// It asked for [`FETCHES_MAX`] resources.
    TooMany,
}

/// Every appraisal in force.
#[derive(Default)]
pub(crate) struct AttestedSessions {
    by_session: HashMap<String, Entry>,
    by_token: HashMap<Sha256, String>,
}

struct Entry {
    attested: Attested,
    token: Sha256,
    fetches: u32,
}

/// How a caller names its appraisal.
pub(crate) enum Credential<'a> {
    /// Session cookie.
    Session(&'a str),
    /// Token.
    Token(&'a str),
}

impl AttestedSessions {
    /// Adds an appraisal. Returns whether there was room.
    pub(crate) fn insert(&mut self, session: String, token: &str, attested: Attested, now: u64) -> bool {
        self.sweep(now);
        if i64::try_from(self.by_session.len()).unwrap_or(i64::MAX) >= SESSIONS_MAX {
            return false;
        }
        let token = Sha256::of(token.as_bytes());
        self.by_token.insert(token, session.clone());
        if let Some(old) = self.by_session.insert(session, Entry { attested, token, fetches: 0 })
            && old.token != token
        {
            self.by_token.remove(&old.token);
        }
        true
    }

    /// The appraisal of a caller, counting the request.
    pub(crate) fn find(&mut self, credential: &Credential<'_>, now: u64) -> Result<Attested, NotAttested> {
        let session = match credential {
            Credential::Session(id) => *id,
            Credential::Token(token) => {
                self.by_token.get(&Sha256::of(token.as_bytes())).ok_or(NotAttested::Unknown)?
            }
        };
        let entry = self.by_session.get_mut(session).ok_or(NotAttested::Unknown)?;
        if entry.attested.expires_at < now {
            return Err(NotAttested::Unknown);
        }
        if entry.fetches >= FETCHES_MAX {
            return Err(NotAttested::TooMany);
        }
        entry.fetches = entry.fetches.saturating_add(1);
        Ok(entry.attested.clone())
    }

    /// Forgets what has expired.
    pub(crate) fn sweep(&mut self, now: u64) {
        self.by_session.retain(|_, entry| entry.attested.expires_at >= now);
        let by_session = &self.by_session;
        self.by_token.retain(|_, session| by_session.contains_key(session));
    }
}
