//! What the box says of itself, and how it is bound into `report_data`.

use casemate_canon::{CanonicalError, Sha384, Sha512, to_canonical_json};
use serde::{Deserialize, Serialize};

use crate::jwk::EcJwk;
use crate::nonce::Nonce;

/// Domain tag of box claims.
pub const BOX_CLAIMS_TAG: &str = "box/1";

/// The structure whose digest is the 64 bytes of `report_data`. Only the warden builds one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxClaims {
    /// [`BOX_CLAIMS_TAG`].
    pub casemate: String,
    /// The relying party's nonce.
    pub nonce: Nonce,
    /// Key that signs agent tokens (`ES256`), made at box start, never stored.
    pub box_key: EcJwk,
    /// Composition digest.
    pub composition: Sha384,
    /// Head of the event log when the report was made.
    pub log_head: Sha384,
}

impl BoxClaims {
    /// `report_data`: SHA-512 over the RFC 8785 form.
    ///
    /// # Errors
    /// [`CanonicalError`], which a value of this type does not raise.
    pub fn report_data(&self) -> Result<Sha512, CanonicalError> {
        Ok(Sha512::of(&to_canonical_json(self)?))
    }
}
