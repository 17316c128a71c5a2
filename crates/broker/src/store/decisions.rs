//! The log of decisions: rows that are only appended, each hashed over the one before.
//!
//! What it is: append, list, and a check of the whole chain. What it is not: protection from someone who can write
//! the database and recomputes every hash: keep a copy of the head (`casemate-broker log` prints it) elsewhere.
//! Who trusts it: whoever asks later why a secret was released.

use casemate_canon::{Sha384, to_canonical_json};
use casemate_protocol::Refusal;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::Serialize;

use super::{Store, StoreError};

/// First link of the chain.
const GENESIS: &str = "casemate:decisions/1";

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Evidence.
    Attest,
    /// A request for a resource.
    Resource,
    /// A change of a stored secret, by the operator.
    Secret,
}

/// How it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Evidence affirmed.
    Affirmed,
    /// Secret released.
    Released,
    /// Refused by a rule.
    Refused,
    /// Permitted, but nothing is stored there.
    Missing,
    /// Secret stored.
    Stored,
    /// Secret removed.
    Removed,
}

/// Whom a decision is about: only what verified evidence vouches for; the rest is empty, or 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Agent name.
    pub(crate) agent: String,
    /// Which start of the agent, from 1.
    pub(crate) instance: i64,
    /// JWK thumbprint (RFC 7638) of the agent's key.
    pub(crate) agent_key: String,
    /// `genuine` or `simulated`: what the platform's signature leads to.
    pub(crate) standing: &'static str,
    /// Composition digest.
    pub(crate) composition: String,
}

/// One decision, before it has a place in the log.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    /// Seconds since 1970.
    pub(crate) time: u64,
    /// What about.
    pub(crate) kind: Kind,
    /// How.
    pub(crate) outcome: Outcome,
    /// About whom.
    pub(crate) subject: Subject,
    /// Resource path.
    pub(crate) resource: String,
    /// Version of the secret; 0 where there is none.
    pub(crate) secret_version: i64,
    /// The rule that refused.
    pub(crate) refusal: Option<Refusal>,
    /// Digest of the policy that was applied; empty where there was none.
    pub(crate) policy_id: String,
    /// Nonce of the session.
    pub(crate) nonce: String,
}

impl Decision {
    /// A decision about nothing but a time.
    pub(crate) fn new(time: u64, kind: Kind, outcome: Outcome) -> Self {
        Self {
            time,
            kind,
            outcome,
            subject: Subject::default(),
            resource: String::new(),
            secret_version: 0,
            refusal: None,
            policy_id: String::new(),
            nonce: String::new(),
        }
    }
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// Place in the log, from 1.
    pub(crate) seq: i64,
    /// Seconds since 1970.
    pub(crate) time: i64,
    /// What was decided about.
    pub(crate) kind: String,
    /// Agent name.
    pub(crate) agent: String,
    /// Which start of the agent.
    pub(crate) instance: i64,
    /// Thumbprint of the agent's key.
    pub(crate) agent_key: String,
    /// Resource path.
    pub(crate) resource: String,
    /// Version of the secret.
    pub(crate) secret_version: i64,
    /// How it was decided.
    pub(crate) decision: String,
    /// The rule that refused.
    pub(crate) rule: String,
    /// What it expected.
    pub(crate) expected: String,
    /// What it found.
    pub(crate) found: String,
    /// Digest of the policy.
    pub(crate) policy_id: String,
    /// `genuine` or `simulated`.
    pub(crate) standing: String,
    /// Composition digest.
    pub(crate) composition: String,
    /// Nonce of the session.
    pub(crate) nonce: String,
    /// Hash of the row before.
    pub(crate) previous: String,
    /// Hash of this row; not part of what is hashed.
    #[serde(skip)]
    pub(crate) hash: String,
}

/// What a check of the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chain {
    /// Every row fits.
    Intact {
        /// Rows.
        rows: i64,
        /// Hash of the last.
        head: String,
    },
    /// A row does not fit what is before it, or itself.
    Broken {
        /// Its place.
        seq: i64,
        /// What is wrong.
        what: &'static str,
    },
}

impl Store {
    /// Appends a decision.
    pub(crate) fn log(&mut self, decision: &Decision) -> Result<(), StoreError> {
        let transaction = self.write()?;
        append(&transaction, decision)?;
        Ok(transaction.commit()?)
    }

    /// Hands each row to `visit`, oldest first, and checks the chain on the way.
    pub(crate) fn walk_log(&mut self, mut visit: impl FnMut(&Row)) -> Result<Chain, StoreError> {
        // One read transaction: a writer in between cannot part rows and head.
        let transaction = self.connection.transaction()?;
        let mut broken = None;
        let (mut seq, mut previous) = (0, genesis());
        {
            let mut statement = transaction.prepare(
                "SELECT seq, time, kind, agent, instance, agent_key, resource, secret_version, decision, rule,
                        expected, found, policy_id, standing, composition, nonce, previous, hash
                 FROM decisions ORDER BY seq",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let row = read_row(row)?;
                let fault = if row.seq != seq + 1 {
                    Some("rows before it are missing")
                } else if row.previous != previous {
                    Some("it does not follow the row before")
                } else if hash(&row)? != row.hash {
                    Some("its content was changed")
                } else {
                    None
                };
                if let (Some(what), None) = (fault, &broken) {
                    broken = Some(Chain::Broken { seq: row.seq, what });
                }
                visit(&row);
                (seq, previous) = (row.seq, row.hash);
            }
        }
        if let Some(broken) = broken {
            return Ok(broken);
        }
        let head = head(&transaction)?;
        if head != (seq, previous.clone()) {
            return Ok(Chain::Broken { seq, what: "rows after it are missing, or the head was changed" });
        }
        Ok(Chain::Intact { rows: seq, head: previous })
    }
}

/// Appends a decision within a larger transaction: both happen, or neither.
pub(super) fn append(transaction: &Transaction<'_>, decision: &Decision) -> Result<(), StoreError> {
    let (last, previous) = head(transaction)?;
    let refusal = decision.refusal.clone().unwrap_or_else(|| Refusal::new("", "", ""));
    let plain = |text: &str| Refusal::new(text, "", "").rule;
    let mut row = Row {
        seq: last.checked_add(1).ok_or(StoreError::LogDamaged)?,
        time: i64::try_from(decision.time).unwrap_or(i64::MAX),
        kind: decision.kind.name().into(),
        agent: plain(&decision.subject.agent),
        instance: decision.subject.instance,
        agent_key: plain(&decision.subject.agent_key),
        resource: plain(&decision.resource),
        secret_version: decision.secret_version,
        decision: decision.outcome.name().into(),
        rule: refusal.rule,
        expected: refusal.expected,
        found: refusal.found,
        policy_id: plain(&decision.policy_id),
        standing: plain(decision.subject.standing),
        composition: plain(&decision.subject.composition),
        nonce: plain(&decision.nonce),
        previous,
        hash: String::new(),
    };
    row.hash = hash(&row)?;
    transaction.execute(
        "INSERT INTO decisions VALUES
         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        params![
            row.seq,
            row.time,
            row.kind,
            row.agent,
            row.instance,
            row.agent_key,
            row.resource,
            row.secret_version,
            row.decision,
            row.rule,
            row.expected,
            row.found,
            row.policy_id,
            row.standing,
            row.composition,
            row.nonce,
            row.previous,
            row.hash
        ],
    )?;
    transaction.execute(
        "INSERT INTO decisions_head (only, seq, hash) VALUES (1, ?1, ?2)
         ON CONFLICT (only) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
        params![row.seq, row.hash],
    )?;
    Ok(())
}

/// The version that was last put under this path; `None` where the last change removed it, or there was none.
pub(super) fn last_put(connection: &Connection, resource: &str) -> Result<Option<i64>, StoreError> {
    Ok(last_change(connection, resource)?
        .filter(|(decision, _)| decision == Outcome::Stored.name())
        .map(|(_, version)| version))
}

/// The version of the last change of this path, whatever it was.
pub(super) fn last_version(connection: &Connection, resource: &str) -> Result<Option<i64>, StoreError> {
    Ok(last_change(connection, resource)?.map(|(_, version)| version))
}

fn last_change(connection: &Connection, resource: &str) -> Result<Option<(String, i64)>, StoreError> {
    let sql = "SELECT decision, secret_version FROM decisions WHERE kind = 'secret' AND resource = ?1
               ORDER BY seq DESC LIMIT 1";
    Ok(connection.query_row(sql, [resource], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

fn head(transaction: &Transaction<'_>) -> Result<(i64, String), StoreError> {
    let head = transaction
        .query_row("SELECT seq, hash FROM decisions_head", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(head.unwrap_or_else(|| (0, genesis())))
}

fn genesis() -> String {
    Sha384::of(GENESIS.as_bytes()).to_hex()
}

fn hash(row: &Row) -> Result<String, StoreError> {
    let canonical = to_canonical_json(row).map_err(|_| StoreError::LogDamaged)?;
    Ok(Sha384::of(&canonical).to_hex())
}

fn read_row(row: &rusqlite::Row<'_>) -> Result<Row, rusqlite::Error> {
    Ok(Row {
        seq: row.get(0)?,
        time: row.get(1)?,
        kind: row.get(2)?,
        agent: row.get(3)?,
        instance: row.get(4)?,
        agent_key: row.get(5)?,
        resource: row.get(6)?,
        secret_version: row.get(7)?,
        decision: row.get(8)?,
        rule: row.get(9)?,
        expected: row.get(10)?,
        found: row.get(11)?,
        policy_id: row.get(12)?,
        standing: row.get(13)?,
        composition: row.get(14)?,
        nonce: row.get(15)?,
        previous: row.get(16)?,
        hash: row.get(17)?,
    })
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Attest => "attest",
            Self::Resource => "resource",
            Self::Secret => "secret",
        }
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Affirmed => "affirmed",
            Self::Released => "released",
            Self::Refused => "refused",
            Self::Missing => "missing",
            Self::Stored => "stored",
            Self::Removed => "removed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::temporary;
    use super::*;

    fn filled() -> (tempfile::TempDir, Store) {
        let (root, _, mut store) = temporary();
        for time in 1..=5 {
            let mut decision = Decision::new(time, Kind::Resource, Outcome::Refused);
            decision.refusal = Some(Refusal::new("agent.secrets", "a", "b"));
            store.log(&decision).unwrap();
        }
        (root, store)
    }

    fn check(store: &mut Store) -> Chain {
        store.walk_log(|_| ()).unwrap()
    }

    /// Removes the triggers, as someone who owns the file can.
    fn tamper(store: &Store, sql: &str) {
        for trigger in
            ["decisions_append", "decisions_no_update", "decisions_no_delete", "decisions_head_no_delete"]
        {
            store.connection.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
        }
        store.connection.execute_batch(sql).unwrap();
    }

    #[test]
    fn an_untouched_log_is_intact() {
        let (_root, mut store) = filled();
        let mut last = String::new();
        let chain = store.walk_log(|row| last = row.hash.clone()).unwrap();
        assert_eq!(chain, Chain::Intact { rows: 5, head: last });
        let (_root, _, mut empty) = temporary();
        assert_eq!(check(&mut empty), Chain::Intact { rows: 0, head: genesis() });
    }

    #[test]
    fn the_database_itself_refuses_changes() {
        let (_root, store) = filled();
        for sql in [
            "UPDATE decisions SET decision = 'released' WHERE seq = 2",
            "DELETE FROM decisions WHERE seq = 5",
            "DELETE FROM decisions_head",
            "INSERT INTO decisions SELECT 9, time, kind, agent, instance, agent_key, resource, secret_version,
             decision, rule, expected, found, policy_id, standing, composition, nonce, previous, hash
             FROM decisions WHERE seq = 5",
        ] {
            let error = store.connection.execute_batch(sql).unwrap_err();
            assert!(error.to_string().contains("appended only"), "{sql}: {error}");
        }
    }

    #[test]
    fn a_changed_row_shows_in_every_column() {
        for column in [
            "time = time + 1",
            "kind = 'x'",
            "agent = 'x'",
            "instance = 7",
            "agent_key = 'x'",
            "resource = 'x'",
            "secret_version = 7",
            "decision = 'x'",
            "rule = 'x'",
            "expected = 'x'",
            "found = 'x'",
            "policy_id = 'x'",
            "standing = 'x'",
            "composition = 'x'",
            "nonce = 'x'",
        ] {
            let (_root, mut store) = filled();
            tamper(&store, &format!("UPDATE decisions SET {column} WHERE seq = 3"));
            assert_eq!(check(&mut store), Chain::Broken { seq: 3, what: "its content was changed" });
        }
    }

    #[test]
    fn missing_and_exchanged_rows_show() {
        let (_root, mut store) = filled();
        tamper(&store, "DELETE FROM decisions WHERE seq = 2");
        assert_eq!(check(&mut store), Chain::Broken { seq: 3, what: "rows before it are missing" });
        let (_root, mut store) = filled();
        tamper(&store, "DELETE FROM decisions WHERE seq = 5");
        let what = "rows after it are missing, or the head was changed";
        assert_eq!(check(&mut store), Chain::Broken { seq: 4, what });
        let (_root, mut store) = filled();
        tamper(&store, "UPDATE decisions SET hash = 'x', previous = 'y' WHERE seq = 1");
        let what = "it does not follow the row before";
        assert_eq!(check(&mut store), Chain::Broken { seq: 1, what });
    }
}
