//! Encryption of stored secrets: AES-256-GCM, bound to resource path and version.
//!
//! What it is: plaintext to row content and back. What it is not: storage (`store::secrets`). A row that is moved to
//! another path or version does not open. A whole database that is set back to an earlier state does.
//! Who trusts it: release of secrets.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

const DOMAIN: &str = "casemate:secret-at-rest/1";

/// Why a secret was not encrypted or decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VaultError {
    /// The row does not authenticate: altered, moved, or of another key.
    #[error("stored secret does not authenticate under this broker's key")]
    Altered,
    /// The cryptographic library failed.
    #[error("cryptographic library failed")]
    Library,
}

/// A secret as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encrypted {
    /// 12 bytes.
    pub(crate) iv: Vec<u8>,
    /// Ciphertext and tag.
    pub(crate) ciphertext: Vec<u8>,
}

/// Encrypts and decrypts stored secrets.
pub(crate) struct Vault {
    key: LessSafeKey,
}

impl Vault {
    /// A vault with this key.
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, VaultError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| VaultError::Library)?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// Encrypts `plaintext` for one path and version.
    pub(crate) fn encrypt(
        &self,
        resource: &str,
        version: i64,
        plaintext: &[u8],
    ) -> Result<Encrypted, VaultError> {
        let mut iv = [0; NONCE_LEN];
        rand::fill(&mut iv).map_err(|_| VaultError::Library)?;
        let mut buffer = Zeroizing::new(plaintext.to_vec());
        let nonce = Nonce::assume_unique_for_key(iv);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(context(resource, version)), buffer.as_mut_slice())
            .map_err(|_| VaultError::Library)?;
        let mut ciphertext = buffer.to_vec();
        ciphertext.extend_from_slice(tag.as_ref());
        Ok(Encrypted { iv: iv.to_vec(), ciphertext })
    }

    /// Decrypts the row of one path and version.
    pub(crate) fn decrypt(
        &self,
        resource: &str,
        version: i64,
        encrypted: &Encrypted,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let nonce = Nonce::try_assume_unique_for_key(&encrypted.iv).map_err(|_| VaultError::Altered)?;
        let mut buffer = Zeroizing::new(encrypted.ciphertext.clone());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(context(resource, version)), &mut buffer)
            .map_err(|_| VaultError::Altered)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// A resource path has no newline: the parts cannot be read otherwise.
fn context(resource: &str, version: i64) -> Vec<u8> {
    format!("{DOMAIN}\n{resource}\n{version}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_under_its_path_version_and_key() {
        let vault = Vault::new(&[1; 32]).unwrap();
        let encrypted = vault.encrypt("a/b/c", 3, b"marker").unwrap();
        assert_eq!(vault.decrypt("a/b/c", 3, &encrypted).unwrap().as_slice(), b"marker");
        assert_eq!(vault.decrypt("a/b/d", 3, &encrypted), Err(VaultError::Altered));
        assert_eq!(vault.decrypt("a/b/c", 2, &encrypted), Err(VaultError::Altered));
        assert_eq!(Vault::new(&[2; 32]).unwrap().decrypt("a/b/c", 3, &encrypted), Err(VaultError::Altered));
    }

    #[test]
    fn refuses_every_altered_or_missing_byte() {
        let vault = Vault::new(&[1; 32]).unwrap();
        let whole = vault.encrypt("a/b/c", 1, b"marker").unwrap();
        for at in 0..whole.ciphertext.len() {
            let mut altered = whole.clone();
            altered.ciphertext[at] ^= 1;
            assert_eq!(vault.decrypt("a/b/c", 1, &altered), Err(VaultError::Altered));
            altered.ciphertext.truncate(at);
            assert_eq!(vault.decrypt("a/b/c", 1, &altered), Err(VaultError::Altered));
        }
        let short = Encrypted { iv: vec![0; 11], ..whole };
        assert_eq!(vault.decrypt("a/b/c", 1, &short), Err(VaultError::Altered));
    }

    #[test]
    fn encrypts_the_same_secret_differently_each_time() {
        let vault = Vault::new(&[1; 32]).unwrap();
        assert_ne!(vault.encrypt("a/b/c", 1, b"x").unwrap(), vault.encrypt("a/b/c", 1, b"x").unwrap());
    }
}
