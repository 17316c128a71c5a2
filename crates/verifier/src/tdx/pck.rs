//! What Intel certified of one platform: the SGX extension of its PCK certificate.
//!
//! Layout: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, section 1.3.5.

use std::fmt;

use der::Tag;
use der::asn1::ObjectIdentifier;

use super::tcb::PckTcb;
use crate::asn1::{Asn1Error, Fields, Tlv};
use crate::policy::PlatformProperty;
use crate::x509::{Certificate, X509Error};

const SGX_EXTENSIONS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");
const PPID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.1");
const TCB: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2");
const PCEID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.3");
const FMSPC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.4");
const SGX_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.5");
const CONFIGURATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7");
const DYNAMIC_PLATFORM: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.1");
const CACHED_KEYS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.2");
const SMT_ENABLED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7.3");
const PART: &str = "SGX extension";

/// The SGX extension of a PCK certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SgxExtension {
    pub(crate) ppid: [u8; 16],
    pub(crate) tcb: PckTcb,
    pub(crate) pceid: [u8; 2],
    pub(crate) fmspc: [u8; 6],
    pub(crate) sgx_type: SgxType,
    /// What the platform's configuration was certified with; none in certificates of the processor CA.
    pub(crate) properties: Option<Properties>,
}

/// How memory is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SgxType {
    Standard,
    Scalable,
    ScalableWithIntegrity,
}

impl fmt::Display for SgxType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "Standard",
            Self::Scalable => "Scalable",
            Self::ScalableWithIntegrity => "ScalableWithIntegrity",
        })
    }
}

/// Properties of a platform that its certificate states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Properties {
    dynamic_platform: Option<bool>,
    cached_keys: Option<bool>,
    smt: Option<bool>,
}

impl Properties {
    /// What the certificate states of this one; nothing where it is left out.
    pub(crate) const fn states(self, property: PlatformProperty) -> Option<bool> {
        match property {
            PlatformProperty::DynamicPlatform => self.dynamic_platform,
            PlatformProperty::CachedKeys => self.cached_keys,
            PlatformProperty::Smt => self.smt,
        }
    }
}

impl SgxExtension {
    /// Reads the extension of `certificate`. Parts that are not used here may follow; none may be there twice.
    pub(crate) fn read(certificate: &Certificate<'_>) -> Result<Self, X509Error> {
        let content = certificate
            .extensions
            .get(&SGX_EXTENSIONS)
            .ok_or(X509Error::MissingExtension { missing: "SGX extension" })?;
        let (mut ppid, mut tcb, mut pceid, mut fmspc) = (None, None, None, None);
        let (mut sgx_type, mut properties) = (None, None);
        let mut parts = Fields::of_sequence(content, PART)?;
        while !parts.is_finished() {
            let (oid, value) = part(&mut parts)?;
            if oid == PPID {
                set_once(&mut ppid, octets(&value)?)?;
            } else if oid == TCB {
                set_once(&mut tcb, read_tcb(value.value)?)?;
            } else if oid == PCEID {
                set_once(&mut pceid, octets(&value)?)?;
            } else if oid == FMSPC {
                set_once(&mut fmspc, octets(&value)?)?;
            } else if oid == SGX_TYPE {
                set_once(&mut sgx_type, read_sgx_type(&value)?)?;
            } else if oid == CONFIGURATION {
                set_once(&mut properties, read_properties(value.value)?)?;
            }
        }
        let missing = Asn1Error { part: PART };
        Ok(Self {
            ppid: ppid.ok_or(missing)?,
            tcb: tcb.ok_or(missing)?,
            pceid: pceid.ok_or(missing)?,
            fmspc: fmspc.ok_or(missing)?,
            sgx_type: sgx_type.ok_or(missing)?,
            properties,
        })
    }
}

fn read_sgx_type(value: &Tlv<'_>) -> Result<SgxType, Asn1Error> {
    match (value.tag, value.value) {
        (Tag::Enumerated, [0]) => Ok(SgxType::Standard),
        (Tag::Enumerated, [1]) => Ok(SgxType::Scalable),
        (Tag::Enumerated, [2]) => Ok(SgxType::ScalableWithIntegrity),
        _ => Err(Asn1Error { part: PART }),
    }
}

/// Each flag is optional (same document, "Configuration").
fn read_properties(content: &[u8]) -> Result<Properties, Asn1Error> {
    let (mut dynamic_platform, mut cached_keys, mut smt) = (None, None, None);
    let mut parts = Fields::of(content);
    while !parts.is_finished() {
        let (oid, value) = part(&mut parts)?;
        let flag = match (value.tag, value.value) {
            (Tag::Boolean, [0]) => false,
            (Tag::Boolean, [0xff]) => true,
            _ => return Err(Asn1Error { part: PART }),
        };
        if oid == DYNAMIC_PLATFORM {
            set_once(&mut dynamic_platform, flag)?;
        } else if oid == CACHED_KEYS {
            set_once(&mut cached_keys, flag)?;
        } else if oid == SMT_ENABLED {
            set_once(&mut smt, flag)?;
        }
    }
    Ok(Properties { dynamic_platform, cached_keys, smt })
}

/// Components 1 to 16, then PCESVN (17), then CPUSVN (18), whose bytes say the same as the components.
fn read_tcb(content: &[u8]) -> Result<PckTcb, Asn1Error> {
    let mut parts = Fields::of(content);
    let mut components = [0; 16];
    for (number, component) in (1..).zip(&mut components) {
        let svn = tcb_part(&mut parts, number)?.unsigned(PART)?;
        *component = u8::try_from(svn).map_err(|_| Asn1Error { part: PART })?;
    }
    let pcesvn = tcb_part(&mut parts, 17)?.unsigned(PART)?;
    let pcesvn = u16::try_from(pcesvn).map_err(|_| Asn1Error { part: PART })?;
    let cpu_svn: [u8; 16] = octets(&tcb_part(&mut parts, 18)?.next(PART)?)?;
    parts.end(PART)?;
    if cpu_svn != components {
        return Err(Asn1Error { part: PART });
    }
    Ok(PckTcb { components, pcesvn })
}

/// The value of TCB part `number`, which must come next.
fn tcb_part<'a>(parts: &mut Fields<'a>, number: u32) -> Result<Fields<'a>, Asn1Error> {
    let (oid, value) = part(parts)?;
    match TCB.push_arc(number) {
        Ok(expected) if expected == oid => Ok(Fields::of(value.whole)),
        _ => Err(Asn1Error { part: PART }),
    }
}

fn part<'a>(parts: &mut Fields<'a>) -> Result<(ObjectIdentifier, Tlv<'a>), Asn1Error> {
    let mut pair = parts.sequence(PART)?;
    let oid = pair.tagged(Tag::ObjectIdentifier, PART)?.value;
    let value = pair.next(PART)?;
    pair.end(PART)?;
    Ok((ObjectIdentifier::from_bytes(oid).map_err(|_| Asn1Error { part: PART })?, value))
}

fn octets<const N: usize>(value: &Tlv<'_>) -> Result<[u8; N], Asn1Error> {
    if value.tag != Tag::OctetString {
        return Err(Asn1Error { part: PART });
    }
    value.value.try_into().map_err(|_| Asn1Error { part: PART })
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), Asn1Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Asn1Error { part: PART }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        match u8::try_from(content.len()) {
            Ok(length) if length < 0x80 => [&[tag, length], content].concat(),
            Ok(length) => [&[tag, 0x81, length], content].concat(),
            Err(_) => {
                let length = u16::try_from(content.len()).unwrap().to_be_bytes();
                [&[tag, 0x82], &length[..], content].concat()
            }
        }
    }

    /// `SEQUENCE { oid, value }`, the identifier being TCB followed by `arc`.
    fn tcb_part_of(arc: u32, value: &[u8]) -> Vec<u8> {
        let oid = tlv(0x06, TCB.push_arc(arc).unwrap().as_bytes());
        tlv(0x30, &[oid.as_slice(), value].concat())
    }

    fn tcb(components: [u8; 16], cpu_svn: [u8; 16], order: impl Fn(u32) -> u32) -> Vec<u8> {
        let mut parts: Vec<u8> = (1_u32..)
            .zip(components)
            .flat_map(|(number, svn)| tcb_part_of(order(number), &tlv(0x02, &[svn])))
            .collect();
        parts.extend(tcb_part_of(order(17), &tlv(0x02, &[13])));
        parts.extend(tcb_part_of(order(18), &tlv(0x04, &cpu_svn)));
        parts
    }

    #[test]
    fn reads_sixteen_components_in_order_that_agree_with_cpusvn() {
        let components = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        let good = tcb(components, components, |number| number);
        assert_eq!(read_tcb(&good), Ok(PckTcb { components, pcesvn: 13 }));
        let error = Err(Asn1Error { part: PART });
        assert_eq!(read_tcb(&tcb(components, [0; 16], |number| number)), error);
        let swapped = |number| match number {
            1 => 2,
            2 => 1,
            other => other,
        };
        assert_eq!(read_tcb(&tcb(components, components, swapped)), error);
        assert_eq!(read_tcb(&[good.as_slice(), &tcb_part_of(19, &tlv(0x02, &[0]))].concat()), error);
        for length in 0..good.len() {
            assert_eq!(read_tcb(&good[..length]), error, "{length}");
        }
    }
}
