//! The embedded database: sessions, encrypted secrets and the log of decisions, in one SQLite file.
//!
//! What it is: typed operations, each one transaction that is on disk when it returns. What it is not: a judge.
//! Who trusts it: the API and the subcommands. Several processes may use one file; each waits a bounded time.

pub(crate) mod decisions;
pub(crate) mod secrets;
pub(crate) mod sessions;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::state_dir::StateDir;
use crate::vault::VaultError;

/// Database file.
pub(crate) const DATABASE_FILE: &str = "broker.db";
/// Form of the tables.
const SCHEMA_VERSION: i64 = 2;
/// How long to wait for another writer.
const BUSY_MS_MAX: u64 = 2_000;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The file has tables of another form.
    #[error("database has schema {found}, this program reads schema {SCHEMA_VERSION}")]
    Schema {
        /// Form found.
        found: i64,
    },
    /// A stored secret is not the one that was put last, or was removed.
    #[error("stored secret has version {found}, and {last} is the last that the log knows")]
    SetBack {
        /// Version of the row.
        found: i64,
        /// Version last put; 0 where it was removed, or never put.
        last: i64,
    },
    /// A stored secret does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Another writer holds it.
    #[error("database is locked")]
    Locked,
    /// No space, or not writable.
    #[error("database cannot be written (disk full or read-only)")]
    Full,
    /// The file itself cannot be made.
    #[error("database file: {0}")]
    File(#[from] std::io::Error),
    /// The log's head does not fit its rows.
    #[error("log of decisions is damaged; `casemate-broker log` says where")]
    LogDamaged,
    /// Anything else that SQLite says.
    #[error("database: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}

/// An open database.
pub(crate) struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the database in `state`, making it where it is missing.
    pub(crate) fn open(state: &StateDir) -> Result<Self, StoreError> {
        let path = state.file(DATABASE_FILE);
        // SQLite gives its side files the mode of this one.
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let connection = Connection::open(&path)?;
        connection.busy_timeout(Duration::from_millis(BUSY_MS_MAX))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        let mut store = Self { connection };
        store.make_tables()?;
        Ok(store)
    }

    fn make_tables(&mut self) -> Result<(), StoreError> {
        let transaction = self.write()?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found {
            SCHEMA_VERSION => {}
            0 => {
                transaction.execute_batch(include_str!("schema.sql"))?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            found => return Err(StoreError::Schema { found }),
        }
        Ok(transaction.commit()?)
    }

    /// A transaction that will write: waits for other writers now, not in its middle.
    fn write(&mut self) -> Result<Transaction<'_>, StoreError> {
        Ok(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn temporary() -> (tempfile::TempDir, StateDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("state")).unwrap();
        let store = Store::open(&state).unwrap();
        (root, state, store)
    }

    #[test]
    fn opens_again_and_refuses_another_schema() {
        let (_root, state, store) = temporary();
        drop(store);
        let store = Store::open(&state).unwrap();
        store.connection.pragma_update(None, "user_version", 9).unwrap();
        drop(store);
        assert!(matches!(Store::open(&state), Err(StoreError::Schema { found: 9 })));
    }

    #[test]
    fn refuses_a_database_of_the_schema_before_this_one() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("state")).unwrap();
        let old = Connection::open(state.file(DATABASE_FILE)).unwrap();
        old.execute_batch("CREATE TABLE decisions (seq INTEGER); PRAGMA user_version = 1").unwrap();
        drop(old);
        assert!(matches!(Store::open(&state), Err(StoreError::Schema { found: 1 })));
    }

    #[test]
    fn says_that_it_is_locked_or_full() {
        let (_root, state, mut store) = temporary();
        let other = Connection::open(state.file(DATABASE_FILE)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(matches!(store.write().map(|_| ()), Err(StoreError::Locked)));
        other.execute_batch("ROLLBACK").unwrap();
        store.connection.pragma_update(None, "max_page_count", 1).unwrap();
        let vault = crate::vault::Vault::new(&[1; 32]).unwrap();
        let full = store.put_secret(&vault, "a/b/c", &[7; 60_000], 1);
        assert!(matches!(full, Err(StoreError::Full)));
    }
}
