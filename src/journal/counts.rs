//! What the journal counts: how long writes take, how many share a commit, and writes that found no place.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The journal's counts; clones share them.
#[derive(Debug, Clone)]
pub struct Counts {
    pub(super) commit_seconds: Histogram,
    pub(super) commit_writes: Histogram,
    pub(super) writes_refused: Counter,
    pub(super) writes_failed: Counter,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            commit_seconds: Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0]),
            commit_writes: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            writes_refused: Counter::default(),
            writes_failed: Counter::default(),
        }
    }
}

impl Counts {
    /// Registers everything that is counted here.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "rollcall_journal_commit",
            "Time of a commit of the journal with its writes; rising means a slow disk or database",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register("rollcall_journal_commit_writes", "Writes that shared a commit", self.commit_writes.clone());
        registry.register(
            "rollcall_journal_writes_refused",
            "Writes that found no place in the queue; rising means that the disk cannot follow",
            self.writes_refused.clone(),
        );
        registry.register(
            "rollcall_journal_writes_failed",
            "Writes that failed; rising means that the database is away, full or locked",
            self.writes_failed.clone(),
        );
    }
}
