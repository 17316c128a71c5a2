//! Certificate revocation lists (RFC 5280 section 5) as borrowed views.

use std::fmt;

use der::Tag;
use der::asn1::ObjectIdentifier;

use crate::asn1::Fields;
use crate::time::{UnixTime, Window};
use crate::x509::{Certificate, Extensions, Signed, X509Error, common_name, context, next_extension, time};

const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");

/// Largest CRL in bytes. Real ones have 2 KiB; this is room for some 30,000 entries.
pub(crate) const CRL_BYTES_MAX: usize = 1 << 20;

/// A certificate's serial number as its INTEGER has it: 20 bytes (RFC 5280 section 4.1.2.2), and one for the sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Serial {
    bytes: [u8; 21],
    length: usize,
}

impl Serial {
    pub(crate) fn of(serial: &[u8]) -> Result<Self, X509Error> {
        let mut bytes = [0; 21];
        let length = serial.len();
        bytes.get_mut(..length).ok_or(X509Error::Serial { found: length })?.copy_from_slice(serial);
        Ok(Self { bytes, length })
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.bytes.get(..self.length).unwrap_or_default()))
    }
}

/// What a CRL says, after its signature was checked.
#[derive(Debug, Clone)]
pub(crate) struct RevokedSerials {
    issuer: String,
    pub(crate) window: Window,
    serials: Vec<Serial>,
}

impl RevokedSerials {
    /// A CRL that names nothing, where a test has none.
    #[cfg(test)]
    pub(crate) const fn none(window: Window) -> Self {
        Self { issuer: String::new(), window, serials: Vec::new() }
    }

    /// That it holds at `now`.
    pub(crate) fn require_current(&self, now: UnixTime) -> Result<(), X509Error> {
        if self.window.holds_at(now) {
            return Ok(());
        }
        let subject = format!("CRL of {}", self.issuer);
        Err(X509Error::Validity { subject, window: self.window, now })
    }

    /// That it does not name this serial number, of a certificate by the CRL's issuer.
    pub(crate) fn require_unnamed(&self, serial: &Serial) -> Result<(), X509Error> {
        if self.serials.binary_search(serial).is_err() {
            return Ok(());
        }
        Err(X509Error::Revoked { issuer: self.issuer.clone(), serial: serial.to_string() })
    }
}

impl fmt::Display for RevokedSerials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (window, count) = (&self.window, self.serials.len());
        write!(f, "no certificate in use revoked; CRL of {} from {window} with {count} entries", self.issuer)
    }
}

/// A CRL taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Crl<'a> {
    signed: Signed<'a>,
    issuer: &'a [u8],
    pub(crate) window: Window,
    revoked: Vec<&'a [u8]>,
    extensions: Extensions<'a>,
}

impl<'a> Crl<'a> {
    /// Takes a version 2 CRL apart. One without `nextUpdate` is refused: nobody could tell when it is stale.
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, X509Error> {
        const PART: &str = "CRL";
        if der.len() > CRL_BYTES_MAX {
            return Err(X509Error::CrlTooLong { found: der.len() });
        }
        let signed = Signed::read(der, PART)?;
        let mut tbs = Fields::of_sequence(signed.tbs, PART)?;
        if tbs.unsigned("CRL version")? != 1 {
            return Err(crate::asn1::Asn1Error { part: "CRL version" }.into());
        }
        signed.require_inner_algorithm(&tbs.tagged(Tag::Sequence, PART)?)?;
        let issuer = tbs.tagged(Tag::Sequence, "CRL issuer")?.whole;
        let from = time(&mut tbs)?;
        let until = if tbs.is_finished() { None } else { time(&mut tbs.clone()).ok() };
        let until = until.ok_or(X509Error::NoNextUpdate)?;
        time(&mut tbs)?;
        let mut revoked = Vec::new();
        if let Some(list) = tbs.optional(Tag::Sequence, "revoked certificates")? {
            let mut entries = Fields::of(list.value);
            while !entries.is_finished() {
                let mut entry = entries.sequence("revoked certificate")?;
                revoked.push(entry.tagged(Tag::Integer, "revoked serial number")?.value);
                // When it was revoked changes nothing; that there is a time is the shape of an entry.
                let when = entry.next("revocation date")?.tag;
                if !matches!(when, Tag::UtcTime | Tag::GeneralizedTime) {
                    return Err(crate::asn1::Asn1Error { part: "revocation date" }.into());
                }
                // RFC 5280 section 5.3: a CRL with a critical entry extension that is not known must not be used.
                if let Some(list) = entry.optional(Tag::Sequence, "CRL entry extensions")? {
                    let mut extensions = Fields::of(list.value);
                    while !extensions.is_finished() {
                        next_extension(&mut extensions, &[], "CRL entry extensions")?;
                    }
                }
                entry.end("revoked certificate")?;
            }
        }
        let extensions = tbs.optional(context(0), "CRL extensions")?;
        tbs.end(PART)?;
        let extensions = Extensions::read(extensions, &[], "CRL extensions")?;
        Ok(Self { signed, issuer, window: Window { from, until }, revoked, extensions })
    }

    /// How many certificates it names.
    pub(crate) fn revoked_count(&self) -> usize {
        self.revoked.len()
    }

    /// Common name of whoever says to have issued it.
    pub(crate) fn issuer_common_name(&self) -> String {
        common_name(self.issuer)
    }

    /// The number that its issuer counts up (RFC 5280 section 5.2.3), in hexadecimal digits. Not verified.
    pub(crate) fn number(&self) -> Option<String> {
        match self.extensions.get(&CRL_NUMBER)? {
            [0x02, length, number @ ..] if usize::from(*length) == number.len() => Some(hex::encode(number)),
            _ => None,
        }
    }

    /// That `issuer`, which may sign CRLs, signed this one.
    pub(crate) fn require_signed_by(&self, issuer: &Certificate<'_>) -> Result<(), X509Error> {
        issuer.require_crl_role()?;
        let name = || format!("CRL of {}", common_name(self.issuer));
        if self.issuer != issuer.subject {
            return Err(X509Error::Issuer { subject: name(), issuer: issuer.common_name.clone() });
        }
        self.signed.require_signed_by(issuer, &name())
    }

    /// What it says, kept for later.
    pub(crate) fn revoked(&self) -> Result<RevokedSerials, X509Error> {
        let mut serials =
            self.revoked.iter().map(|serial| Serial::of(serial)).collect::<Result<Vec<_>, _>>()?;
        serials.sort_unstable();
        Ok(RevokedSerials { issuer: common_name(self.issuer), window: self.window, serials })
    }

    /// That it has the extensions that RFC 5280 section 5.2 asks for.
    pub(crate) fn require_numbered(&self) -> Result<(), X509Error> {
        for (oid, missing) in
            [(AUTHORITY_KEY_IDENTIFIER, "authority key identifier"), (CRL_NUMBER, "CRL number")]
        {
            if self.extensions.get(&oid).is_none() {
                return Err(X509Error::MissingExtension { missing });
            }
        }
        Ok(())
    }

    /// That it does not name this certificate, whose issuer must be the CRL's.
    pub(crate) fn require_not_revoked(&self, certificate: &Certificate<'_>) -> Result<(), X509Error> {
        if certificate.issuer != self.issuer {
            return Err(X509Error::Issuer {
                subject: certificate.common_name.clone(),
                issuer: common_name(self.issuer),
            });
        }
        if self.revoked.contains(&certificate.serial) {
            return Err(X509Error::Revoked {
                issuer: common_name(self.issuer),
                serial: hex::encode(certificate.serial),
            });
        }
        Ok(())
    }
}
