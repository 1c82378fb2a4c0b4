//! The listeners: one for callers and Clerk, and, where one is configured, one for metrics. `app` binds both before anything is
//! answered, so that an address that is taken stops a start.

use std::net::{SocketAddr, TcpListener};

use actix_web::dev::{Server, Service};
use actix_web::{HttpServer, web};
use anyhow::Context;

use super::DRAIN_TIME_MAX;
use crate::http::{self, State};

/// Prometheus and probes: a handful of requests a minute.
const METRICS_WORKERS: usize = 1;

/// A server that listens, and where.
pub(super) struct Listening {
    pub server: Server,
    /// The real port, also when 0 was asked for.
    pub address: SocketAddr,
}

/// Every route.
pub(super) fn listen(address: SocketAddr, state: web::Data<State>) -> anyhow::Result<Listening> {
    let (listener, address) = bind(address)?;
    let app = move || {
        actix_web::App::new().app_data(state.clone()).configure(http::routes).wrap_fn(|request, service| {
            let answer = service.call(request);
            async { Ok(http::end_connection(answer.await?)) }
        })
    };
    let server = HttpServer::new(app).disable_signals().shutdown_timeout(DRAIN_TIME_MAX.as_secs());
    let server = server.listen(listener).with_context(|| format!("cannot listen on {address}"))?.run();
    Ok(Listening { server, address })
}

/// Metrics without a key, and health.
pub(super) fn listen_for_metrics(address: SocketAddr, state: web::Data<State>) -> anyhow::Result<Listening> {
    let (listener, address) = bind(address)?;
    let app = move || actix_web::App::new().app_data(state.clone()).configure(http::metrics_routes);
    let server = HttpServer::new(app).disable_signals().workers(METRICS_WORKERS);
    let server = server.listen(listener).with_context(|| format!("cannot listen on {address}"))?.run();
    Ok(Listening { server, address })
}

fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr().context("the listener has no address")?;
    Ok((listener, address))
}
