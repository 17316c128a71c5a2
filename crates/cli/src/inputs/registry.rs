//! Images from registries: what the command line and the environment say about them, and one pull.

use std::collections::BTreeSet;
use std::path::PathBuf;

use casemate_canon::Sha256;
use casemate_composition::compose::PullPolicy;
use casemate_images::{ImageError, ImageInfo, Store};
use casemate_registry::{
    Client, DockerConfig, Fetched, Limits, Mirror, Proxies, Reference, RegistryError, Settings, parse_host,
};
use clap::{Args, ValueEnum};

use crate::cli::Global;
use crate::commands::up::interrupted;
use crate::failure::{Failure, Outcome, one_line};
use crate::inputs;
use crate::lines;
use crate::project::{ComposeFile, Project};
use crate::transfer::{Shown, Transfer};

/// Largest file of authorities.
const ANCHORS_BYTES_MAX: usize = 4 << 20;
/// Longest name that the store takes, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// How registries are reached.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Registries")]
pub(crate) struct RegistryArgs {
    /// A mirror to ask first, of docker.io where no HOST stands before it; repeat for each [env: CASEMATE_MIRRORS, separated by commas]
    #[arg(
        long = "mirror",
        value_name = "[HOST=]URL",
        env = "CASEMATE_MIRRORS",
        value_delimiter = ',',
        hide_env = true
    )]
    mirrors: Vec<String>,
    /// Ask this registry without TLS: whoever is on the way reads and changes everything; repeat for each
    #[arg(long, value_name = "HOST[:PORT]")]
    plain_http: Vec<String>,
    /// Certificates of further authorities, PEM, beside the web's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A token server of another site that may have a registry's credentials; repeat for each
    #[arg(long, value_name = "HOST[:PORT]")]
    token_server: Vec<String>,
}

/// Whether images are pulled before they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullWhen {
    /// Use what the store has
    Never,
    /// Pull what the store does not have
    Missing,
    /// Pull every image, so that tags are looked up again
    Always,
}

/// What commands take that may pull.
#[derive(Args, Debug, Clone)]
pub(crate) struct PullOptions {
    /// Pull images from their registries first
    #[arg(long, value_name = "WHEN", default_value = "never")]
    pull: PullWhen,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// What a pull did.
pub(crate) struct Pulled {
    /// The name in the store: as it was asked for.
    pub(crate) name: String,
    /// The name that always means these bytes.
    pub(crate) pinned: String,
    /// What the name meant before.
    pub(crate) before: Option<Sha256>,
    /// What it is.
    pub(crate) info: ImageInfo,
}

/// Pulls images into a store.
pub(crate) struct Puller<'a> {
    store: &'a Store,
    client: Client,
    runtime: tokio::runtime::Runtime,
    shown: Shown,
}

impl<'a> Puller<'a> {
    /// With what the command line and the environment say.
    pub(crate) fn new(store: &'a Store, args: &RegistryArgs, shown: Shown) -> Outcome<Self> {
        let client = Client::new(settings(args)?).map_err(|error| registry_failure(&error))?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                Failure::environment(format!("event loop: {error}"), "free some descriptors, then try again")
            })?;
        Ok(Self { store, client, runtime, shown })
    }

    /// Pulls one image. Ctrl-C ends it.
    pub(crate) fn pull(&self, name: &str) -> Outcome<Pulled> {
        let reference: Reference =
            name.parse().map_err(|error| registry_failure(&RegistryError::Reference(error)))?;
        check_name(name)?;
        let images = self.store.list().map_err(|error| inputs::image_failure(&error))?;
        let before = images.into_iter().find(|image| image.reference == name).map(|image| image.manifest);
        let transfer = Transfer::new(name, self.shown);
        let outcome = self.transfer(name, &reference, &transfer);
        transfer.clear();
        let info = outcome?;
        Ok(Pulled { name: name.to_owned(), pinned: reference.pinned(&info.manifest), before, info })
    }

    fn transfer(&self, name: &str, reference: &Reference, transfer: &Transfer) -> Outcome<ImageInfo> {
        let fetched = self.runtime.block_on(async {
            let interrupt = interrupted()?;
            let on_event = |event| transfer.event(event);
            tokio::select! {
                fetched = self.client.fetch(self.store, reference, &on_event) => {
                    fetched.map_err(|error| registry_failure(&error))
                }
                () = interrupt => Err(interrupted_pull()),
            }
        })?;
        self.finish(name, fetched, transfer).map_err(|error| inputs::image_failure(&error))
    }

    /// Unpacking has no place to stop at: it goes on in a thread, and Ctrl-C ends the process. What is below `tmp/`
    /// then is removed by whoever opens the store next.
    fn finish(&self, name: &str, fetched: Fetched<'_>, transfer: &Transfer) -> Result<ImageInfo, ImageError> {
        let (done, is_done) = tokio::sync::oneshot::channel();
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let outcome = fetched.finish(name, &mut |progress| transfer.progress(progress));
                // The other side waits as long as this thread runs.
                let _ = done.send(());
                outcome
            });
            self.runtime.block_on(async {
                let Ok(interrupt) = interrupted() else { return };
                tokio::select! {
                    _ = is_done => {}
                    () = interrupt => {
                        transfer.clear();
                        let failure = interrupted_pull();
                        let _ = failure.report();
                        std::process::exit(i32::from(failure.kind.code()));
                    }
                }
            });
            worker.join().unwrap_or_else(|_| {
                let problem = "ended without a result".to_owned();
                Err(ImageError::Tool { program: "unpacking", problem })
            })
        })
    }
}

/// Pulls the images of a Compose file, as the options say, and says on standard error what came.
pub(crate) fn pull_images(
    global: &Global,
    file: &ComposeFile,
    project: &Project,
    options: &PullOptions,
) -> Outcome<()> {
    if options.pull == PullWhen::Never {
        return Ok(());
    }
    inputs::make_dir(&project.home.0)?;
    let store = inputs::open_store(&project.home)?;
    let shown = if global.json { Shown::Problems } else { Shown::All };
    let mut puller = None;
    for (name, policy) in inputs::parse(file)?.pull_policies() {
        let missing_only = options.pull == PullWhen::Missing;
        if policy == PullPolicy::Never || (missing_only && is_present(&store, name)?) {
            continue;
        }
        let puller = match &mut puller {
            Some(puller) => puller,
            none => none.insert(Puller::new(&store, &options.registry, shown)?),
        };
        let pulled = puller.pull(name)?;
        lines::note(format!("pulled {}", pulled.pinned));
        note_move(&pulled);
    }
    Ok(())
}

/// The images of a Compose file that its `pull_policy` wants pulled, each once.
pub(crate) fn images_to_pull(file: &ComposeFile, store: &Store) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for (name, policy) in inputs::parse(file)?.pull_policies() {
        let wanted = match policy {
            PullPolicy::Never => false,
            PullPolicy::Missing => !is_present(store, name)?,
            PullPolicy::Always => true,
        };
        if wanted {
            names.push(name.to_owned());
        } else {
            lines::note(format!("{}: left as it is, as `pull_policy` says", one_line(name)));
        }
    }
    Ok(names)
}

/// A tag that means something else than before is nothing to miss.
pub(crate) fn note_move(pulled: &Pulled) {
    if let Some(before) = pulled.before.filter(|before| *before != pulled.info.manifest) {
        let Pulled { name, info, .. } = pulled;
        lines::note(format!("{name} moved: it was {before} and is {}", info.manifest));
    }
}

fn is_present(store: &Store, name: &str) -> Outcome<bool> {
    match store.info(inputs::wanted_of(name)) {
        Ok(_) => Ok(true),
        Err(ImageError::NotFound { .. } | ImageError::Reference { .. }) => Ok(false),
        Err(error) => Err(inputs::image_failure(&error)),
    }
}

/// The store's names begin with a letter or digit.
fn check_name(name: &str) -> Outcome<()> {
    let begins_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if begins_well && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::input(
        format!("`{name}` cannot be the name of an image in the store"),
        format!("name the registry by a host name, and the image with at most {NAME_BYTES_MAX} bytes"),
    ))
}

fn settings(args: &RegistryArgs) -> Outcome<Settings> {
    let failed = |error: RegistryError| registry_failure(&error);
    let hosts = |texts: &[String]| {
        texts.iter().map(|text| parse_host(text)).collect::<Result<BTreeSet<_>, _>>().map_err(failed)
    };
    let mirrors = args.mirrors.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    let anchors = match &args.ca {
        Some(path) => Some(inputs::read_bytes(path, ANCHORS_BYTES_MAX, "name a readable file with `--ca`")?),
        None => None,
    };
    let docker_config = match docker_config_path() {
        Some(path) => DockerConfig::load(&path).map_err(failed)?,
        None => DockerConfig::none(),
    };
    Ok(Settings {
        mirrors: mirrors.map(str::parse).collect::<Result<Vec<Mirror>, _>>().map_err(failed)?,
        plain_hosts: hosts(&args.plain_http)?,
        token_servers: hosts(&args.token_server)?,
        anchors,
        proxies: Proxies::from_environment(&|name| std::env::var(name).ok()).map_err(failed)?,
        docker_config,
        limits: Limits::STANDARD,
    })
}

/// `config.json` in `DOCKER_CONFIG`, or in `.docker` of the home directory.
fn docker_config_path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
    Some(dir.join("config.json"))
}

fn interrupted_pull() -> Failure {
    Failure {
        todo: "nothing of this image was stored; the same command begins again".to_owned(),
        ..Failure::interrupted()
    }
}

/// The failure that an error between here and a registry is.
pub(crate) fn registry_failure(error: &RegistryError) -> Failure {
    match error {
        RegistryError::Image(ImageError::Refused(refusal)) | RegistryError::Refused(refusal) => {
            let what = "what the registry sent is not what was asked for";
            Failure::refused(what, refusal.clone(), RegistryError::Refused(refusal.clone()).todo())
        }
        RegistryError::Image(error) => inputs::image_failure(error),
        RegistryError::Reference(_)
        | RegistryError::Setting { .. }
        | RegistryError::Credentials { .. }
        | RegistryError::PlainHttp { .. }
        | RegistryError::ForeignTokenServer { .. }
        | RegistryError::Denied { .. }
        | RegistryError::NotFound { .. } => Failure::input(error, error.todo()),
        _ => Failure::environment(error, error.todo()),
    }
}
