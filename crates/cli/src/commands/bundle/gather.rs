//! Gathers the parts of a bundle: from files, from evidence, from services that the user named, in this order.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use casemate_endorsements::services::{
    Anchors, FetchError, PlainHttp, Service, SnpKey, SnpSigner, fetch_crl_at, fetch_pck_crl,
    fetch_qe_identity, fetch_root_ca_crl, fetch_snp_chain, fetch_snp_crl, fetch_tcb_info, fetch_vcek,
};
use casemate_endorsements::{
    BUNDLE_BYTES_MAX, Collateral, QVL_BYTES_MAX, SnpCollateral, TdxCollateral, WantedSnp, WantedTdx,
    certificate_der, crl_der, read_qvl, snp_chain_der, wanted_by_quote, wanted_by_report,
};
use casemate_protocol::Refusal;
use casemate_protocol::cmw::{COLLECTION_BYTES_MAX, Platform};
use casemate_verifier::collateral_facts;

use super::create::{CreateArgs, Signer};
use crate::commands::verify::read_statement;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::statement::Statement;

/// Time after which waiting is spoken of.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// What to do about a part that is missing.
const INTEL_SOURCES: &str =
    "give its file (`--help` lists the options), or a service that has it: `--pccs URL`";
/// Likewise, for AMD's.
const AMD_SOURCES: &str =
    "give `--ark`, `--ask` and `--crl`, evidence that carries them, or a service that has them: `--kds URL`";

/// What evidence asks for, where it was given.
#[derive(Default)]
struct Wanted {
    tdx: Option<WantedTdx>,
    snp: Option<WantedSnp>,
}

/// The parts of a TDX bundle as far as they are known.
#[derive(Default)]
struct TdxParts {
    tcb_info: Option<Vec<u8>>,
    tcb_info_chain: Option<Vec<u8>>,
    qe_identity: Option<Vec<u8>>,
    qe_identity_chain: Option<Vec<u8>>,
    pck_crl: Option<Vec<u8>>,
    pck_crl_chain: Option<Vec<u8>>,
    root_ca_crl: Option<Vec<u8>>,
}

/// Likewise for SEV-SNP.
#[derive(Default)]
struct SnpParts {
    ark: Option<Vec<u8>>,
    ask: Option<Vec<u8>>,
    crl: Option<Vec<u8>>,
    vek: Option<Vec<u8>>,
}

/// Where each part is from, by its name.
pub(super) type Sources = BTreeMap<&'static str, String>;

/// Names the source of every part that is there and has none yet.
fn note_sources(sources: &mut Sources, tdx: &TdxParts, snp: &SnpParts, source: &str) {
    let parts = [
        ("tdx.root_ca_crl", &tdx.root_ca_crl),
        ("tdx.pck_crl", &tdx.pck_crl),
        ("tdx.pck_crl_chain", &tdx.pck_crl_chain),
        ("tdx.tcb_info", &tdx.tcb_info),
        ("tdx.tcb_info_chain", &tdx.tcb_info_chain),
        ("tdx.qe_identity", &tdx.qe_identity),
        ("tdx.qe_identity_chain", &tdx.qe_identity_chain),
        ("snp.ark", &snp.ark),
        ("snp.ask", &snp.ask),
        ("snp.crl", &snp.crl),
        ("snp.vek", &snp.vek),
    ];
    for (name, _) in parts.into_iter().filter(|(_, part)| part.is_some()) {
        sources.entry(name).or_insert_with(|| source.to_owned());
    }
}

/// Everything that the arguments name, and where it is from.
pub(super) fn gather(args: &CreateArgs) -> Outcome<(Collateral, Sources)> {
    let wanted = wanted(args)?;
    let mut tdx = tdx_files(args)?;
    let mut snp = snp_files(args)?;
    let mut sources = Sources::new();
    note_sources(&mut sources, &tdx, &snp, "file");
    if let Some(wanted) = &wanted.snp {
        let WantedSnp { ark, ask, crl, vek, .. } = wanted.clone();
        snp.ark = snp.ark.or(ark);
        snp.ask = snp.ask.or(ask);
        // The host made the table that it lies in, and could keep an older list in it than AMD's newest.
        if args.services.kds.is_none() {
            snp.crl = snp.crl.or(crl);
        }
        snp.vek = snp.vek.or(vek);
    }
    note_sources(&mut sources, &tdx, &snp, "evidence");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment(format!("cannot start: {error}"), "free some memory"))?;
    runtime.block_on(async {
        if let Some(url) = &args.services.root_ca_crl_url
            && tdx.root_ca_crl.is_none()
        {
            let service = service(args, url)?;
            tdx.root_ca_crl = Some(asked(&service, "CRL of Intel's root", fetch_crl_at(&service)).await?);
            note_sources(&mut sources, &tdx, &snp, service.address());
        }
        if let Some(url) = &args.services.pccs {
            let service = service(args, url)?;
            ask_pccs(&service, args, wanted.tdx.as_ref(), &mut tdx).await?;
            note_sources(&mut sources, &tdx, &snp, service.address());
        }
        if let Some(url) = &args.services.kds {
            let service = service(args, url)?;
            ask_kds(&service, args, wanted.snp.as_ref(), &mut snp).await?;
            note_sources(&mut sources, &tdx, &snp, service.address());
        }
        Outcome::Ok(())
    })?;
    // Last: the services' own chain is of the same issuer, and belongs to the CRL.
    if let Some(wanted) = &wanted.tdx {
        tdx.pck_crl_chain = tdx.pck_crl_chain.or_else(|| Some(wanted.issuer_chain.clone()));
    }
    note_sources(&mut sources, &tdx, &snp, "evidence");
    let collateral = Collateral {
        tdx: tdx.complete(wanted.tdx.is_some() || args.services.pccs.is_some())?,
        snp: snp.complete(wanted.snp.is_some() || args.services.kds.is_some())?,
    };
    if collateral.tdx.is_none() && collateral.snp.is_none() {
        return Err(Failure::input(
            "nothing to put into a bundle is named",
            "see `casemate bundle create --help`",
        ));
    }
    require_wanted(&collateral, &wanted)?;
    Ok((collateral, sources))
}

/// TCB information of another family would refuse the very evidence that the bundle is made for.
fn require_wanted(collateral: &Collateral, wanted: &Wanted) -> Outcome<()> {
    let Some(wanted) = &wanted.tdx else { return Ok(()) };
    let expected = hex::encode(wanted.fmspc);
    let facts = collateral_facts(collateral);
    let found = facts.iter().find(|fact| fact.part == "tdx.tcb_info" && fact.name == "fmspc");
    let found = found.map_or("none", |fact| fact.value.as_str());
    if found == expected {
        return Ok(());
    }
    let refusal = Refusal::new("tdx.fmspc", format_args!("TCB information of family {expected}"), found);
    Err(Failure::refused(
        "TCB information belongs to another platform than the evidence",
        refusal,
        "give TCB information of that family, or a service that answers what it is asked",
    ))
}

fn wanted(args: &CreateArgs) -> Outcome<Wanted> {
    const TODO: &str =
        "give evidence of `casemate attest`, a raw TDX quote or SNP report, or Azure's evidence";
    let Some(path) = &args.evidence.from_evidence else { return Ok(Wanted::default()) };
    let statement = read_statement(path)?.statement;
    let unusable =
        |error: &dyn std::fmt::Display| Failure::input(format!("{}: {error}", path.display()), TODO);
    let table = match &args.evidence.certificate_table {
        Some(path) => inputs::read_bytes(path, COLLECTION_BYTES_MAX, "give a readable file")?,
        None => Vec::new(),
    };
    let platform = match statement {
        Statement::Agent(evidence) => evidence.platform,
        Statement::Platform(platform) => platform,
    };
    let (quote, report) = match platform {
        Platform::Tdx { quote } => (Some(quote), None),
        Platform::Snp { report, certificates } => {
            (None, Some((report, if table.is_empty() { certificates } else { table.clone() })))
        }
        _ => {
            return Err(Failure::input(
                format!("{}: a TPM's statement", path.display()),
                "name the platform with `--fmspc` or `--product`, or give the quote or report that is in it",
            ));
        }
    };
    if args.evidence.certificate_table.is_some() && report.is_none() {
        return Err(Failure::input(
            format!("{}: `--certificate-table` belongs to an SNP report", path.display()),
            "leave it out",
        ));
    }
    let tdx = quote.map(|quote| wanted_by_quote(&quote)).transpose().map_err(|error| unusable(&error))?;
    let snp = report.map(|(report, table)| wanted_by_report(&report, &table)).transpose();
    Ok(Wanted { tdx, snp: snp.map_err(|error| unusable(&error))? })
}

fn read_part(path: Option<&Path>) -> Outcome<Option<Vec<u8>>> {
    path.map(|path| inputs::read_bytes(path, BUNDLE_BYTES_MAX, "name a readable file")).transpose()
}

/// A part whose form is changed, or a failure that names the file.
fn read_as(
    path: Option<&Path>,
    form: &str,
    read: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Outcome<Option<Vec<u8>>> {
    let (Some(path), Some(bytes)) = (path, read_part(path)?) else { return Ok(None) };
    let read = read(&bytes)
        .ok_or_else(|| Failure::input(format!("{}: not {form}", path.display()), format!("give {form}")))?;
    Ok(Some(read))
}

fn read_crl(path: Option<&Path>) -> Outcome<Option<Vec<u8>>> {
    read_as(path, "a CRL in DER, PEM or hexadecimal digits", |bytes| crl_der(bytes).ok())
}

fn read_certificate(path: Option<&Path>) -> Outcome<Option<Vec<u8>>> {
    read_as(path, "one certificate in DER or PEM", certificate_der)
}

fn tdx_files(args: &CreateArgs) -> Outcome<TdxParts> {
    let files = &args.tdx;
    let all = match &files.collateral {
        None => TdxParts::default(),
        Some(path) => {
            let todo = "give collateral in JSON, or its parts one by one";
            let bytes = inputs::read_bytes(path, QVL_BYTES_MAX, todo)?;
            let read = read_qvl(&bytes)
                .map_err(|error| Failure::input(format!("{}: {error}", path.display()), todo))?;
            TdxParts::from(read)
        }
    };
    let tcb_info_chain = read_part(files.tcb_info_chain.as_deref())?.or(all.tcb_info_chain);
    Ok(TdxParts {
        tcb_info: read_part(files.tcb_info.as_deref())?.or(all.tcb_info),
        qe_identity: read_part(files.qe_identity.as_deref())?.or(all.qe_identity),
        qe_identity_chain: read_part(files.qe_identity_chain.as_deref())?
            .or(all.qe_identity_chain)
            .or_else(|| files.qe_identity.as_ref().and(tcb_info_chain.clone())),
        tcb_info_chain,
        pck_crl: read_crl(files.pck_crl.as_deref())?.or(all.pck_crl),
        pck_crl_chain: read_part(files.pck_crl_chain.as_deref())?.or(all.pck_crl_chain),
        root_ca_crl: read_crl(files.root_ca_crl.as_deref())?.or(all.root_ca_crl),
    })
}

fn snp_files(args: &CreateArgs) -> Outcome<SnpParts> {
    let files = &args.snp;
    let (mut ask, mut ark) =
        (read_certificate(files.ask.as_deref())?, read_certificate(files.ark.as_deref())?);
    if let (Some(path), Some(bytes)) = (&files.snp_chain, read_part(files.snp_chain.as_deref())?) {
        let (first, second) = snp_chain_der(&bytes).ok_or_else(|| {
            let form = "ASK (or ASVK) and ARK in PEM, in this order";
            Failure::input(format!("{}: not {form}", path.display()), format!("give {form}"))
        })?;
        (ask, ark) = (Some(first), Some(second));
    }
    Ok(SnpParts {
        ark,
        ask,
        crl: read_crl(files.crl.as_deref())?,
        vek: read_certificate(files.vek.as_deref())?,
    })
}

fn service(args: &CreateArgs, url: &str) -> Outcome<Service> {
    let pem = read_part(args.services.ca.as_deref())?;
    let anchors = pem.as_deref().map_or(Anchors::Web, Anchors::Pem);
    let plain = match args.services.dangerous_plain_http {
        true => PlainHttp::DangerousAnywhere,
        false => PlainHttp::LoopbackOnly,
    };
    Service::new(url, anchors, plain).map_err(|error| unusable(&error))
}

async fn ask_pccs(
    service: &Service,
    args: &CreateArgs,
    wanted: Option<&WantedTdx>,
    parts: &mut TdxParts,
) -> Outcome<()> {
    let todo = "give evidence with `--from-evidence`, or say it with `--fmspc` and `--pck-ca`";
    if parts.tcb_info.is_none() {
        let fmspc = wanted.map(|wanted| wanted.fmspc).or(args.evidence.fmspc);
        let fmspc =
            fmspc.ok_or_else(|| Failure::input("which platform family to ask about is not known", todo))?;
        let (document, chain) = asked(service, "TCB information", fetch_tcb_info(service, fmspc)).await?;
        (parts.tcb_info, parts.tcb_info_chain) = (Some(document), Some(chain));
    }
    if parts.qe_identity.is_none() {
        let (document, chain) =
            asked(service, "identity of the quoting enclave", fetch_qe_identity(service)).await?;
        (parts.qe_identity, parts.qe_identity_chain) = (Some(document), Some(chain));
    }
    if parts.pck_crl.is_none() {
        let ca = wanted.map(|wanted| wanted.ca).or(args.evidence.pck_ca);
        let ca = ca.ok_or_else(|| Failure::input("whose CRL to ask for is not known", todo))?;
        let (crl, chain) = asked(service, "CRL of the PCK CA", fetch_pck_crl(service, ca)).await?;
        (parts.pck_crl, parts.pck_crl_chain) = (Some(crl), Some(chain));
    }
    if parts.root_ca_crl.is_none() {
        let fetched = watched(service, "CRL of Intel's root", fetch_root_ca_crl(service)).await;
        let crl = fetched.map_err(|error| match error {
            FetchError::Status { .. } => Failure::environment(
                format!("{error}: the service does not have the CRL of Intel's root"),
                "give it with `--root-ca-crl FILE`, or say where it is with `--root-ca-crl-url URL`",
            ),
            other => unusable(&other),
        })?;
        parts.root_ca_crl = Some(crl);
    }
    Ok(())
}

async fn ask_kds(
    service: &Service,
    args: &CreateArgs,
    wanted: Option<&WantedSnp>,
    parts: &mut SnpParts,
) -> Outcome<()> {
    let todo = "give evidence with `--from-evidence`, or say it with `--product`";
    let product = wanted.and_then(|wanted| wanted.product).or(args.evidence.product);
    let product = product.ok_or_else(|| Failure::input("which product to ask about is not known", todo))?;
    let named = match args.evidence.snp_signer {
        Some(Signer::Vlek) => SnpSigner::Vlek,
        Some(Signer::Vcek) | None => SnpSigner::Vcek,
    };
    let signer = wanted.map_or(named, |wanted| wanted.signer);
    if parts.ask.is_none() || parts.ark.is_none() {
        let (ask, ark) = asked(service, "ASK and ARK", fetch_snp_chain(service, product, signer)).await?;
        parts.ask = parts.ask.take().or(Some(ask));
        parts.ark = parts.ark.take().or(Some(ark));
    }
    if parts.crl.is_none() {
        parts.crl = Some(asked(service, "CRL of the ARK", fetch_snp_crl(service, product, signer)).await?);
    }
    let key: Option<SnpKey> = wanted.and_then(|wanted| wanted.key);
    if let (None, Some(key)) = (&parts.vek, key) {
        parts.vek = Some(asked(service, "VCEK", fetch_vcek(service, product, &key)).await?);
    }
    Ok(())
}

async fn asked<T>(
    service: &Service,
    what: &str,
    fetch: impl Future<Output = Result<T, FetchError>>,
) -> Outcome<T> {
    watched(service, what, fetch).await.map_err(|error| unusable(&error))
}

/// Waits, and says what for where it takes long.
async fn watched<T>(service: &Service, what: &str, fetch: impl Future<Output = T>) -> T {
    tokio::pin!(fetch);
    tokio::select! {
        outcome = &mut fetch => return outcome,
        () = tokio::time::sleep(SILENCE_MAX) => {}
    }
    lines::note(format!("waiting for {}: {what}", service.address()));
    fetch.await
}

/// Whose fault it is, and what to do.
fn unusable(error: &FetchError) -> Failure {
    match error {
        FetchError::Url { .. } => Failure::input(error, "write https://HOST[:PORT]"),
        FetchError::PlainHttp { .. } => {
            Failure::input(error, "use https://, or allow it with `--dangerous-plain-http`")
        }
        FetchError::Anchors => Failure::input(format!("--ca: {error}"), "give certificates in PEM"),
        FetchError::Tls { .. } => Failure::environment(
            error,
            "name the service's own authority with `--ca FILE`, or another service",
        ),
        FetchError::Redirect { .. } => {
            Failure::environment(error, "name the address that it points to, if you trust it")
        }
        FetchError::Status { status: 404, .. } => {
            Failure::environment(error, "check the address, and that the service knows this platform")
        }
        FetchError::Status { status: 429 | 503, .. } => {
            Failure::environment(error, "wait a minute, then try again")
        }
        _ => Failure::environment(error, "check address and network, or name another service"),
    }
}

impl TdxParts {
    /// The whole, where anything of it is there or was to be.
    fn complete(self, expected: bool) -> Outcome<Option<TdxCollateral>> {
        let parts = [
            &self.tcb_info,
            &self.tcb_info_chain,
            &self.qe_identity,
            &self.qe_identity_chain,
            &self.pck_crl,
            &self.pck_crl_chain,
            &self.root_ca_crl,
        ];
        if !expected && parts.iter().all(|part| part.is_none()) {
            return Ok(None);
        }
        Ok(Some(TdxCollateral {
            root_ca_crl: required("tdx.root_ca_crl", self.root_ca_crl)?,
            pck_crl: required("tdx.pck_crl", self.pck_crl)?,
            pck_crl_chain: required("tdx.pck_crl_chain", self.pck_crl_chain)?,
            tcb_info: required("tdx.tcb_info", self.tcb_info)?,
            tcb_info_chain: required("tdx.tcb_info_chain", self.tcb_info_chain)?,
            qe_identity: required("tdx.qe_identity", self.qe_identity)?,
            qe_identity_chain: required("tdx.qe_identity_chain", self.qe_identity_chain)?,
        }))
    }
}

impl From<TdxCollateral> for TdxParts {
    fn from(all: TdxCollateral) -> Self {
        Self {
            tcb_info: Some(all.tcb_info),
            tcb_info_chain: Some(all.tcb_info_chain),
            qe_identity: Some(all.qe_identity),
            qe_identity_chain: Some(all.qe_identity_chain),
            pck_crl: Some(all.pck_crl),
            pck_crl_chain: Some(all.pck_crl_chain),
            root_ca_crl: Some(all.root_ca_crl),
        }
    }
}

impl SnpParts {
    fn complete(self, expected: bool) -> Outcome<Option<SnpCollateral>> {
        let parts = [&self.ark, &self.ask, &self.crl, &self.vek];
        if !expected && parts.iter().all(|part| part.is_none()) {
            return Ok(None);
        }
        Ok(Some(SnpCollateral {
            ark: required("snp.ark", self.ark)?,
            ask: required("snp.ask", self.ask)?,
            crl: required("snp.crl", self.crl)?,
            vek: self.vek,
        }))
    }
}

fn required(name: &str, part: Option<Vec<u8>>) -> Outcome<Vec<u8>> {
    let sources = if name.starts_with("snp.") { AMD_SOURCES } else { INTEL_SOURCES };
    part.ok_or_else(|| Failure::input(format!("{name} is missing"), sources))
}
