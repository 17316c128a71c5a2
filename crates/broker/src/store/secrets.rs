//! Stored secrets: one encrypted row a resource.
//!
//! What it is: put, get, list, remove; each change is logged in the same transaction. What it is not: permission to
//! release one. Who trusts it: `secret` and the API.

use rusqlite::{OptionalExtension as _, params};
use zeroize::Zeroizing;

use super::decisions::{Decision, Kind, Outcome, append};
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

impl Store {
    /// Stores a secret, replacing one of the same path. Returns its version.
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
        let version = old.unwrap_or(0).saturating_add(1);
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
        append(&transaction, &change(resource, Outcome::Stored, now))?;
        transaction.commit()?;
        Ok(version)
    }

    /// A secret in clear; `None` where there is none.
    pub(crate) fn get_secret(
        &self,
        vault: &Vault,
        resource: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let row = self
            .connection
            .query_row("SELECT version, iv, ciphertext FROM secrets WHERE resource = ?1", [resource], |row| {
                Ok((row.get::<_, i64>(0)?, Encrypted { iv: row.get(1)?, ciphertext: row.get(2)? }))
            })
            .optional()?;
        let Some((version, encrypted)) = row else { return Ok(None) };
        Ok(Some(vault.decrypt(resource, version, &encrypted)?))
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
            append(&transaction, &change(resource, Outcome::Removed, now))?;
        }
        transaction.commit()?;
        Ok(removed)
    }
}

fn change(resource: &str, outcome: Outcome, now: u64) -> Decision {
    let mut decision = Decision::new(now, Kind::Secret, outcome);
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
        assert_eq!(store.get_secret(&vault, "a/b/c").unwrap().unwrap().as_slice(), b"two");
        let listed = Listed { resource: "a/b/c".into(), version: 2, updated_at: 6 };
        assert_eq!(store.list_secrets().unwrap(), vec![listed]);
        assert!(store.remove_secret("a/b/c", 7).unwrap());
        assert!(!store.remove_secret("a/b/c", 7).unwrap());
        assert_eq!(store.get_secret(&vault, "a/b/c").unwrap(), None);
        let mut decisions = Vec::new();
        store.walk_log(|row| decisions.push(row.decision.clone())).unwrap();
        assert_eq!(decisions, ["stored", "stored", "removed"]);
    }

    #[test]
    fn a_row_that_was_moved_or_set_back_does_not_open() {
        for sql in ["UPDATE secrets SET resource = 'x/y/z'", "UPDATE secrets SET version = 1"] {
            let (_root, _, mut store) = temporary();
            let vault = Vault::new(&[1; 32]).unwrap();
            store.put_secret(&vault, "a/b/c", b"one", 5).unwrap();
            store.put_secret(&vault, "a/b/c", b"two", 5).unwrap();
            store.connection.execute_batch(sql).unwrap();
            let resource = store.list_secrets().unwrap()[0].resource.clone();
            let error = store.get_secret(&vault, &resource).unwrap_err();
            assert!(matches!(error, StoreError::Vault(VaultError::Altered)), "{error}");
        }
    }
}
