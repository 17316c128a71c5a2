//! `casemate-broker serve`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::{self, App};
use crate::arguments::Serve;
use crate::clock::now_s;
use crate::failure::Failure;
use crate::inputs::InputFiles;
use crate::state_dir::StateDir;
use crate::store::Store;
use crate::vault::Vault;
use crate::{keys, server, tls};

/// Seconds between two sweeps of expired appraisals.
const SWEEP_S: u64 = 30;

/// Checks policy and bundle, then serves until SIGTERM or SIGINT.
pub(crate) fn run(arguments: &Serve) -> Result<ExitCode, Failure> {
    let inputs = InputFiles {
        policy: arguments.policy.clone(),
        bundle: arguments.bundle.clone(),
        bundle_signers: arguments.bundle_signers.clone(),
    };
    inputs.collateral(&inputs.policy()?)?;
    let state = StateDir::open(&arguments.state.dir)?;
    // Nonces, secrets and the log of decisions are in the database, whose transactions keep several apart.
    let _only = if arguments.beside { None } else { Some(state.lock("serve.lock", Duration::ZERO)?) };
    let identity = tls::identity(&state, &arguments.names)?;
    let vault = Vault::new(&*keys::secrets_key(&state)?)?;
    let app = App::new(Store::open(&state)?, vault, inputs, keys::token_key(&state)?);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Io { what: String::from("runtime"), error })?;
    runtime.block_on(async {
        let failed = |error| Failure::Io { what: arguments.listen.to_string(), error };
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let listener = TcpListener::bind(arguments.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        announce(&format!("https://{address}"), &identity).map_err(failed)?;

        let (stop, stopped) = watch::channel(());
        let sweeper = tokio::spawn({
            let app = std::sync::Arc::clone(&app);
            async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(SWEEP_S)).await;
                    app.sweep(now_s());
                }
            }
        });
        let serving = server::serve(listener, identity.config, api::router(app), server::LIMITS, stopped);
        tokio::pin!(serving);
        tokio::select! {
            () = &mut serving => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drop(stop);
        serving.await;
        sweeper.abort();
        Ok(ExitCode::SUCCESS)
    })
}

/// One JSON line, for whoever started the broker.
fn announce(url: &str, identity: &tls::Identity) -> std::io::Result<()> {
    let line = serde_json::json!({ "url": url, "certificate": identity.certificate });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
