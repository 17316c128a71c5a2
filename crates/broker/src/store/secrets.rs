//! Stored secrets: one encrypted row a resource.
//!
//! What it is: put, get, list, remove; each change is logged in the same transaction. What it is not: permission to
//! release one. Who trusts it: `secret` and the API.

use rusqlite::{OptionalExtension as _, params};
use zeroize::Zeroizing;

use super::decisions::{Decision, Kind, Outcome, append, last_put, last_version};
use super::{Store, StoreError};
use crate::vault::{Encrypted, Vault};

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Resource path.
    pub(crate) resource: String,
    /// Counts the changes, from 1.
    pub(crate) version: i64,
    /// Seconds since 1970.
    pub(crate) updated_at: i64,
}

/// A secret in clear.
pub(crate) struct Opened {
    /// Its version.
    pub(crate) version: i64,
    /// Content; zeroized when dropped.
    pub(crate) plaintext: Zeroizing<Vec<u8>>,
}

impl Store {
    /// Stores a secret, replacing one of the same path. Returns its version: one more than any before under this
    /// path, removed ones included, so that no row of an earlier one passes for it.
    pub(crate) fn put_secret(
        &mut self,
        vault: &Vault,
        resource: &str,
        plaintext: &[u8],
        now: u64,
    ) -> Result<i64, StoreError> {
        let transaction = self.write()?;
        let old: Option<i64> = transaction
            .query_row("SELECT version FROM secrets WHERE resource = ?1", [resource], |row| row.get(0))
            .optional()?;
        let known = last_version(&transaction, resource)?;
        let version = old.max(known).unwrap_or(0).saturating_add(1);
        let encrypted = vault.encrypt(resource, version, plaintext)?;
        transaction.execute(
            "INSERT INTO secrets (resource, version, iv, ciphertext, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (resource) DO UPDATE SET version = excluded.version, iv = excluded.iv,
             ciphertext = excluded.ciphertext, updated_at = excluded.updated_at",
            params![
                resource,
                version,
                encrypted.iv,
                encrypted.ciphertext,
                i64::try_from(now).unwrap_or(i64::MAX)
            ],
        )?;
        append(&transaction, &change(resource, Outcome::Stored, version, now))?;
        transaction.commit()?;
        Ok(version)
    }

    /// A secret in clear; `None` where there is none. A row that is not the one that the log knows as put last is
    /// an error: somebody brought an earlier, or a removed, one back.
    pub(crate) fn get_secret(&mut self, vault: &Vault, resource: &str) -> Result<Option<Opened>, StoreError> {
        // One read transaction: a change in between cannot part row and log.
        let transaction = self.connection.transaction()?;
        let row = transaction
            .query_row("SELECT version, iv, ciphertext FROM secrets WHERE resource = ?1", [resource], |row| {
                Ok((row.get::<_, i64>(0)?, Encrypted { iv: row.get(1)?, ciphertext: row.get(2)? }))
            })
            .optional()?;
        let Some((version, encrypted)) = row else { return Ok(None) };
        let last = last_put(&transaction, resource)?;
        if last != Some(version) {
            return Err(StoreError::SetBack { found: version, last: last.unwrap_or(0) });
        }
        Ok(Some(Opened { version, plaintext: vault.decrypt(resource, version, &encrypted)? }))
    }

    /// Every path, in order.
    pub(crate) fn list_secrets(&self) -> Result<Vec<Listed>, StoreError> {
        let mut statement =
            self.connection.prepare("SELECT resource, version, updated_at FROM secrets ORDER BY resource")?;
        let rows = statement.query_map([], |row| {
            Ok(Listed { resource: row.get(0)?, version: row.get(1)?, updated_at: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Removes a secret. Returns whether there was one.
    pub(crate) fn remove_secret(&mut self, resource: &str, now: u64) -> Result<bool, StoreError> {
        let transaction = self.write()?;
        let removed = transaction.execute("DELETE FROM secrets WHERE resource = ?1", [resource])? > 0;
        if removed {
            let version = last_version(&transaction, resource)?.unwrap_or(0);
            append(&transaction, &change(resource, Outcome::Removed, version, now))?;
        }
        transaction.commit()?;
        Ok(removed)
    }
}

fn change(resource: &str, outcome: Outcome, version: i64, now: u64) -> Decision {
    let mut decision = Decision::new(now, Kind::Secret, outcome);
    decision.secret_version = version;
    decision.resource = resource.to_owned();
    decision
}

#[cfg(test)]
mod tests {
    use super::super::tests::temporary;
    use super::*;
    use crate::vault::VaultError;

    #[test]
    fn stores_replaces_lists_and_removes() {
        let (_root, _, mut store) = temporary();
        let vault = Vault::new(&[1; 32]).unwrap();
        assert_eq!(store.put_secret(&vault, "a/b/c", b"one", 5).unwrap(), 1);
        assert_eq!(store.put_secret(&vault, "a/b/c", b"two", 6).unwrap(), 2);
        let opened = store.get_secret(&vault, "a/b/c").unwrap().unwrap();
        assert_eq!((opened.version, opened.plaintext.as_slice()), (2, &b"two"[..]));
        let listed = Listed { resource: "a/b/c".into(), version: 2, updated_at: 6 };
        assert_eq!(store.list_secrets().unwrap(), vec![listed]);
        assert!(store.remove_secret("a/b/c", 7).unwrap());
        assert!(!store.remove_secret("a/b/c", 7).unwrap());
        assert!(store.get_secret(&vault, "a/b/c").unwrap().is_none());
        let mut decisions = Vec::new();
        store.walk_log(|row| decisions.push(format!("{} {}", row.decision, row.secret_version))).unwrap();
        assert_eq!(decisions, ["stored 1", "stored 2", "removed 2"]);
    }

    /// A store with `a/b/c` put once, and that row kept aside.
    fn with_backup() -> (tempfile::TempDir, Store, Vault) {
        let (root, _, mut store) = temporary();
        let vault = Vault::new(&[1; 32]).unwrap();
        store.put_secret(&vault, "a/b/c", b"old", 5).unwrap();
        store.connection.execute_batch("CREATE TABLE backup AS SELECT * FROM secrets").unwrap();
        (root, store, vault)
    }

    fn restored(store: &mut Store, vault: &Vault) -> (i64, i64) {
        let sql = "DELETE FROM secrets; INSERT INTO secrets SELECT * FROM backup";
        store.connection.execute_batch(sql).unwrap();
        match store.get_secret(vault, "a/b/c") {
            Err(StoreError::SetBack { found, last }) => (found, last),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("released"),
        }
    }

    #[test]
    fn a_rotated_secret_does_not_come_back_with_its_row() {
        let (_root, mut store, vault) = with_backup();
        store.put_secret(&vault, "a/b/c", b"new", 6).unwrap();
        assert_eq!(restored(&mut store, &vault), (1, 2));
    }

    #[test]
    fn a_removed_secret_does_not_come_back_with_its_row() {
        let (_root, mut store, vault) = with_backup();
        store.remove_secret("a/b/c", 6).unwrap();
        assert_eq!(restored(&mut store, &vault), (1, 0));
        // Put again, it does not take the number of the one that was removed.
        store.connection.execute_batch("DELETE FROM secrets").unwrap();
        assert_eq!(store.put_secret(&vault, "a/b/c", b"new", 7).unwrap(), 2);
        assert_eq!(restored(&mut store, &vault), (1, 2));
    }

    #[test]
    fn a_row_that_was_moved_or_renumbered_does_not_open() {
        let (_root, _, mut store) = temporary();
        let vault = Vault::new(&[1; 32]).unwrap();
        store.put_secret(&vault, "a/b/c", b"one", 5).unwrap();
        store.put_secret(&vault, "x/y/z", b"other", 5).unwrap();
        let moved = "UPDATE secrets SET (iv, ciphertext) =
                     (SELECT iv, ciphertext FROM secrets WHERE resource = 'x/y/z') WHERE resource = 'a/b/c'";
        store.connection.execute_batch(moved).unwrap();
        let error = store.get_secret(&vault, "a/b/c").err().unwrap();
        assert!(matches!(error, StoreError::Vault(VaultError::Altered)), "{error}");
        store.put_secret(&vault, "a/b/c", b"two", 6).unwrap();
        store.connection.execute_batch("UPDATE secrets SET version = 1 WHERE resource = 'a/b/c'").unwrap();
        let error = store.get_secret(&vault, "a/b/c").err().unwrap();
        assert!(matches!(error, StoreError::SetBack { found: 1, last: 2 }), "{error}");
        store
            .connection
            .execute_batch("UPDATE secrets SET resource = 'm/o/v' WHERE resource = 'x/y/z'")
            .unwrap();
        let error = store.get_secret(&vault, "m/o/v").err().unwrap();
        assert!(matches!(error, StoreError::SetBack { found: 1, last: 0 }), "{error}");
    }
}
