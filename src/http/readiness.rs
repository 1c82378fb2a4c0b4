//! What readiness is made of: the doors' own word on how they stand.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};

use crate::cache::Cache;
use crate::ingest::{Intake, Upkeep};
use crate::ports::{ChangeStream, Origin, Replicas, SharedTier};

/// The doors, asked for their standing only.
pub struct Readiness {
    /// Set by the roof when a shutdown begins.
    pub is_draining: AtomicBool,
    /// The origin.
    pub origin: Arc<dyn Origin>,
    /// Redis, if there is one.
    pub shared: Option<Arc<dyn SharedTier>>,
    /// The change stream.
    pub stream: Arc<dyn ChangeStream>,
    /// The journal, as last counted.
    pub upkeep: Arc<Upkeep>,
}

impl Readiness {
    pub(super) fn shared(&self) -> Option<bool> {
        self.shared.as_ref().map(|shared| shared.is_reachable())
    }

    pub(super) fn stream(&self) -> bool {
        let standing = self.stream.standing();
        let has_unawaited = standing.replicas.is_some_and(|replicas| replicas.is_one_unawaited());
        standing.is_continuous && !standing.has_stranger && !has_unawaited
    }

    pub(super) fn origin(&self) -> bool {
        self.origin.standing().is_reachable()
    }

    pub(super) fn journal(&self) -> bool {
        self.upkeep.standing().is_some()
    }

    /// Each part, for the operator.
    pub(super) fn parts(&self, cache: &Cache, intake: &Intake) -> Value {
        let (stream, origin) = (self.stream.standing(), self.origin.standing());
        let shared = match self.shared() {
            None => "absent",
            Some(true) => "reachable",
            Some(false) => "unreachable",
        };
        json!({
            "shared": { "status": shared },
            "stream": {
                "consistency": if cache.knows_its_lag() { "bounded" } else { "eventual" },
                "lagMs": cache.knows_its_lag().then(|| cache.lag().as_millis() as u64),
                "isContinuous": stream.is_continuous,
                "breaks": stream.breaks,
                "hasOtherJournal": stream.has_stranger,
                "replicas": stream.replicas.map(tell_of),
            },
            "origin": {
                "breaker": if origin.is_breaker_open { "open" } else { "closed" },
                "budgetFactor": origin.budget_factor,
                "isBudgetSpent": origin.is_budget_spent,
                "isPaused": origin.is_paused,
                "waiting": origin.waiting,
            },
            "journal": match self.upkeep.standing() {
                None => json!({ "status": "unavailable" }),
                Some(stats) => json!({
                    "status": "available",
                    "open": stats.pending,
                    "dead": stats.buried,
                    "oldestOpenMs": stats.oldest_open.map(|age| age.as_millis() as u64),
                }),
            },
            "lastVerifiedMessageMs": intake.last_verified_ms(),
        })
    }
}

fn tell_of(replicas: Replicas) -> Value {
    let status = match (replicas.is_one_missing(), replicas.is_one_unawaited()) {
        (true, _) => "missing",
        (false, true) => "not-awaited",
        (false, false) => "confirming",
    };
    json!({
        "status": status,
        "awaited": replicas.awaited,
        "confirming": replicas.confirming,
        "connected": replicas.connected,
    })
}
