//! `casemate bundle create`: gathers endorsements, verifies what it gathered, signs it if it has a key, writes it whole or
//! not at all.

use std::path::PathBuf;

use casemate_canon::Sha256;
use casemate_endorsements::{BUNDLE_BYTES_MAX, Collateral};
use casemate_verifier::{PckCa, Roots, SnpProduct, UnixTime, check_collateral};
use clap::{Args, ValueEnum};

use super::{gather, inspect};
use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;

/// Where parts come from, in which order.
const SOURCES: &str = "\
Where the parts come from, the first that has a part:
  1. files:      --tcb-info, --pck-crl, --ark and so on; --collateral for all of TDX at once
  2. evidence:   --from-evidence: the chain inside it, and which platform the services are asked about
                 (AMD's CRL in it only where neither --crl nor --kds is given: the host chose it)
  3. services:   --pccs, --root-ca-crl-url, --kds: asked for the parts that are then missing

Nothing is contacted that is not named here. The vendors' public services, at the time of writing:
  Intel  --pccs https://api.trustedservices.intel.com
         --root-ca-crl-url https://certificates.trustedservices.intel.com/IntelSGXRootCA.der
  AMD    --kds https://kdsintf.amd.com
They learn which platform you ask about. A PCCS of your own has Intel's root CRL too.

Whatever the source, parts are untrusted: they are verified as an appraisal does it, and where one does \
not hold nothing is written.";

/// What `bundle create` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate bundle create --from-evidence evidence.json --pccs https://pccs.example -o bundle.json",
    after_help = SOURCES
)]
pub(super) struct CreateArgs {
    /// Where the bundle goes; a file that is there is replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Sign the bundle with this private key (PKCS #8 or JWK, P-256), whose file nobody else may read
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    /// Time at which the parts must hold [default: now]
    #[arg(long, value_name = "RFC3339")]
    now: Option<jiff::Timestamp>,
    /// Verify up to this development root (sha256 of its public key), and not up to the vendors'. Repeat for each
    #[arg(long, value_name = "SHA256")]
    development_root: Vec<Sha256>,
    /// Write parts that do not verify, too: an appraisal will refuse them still
    #[arg(long)]
    dangerous_unverified: bool,
    #[command(flatten)]
    pub(super) evidence: EvidenceArgs,
    #[command(flatten)]
    pub(super) tdx: TdxFiles,
    #[command(flatten)]
    pub(super) snp: SnpFiles,
    #[command(flatten)]
    pub(super) services: ServiceArgs,
}

/// Evidence that says which endorsements belong to it.
#[derive(Args, Debug)]
#[command(next_help_heading = "Evidence")]
pub(super) struct EvidenceArgs {
    /// Evidence of `casemate attest`, a raw TDX quote or a raw SNP report
    #[arg(long, value_name = "FILE")]
    pub(super) from_evidence: Option<PathBuf>,
    /// Certificate table that came with a raw SNP report (`auxblob`)
    #[arg(long, value_name = "FILE", requires = "from_evidence")]
    pub(super) certificate_table: Option<PathBuf>,
    /// Platform family to ask about, where no evidence says it: 12 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = fmspc_of)]
    pub(super) fmspc: Option<[u8; 6]>,
    /// Whose CRL to ask for, where no evidence says it: platform or processor
    #[arg(long, value_name = "CA", value_parser = ca_of)]
    pub(super) pck_ca: Option<PckCa>,
    /// Product to ask about, where no evidence says it: Milan, Genoa or Turin
    #[arg(long, value_name = "PRODUCT", value_parser = product_of)]
    pub(super) product: Option<SnpProduct>,
    /// Kind of key to ask about, where no evidence says it
    #[arg(long, value_name = "KIND")]
    pub(super) snp_signer: Option<Signer>,
}

/// Which kind of key signs SNP reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Signer {
    /// The chip's own key
    Vcek,
    /// A key lent to a cloud
    Vlek,
}

/// Parts for TDX.
#[derive(Args, Debug)]
#[command(next_help_heading = "Files for TDX")]
pub(super) struct TdxFiles {
    /// All of it: JSON with the members of Intel's `sgx_ql_qve_collateral_t`, as `dcap-qvl` writes it
    #[arg(long, value_name = "FILE")]
    pub(super) collateral: Option<PathBuf>,
    /// TCB information, JSON as served
    #[arg(long, value_name = "FILE")]
    pub(super) tcb_info: Option<PathBuf>,
    /// Chain of its signer, PEM
    #[arg(long, value_name = "FILE")]
    pub(super) tcb_info_chain: Option<PathBuf>,
    /// Identity of the quoting enclave for TDX, JSON as served
    #[arg(long, value_name = "FILE")]
    pub(super) qe_identity: Option<PathBuf>,
    /// Chain of its signer, PEM [default: that of the TCB information]
    #[arg(long, value_name = "FILE")]
    pub(super) qe_identity_chain: Option<PathBuf>,
    /// CRL of the PCK CA: DER, PEM or hexadecimal
    #[arg(long, value_name = "FILE")]
    pub(super) pck_crl: Option<PathBuf>,
    /// Chain of the PCK CRL's issuer, PEM
    #[arg(long, value_name = "FILE")]
    pub(super) pck_crl_chain: Option<PathBuf>,
    /// CRL of the root: DER, PEM or hexadecimal
    #[arg(long, value_name = "FILE")]
    pub(super) root_ca_crl: Option<PathBuf>,
}

/// Parts for SEV-SNP.
#[derive(Args, Debug)]
#[command(next_help_heading = "Files for SEV-SNP")]
pub(super) struct SnpFiles {
    /// ASK (or ASVK) and ARK in one PEM, as AMD serves `cert_chain`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ark", "ask"])]
    pub(super) snp_chain: Option<PathBuf>,
    /// ARK: DER or PEM
    #[arg(long, value_name = "FILE")]
    pub(super) ark: Option<PathBuf>,
    /// ASK or ASVK: DER or PEM
    #[arg(long, value_name = "FILE")]
    pub(super) ask: Option<PathBuf>,
    /// CRL of the ARK: DER, PEM or hexadecimal
    #[arg(long, value_name = "FILE")]
    pub(super) crl: Option<PathBuf>,
    /// VCEK or VLEK: DER or PEM; needed where evidence does not carry it
    #[arg(long, value_name = "FILE")]
    pub(super) vek: Option<PathBuf>,
}

/// Services that may be asked. None has a default.
#[derive(Args, Debug)]
#[command(next_help_heading = "Services")]
pub(super) struct ServiceArgs {
    /// Intel's service or a PCCS (API version 4)
    #[arg(long, value_name = "URL")]
    pub(super) pccs: Option<String>,
    /// Where the CRL of Intel's root is, for a service that does not have it
    #[arg(long, value_name = "URL")]
    pub(super) root_ca_crl_url: Option<String>,
    /// AMD's service or a cache of it
    #[arg(long, value_name = "URL")]
    pub(super) kds: Option<String>,
    /// Trust these certificates (PEM) for TLS, and not the web's authorities
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Allow http:// to other machines: whoever is on the way sees what is asked and can withhold answers
    #[arg(long)]
    pub(super) dangerous_plain_http: bool,
}

/// Gathers, verifies, signs, writes.
pub(super) fn run(global: &Global, args: &CreateArgs) -> Outcome {
    let now = inputs::time_of(args.now)?;
    // First, so that a key that cannot be read costs no request.
    let key = args.sign_key.as_deref().map(|path| inputs::read_key(path, "casemate bundle keygen"));
    let key = key.transpose()?;
    let (collateral, sources) = gather::gather(args)?;
    let roots = match args.development_root.as_slice() {
        [] => Roots::Production,
        keys => Roots::Development(keys.to_vec()),
    };
    verify(&collateral, &roots, now, args)?;
    let unsigned = casemate_endorsements::write(&collateral);
    let bytes = match &key {
        Some(key) => casemate_endorsements::sign(&unsigned, key, now)
            .map_err(|error| Failure::environment(error, "try again"))?,
        None => unsigned,
    };
    if bytes.len() > BUNDLE_BYTES_MAX {
        return Err(Failure::input(
            format!("bundle would have {} bytes, at most {BUNDLE_BYTES_MAX} are read", bytes.len()),
            "give smaller parts",
        ));
    }
    // As whoever uses it will read it.
    let bundle = casemate_endorsements::read(&bytes)
        .map_err(|error| Failure::environment(error, "report this: it is a mistake of this program"))?;
    inputs::write_file(&args.output, &bytes)?;
    inspect::show(global, &bundle, now, Some(&sources));
    if !global.json {
        lines::print(format!("wrote        {}", args.output.display()));
    }
    Ok(0)
}

/// Refuses parts that do not hold, or says which they are where that is wanted.
fn verify(collateral: &Collateral, roots: &Roots, now: UnixTime, args: &CreateArgs) -> Outcome<()> {
    let rules = check_collateral(collateral, roots, now);
    let mut failed = rules.into_iter().filter(|rule| !rule.passed).map(|rule| rule.detail);
    if args.dangerous_unverified {
        for refusal in failed {
            lines::note(format!("warning: {refusal}; an appraisal will refuse it still"));
        }
        return Ok(());
    }
    match failed.next() {
        None => Ok(()),
        Some(refusal) => Err(Failure::refused(
            "the parts do not hold, and nothing was written",
            refusal,
            "fetch fresh parts from another service or file; for development, name the root with `--development-root`",
        )),
    }
}

fn fmspc_of(text: &str) -> Result<[u8; 6], String> {
    let mut bytes = [0; 6];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| "write 12 hexadecimal digits".to_owned())?;
    Ok(bytes)
}

fn ca_of(text: &str) -> Result<PckCa, String> {
    PckCa::from_name(text).ok_or_else(|| "write platform or processor".to_owned())
}

fn product_of(text: &str) -> Result<SnpProduct, String> {
    SnpProduct::from_name(text).ok_or_else(|| "write Milan, Genoa or Turin".to_owned())
}
