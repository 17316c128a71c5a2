//! Sessions: a nonce that is issued once, lives shortly and is spent once, whatever comes of it.
//!
//! What it is: issue, spend, expire; on disk, so that a restart does not revive a nonce. What it is not: the result
//! of an appraisal, which lives in memory only (`attested`). Who trusts it: the API.

use casemate_protocol::Refusal;
use rusqlite::{OptionalExtension as _, params};

use super::decisions::{Decision, Kind, Outcome, append};
use super::{Store, StoreError};

/// Most sessions at a time.
pub(crate) const SESSIONS_MAX: i64 = 10_000;
/// Life of a nonce in seconds.
pub(crate) const NONCE_LIFE_S: u64 = 300;
/// Most times that one session may send evidence; all but the first are refused.
pub(crate) const ATTEMPTS_MAX: i64 = 8;
/// Rule of a nonce that is not this session's fresh one.
pub(crate) const RULE_NONCE: &str = "nonce";

/// What became of a session's nonce.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    /// It was fresh, is spent now, and this is the session.
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
    /// Opens a session and logs that.
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
        let mut decision = Decision::new(now, Kind::Auth, Outcome::Issued);
        decision.nonce = nonce.to_owned();
        append(&transaction, &decision)?;
        Ok(transaction.commit()?)
    }

    /// Spends the nonce of session `id`, which evidence claims to be `claimed`.
    pub(crate) fn spend(&mut self, id: &str, claimed: &str, now: u64) -> Result<Spent, StoreError> {
        let transaction = self.write()?;
        let row = transaction
            .query_row(
                "SELECT nonce, tee, expires_at, used_at, attempts FROM sessions WHERE id = ?1",
                [id],
                |row| {
                    let session = Session { nonce: row.get(0)?, tee: row.get(1)? };
                    Ok((session, row.get::<_, i64>(2)?, row.get::<_, Option<i64>>(3)?, row.get::<_, i64>(4)?))
                },
            )
            .optional()?;
        let Some((session, expires_at, used_at, attempts)) = row else { return Ok(Spent::Unknown) };
        if attempts >= ATTEMPTS_MAX {
            return Ok(Spent::TooMany);
        }
        transaction.execute(
            "UPDATE sessions SET used_at = COALESCE(used_at, ?2), attempts = attempts + 1 WHERE id = ?1",
            params![id, seconds(now)],
        )?;
        transaction.commit()?;
        let refusal = if used_at.is_some() {
            Some(Refusal::new(RULE_NONCE, "a nonce that was not used before", "a nonce that was used"))
        } else if expires_at < seconds(now) {
            let age = seconds(now).saturating_sub(expires_at).saturating_add(seconds(NONCE_LIFE_S));
            let expected = format!("a nonce of at most {NONCE_LIFE_S} s");
            Some(Refusal::new(RULE_NONCE, expected, format_args!("one of {age} s")))
        } else if session.nonce != claimed {
            Some(Refusal::new(RULE_NONCE, &session.nonce, claimed))
        } else {
            None
        };
        Ok(match refusal {
            Some(refusal) => Spent::Refused { session, refusal },
            None => Spent::Fresh(session),
        })
    }
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
    fn attempts_are_counted_and_old_sessions_swept() {
        let (_root, _, mut store) = temporary();
        store.issue("s", "n1", "tdx", 100).unwrap();
        for _ in 0..ATTEMPTS_MAX {
            store.spend("s", "n0", 101).unwrap();
        }
        assert_eq!(store.spend("s", "n1", 101).unwrap(), Spent::TooMany);
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
