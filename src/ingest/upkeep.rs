//! Upkeep of the journal: counts for metrics and readiness, and the deletion of what is no longer needed, in small batches.
//! It writes no outcome and never touches what is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep};
use tracing::{debug, error, warn};

use crate::clock;
use crate::ports::{Backlog, Journal, Retention};

/// How often what is open or buried is counted.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Counting what is settled takes longer the more there is: at most one part in so many of the time goes into it.
const COUNT_SHARE: u32 = 50;
/// How often old messages are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Messages deleted at once: no delivery waits long behind it.
const PRUNE_MAX: u32 = 500;
/// Between two batches.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    state: &'static str,
}

/// How the journal stands, as last counted; shared with readiness.
pub struct Upkeep {
    journal: Arc<dyn Journal>,
    keep: Retention,
    /// None: it could not be asked the last time.
    standing: ArcSwapOption<Backlog>,
    /// Buried messages when last counted, so that each is told of once.
    buried: AtomicU64,
    rows: Family<Labels, Gauge<u64, AtomicU64>>,
    oldest_open_seconds: Gauge<f64, AtomicU64>,
    pruned: Counter,
    complaints: clock::Pace,
}

impl Upkeep {
    /// Connects it, for a journal that was just opened.
    pub fn new(journal: Arc<dyn Journal>, keep: Retention) -> Self {
        Self {
            journal,
            keep,
            standing: ArcSwapOption::from_pointee(Backlog::default()),
            buried: AtomicU64::new(0),
            rows: Family::default(),
            oldest_open_seconds: Gauge::default(),
            pruned: Counter::default(),
            complaints: clock::Pace::new(Duration::from_secs(10)),
        }
    }

    /// How the journal stands; none while it cannot be asked.
    pub fn standing(&self) -> Option<Backlog> {
        self.standing.load().as_deref().copied()
    }

    /// Looks, counts and prunes until told to stop.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let looking = async {
            let mut ticks = interval(LOOK_EVERY);
            loop {
                ticks.tick().await;
                self.look().await;
            }
        };
        let pruning = async {
            let mut ticks = interval(PRUNE_EVERY);
            loop {
                ticks.tick().await;
                self.prune().await;
            }
        };
        let counting = async {
            loop {
                let began = Instant::now();
                self.count().await;
                sleep(LOOK_EVERY.max(began.elapsed() * COUNT_SHARE)).await;
            }
        };
        tokio::select! {
            () = looking => {}
            () = pruning => {}
            () = counting => {}
            _ = stop.wait_for(|is_stopped| *is_stopped) => {}
        }
    }

    /// Counts what is open or buried: whether the journal can be used, and what somebody has yet to see to.
    async fn look(&self) {
        let backlog = match self.journal.backlog().await {
            Ok(backlog) => backlog,
            Err(error) => {
                if self.complaints.is_due(clock::now()) {
                    warn!(%error, "the journal cannot be counted");
                }
                return self.standing.store(None);
            }
        };
        if backlog.buried > self.buried.swap(backlog.buried, Ordering::Relaxed) {
            error!(
                messages = backlog.buried,
                "buried messages: Clerk sends what this release cannot read; see `rollcall journal list --state buried`"
            );
        }
        self.note([("pending", backlog.pending), ("buried", backlog.buried)]);
        self.oldest_open_seconds.set(backlog.oldest_open.unwrap_or_default().as_secs_f64());
        self.standing.store(Some(Arc::new(backlog)));
    }

    /// Counts what is settled. A failure is told by the look.
    async fn count(&self) {
        if let Ok(stats) = self.journal.stats().await {
            self.note([("applied", stats.applied), ("ignored", stats.ignored)]);
        }
    }

    fn note(&self, counted: [(&'static str, u64); 2]) {
        for (state, rows) in counted {
            self.rows.get_or_create(&Labels { state }).set(rows);
        }
    }

    async fn prune(&self) {
        loop {
            match self.journal.prune(self.keep, PRUNE_MAX).await {
                Ok(0) => return,
                Ok(count) => {
                    self.pruned.inc_by(count);
                    sleep(PRUNE_PAUSE).await;
                }
                Err(error) => return debug!(%error, "old messages are deleted later"),
            }
        }
    }

    /// Registers everything that is counted here.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "rollcall_journal_rows",
            "Rows of the journal by state; buried above nothing means that Clerk changed a payload, pending rising that changes are not confirmed",
            self.rows.clone(),
        );
        registry.register_with_unit(
            "rollcall_journal_oldest_open",
            "How long the oldest open message has been open; rising means that changes are not confirmed",
            Unit::Seconds,
            self.oldest_open_seconds.clone(),
        );
        registry.register(
            "rollcall_journal_pruned",
            "Messages deleted for their age; standing still while messages grow means that deleting fails",
            self.pruned.clone(),
        );
    }
}
