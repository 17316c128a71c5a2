//! Concatenation key derivation with SHA-256 (RFC 7518 section 4.6.2, NIST SP 800-56A rev. 3 section 5.8.2.1).
//!
//! What it is: the one round that keys of up to 256 bits need. What it is not: the general function with a counter.
//! Who trusts it: `jwe`.

use aws_lc_rs::digest;
use zeroize::Zeroizing;

/// Derives `N` bytes (at most 32) from the shared secret `z`.
pub(crate) fn derive<const N: usize>(
    z: &[u8],
    algorithm_id: &str,
    party_u: &[u8],
    party_v: &[u8],
) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 32) };
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&1u32.to_be_bytes());
    context.update(z);
    for field in [algorithm_id.as_bytes(), party_u, party_v] {
        // Each field is a constant or empty here: shorter than 4 GiB by construction.
        context.update(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        context.update(field);
    }
    let key_bits = u32::try_from(N * 8).unwrap_or(u32::MAX);
    context.update(&key_bits.to_be_bytes());
    let digest = context.finish();
    let mut key = Zeroizing::new([0; N]);
    for (slot, byte) in key.iter_mut().zip(digest.as_ref()) {
        *slot = *byte;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7518 appendix C: the shared secret Z and the key derived from it.
    const Z: [u8; 32] = [
        158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110, 163, 218,
        128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196,
    ];

    #[test]
    fn derives_the_key_of_rfc_7518_appendix_c() {
        let key = derive::<16>(&Z, "A128GCM", b"Alice", b"Bob");
        assert_eq!(*key, [86, 170, 141, 234, 248, 35, 109, 32, 92, 34, 40, 205, 113, 167, 16, 26]);
    }

    #[test]
    fn derives_another_key_for_another_algorithm_party_or_length() {
        let base = derive::<32>(&Z, "ECDH-ES+A256KW", b"", b"");
        assert_ne!(base, derive::<32>(&Z, "ECDH-ES+A192KW", b"", b""));
        assert_ne!(base, derive::<32>(&Z, "ECDH-ES+A256KW", b"a", b""));
        assert_ne!(base, derive::<32>(&Z, "ECDH-ES+A256KW", b"", b"a"));
        assert_ne!(base[..16], derive::<16>(&Z, "ECDH-ES+A256KW", b"", b"")[..]);
    }
}
