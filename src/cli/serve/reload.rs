//! SIGHUP: service keys and webhook secrets are read again, from where they were read at the start. `serve` starts it.
//!
//! What cannot be used, or not be read in time, changes nothing: the service goes on with what it has, and the log says why.
//! Everything else of the configuration stays what it was; a variable of a running process cannot change, so what comes from one
//! stays too.

use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tracing::{error, info};

use crate::app::Rotation;
use crate::config::{ConfigError, Environment, Name, Rotating, Settings, Typed};

/// A file that takes longer is a pipe that nobody writes, or lies on a disk that is away.
const READ_TIME_MAX: Duration = Duration::from_secs(5);

const KEPT: &str = "SIGHUP: keys and webhook secrets stay as they were";

/// Where settings are read, at the start and again.
#[derive(Clone)]
pub(super) struct Place {
    pub typed: Typed,
    pub environment: Environment,
}

/// The signals, heard from now on: without anybody who listens, the first one would end the process.
pub(super) fn hangups(io: &Handle) -> anyhow::Result<Signal> {
    let _entered = io.enter();
    signal(SignalKind::hangup()).context("cannot listen for SIGHUP")
}

/// Reads again at every signal, one after the other.
pub(super) async fn run(mut hangups: Signal, place: Place, rotation: Rotation) {
    while hangups.recv().await.is_some() {
        let place = place.clone();
        // Files are read, and may be slow.
        let reading = tokio::task::spawn_blocking(move || place.read());
        match timeout(READ_TIME_MAX, reading).await {
            Ok(Ok(Ok((settings, new)))) => exchange(&settings, new, &rotation),
            Ok(Ok(Err(error))) => error!(%error, "{KEPT}"),
            // The process is ending.
            Ok(Err(ended)) if ended.is_cancelled() => return,
            Ok(Err(_)) => error!(error = "reading them panicked", "{KEPT}"),
            Err(_) => error!(error = "the files of the configuration cannot be read in time", "{KEPT}"),
        }
    }
}

impl Place {
    fn read(&self) -> Result<(Settings, Rotating), ConfigError> {
        let settings = Settings::gather(&self.typed, &self.environment)?;
        let new = settings.rotating()?;
        Ok((settings, new))
    }
}

fn exchange(settings: &Settings, new: Rotating, rotation: &Rotation) {
    let (keys, secrets) = (new.api_keys.len(), new.webhook_secrets.len());
    let from = |name| settings.source(name).map(ToString::to_string).unwrap_or_default();
    match rotation.exchange(new) {
        Ok(()) => info!(
            keys,
            keys_from = from(Name::ApiKeys),
            webhook_secrets = secrets,
            webhook_secrets_from = from(Name::WebhookSecrets),
            "SIGHUP: keys and webhook secrets were read again"
        ),
        Err(error) => error!(%error, "{KEPT}"),
    }
}
