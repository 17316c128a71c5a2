//! What the command line gives: files told from each other, what each must answer, and the certificate of a report.

use std::path::{Path, PathBuf};

use casemate_evidence::{BOOT_LOG_BYTES_MAX, CertificateKind, SigningKey, parse_boot_log, parse_snp_report};
use casemate_protocol::Nonce;
use casemate_protocol::cmw::Platform;
use casemate_protocol::vtpm::{AkEvidence, Vtpm};
use casemate_verifier::{Challenge, vek_product};
use clap::Args;

use crate::failure::{Failure, Outcome, one_line};
use crate::inputs;
use crate::statement::{self, Recognised, STATEMENT_BYTES_MAX, Statement, decode_hex};

/// Bytes of report data.
const REPORT_DATA_BYTES: usize = 64;
/// Most bytes of a TPM quote's extra data (TPM 2.0 Library, part 2, TPM2B_DATA with a SHA-512 name).
const EXTRA_DATA_BYTES_MAX: usize = 64;
/// Largest certificate file in bytes; real ones have 2 KB.
const CERTIFICATE_BYTES_MAX: usize = 64 << 10;
/// An entry of a certificate table in bytes: GUID, offset, length (GHCB specification 56421, section 4.1.8.1).
const TABLE_ENTRY_BYTES: usize = 24;

/// What the statements must answer.
#[derive(Args, Debug)]
pub(crate) struct Expected {
    /// The nonce that was sent, for evidence of `casemate attest`
    #[arg(long)]
    nonce: Option<Nonce>,
    /// What the guest was asked to bind in, for a raw quote or report: 128 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    report_data: Option<String>,
    /// What the TPM was asked to sign with its registers, for a TPM's statement: hexadecimal digits
    #[arg(long, value_name = "HEX")]
    extra_data: Option<String>,
}

/// A file, and what it is.
pub(super) struct Gathered {
    pub(super) path: PathBuf,
    pub(super) recognised: Outcome<Recognised>,
}

impl Gathered {
    /// Whether it is a statement of a TPM whose key no hardware speaks for: no endorsement is read for it.
    pub(super) fn is_of_a_tpm_alone(&self) -> bool {
        let Ok(Recognised { statement: Statement::Platform(Platform::Vtpm(vtpm)), .. }) = &self.recognised
        else {
            return false;
        };
        matches!(vtpm.ak, AkEvidence::Key(_) | AkEvidence::Certificates(_))
    }
}

/// Reads every file and tells what it is.
pub(super) fn read_all(paths: &[PathBuf]) -> Vec<Gathered> {
    let gathered = |path: &PathBuf| Gathered { path: path.clone(), recognised: read_statement(path) };
    paths.iter().map(gathered).collect()
}

/// Reads a file and tells what it is.
pub(crate) fn read_statement(path: &Path) -> Outcome<Recognised> {
    let bytes = inputs::read_bytes(path, STATEMENT_BYTES_MAX, "name a file that exists and can be read")?;
    statement::recognise(&bytes).map_err(|error| {
        // A place in JSON stands right after the name, as everywhere.
        let place = if error.what.starts_with(|c: char| c.is_ascii_digit()) { ":" } else { ": " };
        Failure::input(format!("{}{place}{}", path.display(), error.what), error.todo)
    })
}

/// What a signed result must be of.
pub(crate) enum Asked {
    Nonce(Nonce),
    ReportData([u8; REPORT_DATA_BYTES]),
    ExtraData(Vec<u8>),
}

impl Asked {
    pub(crate) fn challenge(&self) -> Challenge<'_> {
        match self {
            Self::Nonce(nonce) => Challenge::Nonce(nonce),
            Self::ReportData(data) => Challenge::ReportData(data),
            Self::ExtraData(data) => Challenge::ExtraData(data),
        }
    }
}

impl Expected {
    /// The one that is given, for a result, which does not say of what kind of statement it is.
    pub(crate) fn one(&self, file: &Path) -> Outcome<Asked> {
        match (&self.nonce, &self.report_data, &self.extra_data) {
            (Some(nonce), None, None) => Ok(Asked::Nonce(nonce.clone())),
            (None, Some(_), None) => self.report_data(file).map(Asked::ReportData),
            (None, None, Some(_)) => self.extra_data(file).map(Asked::ExtraData),
            _ => Err(Failure::input(
                format!("{}: what the result must answer is not given, or given twice", file.display()),
                "give one of `--nonce`, `--report-data` and `--extra-data`, as the statement was asked; without it, a \
                 result made for another question would do",
            )),
        }
    }

    /// Refuses what nothing among the files would be compared with: whoever gave it believes that it is.
    pub(super) fn require_use(&self, files: &[Gathered]) -> Outcome<()> {
        let any = |is: fn(&Statement) -> bool| {
            // What cannot be told may be what was meant, and is an error of its own.
            files.iter().any(|file| file.recognised.as_ref().map_or(true, |found| is(&found.statement)))
        };
        let is_vtpm: fn(&Statement) -> bool = |one| matches!(one, Statement::Platform(Platform::Vtpm(_)));
        let is_hardware: fn(&Statement) -> bool = |one| match one {
            Statement::Platform(platform) => !matches!(platform, Platform::Vtpm(_)),
            Statement::Agent(_) => false,
        };
        let unused = [
            ("--nonce", self.nonce.is_some() && !any(|one| matches!(one, Statement::Agent(_)))),
            ("--report-data", self.report_data.is_some() && !any(is_hardware)),
            ("--extra-data", self.extra_data.is_some() && !any(is_vtpm)),
        ];
        let Some((option, _)) = unused.into_iter().find(|(_, unused)| *unused) else { return Ok(()) };
        let first = files.iter().find_map(|file| file.recognised.as_ref().ok());
        let what = first.map_or("no statement", |found| found.what.as_str());
        Err(Failure::input(
            format!("{option} is given, and nothing here answers it: {}", one_line(what)),
            "give --nonce for evidence of `casemate attest`, --report-data for a raw quote or report, --extra-data for a \
             TPM's statement",
        ))
    }

    pub(super) fn nonce(&self, file: &Path) -> Outcome<&Nonce> {
        self.nonce.as_ref().ok_or_else(|| {
            Failure::input(
                format!("{} is evidence about one agent, and no nonce is given", file.display()),
                "give the nonce that was sent for it: `--nonce NONCE`",
            )
        })
    }

    pub(super) fn report_data(&self, file: &Path) -> Outcome<[u8; REPORT_DATA_BYTES]> {
        let Some(text) = &self.report_data else {
            return Err(Failure::input(
                format!("{} is a raw statement, and no expected report data is given", file.display()),
                "give what the guest was asked to bind in: `--report-data HEX` with 128 digits; without it, a statement \
                 made at any time for anybody would do",
            ));
        };
        let todo = "give all 64 bytes as 128 hexadecimal digits";
        let bytes = decode_hex(text).filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or_else(|| {
            Failure::input(format!("--report-data `{}` is not hexadecimal", one_line(text)), todo)
        })?;
        <[u8; REPORT_DATA_BYTES]>::try_from(bytes).map_err(|bytes| {
            let missing = REPORT_DATA_BYTES.saturating_sub(bytes.len());
            let todo = match missing {
                0 => todo.to_owned(),
                missing => format!(
                    "{todo}; where the guest filled up with zeros, as most do, append {} zeros",
                    missing.saturating_mul(2)
                ),
            };
            Failure::input(format!("--report-data has {} bytes, not {REPORT_DATA_BYTES}", bytes.len()), todo)
        })
    }

    pub(super) fn extra_data(&self, file: &Path) -> Outcome<Vec<u8>> {
        let todo =
            "give the TPM's qualifying data: `--extra-data HEX`, 1 to 64 bytes, exactly as it was sent";
        let Some(text) = &self.extra_data else {
            return Err(Failure::input(
                format!("{} is a TPM's statement, and no expected extra data is given", file.display()),
                todo,
            ));
        };
        let bytes = decode_hex(text).filter(|bytes| (1..=EXTRA_DATA_BYTES_MAX).contains(&bytes.len()));
        bytes.ok_or_else(|| {
            Failure::input(format!("--extra-data `{}` is not 1 to 64 bytes", one_line(text)), todo)
        })
    }
}

/// Files that stand beside statements.
pub(super) struct Beside {
    /// VCEK or VLEK, DER.
    pub(super) certificate: Option<Vec<u8>>,
    /// Event log of firmware.
    pub(super) boot_log: Option<Vec<u8>>,
}

impl Beside {
    /// Reads them. One that no statement could use is refused: whoever gave it believes that it counts.
    pub(super) fn read(
        certificate: Option<&Path>,
        boot_log: Option<&Path>,
        files: &[Gathered],
    ) -> Outcome<Self> {
        let any = |wants: fn(&Platform) -> bool| {
            files.iter().any(|file| match &file.recognised {
                Ok(Recognised { statement: Statement::Platform(platform), .. }) => wants(platform),
                Ok(_) => false,
                Err(_) => true,
            })
        };
        let unused = |path: &Path, todo: &str| {
            Failure::input(format!("{}: nothing here needs such a file", path.display()), todo)
        };
        if let Some(path) = certificate.filter(|_| !any(lacks_certificate)) {
            return Err(unused(path, "give --certificate with an SEV-SNP report that comes without one"));
        }
        if let Some(path) = boot_log.filter(|_| !any(|one| !matches!(one, Platform::Snp { .. }))) {
            return Err(unused(path, "give --boot-log with a raw TDX quote or a TPM's statement"));
        }
        Ok(Self {
            certificate: certificate.map(read_vek).transpose()?,
            boot_log: boot_log.map(read_boot_log).transpose()?,
        })
    }
}

fn read_boot_log(path: &Path) -> Outcome<Vec<u8>> {
    let todo = "give the log as the kernel shows it: /sys/firmware/acpi/tables/data/CCEL, or \
                /sys/kernel/security/tpm0/binary_bios_measurements";
    let bytes = inputs::read_bytes(path, BOOT_LOG_BYTES_MAX, todo)?;
    parse_boot_log(&bytes)
        .map_err(|error| Failure::input(format!("{}: not an event log: {error}", path.display()), todo))?;
    Ok(bytes)
}

/// A VCEK or VLEK certificate, DER.
pub(crate) fn read_vek(path: &Path) -> Outcome<Vec<u8>> {
    let todo = "give one VCEK or VLEK certificate, PEM or DER; ASK and ARK belong into the bundle";
    let bytes = inputs::read_bytes(path, CERTIFICATE_BYTES_MAX, todo)?;
    let der = casemate_endorsements::certificate_der(&bytes)
        .ok_or_else(|| Failure::input(format!("{}: not one certificate", path.display()), todo))?;
    vek_product(&der)
        .map_err(|error| Failure::input(format!("{}: not a VCEK or VLEK: {error}", path.display()), todo))?;
    Ok(der)
}

/// Whether a report comes without its VCEK or VLEK.
fn lacks_certificate(platform: &Platform) -> bool {
    match platform {
        Platform::Snp { certificates, .. } => certificates.is_empty(),
        Platform::Vtpm(Vtpm { ak: AkEvidence::AzureSnp { vek, .. }, .. }) => vek.is_none(),
        _ => false,
    }
}

/// The statement with the certificate beside it, where it is a report without one.
pub(crate) fn with_certificate(platform: &Platform, given: Option<&[u8]>) -> Platform {
    let mut platform = platform.clone();
    let Some(given) = given.filter(|_| lacks_certificate(&platform)) else { return platform };
    match &mut platform {
        Platform::Snp { report, certificates } => *certificates = table(report, given),
        Platform::Vtpm(Vtpm { ak: AkEvidence::AzureSnp { vek, .. }, .. }) => *vek = Some(given.to_vec()),
        _ => {}
    }
    platform
}

/// A certificate table of one entry, of the kind that the report says signed it.
fn table(report: &[u8], vek: &[u8]) -> Vec<u8> {
    let kind = match parse_snp_report(report).map(|report| report.signing_key) {
        Ok(SigningKey::Vlek) => CertificateKind::Vlek,
        _ => CertificateKind::Vcek,
    };
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let offset = TABLE_ENTRY_BYTES.saturating_mul(2);
    [&kind.guid()[..], &number(offset), &number(vek.len()), &[0; TABLE_ENTRY_BYTES], vek].concat()
}

#[cfg(test)]
mod tests {
    use casemate_evidence::parse_certificate_table;

    use super::*;
    use crate::failure::Kind;

    fn expected(nonce: Option<&str>, report_data: Option<&str>, extra_data: Option<&str>) -> Expected {
        Expected {
            nonce: nonce.map(|text| text.parse().unwrap()),
            report_data: report_data.map(str::to_owned),
            extra_data: extra_data.map(str::to_owned),
        }
    }

    fn file(statement: Statement) -> Gathered {
        Gathered { path: "f".into(), recognised: Ok(Recognised { statement, what: "a statement".into() }) }
    }

    #[test]
    fn only_a_tpm_that_no_hardware_speaks_for_needs_no_endorsements() {
        let tpm = |ak| {
            file(Statement::Platform(Platform::Vtpm(Vtpm {
                message: vec![],
                signature: vec![],
                pcrs: vec![],
                ak,
            })))
        };
        assert!(tpm(AkEvidence::Key(vec![])).is_of_a_tpm_alone());
        assert!(tpm(AkEvidence::Certificates(vec![])).is_of_a_tpm_alone());
        assert!(!tpm(AkEvidence::AzureSnp { hcl_report: vec![], vek: None }).is_of_a_tpm_alone());
        assert!(!tpm(AkEvidence::AzureTdx { hcl_report: vec![], td_quote: vec![] }).is_of_a_tpm_alone());
        assert!(!file(Statement::Platform(Platform::Tdx { quote: vec![] })).is_of_a_tpm_alone());
    }

    #[test]
    fn what_a_statement_must_answer_is_mandatory() {
        let none = expected(None, None, None);
        let f = Path::new("f");
        let failures = [
            (none.nonce(f).unwrap_err(), "--nonce"),
            (none.report_data(f).unwrap_err(), "--report-data HEX"),
            (none.extra_data(f).unwrap_err(), "--extra-data HEX"),
        ];
        for (failure, option) in failures {
            assert_eq!(failure.kind, Kind::Input);
            assert!(failure.todo.contains(option), "{failure}");
        }
    }

    #[test]
    fn report_data_is_64_bytes_and_a_shorter_one_says_how_to_fill_it() {
        let of = |text: &str| expected(None, Some(text), None).report_data(Path::new("f"));
        assert_eq!(of(&"aB".repeat(64)), Ok([0xab; 64]));
        let short = of(&"ab".repeat(32)).unwrap_err();
        assert_eq!((short.kind, short.what.as_str()), (Kind::Input, "--report-data has 32 bytes, not 64"));
        assert!(short.todo.ends_with("append 64 zeros"), "{}", short.todo);
        let long = of(&"ab".repeat(65)).unwrap_err();
        assert!(!long.todo.contains("zeros"), "{}", long.todo);
        for bad in ["", "abc", "xy", "0xab", "ab ab"] {
            assert!(of(bad).unwrap_err().what.contains("is not hexadecimal"), "{bad}");
        }
    }

    #[test]
    fn extra_data_is_as_long_as_it_was_sent() {
        let of = |text: &str| expected(None, None, Some(text)).extra_data(Path::new("f"));
        assert_eq!(of("0102"), Ok(vec![1, 2]));
        assert_eq!(of(&"ab".repeat(64)).map(|bytes| bytes.len()), Ok(64));
        for bad in ["", "1", "zz", &"ab".repeat(65)] {
            assert_eq!(of(bad).unwrap_err().kind, Kind::Input, "{bad}");
        }
    }

    #[test]
    fn what_nothing_would_be_compared_with_is_refused() {
        let quote = || file(Statement::Platform(Platform::Tdx { quote: vec![] }));
        let data = "00".repeat(64);
        assert!(expected(None, Some(&data), None).require_use(&[quote()]).is_ok());
        for unused in
            [expected(Some("nonce-one"), Some(&data), None), expected(None, Some(&data), Some("00"))]
        {
            assert_eq!(unused.require_use(&[quote()]).unwrap_err().kind, Kind::Input);
        }
        let unknown = Gathered { path: "f".into(), recognised: Err(Failure::input("x", "y")) };
        assert!(expected(Some("nonce-one"), None, None).require_use(&[unknown]).is_ok());
    }

    #[test]
    fn a_file_beside_that_no_statement_could_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("beside");
        std::fs::write(&path, "neither").unwrap();
        let quote = || file(Statement::Platform(Platform::Tdx { quote: vec![] }));
        let report = || file(Statement::Platform(Platform::Snp { report: vec![], certificates: vec![] }));
        let what = |certificate, boot_log, file: Gathered| {
            let failure = Beside::read(certificate, boot_log, &[file]).err().unwrap();
            assert_eq!(failure.kind, Kind::Input);
            failure.what
        };
        let beside = Some(path.as_path());
        assert!(what(beside, None, quote()).ends_with("nothing here needs such a file"));
        assert!(what(None, beside, report()).ends_with("nothing here needs such a file"));
        assert!(what(beside, None, report()).ends_with("not one certificate"));
        assert!(what(None, beside, quote()).contains("not an event log: "));
        assert!(Beside::read(None, None, &[quote()]).is_ok());
    }

    #[test]
    fn a_certificate_is_joined_to_a_report_as_its_key_says() {
        for (signing_key, kind) in [(0, CertificateKind::Vcek), (1 << 2, CertificateKind::Vlek)] {
            let mut report = vec![0; 1184];
            (report[0], report[0x34], report[0x48]) = (2, 1, signing_key);
            let bare = Platform::Snp { report: report.clone(), certificates: vec![] };
            let Platform::Snp { certificates, .. } = with_certificate(&bare, Some(b"der")) else { panic!() };
            let entries = parse_certificate_table(&certificates).unwrap();
            assert_eq!(entries.len(), 1);
            assert_eq!((entries[0].kind, entries[0].content), (kind, &b"der"[..]));
            assert_eq!(with_certificate(&bare, None), bare);
            let own = Platform::Snp { report, certificates: vec![7] };
            assert_eq!(with_certificate(&own, Some(b"der")), own);
        }
    }
}
