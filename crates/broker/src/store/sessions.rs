//! Sessions: a nonce that is issued once, lives shortly and is spent once, whatever comes of it.
//!
//! What it is: issue, spend, expire; on disk, so that a restart does not revive a nonce. What it is not: the result
//! of an appraisal, which lives in memory only (`attested`). Who trusts it: the API.

use casemate_protocol::Refusal;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{Store, StoreError};

/// Most sessions at a time.
pub(crate) const SESSIONS_MAX: i64 = 10_000;
/// Life of a nonce in seconds.
pub(crate) const NONCE_LIFE_S: u64 = 300;
/// Most times that one session may send evidence; all but the first are refused.
pub(crate) const ATTEMPTS_MAX: i64 = 8;
/// Rule of a nonce that is not this session's fresh one.
pub(crate) const RULE_NONCE: &str = "nonce";

/// What a session's nonce is worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    /// It is fresh (or was, and is spent now), and this is the session.
    Fresh(Session),
    /// It cannot be used; the rule says why.
    Refused {
        /// The session.
        session: Session,
        /// Why.
        refusal: Refusal,
    },
    /// No such session.
    Unknown,
    /// The session tried [`ATTEMPTS_MAX`] times.
    TooMany,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Its nonce.
    pub(crate) nonce: String,
    /// Kind of evidence that it announced.
    pub(crate) tee: String,
}

impl Store {
    /// Opens a session. Not logged: anyone may ask for a challenge, as often as they like.
    pub(crate) fn issue(&mut self, id: &str, nonce: &str, tee: &str, now: u64) -> Result<(), StoreError> {
        let transaction = self.write()?;
        // Kept for one life longer than valid: an old nonce is then named as such, and not unknown.
        let gone = seconds(now.saturating_sub(NONCE_LIFE_S));
        transaction.execute("DELETE FROM sessions WHERE expires_at < ?1", [gone])?;
        let open: i64 = transaction.query_row("SELECT COUNT(*) FROM sessions", [], |row| row.get(0))?;
        if open >= SESSIONS_MAX {
            transaction.execute(
                "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions ORDER BY expires_at LIMIT ?1)",
                [open.saturating_sub(SESSIONS_MAX).saturating_add(1)],
            )?;
        }
        let expires = seconds(now.saturating_add(NONCE_LIFE_S));
        transaction.execute(
            "INSERT INTO sessions (id, nonce, tee, issued_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, nonce, tee, seconds(now), expires],
        )?;
        Ok(transaction.commit()?)
    }

    /// Whether session `id` may send evidence now; counts the attempt. Nothing is spent yet.
    pub(crate) fn admit(&mut self, id: &str, now: u64) -> Result<Spent, StoreError> {
        let transaction = self.write()?;
        let Some(found) = find(&transaction, id)? else { return Ok(Spent::Unknown) };
        if found.attempts >= ATTEMPTS_MAX {
            return Ok(Spent::TooMany);
        }
        transaction.execute("UPDATE sessions SET attempts = attempts + 1 WHERE id = ?1", [id])?;
        transaction.commit()?;
        Ok(found.judged(now))
    }

    /// Spends the nonce of session `id`, which evidence claims to be `claimed`.
    pub(crate) fn spend(&mut self, id: &str, claimed: &str, now: u64) -> Result<Spent, StoreError> {
        let transaction = self.write()?;
        let Some(found) = find(&transaction, id)? else { return Ok(Spent::Unknown) };
        transaction.execute(
            "UPDATE sessions SET used_at = COALESCE(used_at, ?2) WHERE id = ?1",
            params![id, seconds(now)],
        )?;
        transaction.commit()?;
        Ok(match found.judged(now) {
            Spent::Fresh(session) if session.nonce != claimed => {
                let refusal = Refusal::new(RULE_NONCE, &session.nonce, claimed);
                Spent::Refused { session, refusal }
            }
            judged => judged,
        })
    }
}

/// A session as stored.
struct Found {
    session: Session,
    expires_at: i64,
    used_at: Option<i64>,
    attempts: i64,
}

impl Found {
    /// What its nonce is worth at this time.
    fn judged(self, now: u64) -> Spent {
        let refusal = if self.used_at.is_some() {
            Refusal::new(RULE_NONCE, "a nonce that was not used before", "a nonce that was used")
        } else if self.expires_at < seconds(now) {
            let age = seconds(now).saturating_sub(self.expires_at).saturating_add(seconds(NONCE_LIFE_S));
            let expected = format!("a nonce of at most {NONCE_LIFE_S} s");
            Refusal::new(RULE_NONCE, expected, format_args!("one of {age} s"))
        } else {
            return Spent::Fresh(self.session);
        };
        Spent::Refused { session: self.session, refusal }
    }
}

fn find(transaction: &Transaction<'_>, id: &str) -> Result<Option<Found>, StoreError> {
    let sql = "SELECT nonce, tee, expires_at, used_at, attempts FROM sessions WHERE id = ?1";
    let found = transaction.query_row(sql, [id], |row| {
        Ok(Found {
            session: Session { nonce: row.get(0)?, tee: row.get(1)? },
            expires_at: row.get(2)?,
            used_at: row.get(3)?,
            attempts: row.get(4)?,
        })
    });
    Ok(found.optional()?)
}

fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::temporary;
    use super::*;

    fn rule(spent: Spent) -> Refusal {
        match spent {
            Spent::Refused { refusal, .. } => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_nonce_is_spent_once() {
        let (_root, _, mut store) = temporary();
        store.issue("s", "n1", "tdx", 100).unwrap();
        let fresh = Spent::Fresh(Session { nonce: "n1".into(), tee: "tdx".into() });
        assert_eq!(store.spend("s", "n1", 101).unwrap(), fresh);
        let refusal = rule(store.spend("s", "n1", 101).unwrap());
        assert_eq!(refusal.found, "a nonce that was used");
        assert_eq!(store.spend("t", "n1", 101).unwrap(), Spent::Unknown);
    }

    #[test]
    fn a_wrong_nonce_spends_the_right_one() {
        let (_root, _, mut store) = temporary();
        store.issue("s", "n1", "tdx", 100).unwrap();
        assert_eq!(rule(store.spend("s", "n0", 101).unwrap()), Refusal::new(RULE_NONCE, "n1", "n0"));
        assert_eq!(rule(store.spend("s", "n1", 101).unwrap()).found, "a nonce that was used");
    }

    #[test]
    fn a_nonce_lives_to_its_last_second() {
        let (_root, _, mut store) = temporary();
        store.issue("a", "n1", "tdx", 100).unwrap();
        store.issue("b", "n2", "tdx", 100).unwrap();
        assert!(matches!(store.spend("a", "n1", 100 + NONCE_LIFE_S).unwrap(), Spent::Fresh(_)));
        assert_eq!(rule(store.spend("b", "n2", 101 + NONCE_LIFE_S).unwrap()).found, "one of 301 s");
    }

    #[test]
    fn admits_only_a_known_session_whose_nonce_is_fresh() {
        let (_root, _, mut store) = temporary();
        store.issue("s", "n1", "tdx", 100).unwrap();
        store.issue("late", "n2", "tdx", 100).unwrap();
        assert_eq!(store.admit("t", 101).unwrap(), Spent::Unknown);
        assert!(matches!(store.admit("s", 101).unwrap(), Spent::Fresh(_)));
        assert_eq!(rule(store.admit("late", 101 + NONCE_LIFE_S).unwrap()).found, "one of 301 s");
        store.spend("s", "n1", 102).unwrap();
        assert_eq!(rule(store.admit("s", 103).unwrap()).found, "a nonce that was used");
    }

    #[test]
    fn a_challenge_leaves_no_row_in_the_log() {
        let (_root, _, mut store) = temporary();
        store.issue("s", "n1", "tdx", 100).unwrap();
        let mut rows = 0;
        store.walk_log(|_| rows += 1).unwrap();
        assert_eq!(rows, 0);
    }

    #[test]
    fn attempts_are_counted_and_old_sessions_swept() {
        let (_root, _, mut store) = temporary();
        store.issue("s", "n1", "tdx", 100).unwrap();
        for _ in 0..ATTEMPTS_MAX {
            assert!(matches!(store.admit("s", 101).unwrap(), Spent::Fresh(_)));
        }
        assert_eq!(store.admit("s", 101).unwrap(), Spent::TooMany);
        store.issue("t", "n2", "tdx", 101 + 2 * NONCE_LIFE_S).unwrap();
        assert_eq!(store.spend("s", "n1", 101).unwrap(), Spent::Unknown);
    }

    #[test]
    fn the_oldest_session_makes_room() {
        let (_root, _, mut store) = temporary();
        store.issue("oldest", "n0", "tdx", 99).unwrap();
        let fill = format!(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {SESSIONS_MAX})
             INSERT INTO sessions SELECT 's' || i, 'n' || i, 'tdx', 100, 400, NULL, 0 FROM n"
        );
        store.connection.execute_batch(&fill).unwrap();
        store.issue("newest", "n1", "tdx", 101).unwrap();
        assert_eq!(store.spend("oldest", "n0", 101).unwrap(), Spent::Unknown);
        assert!(matches!(store.spend("newest", "n1", 101).unwrap(), Spent::Fresh(_)));
        let open: i64 =
            store.connection.query_row("SELECT COUNT(*) FROM sessions", [], |row| row.get(0)).unwrap();
        assert_eq!(open, SESSIONS_MAX);
    }
}
