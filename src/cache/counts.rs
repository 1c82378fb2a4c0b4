//! What the cache counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Cache;
use super::answer::{Answer, Content, ReadError, Source};
use crate::protocol::difference::Compared;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Read {
    tier: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Counters and gauges of the cache.
#[derive(Debug)]
pub struct Counts {
    reads: Family<Read, Counter>,
    /// The hit's own handle: looking it up in the family takes a lock.
    hits: Counter,
    seconds: Histogram,
    under_way: Gauge,
    refused: Family<Reason, Counter>,
    pub(super) corrected: Counter,
    pub(super) refreshes: Counter,
    pub(super) refreshes_dropped: Counter,
    pub(super) untrusted: Counter,
    compared: Family<Outcome, Counter>,
    pub(super) differences_dropped: Counter,
    local_bytes: Gauge,
    local_users: Gauge,
    facts: Gauge,
    lag_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
}

/// One read past the local tier, counted until dropped.
pub(super) struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Counts {
    fn default() -> Self {
        let reads: Family<Read, Counter> = Family::default();
        let hits = reads.get_or_create_owned(&Read { tier: "local", outcome: "answered" });
        Self {
            reads,
            hits,
            seconds: Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
            under_way: Gauge::default(),
            refused: Family::default(),
            corrected: Counter::default(),
            refreshes: Counter::default(),
            refreshes_dropped: Counter::default(),
            untrusted: Counter::default(),
            compared: Family::default(),
            differences_dropped: Counter::default(),
            local_bytes: Gauge::default(),
            local_users: Gauge::default(),
            facts: Gauge::default(),
            lag_seconds: Gauge::default(),
        }
    }
}

impl Counts {
    pub(super) fn hit(&self) {
        self.hits.inc();
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a reading that was compared with the entry it replaces.
    pub(super) fn compared(&self, compared: Compared) {
        let outcome = match compared {
            Compared::Same => "same",
            Compared::Different => "different",
            Compared::Unclear => "unclear",
        };
        self.compared.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a read past the local tier's hit for as long as it takes, however it ends.
    pub(super) fn begin_read(&self) -> UnderWay {
        self.under_way.inc();
        UnderWay(self.under_way.clone())
    }

    /// Counts a read that went past the local tier's hit.
    pub(super) fn read(&self, result: &Result<Answer, ReadError>, took: Duration) {
        let (tier, outcome) = match result {
            Ok(answer) => {
                (tier_of(answer.source), if matches!(answer.content, Content::Unknown) { "user-unknown" } else { "answered" })
            }
            Err(ReadError::NotCached) => ("none", "not-cached"),
            Err(ReadError::AllowanceSpent) => ("none", "allowance-spent"),
            Err(ReadError::RateLimited { .. }) => ("none", "rate-limited"),
            Err(ReadError::OriginUnavailable { .. }) => ("none", "origin-unavailable"),
        };
        self.reads.get_or_create(&Read { tier, outcome }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn sizes(&self, bytes: u64, users: usize, facts: usize, lag: Option<Duration>) {
        self.local_bytes.set(bytes as i64);
        self.local_users.set(users as i64);
        self.facts.set(facts as i64);
        self.lag_seconds.set(lag.map_or(f64::NAN, |lag| lag.as_secs_f64()));
    }
}

impl Cache {
    /// Registers everything that is counted here.
    pub fn register(&self, registry: &mut Registry) {
        let (counts, local, facts) = (&self.inner.counts, &self.inner.local, &self.inner.facts);
        registry.register(
            "rollcall_reads",
            "Reads by the tier that answered and the outcome; a rising tier=none means callers get 503 or 504",
            counts.reads.clone(),
        );
        registry.register_with_unit(
            "rollcall_read",
            "Time of reads past the local tier; rising means Redis or the origin is slow",
            Unit::Seconds,
            counts.seconds.clone(),
        );
        registry.register(
            "rollcall_reads_under_way",
            "Reads past the local tier that are not answered yet; rising means Redis or the origin is slow",
            counts.under_way.clone(),
        );
        registry.register(
            "rollcall_fills_refused",
            "Origin readings that did not land; lease and overtaken rise with changes, the others with trouble",
            counts.refused.clone(),
        );
        registry.register(
            "rollcall_readings_corrected",
            "Readings that a remembered change outranked; rising means the origin or Redis lags behind the webhooks",
            counts.corrected.clone(),
        );
        registry.register(
            "rollcall_readings_untrusted",
            "Readings passed over because history or facts were lost, or a change that is remembered outranks the shared value",
            counts.untrusted.clone(),
        );
        registry.register("rollcall_refreshes", "Background refreshes begun", counts.refreshes.clone());
        registry.register(
            "rollcall_refreshes_dropped",
            "Background refreshes not begun, too many at once",
            counts.refreshes_dropped.clone(),
        );
        registry.register(
            "rollcall_entries_compared",
            "Entries compared with the reading that replaced them; different rising means that webhooks come late or not at all",
            counts.compared.clone(),
        );
        registry.register(
            "rollcall_differences_dropped",
            "Differences not looked into, too many at once; rising means that many webhooks do not come",
            counts.differences_dropped.clone(),
        );
        registry.register("rollcall_local_bytes", "Bytes of the local tier", counts.local_bytes.clone());
        registry.register("rollcall_local_users", "Users in the local tier", counts.local_users.clone());
        registry.register(
            "rollcall_local_evictions",
            "Entries pushed out by the byte limit; rising means the limit is below the working set",
            local.evicted.clone(),
        );
        registry.register(
            "rollcall_local_inserts_refused",
            "Inserts refused because a change passed meanwhile",
            local.refused.clone(),
        );
        registry.register("rollcall_facts", "Changes remembered", counts.facts.clone());
        registry.register(
            "rollcall_facts_lost",
            "Facts pushed out by the limit before their time; older readings are then no answers",
            facts.lost.clone(),
        );
        registry.register(
            "rollcall_facts_overruled",
            "Rows believed although their deletion is remembered, because the origin still shows them long after",
            facts.believed.clone(),
        );
        registry.register_with_unit(
            "rollcall_fence_lag",
            "How far behind the change stream this node is known to be; above the staleness bound it answers nothing from memory",
            Unit::Seconds,
            counts.lag_seconds.clone(),
        );
    }
}

fn tier_of(source: Source) -> &'static str {
    match source {
        Source::Local => "local",
        Source::Shared => "shared",
        Source::Origin | Source::Collapsed | Source::Demanded | Source::Checked => "origin",
        Source::Grace => "grace",
    }
}
