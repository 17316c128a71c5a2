//! Tests of credentials, with real helper programs.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn config(text: &str) -> (tempfile::TempDir, Result<DockerConfig, RegistryError>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    let config = DockerConfig::load(&path).map(|config| config.with_search_path(dir.path().into()));
    (dir, config)
}

fn find(text: &str, registry: &str) -> Option<Credential> {
    config(text).1.unwrap().find(registry, &Limits::STANDARD).unwrap()
}

fn password(user: &str, password: &str) -> Option<Credential> {
    Some(Credential::Password { user: user.into(), password: Zeroizing::new(password.into()) })
}

#[test]
fn finds_the_entry_of_a_registry_and_of_no_other() {
    let text = r#"{"auths": {
        "https://index.docker.io/v1/": {"auth": "aHViOnA6dw=="},
        "localhost:5000": {"auth": "dTpw"},
        "https://ghcr.io/v2/": {"username": "g", "password": "h"},
        "token.example": {"auth": "dTpw", "identitytoken": "refresh"}
    }, "HttpHeaders": {"X": "y"}}"#;
    assert!(find(text, "docker.io") == password("hub", "p:w"));
    assert!(find(text, "localhost:5000") == password("u", "p"));
    assert!(find(text, "ghcr.io") == password("g", "h"));
    assert!(find(text, "token.example") == Some(Credential::IdentityToken(Zeroizing::new("refresh".into()))));
    for other in
        ["localhost", "localhost:5001", "evil.example", "ghcr.io.evil.example", "index.docker.io.evil"]
    {
        assert!(find(text, other).is_none(), "{other}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_none_is_not() {
    assert!(DockerConfig::load(Path::new("/nonexistent/config.json")).is_ok());
    for bad in ["", "7", r#"{"auths": 1}"#, r#"{"auths": {"x": {"auth": "secret"}}"#] {
        let error = config(bad).1.err().unwrap();
        assert!(matches!(error, RegistryError::Credentials { .. }), "{bad}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let (_dir, bad) = config(r#"{"auths": {"x": {"auth": "!!"}}}"#);
    let error = bad.unwrap().find("x", &Limits::STANDARD).err().unwrap();
    assert!(error.to_string().ends_with("`auth` of `x` is not USER:PASSWORD in base64"), "{error}");
}

/// A helper `docker-credential-h` with this body.
fn with_helper(body: &str) -> (tempfile::TempDir, DockerConfig) {
    let (dir, config) = config(
        r#"{"credsStore": "h", "credHelpers": {"own.example": "own"}, "auths": {"file.example": {"auth": "dTpw"}}}"#,
    );
    let path = dir.path().join("docker-credential-h");
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (dir, config.unwrap())
}

#[test]
fn asks_a_helper_for_the_registry() {
    let (_dir, config) =
        with_helper(r#"read -r host; [ "$1" = get ] && printf '{"Username":"%s","Secret":"s"}' "$host""#);
    assert!(config.find("a.example", &Limits::STANDARD) == Ok(password("a.example", "s")));
    assert!(config.find("docker.io", &Limits::STANDARD) == Ok(password("https://index.docker.io/v1/", "s")));
    let (_dir, config) = with_helper(r#"echo '{"Username":"<token>","Secret":"t"}'"#);
    let token = Some(Credential::IdentityToken(Zeroizing::new("t".into())));
    assert!(config.find("a.example", &Limits::STANDARD) == Ok(token));
}

#[test]
fn a_helper_without_an_entry_leaves_it_to_the_file() {
    let (_dir, config) = with_helper("echo 'credentials not found in native keychain'; exit 1");
    assert!(config.find("file.example", &Limits::STANDARD) == Ok(password("u", "p")));
    assert!(config.find("other.example", &Limits::STANDARD) == Ok(None));
}

#[test]
fn a_helper_that_fails_is_seen_and_killed_when_its_time_is_up() {
    let limits = Limits { helper_ms_max: 200, ..Limits::STANDARD };
    let problem = |body: &str, registry: &str| {
        let (_dir, config) = with_helper(body);
        match config.find(registry, &limits) {
            Err(RegistryError::Credentials { problem, .. }) => problem,
            _ => panic!("no error"),
        }
    };
    assert_eq!(problem("echo broken; exit 1", "a.example"), "failed: broken");
    assert_eq!(problem("echo '<html>'", "a.example"), "answered something else than JSON");
    assert_eq!(problem("exec sleep 30", "a.example"), "gave no answer within 200 ms");
    assert_eq!(problem("sleep 1 & exit 0", "a.example"), "gave no answer within 200 ms");
    assert_eq!(problem("head -c 100000 /dev/zero", "a.example"), "wrote more than 65536 bytes");
    assert!(problem("", "own.example").ends_with("names this program, which is not in PATH"));
}
