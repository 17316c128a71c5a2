//! The broker's own keys: one that encrypts stored secrets, one that signs results. Made at first run.
//!
//! What it is: loading and making. What it is not: use (`vault`, `casemate_jose`) or rotation.
//! Who trusts it: `serve` and `secret`.

use aws_lc_rs::rand;
use casemate_jose::SigningKey;
use zeroize::Zeroizing;

use crate::state_dir::{StateDir, StateError};

/// File of the key that encrypts stored secrets: 32 bytes.
pub(crate) const SECRETS_KEY_FILE: &str = "secrets.key";
/// File of the key that signs results: PKCS #8, DER.
pub(crate) const TOKEN_KEY_FILE: &str = "token.key";

/// Why a key is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// A key file does not hold a key.
    #[error("{file} in the state directory is damaged")]
    Damaged {
        /// Which.
        file: &'static str,
    },
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The cryptographic library failed.
    #[error("no randomness")]
    Library,
}

/// The key that encrypts stored secrets.
pub(crate) fn secrets_key(state: &StateDir) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let _lock = state.lock_for_making()?;
    let mut key = Zeroizing::new([0; 32]);
    if let Some(bytes) = state.read_private(SECRETS_KEY_FILE)? {
        if bytes.len() != key.len() {
            return Err(KeyError::Damaged { file: SECRETS_KEY_FILE });
        }
        key.copy_from_slice(&bytes);
        return Ok(key);
    }
    rand::fill(key.as_mut()).map_err(|_| KeyError::Library)?;
    state.write_private(SECRETS_KEY_FILE, key.as_ref())?;
    Ok(key)
}

/// The key that signs results.
pub(crate) fn token_key(state: &StateDir) -> Result<SigningKey, KeyError> {
    let _lock = state.lock_for_making()?;
    if let Some(bytes) = state.read_private(TOKEN_KEY_FILE)? {
        return SigningKey::from_pkcs8(&bytes).map_err(|_| KeyError::Damaged { file: TOKEN_KEY_FILE });
    }
    let key = SigningKey::generate().map_err(|_| KeyError::Library)?;
    let der = key.to_pkcs8().map_err(|_| KeyError::Library)?;
    state.write_private(TOKEN_KEY_FILE, &der)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_same_keys_again_and_refuses_damaged_ones() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("state")).unwrap();
        assert_eq!(secrets_key(&state).unwrap(), secrets_key(&state).unwrap());
        assert_eq!(token_key(&state).unwrap().jwk(), token_key(&state).unwrap().jwk());
        state.write_private(SECRETS_KEY_FILE, &[0; 31]).unwrap();
        state.write_private(TOKEN_KEY_FILE, b"x").unwrap();
        assert!(matches!(secrets_key(&state), Err(KeyError::Damaged { file: SECRETS_KEY_FILE })));
        assert!(matches!(token_key(&state).err(), Some(KeyError::Damaged { file: TOKEN_KEY_FILE })));
    }
}
