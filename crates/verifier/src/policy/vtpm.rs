//! `[platform.vtpm]`: what a policy expects of a TPM, and whose keys it accepts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use casemate_canon::Sha256;
use casemate_evidence::TpmHash;
use serde::Deserialize;
use toml::Spanned;

use super::place::{Place, Strings, list};
use super::{PolicyError, SnpExpectations, TdxExpectations, snp, tdx};
use crate::hex_text::HexSlice;

/// Azure with SEV-SNP, as a table of the policy; likewise below.
pub(crate) const AZURE_SNP: &str = "vtpm.azure-snp";
/// Azure with TDX.
pub(crate) const AZURE_TDX: &str = "vtpm.azure-tdx";
/// Google.
pub(crate) const GOOGLE: &str = "vtpm.google";
/// A TPM that the owner names.
pub(crate) const OWNER: &str = "vtpm.owner";

/// Last register that a TPM can have here.
const REGISTER_MAX: u8 = 31;

/// Expectations of a TPM. At least one of the four kinds is there: those that are not are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VtpmExpectations {
    /// Bank of the registers that are compared.
    pub bank: PcrBank,
    /// Registers by index, 0 to 31, each with every value that is accepted; at least one register.
    pub pcrs: BTreeMap<u8, Vec<Vec<u8>>>,
    /// Azure with SEV-SNP: what is expected of the hardware.
    pub azure_snp: Option<SnpExpectations>,
    /// Azure with TDX: what is expected of the hardware.
    pub azure_tdx: Option<TdxExpectations>,
    /// Google.
    pub google: Option<GoogleExpectations>,
    /// A TPM that the owner names.
    pub owner: Option<OwnerExpectations>,
}

/// A bank whose values a policy may name. SHA-1 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PcrBank {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl PcrBank {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Its name in a policy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.hash().name()
    }

    /// As the TPM knows it.
    #[must_use]
    pub const fn hash(self) -> TpmHash {
        match self {
            Self::Sha256 => TpmHash::Sha256,
            Self::Sha384 => TpmHash::Sha384,
            Self::Sha512 => TpmHash::Sha512,
        }
    }
}

/// Expectations of a vTPM at Google. Its certificate says which machine it is, and anyone can have a machine there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoogleExpectations {
    /// Projects by name, at least one.
    pub projects: Vec<String>,
}

/// Keys that the owner of a TPM vouches for; at least one list is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerExpectations {
    /// Attestation keys, by SHA-256 of SubjectPublicKeyInfo. The owner knows that each is a restricted key in a TPM.
    pub keys: Vec<Sha256>,
    /// Attestation keys, by SHA-256 of the public area (`TPMT_PUBLIC`): the key's attributes are part of it.
    pub areas: Vec<Sha256>,
    /// Roots of certificates of attestation keys, by SHA-256 of SubjectPublicKeyInfo.
    pub roots: Vec<Sha256>,
    /// What a certificate under those roots must be for.
    pub usage: KeyUsage,
}

/// What the certificate of an attestation key must say that the key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUsage {
    /// An attestation key: extended key usage 2.23.133.8.3.
    AttestationKey,
    /// Anything. The owner knows that its roots certify nothing that signs but attestation keys.
    Any,
}

impl VtpmExpectations {
    /// Kinds of TPM that are accepted, by their tables.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let kinds = [
            (AZURE_SNP, self.azure_snp.is_some()),
            (AZURE_TDX, self.azure_tdx.is_some()),
            (GOOGLE, self.google.is_some()),
            (OWNER, self.owner.is_some()),
        ];
        kinds.into_iter().filter(|(_, accepted)| *accepted).map(|(kind, _)| kind).collect()
    }
}

impl OwnerExpectations {
    pub(crate) fn describe_keys(&self) -> String {
        let keys = self.keys.iter().map(|key| format!("key {key}"));
        let areas = self.areas.iter().map(|area| format!("public area {area}"));
        let all: Vec<String> = keys.chain(areas).collect();
        if all.is_empty() { "no key: the policy names none".to_owned() } else { all.join(" or ") }
    }
}

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Table {
    bank: Spanned<String>,
    pcr: Spanned<BTreeMap<Spanned<String>, Strings>>,
    azure_snp: Option<Spanned<snp::Table>>,
    azure_tdx: Option<Spanned<tdx::Table>>,
    google: Option<Spanned<Google>>,
    owner: Option<Spanned<Owner>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Google {
    projects: Strings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Owner {
    keys: Option<Strings>,
    areas: Option<Strings>,
    roots: Option<Strings>,
    allow_any_key_usage: Option<bool>,
}

/// What the table says.
pub(super) fn read(place: &Place<'_>, table: &Spanned<Table>) -> Result<VtpmExpectations, PolicyError> {
    let span = table.span();
    let table = table.get_ref();
    let bank =
        PcrBank::ALL.into_iter().find(|bank| bank.name() == table.bank.get_ref()).ok_or_else(|| {
            let what = format!("bank `{}` is not known, or too weak", table.bank.get_ref());
            place.error(&table.bank.span(), what, "write \"sha256\", \"sha384\" or \"sha512\"")
        })?;
    let read = VtpmExpectations {
        bank,
        pcrs: read_pcrs(place, &table.pcr, bank)?,
        azure_snp: table.azure_snp.as_ref().map(|table| snp::read(place, table.get_ref())).transpose()?,
        azure_tdx: table.azure_tdx.as_ref().map(|table| tdx::read(place, table.get_ref())).transpose()?,
        google: table.google.as_ref().map(|table| read_google(place, table.get_ref())).transpose()?,
        owner: table.owner.as_ref().map(|table| read_owner(place, table)).transpose()?,
    };
    if read.kinds().is_empty() {
        return Err(place.error(
            &span,
            "no kind of TPM is accepted",
            "add a table azure-snp, azure-tdx, google or owner below [platform.vtpm]",
        ));
    }
    Ok(read)
}

fn read_pcrs(
    place: &Place<'_>,
    table: &Spanned<BTreeMap<Spanned<String>, Strings>>,
    bank: PcrBank,
) -> Result<BTreeMap<u8, Vec<Vec<u8>>>, PolicyError> {
    let digits = bank.hash().digest_bytes().saturating_mul(2);
    let expected = format!("{digits} lower-case hexadecimal digits");
    let mut pcrs = BTreeMap::new();
    for (name, values) in table.get_ref() {
        let index = name.get_ref().parse::<u8>().ok().filter(|index| *index <= REGISTER_MAX);
        let index = index.filter(|index| index.to_string() == *name.get_ref()).ok_or_else(|| {
            let what = format!("`{}` is not a register", name.get_ref());
            place.error(&name.span(), what, "write a number from 0 to 31")
        })?;
        let values = place.each(values, &expected, |text| {
            let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
            (lower && text.len() == digits).then(|| hex::decode(text).ok()).flatten()
        })?;
        pcrs.insert(index, values);
    }
    if pcrs.is_empty() {
        let todo = "write each register with every value that is accepted";
        return Err(place.error(
            &table.span(),
            "no register is named, so that anything could have run",
            todo,
        ));
    }
    Ok(pcrs)
}

fn read_google(place: &Place<'_>, table: &Google) -> Result<GoogleExpectations, PolicyError> {
    let name = |text: &str| (!text.is_empty() && text.is_ascii()).then(|| text.to_owned());
    Ok(GoogleExpectations { projects: place.each(&table.projects, "the name of a project", name)? })
}

fn read_owner(place: &Place<'_>, table: &Spanned<Owner>) -> Result<OwnerExpectations, PolicyError> {
    let digests = |list: &Option<Strings>| {
        let Some(list) = list else { return Ok(vec![]) };
        place.each(list, "a digest, sha256:<64 digits>", |text| text.parse::<Sha256>().ok())
    };
    let named = table.get_ref();
    let read = OwnerExpectations {
        keys: digests(&named.keys)?,
        areas: digests(&named.areas)?,
        roots: digests(&named.roots)?,
        usage: match named.allow_any_key_usage {
            Some(true) => KeyUsage::Any,
            Some(false) | None => KeyUsage::AttestationKey,
        },
    };
    if read.keys.is_empty() && read.areas.is_empty() && read.roots.is_empty() {
        return Err(place.error(&table.span(), "no key is named", "add keys, areas or roots"));
    }
    Ok(read)
}

/// The tables for these values.
pub(super) fn write(out: &mut String, vtpm: &VtpmExpectations) -> std::fmt::Result {
    writeln!(out, "\n# What a TPM measured at boot.\n[platform.vtpm]\nbank = \"{}\"", vtpm.bank.name())?;
    writeln!(out, "[platform.vtpm.pcr]")?;
    for (index, values) in &vtpm.pcrs {
        writeln!(out, "{index} = {}", list(values.iter().map(|value| HexSlice(value))))?;
    }
    if let Some(google) = &vtpm.google {
        writeln!(out, "\n# Anyone can have a machine there.\n[platform.{GOOGLE}]")?;
        writeln!(out, "projects = {}", list(&google.projects))?;
    }
    if let Some(owner) = &vtpm.owner {
        writeln!(out, "\n# Attestation keys that the owner vouches for.\n[platform.{OWNER}]")?;
        for (key, digests) in [("keys", &owner.keys), ("areas", &owner.areas), ("roots", &owner.roots)] {
            if !digests.is_empty() {
                writeln!(out, "{key} = {}", list(digests))?;
            }
        }
        if owner.usage == KeyUsage::Any {
            writeln!(out, "allow-any-key-usage = true")?;
        }
    }
    if let Some(expected) = &vtpm.azure_tdx {
        tdx::write(out, AZURE_TDX, expected)?;
    }
    if let Some(expected) = &vtpm.azure_snp {
        snp::write(out, AZURE_SNP, expected)?;
    }
    Ok(())
}
