//! What this room counts. The roof registers it; handles are clones of one another.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counters of the Redis room.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Readings that were not landed, by reason: `lease`, `newer`, `unavailable`.
    pub fills_refused: Family<Reason, Counter>,
    /// Values that somebody else wrote, or that do not parse.
    pub foreign_values: Counter,
    /// Values that their guard does not vouch for.
    pub digest_mismatches: Counter,
    /// Breaks of the change stream, by cause.
    pub breaks: Family<Cause, Counter>,
    /// Entries of the change stream applied.
    pub entries_applied: Counter,
    /// Entries that this release cannot read.
    pub entries_unreadable: Counter,
    /// Connections made.
    pub connections: Counter,
    /// Connections that could not be made.
    pub connections_failed: Counter,
    /// Questions without an answer in time.
    pub timeouts: Counter,
    /// Replicas, where some are awaited: `awaited`, `confirming`, `connected`.
    pub replicas: Family<Of, Gauge>,
}

/// Why a reading was not landed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A word.
    pub reason: &'static str,
}

/// Why continuity was lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Cause {
    /// A word.
    pub cause: &'static str,
}

/// Which of the replicas.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Of {
    /// A word.
    pub of: &'static str,
}

impl Counts {
    /// Registers every counter.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "rollcall_shared_fills_refused",
            "Readings not landed in Redis. lease: a change passed meanwhile (rises with webhooks); unavailable: Redis is away or full",
            self.fills_refused.clone(),
        );
        registry.register(
            "rollcall_shared_foreign_values",
            "Values in Redis that somebody else wrote or that do not parse. Rising: another writer uses the prefix",
            self.foreign_values.clone(),
        );
        registry.register(
            "rollcall_shared_digest_mismatches",
            "Values in Redis that differ from what was landed. Rising: another writer uses the prefix",
            self.digest_mismatches.clone(),
        );
        registry.register(
            "rollcall_stream_breaks",
            "Times the change stream was not continuous. Rising: Redis restarts, fails over, or loses keys",
            self.breaks.clone(),
        );
        registry.register(
            "rollcall_stream_entries_applied",
            "Entries of the change stream applied by this node",
            self.entries_applied.clone(),
        );
        registry.register(
            "rollcall_stream_entries_unreadable",
            "Entries this release cannot read. Rising: a newer release writes them, upgrade this node",
            self.entries_unreadable.clone(),
        );
        registry.register(
            "rollcall_redis_connections",
            "Connections made to Redis. Rising steadily: they do not last",
            self.connections.clone(),
        );
        registry.register(
            "rollcall_redis_connections_failed",
            "Connections that could not be made. Rising: Redis is away, or not a primary",
            self.connections_failed.clone(),
        );
        registry.register(
            "rollcall_redis_timeouts",
            "Questions Redis did not answer in time. Rising: it is overloaded or stalled",
            self.timeouts.clone(),
        );
        registry.register(
            "rollcall_redis_replicas",
            "Replicas of Redis, where some are awaited. confirming below awaited: one is missing; connected above it: one may be promoted that lacks changes",
            self.replicas.clone(),
        );
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.fills_refused.get_or_create(&Reason { reason }).inc();
    }
}
