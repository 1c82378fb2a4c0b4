//! `rollcall serve`: the service itself, from configuration to the last drained request.
//!
//! Order of an end: the first SIGTERM or SIGINT resolves `run_until`'s future, which stops accepting and drains; the I/O
//! runtime ends after it, in `main`. A second signal ends the process where it stands. SIGHUP ends nothing: see `reload`.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::{Environment, Settings, Typed};
use crate::{app, telemetry};

mod reload;

/// Arguments of `serve`: every setting has a flag.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 stopped when told to, 1 failed or told twice, 2 typed wrongly, 78 bad configuration")]
pub(super) struct Args {
    #[command(flatten)]
    typed: Typed,
}

pub(super) fn run(args: Args, io: &Handle) -> anyhow::Result<ExitCode> {
    let place = reload::Place { typed: args.typed, environment: Environment::of_process() };
    let settings = Settings::gather(&place.typed, &place.environment)?;
    let config = settings.resolve()?;
    telemetry::init(&settings.logging()?);
    #[cfg(feature = "rule-switches")]
    super::switches::say_so();
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    actix_web::rt::System::new().block_on(async {
        // Before the listener is bound: who sees the port open may already send a signal.
        let shutdown = told_to_stop(io)?;
        let hangups = reload::hangups(io)?;
        let app = app::build(config, io.clone()).await.context("cannot start")?;
        io.spawn(reload::run(hangups, place, app.rotation()));
        let metrics = app.metrics_address().map(tracing::field::display);
        tracing::info!(address = %app.address(), metrics, version = super::VERSION, "listening");
        app.run_until(shutdown).await.context("stopped")
    })?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Resolves at the first SIGTERM or SIGINT. The second one ends the process at once.
pub(super) fn told_to_stop(io: &Handle) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let _entered = io.enter();
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
    };
    let (told, is_told) = oneshot::channel();
    io.spawn(async move {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
        _ = told.send(());
        let signal = signals.next().await;
        tracing::warn!(signal, "stopping at once");
        std::process::exit(1);
    });
    Ok(async move { _ = is_told.await })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
