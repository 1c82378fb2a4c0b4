//! Upkeep of the journal: counts for metrics and readiness, and the deletion of what is no longer needed, in small batches.
//! It writes no outcome and never touches what is open.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
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
use crate::ports::{Journal, JournalStats, Retention};

/// How often the messages are counted.
const COUNT_EVERY: Duration = Duration::from_secs(2);
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
    standing: ArcSwapOption<JournalStats>,
    messages: Family<Labels, Gauge<u64, AtomicU64>>,
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
            standing: ArcSwapOption::from_pointee(JournalStats::default()),
            messages: Family::default(),
            oldest_open_seconds: Gauge::default(),
            pruned: Counter::default(),
            complaints: clock::Pace::new(Duration::from_secs(10)),
        }
    }

    /// How the journal stands; none while it cannot be asked.
    pub fn standing(&self) -> Option<JournalStats> {
        self.standing.load().as_deref().copied()
    }

    /// Counts and prunes until told to stop.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let work = async {
            let (mut ticks, mut pruned_at) = (interval(COUNT_EVERY), None::<Instant>);
            loop {
                ticks.tick().await;
                self.count().await;
                if pruned_at.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
                    self.prune().await;
                    pruned_at = Some(Instant::now());
                }
            }
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|is_stopped| *is_stopped) => {}
        }
    }

    /// Counts the messages now.
    pub async fn count(&self) {
        let stats = match self.journal.stats().await {
            Ok(stats) => stats,
            Err(error) => {
                if self.complaints.is_due(clock::now()) {
                    warn!(%error, "the journal cannot be counted");
                }
                return self.standing.store(None);
            }
        };
        let before = self.standing().unwrap_or_default();
        if stats.buried > before.buried {
            error!(
                messages = stats.buried,
                "buried messages: Clerk sends what this release cannot read; see `rollcall journal list --state buried`"
            );
        }
        let states =
            [("pending", stats.pending), ("applied", stats.applied), ("ignored", stats.ignored), ("buried", stats.buried)];
        for (state, messages) in states {
            self.messages.get_or_create(&Labels { state }).set(messages);
        }
        self.oldest_open_seconds.set(stats.oldest_open.unwrap_or_default().as_secs_f64());
        self.standing.store(Some(Arc::new(stats)));
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
            "rollcall_journal_messages",
            "Messages in the journal by state; buried above nothing means that Clerk changed a payload, pending rising that changes are not confirmed",
            self.messages.clone(),
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
