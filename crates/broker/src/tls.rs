//! The broker's TLS identity: a self-signed certificate made at first run, and what clients pin.
//!
//! What it is: making, storing and loading it (rcgen, rustls with AWS-LC). What it is not: renewal: a client that
//! pins the certificate has to be given a new one by hand. Who trusts it: `serve`; clients, through the pinned file.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use zeroize::Zeroizing;

use crate::clock::now_s;
use crate::state_dir::{StateDir, StateError};

/// Certificate in PEM: what clients are given.
pub(crate) const CERTIFICATE_FILE: &str = "tls.crt";
/// Private key, PKCS #8 in DER.
const KEY_FILE: &str = "tls.key";
/// Names that stand in every certificate.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Most names given with `--name`.
const NAMES_MAX: usize = 16;
/// Years from now until the certificate ends.
const LIFE_YEARS: i32 = 10;
/// Seconds of a mean Gregorian year.
const YEAR_S: u64 = 31_556_952;

/// Why there is no TLS identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// Not a name or address.
    #[error("`{name}` is not a DNS name or address, or there are more than {NAMES_MAX}")]
    Name {
        /// What was given.
        name: String,
    },
    /// The certificate that is there does not have this name.
    #[error("the certificate of this state directory is not for `{name}`")]
    NameMissing {
        /// The name.
        name: String,
    },
    /// One of the two files is missing, or does not hold what it should.
    #[error("tls.crt or tls.key in the state directory is missing or damaged")]
    Damaged,
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// rustls does not take the identity.
    #[error("TLS identity: {0}")]
    Rustls(#[from] rustls::Error),
    /// rcgen failed.
    #[error("certificate: {0}")]
    Rcgen(#[from] rcgen::Error),
}

/// The identity in use.
pub(crate) struct Identity {
    /// For the acceptor.
    pub(crate) config: Arc<ServerConfig>,
    /// The certificate file for clients.
    pub(crate) certificate: PathBuf,
}

/// Loads the identity, or makes one for loopback and `names`.
pub(crate) fn identity(state: &StateDir, names: &[String]) -> Result<Identity, TlsError> {
    if let Some(name) = names.iter().find(|name| ServerName::try_from(name.as_str()).is_err()) {
        return Err(TlsError::Name { name: name.clone() });
    }
    if let Some(name) = names.get(NAMES_MAX) {
        return Err(TlsError::Name { name: name.clone() });
    }
    let certificate = state.file(CERTIFICATE_FILE);
    let lock = state.lock_for_making()?;
    let (der, key) = match (state.read_private(KEY_FILE)?, certificate.exists()) {
        // A key without a certificate is what a broker leaves that was ended while it made them: nobody pins it yet.
        (_, false) => make(state, names)?,
        (Some(key), true) => {
            let der = CertificateDer::from_pem_file(&certificate).map_err(|_| TlsError::Damaged)?;
            (der, key)
        }
        _ => return Err(TlsError::Damaged),
    };
    drop(lock);
    require_names(&der, names)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_vec()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![der], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity { config: Arc::new(config), certificate })
}

type Made = (CertificateDer<'static>, Zeroizing<Vec<u8>>);

fn make(state: &StateDir, names: &[String]) -> Result<Made, TlsError> {
    let all: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).chain(names.iter().cloned()).collect();
    let mut params = CertificateParams::new(all)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "casemate-broker");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let year = i32::try_from(now_s() / YEAR_S).unwrap_or(0).saturating_add(1970);
    params.not_before = rcgen::date_time_ymd(year.saturating_sub(1), 1, 1);
    params.not_after = rcgen::date_time_ymd(year.saturating_add(LIFE_YEARS), 1, 1);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let der = Zeroizing::new(key.serialize_der());
    // The certificate last: where it stands, its key does too.
    state.write_private(KEY_FILE, &der)?;
    state.write_public(CERTIFICATE_FILE, certificate.pem().as_bytes())?;
    Ok((certificate.der().clone(), der))
}

fn require_names(der: &CertificateDer<'_>, names: &[String]) -> Result<(), TlsError> {
    let parsed = rustls::server::ParsedCertificate::try_from(der).map_err(|_| TlsError::Damaged)?;
    for name in names {
        let server =
            ServerName::try_from(name.as_str()).map_err(|_| TlsError::Name { name: name.clone() })?;
        rustls::client::verify_server_name(&parsed, &server)
            .map_err(|_| TlsError::NameMissing { name: name.clone() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_certificate_and_says_when_a_name_is_not_in_it() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("state")).unwrap();
        let first = identity(&state, &["broker.example".into()]).unwrap();
        let pem = std::fs::read(&first.certificate).unwrap();
        identity(&state, &["broker.example".into(), "127.0.0.1".into()]).unwrap();
        assert_eq!(std::fs::read(&first.certificate).unwrap(), pem);
        let error = identity(&state, &["other.example".into()]).err();
        assert!(matches!(error, Some(TlsError::NameMissing { name }) if name == "other.example"));
        let error = identity(&state, &["not a name".into()]).err();
        assert!(matches!(error, Some(TlsError::Name { .. })));
        // As a broker leaves them that was ended between the two files.
        std::fs::remove_file(state.file(CERTIFICATE_FILE)).unwrap();
        assert_ne!(std::fs::read(identity(&state, &[]).unwrap().certificate).unwrap(), pem);
        std::fs::remove_file(state.file(KEY_FILE)).unwrap();
        assert!(matches!(identity(&state, &[]).err(), Some(TlsError::Damaged)));
    }
}
