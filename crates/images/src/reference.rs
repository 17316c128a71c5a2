//! Names of images in a store.

use crate::error::ImageError;

/// Longest name, in bytes.
const REFERENCE_BYTES_MAX: usize = 255;

/// Checks the spelling of a name (OCI image specification 1.1, `org.opencontainers.image.ref.name`)
/// and returns it. A name that reads as a digest is none.
pub(crate) fn parse_reference(text: &str) -> Result<&str, ImageError> {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    let ok = (1..=REFERENCE_BYTES_MAX).contains(&text.len())
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || b"-._:@/+".contains(&b))
        && !text.starts_with("sha256:");
    if ok {
        Ok(text)
    } else {
        let found = text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Err(ImageError::Reference { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_with_registry_tag_and_digest() {
        for good in ["demo", "demo:1.2", "localhost:5000/team/demo:latest", "a@sha256:00"] {
            assert_eq!(parse_reference(good), Ok(good));
        }
    }

    #[test]
    fn refuses_empty_long_hidden_and_digest_like_names() {
        for bad in ["", ".x", "-x", "a b", "a\n", "ä", "sha256:00", &"x".repeat(256)] {
            assert!(matches!(parse_reference(bad), Err(ImageError::Reference { .. })), "{bad}");
        }
    }
}
