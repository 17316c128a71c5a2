//! Private keys of results and bundles: read only where nobody else may, written only where nothing is.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use casemate_jose::SigningKey;

use super::files::{create_new_private_file, read_bytes};
use crate::failure::{Failure, Outcome};

/// Permission bits of everybody but the owner.
const MODE_OTHERS: u32 = 0o077;

/// A signing key whose file nobody else may read.
pub(crate) fn read_key(path: &Path, maker: &str) -> Outcome<SigningKey> {
    let todo =
        format!("give a P-256 key as PKCS #8 or JWK, readable by its owner alone; `{maker}` makes one");
    let failed =
        |error: std::io::Error| Failure::input(format!("{}: {error}", path.display()), todo.as_str());
    let mode = std::fs::metadata(path).map_err(failed)?.mode();
    if mode & MODE_OTHERS != 0 {
        return Err(Failure::input(
            format!(
                "{}: others than its owner may use this key (mode {:04o})",
                path.display(),
                mode & 0o7777
            ),
            format!("make it its owner's alone: `chmod 600 {}`; or make another one", path.display()),
        ));
    }
    let bytes = read_bytes(path, casemate_endorsements::KEY_BYTES_MAX, &todo)?;
    casemate_endorsements::read_signing_key(&bytes)
        .map_err(|error| Failure::input(format!("{}: {error}", path.display()), todo.as_str()))
}

/// Writes a private key for its owner alone. A file that is there is never replaced, nor a link followed.
pub(crate) fn write_new_key(path: &Path, pem: &str) -> Outcome<()> {
    create_new_private_file(
        path,
        pem.as_bytes(),
        "name another file; a key that is lost cannot be made again",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::failure::Kind;

    #[test]
    fn a_key_that_others_may_read_is_refused_before_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let key = SigningKey::generate().unwrap();
        std::fs::write(&path, casemate_endorsements::signing_key_pem(&key).unwrap()).unwrap();
        for (mode, usable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match read_key(&path, "m") {
                Ok(read) => assert!(usable && read.jwk() == key.jwk(), "{mode:o}"),
                Err(failure) => {
                    assert!(!usable, "{mode:o}: {failure}");
                    assert_eq!(failure.kind, Kind::Input);
                    assert!(failure.todo.contains("chmod 600"), "{failure}");
                }
            }
        }
        assert_eq!(read_key(&dir.path().join("none"), "m").err().unwrap().kind, Kind::Input);
        std::fs::write(&path, "no key").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read_key(&path, "m").err().unwrap().what.contains("not a private P-256 key"));
    }

    #[test]
    fn a_new_key_replaces_neither_a_file_nor_a_link_to_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, target) = (dir.path().join("k"), dir.path().join("l"), dir.path().join("t"));
        write_new_key(&file, "one").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for taken in [&file, &link] {
            let failure = write_new_key(taken, "two").unwrap_err();
            assert_eq!(failure.kind, Kind::Input);
            assert!(failure.what.ends_with("there is a file already"), "{failure}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"one");
        assert!(!target.exists());
        assert_eq!(write_new_key(&dir.path().join("no/k"), "x").unwrap_err().kind, Kind::Input);
    }
}
