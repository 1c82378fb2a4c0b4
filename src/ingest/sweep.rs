//! The sweep: finds what webhooks never told, and repairs it. The roof runs one per node. Upholds I8 and I12.
//!
//! Two kinds of steps, at most one reading each:
//!
//! ```text
//! 1: the next entry in use is read again, like any background refresh. Where it lands it is compared with the entry
//!    it replaces, as every other reading is, whoever asked for it: `cache::differences`
//! 2: a difference found half a minute ago is read once more. If a message of it has come meanwhile, or the reading does
//!    not say so again, that was that; else it is counted, and the user evicted on every node
//! ```
//!
//! The second reading is what makes the count honest. A reading often shows a change before its webhook is here, and
//! replicas of the origin lag: what both readings say, half a minute apart, is neither. The first one has landed
//! meanwhile, so waiting costs the truth nothing on this node and in Redis; the eviction is for the entries of the others.
//!
//! It spends only what nobody else wants: at the refresh's priority, a tenth of the node's share of the origin's budget at
//! most, and nothing while anybody waits or the origin is in trouble. What cannot be found out is nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tracing::warn;

use super::apply::Applier;
use crate::cache::{Cache, Difference, Reread, Settled};
use crate::clock;
use crate::domain::{Change, Moment, UserId};
use crate::ports::Origin;

/// One request in so many of the node's budget, at most.
const BUDGET_SHARE: u32 = 10;
/// Second readings of a difference before it is given up.
const TRIES_MAX: u32 = 3;
/// Differences that wait for another try.
const UNSETTLED_MAX: usize = 16;

/// How fast it goes.
#[derive(Debug, Clone, Copy)]
pub struct SweepPace {
    /// Between two steps at least.
    pub every: Duration,
    /// Entries read less than this ago are left alone.
    pub age_min: Duration,
    /// From the first reading of a difference to the second: the time in which a message of it should have come, and in
    /// which the origin's replicas should agree.
    pub settle_after: Duration,
}

impl Default for SweepPace {
    fn default() -> Self {
        // Svix repeats a delivery that failed after 5 s, and then after 5 min.
        let half_a_minute = Duration::from_secs(30);
        Self { every: Duration::from_secs(1), age_min: half_a_minute, settle_after: half_a_minute }
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An entry in use was read again.
    Compared,
    /// A difference was read a second time.
    Settled,
    /// A user is evicted.
    Evicted,
    /// Nothing to do: no entry in use is old enough.
    Idle,
    /// Left the origin to others, or to itself.
    Yielded,
    /// The origin, or Redis, could not be asked.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

#[derive(Debug, Default)]
struct Counts {
    steps: Family<Labels, Counter>,
    unannounced: Counter,
    explained: Counter,
    given_up: Counter,
}

/// A difference, and how often its second reading failed.
struct Unsettled {
    difference: Difference,
    tries: u32,
    due_at: Moment,
}

/// The sweep of one node.
pub struct Sweep {
    cache: Cache,
    applier: Arc<Applier>,
    origin: Arc<dyn Origin>,
    pace: SweepPace,
    /// Differences whose second reading failed, in the order in which they are due again.
    unsettled: VecDeque<Unsettled>,
    /// A user to be evicted; it holds on this node already if Redis was away.
    owed: Option<UserId>,
    counts: Counts,
    /// A lost endpoint would else fill the log.
    complaints: clock::Pace,
}

impl Sweep {
    /// Connects it.
    pub fn new(cache: Cache, applier: Arc<Applier>, origin: Arc<dyn Origin>, pace: SweepPace) -> Self {
        let complaints = clock::Pace::new(Duration::from_secs(1));
        Self { cache, applier, origin, pace, unsettled: VecDeque::new(), owed: None, counts: Counts::default(), complaints }
    }

    /// Registers everything that is counted here.
    pub fn register(&self, registry: &mut Registry) {
        let counts = &self.counts;
        registry.register(
            "rollcall_unannounced_changes",
            "Changes found at Clerk that no webhook announced; rising means that webhooks do not come",
            counts.unannounced.clone(),
        );
        registry.register(
            "rollcall_differences_explained",
            "Differences that a webhook explained after all, or that Clerk did not confirm; rising means that one of them lags",
            counts.explained.clone(),
        );
        registry.register(
            "rollcall_differences_given_up",
            "Differences that could not be read a second time; rising means that Clerk fails for some users",
            counts.given_up.clone(),
        );
        registry.register(
            "rollcall_sweep_steps",
            "Steps of the sweep by outcome; only yielded or failed rising means that the origin has no time for it",
            counts.steps.clone(),
        );
    }

    /// Goes on until dropped.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(self.interval()).await;
            self.step().await;
        }
    }

    /// The time between two steps: a reading of more than one page takes more than its share, which few users have.
    fn interval(&self) -> Duration {
        self.pace.every.max(self.origin.standing().request_interval * BUDGET_SHARE)
    }

    /// One step: at most one reading of the origin. Dropped on its way, it forgets at most one difference.
    pub async fn step(&mut self) -> Step {
        let step = match self.owed.take() {
            Some(user) => self.evict(user).await,
            None if self.must_yield() => Step::Yielded,
            None => match self.due() {
                Some(due) => self.settle(due).await,
                None => self.compare_next().await,
            },
        };
        self.counts.steps.get_or_create(&Labels { outcome: step.name() }).inc();
        step
    }

    /// Whether the origin is in trouble or somebody waits for it; or this node does not hear what is announced.
    fn must_yield(&self) -> bool {
        let origin = self.origin.standing();
        let is_wanted = origin.waiting > 0 || origin.is_budget_spent;
        is_wanted || origin.is_breaker_open || origin.is_paused || self.cache.lag() > self.cache.bounds().staleness
    }

    /// The next difference whose time has come and that no message has explained.
    fn due(&mut self) -> Option<Unsettled> {
        let now = clock::now();
        let next = |cache: &Cache| {
            let difference = cache.take_difference(now - self.pace.settle_after)?;
            Some(Unsettled { difference, tries: 0, due_at: now })
        };
        while let Some(due) = self.unsettled.pop_front_if(|first| first.due_at <= now).or_else(|| next(&self.cache)) {
            if !self.cache.is_explained(&due.difference) {
                return Some(due);
            }
            self.counts.explained.inc();
        }
        None
    }

    async fn settle(&mut self, due: Unsettled) -> Step {
        let Unsettled { difference, tries, .. } = due;
        match self.cache.settle(&difference).await {
            Settled::Unannounced => {
                self.counts.unannounced.inc();
                if self.complaints.is_due(clock::now()) {
                    warn!(user.id = %difference.user, "Clerk says what no webhook has told: the user is evicted");
                }
                self.evict(difference.user).await
            }
            Settled::Explained => {
                self.counts.explained.inc();
                Step::Settled
            }
            Settled::Unknown => {
                let due_at = clock::now() + self.pace.settle_after;
                // One user that cannot be read keeps nobody else waiting; the truth is read again within the TTL anyway.
                match tries + 1 < TRIES_MAX && self.unsettled.len() < UNSETTLED_MAX {
                    true => self.unsettled.push_back(Unsettled { difference, tries: tries + 1, due_at }),
                    false => _ = self.counts.given_up.inc(),
                }
                Step::Failed
            }
        }
    }

    async fn evict(&mut self, user: UserId) -> Step {
        let change = Change::Evicted { users: vec![user.clone()], organizations: Vec::new() };
        match self.applier.apply(&change).await {
            Ok(()) => Step::Evicted,
            Err(_) => {
                self.owed = Some(user);
                Step::Failed
            }
        }
    }

    async fn compare_next(&self) -> Step {
        match self.cache.next_in_use(self.pace.age_min) {
            None => Step::Idle,
            Some(user) => match self.cache.reread(&user).await {
                Reread::Done => Step::Compared,
                Reread::Refused => Step::Yielded,
                Reread::Failed => Step::Failed,
            },
        }
    }
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Compared => "compared",
            Self::Settled => "settled",
            Self::Evicted => "evicted",
            Self::Idle => "idle",
            Self::Yielded => "yielded",
            Self::Failed => "failed",
        }
    }
}
