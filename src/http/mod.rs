//! The street: routes, and what HTTP words mean. Knows handles of the cache and the intake, never a store.
//!
//! [`routes()`] is the whole surface on one screen; [`problem`] every way to refuse, in one table.

pub mod auth;
mod body;
mod call;
mod checks;
mod closing;
mod context;
mod description;
mod evictions;
mod freshness;
mod headers;
mod health;
mod inspection;
mod names;
pub mod problem;
mod readiness;
mod reads;
mod routes;
mod timing;
mod webhooks;

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;

pub use closing::end_connection;
pub use inspection::{Facts, Inspection, OfMembership, OfOrganization, Tier};
pub use readiness::Readiness;
pub use routes::{metrics_routes, routes};
pub use timing::TimedFor;

use crate::cache::Cache;
use crate::ingest::{Applier, Intake};
use crate::session::Sessions;

/// What the handlers are connected to.
pub struct State {
    /// Answers.
    pub cache: Cache,
    /// Evictions.
    pub applier: Arc<Applier>,
    /// Webhooks.
    pub intake: Arc<Intake>,
    /// Service keys; swapped whole when they are read again.
    pub keys: ArcSwap<auth::Keys>,
    /// Session tokens.
    pub sessions: Sessions,
    /// Whether the `__session` cookie is read.
    pub is_session_cookie_read: bool,
    /// Who is told how long a call took.
    pub timed_for: TimedFor,
    /// Whether anybody may see what this surface is; else an admin key may.
    pub is_description_open: bool,
    /// Health.
    pub readiness: Readiness,
    /// Everything that is counted.
    pub registry: Registry,
}
