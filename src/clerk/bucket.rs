//! How many requests may leave this node, told by a `now`: the fleet's rate, divided by the nodes alive, halved when the
//! origin asks us to slow down. The budget asks it; it never waits and never reads a clock.
//!
//! One governor limiter counts in cells, a thousandth of the request of a sole healthy node; with `n` nodes, or after a
//! 429, a request costs more cells instead of the limiter being replaced, because a new limiter would begin with a full
//! burst. Upholds I12: in any 10 s at most `rate ÷ nodes` requests leave. A tenth of that is the burst, nine tenths flow
//! in over 10 s, so a window holds at most their sum.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::domain::Moment;

/// The time a rate is given for; Clerk's own.
const WINDOW: Duration = Duration::from_secs(10);
/// Cells of one request of a sole healthy node.
const CELLS: u32 = 1_000;
/// Above this a cell would be too short to be counted in nanoseconds.
const RATE_MAX: u32 = 1_000_000;
/// More nodes than this share as if they were this many.
const NODES_MAX: u32 = 10_000;
/// However often the origin complains, this much of the budget is left to notice that it has recovered.
const FACTOR_MIN: f64 = 1.0 / 32.0;
/// Recovered per window, of the full budget.
const RECOVERY: f64 = 0.05;
/// A 429 without a readable `Retry-After`: half of Clerk's window.
const PAUSE_DEFAULT: Duration = Duration::from_secs(5);
/// A `Retry-After` beyond this is cut: we ask once in five minutes rather than stay away for a day.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The budget's arithmetic.
#[derive(Debug)]
pub(super) struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, Told, StateInformationMiddleware>,
    clock: Told,
    /// Time in which one cell flows in.
    cell: Duration,
    capacity: u32,
    /// Cells left when the last request left, and when that was.
    level: (u32, Moment),
    /// Cells of earlier requests that the bucket was too small to hold: paid before the next one leaves.
    debt: u64,
    nodes: u32,
    factor: (f64, Moment),
    paused_until: Moment,
}

impl Bucket {
    /// A full bucket for `rate` requests per 10 s of the whole fleet; this node alone until told otherwise.
    pub(super) fn new(rate: u32) -> Self {
        let rate = rate.clamp(1, RATE_MAX);
        let capacity = (rate / 10).max(1) * CELLS;
        let cells_per_window = u128::from(rate) * u128::from(CELLS) * 9 / 10;
        // Rounded up: a cell that is too long sends less, one that is too short more than allowed.
        let cell = Duration::from_nanos(WINDOW.as_nanos().div_ceil(cells_per_window) as u64);
        let clock = Told::default();
        let burst = NonZeroU32::new(capacity).expect("at least one request's cells");
        let quota = Quota::with_period(cell).expect("a cell takes at least a nanosecond").allow_burst(burst);
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()).with_middleware(),
            clock,
            cell,
            capacity,
            level: (capacity, Moment::ZERO),
            debt: 0,
            nodes: 1,
            factor: (1.0, Moment::ZERO),
            paused_until: Moment::ZERO,
        }
    }

    /// Lets one request leave, or says how long until one may.
    pub(super) fn take(&mut self, now: Moment) -> Result<(), Duration> {
        if now < self.paused_until {
            return Err(self.paused_until.since(now));
        }
        while self.debt > 0 {
            self.debt -= u64::from(self.pay(self.debt, now)?);
        }
        let cost = self.cost(now);
        self.debt = cost - u64::from(self.pay(cost, now)?);
        Ok(())
    }

    /// Pays as many of these cells as the bucket can hold at all.
    fn pay(&mut self, cells: u64, now: Moment) -> Result<u32, Duration> {
        let paid = self.capacity.min(u32::try_from(cells).unwrap_or(u32::MAX));
        let count = NonZeroU32::new(paid).expect("neither the capacity nor what is owed is zero");
        self.clock.tell(now);
        let snapshot = self
            .limiter
            .check_n(count)
            .expect("never more than the capacity")
            .map_err(|until| until.wait_time_from(self.clock.now()))?;
        self.level = (snapshot.remaining_burst_capacity(), now);
        Ok(paid)
    }

    /// Cells that one request costs now.
    fn cost(&self, now: Moment) -> u64 {
        (f64::from(CELLS) * f64::from(self.nodes) / self.factor(now)).ceil() as u64
    }

    /// Cells in the bucket.
    fn level(&self, now: Moment) -> u64 {
        let flowed = now.since(self.level.1).as_nanos() / self.cell.as_nanos();
        u64::from(self.level.0).saturating_add(u64::try_from(flowed).unwrap_or(u64::MAX)).min(u64::from(self.capacity))
    }

    /// Time until `requests` more could have left.
    pub(super) fn wait_for(&self, requests: u64, now: Moment) -> Duration {
        let owed = self.debt.saturating_add(requests.saturating_mul(self.cost(now))).saturating_sub(self.level(now));
        let flow = Duration::from_nanos((self.cell.as_nanos() as u64).saturating_mul(owed));
        self.paused_until.since(now) + flow
    }

    /// Time between two requests when the burst is used up.
    pub(super) fn slot(&self, now: Moment) -> Duration {
        Duration::from_nanos((self.cell.as_nanos() as u64).saturating_mul(self.cost(now)))
    }

    /// Whether at least half of the burst is there: enough to spend some on what nobody waits for.
    pub(super) fn is_ample(&self, now: Moment) -> bool {
        !self.is_paused(now) && self.debt == 0 && self.level(now) >= u64::from(self.capacity / 2)
    }

    /// Whether the next request would have to wait.
    pub(super) fn is_spent(&self, now: Moment) -> bool {
        self.is_paused(now) || self.level(now) < self.debt + self.cost(now).min(u64::from(self.capacity))
    }

    /// Whether the origin has asked us to stay away for a while.
    pub(super) fn is_paused(&self, now: Moment) -> bool {
        now < self.paused_until
    }

    /// The part of the full budget in use: 1 when all is well.
    pub(super) fn factor(&self, now: Moment) -> f64 {
        let (factor, at) = self.factor;
        (factor + RECOVERY * now.since(at).as_secs_f64() / WINDOW.as_secs_f64()).min(1.0)
    }

    /// Divides the fleet's budget by this many nodes from now on.
    pub(super) fn set_nodes(&mut self, nodes: u32) {
        self.nodes = nodes.clamp(1, NODES_MAX);
    }

    /// The origin said 429: stop for as long as it asks, then go on at half the pace. The 429s that follow during a pause
    /// are of the same burst and halve nothing.
    pub(super) fn slow_down(&mut self, retry_after: Option<Duration>, now: Moment) {
        if !self.is_paused(now) {
            self.factor = ((self.factor(now) / 2.0).max(FACTOR_MIN), now);
        }
        let pause = retry_after.unwrap_or(PAUSE_DEFAULT).clamp(Duration::from_secs(1), PAUSE_MAX);
        self.paused_until = self.paused_until.max(now + pause);
    }
}

/// The limiter's clock: the `now` it was last told.
#[derive(Debug, Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn tell(&self, now: Moment) {
        self.0.fetch_max(now.as_micros().saturating_mul(1_000), Ordering::Relaxed);
    }
}

impl Clock for Told {
    type Instant = Nanos;
    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(2);

    /// Takes whatever it can get for a minute, and says when.
    fn greedy(bucket: &mut Bucket, from: Moment, time: Duration) -> Vec<Moment> {
        let steps = time.as_micros() / STEP.as_micros();
        let moments = (0..steps).map(|step| from + STEP * step as u32);
        moments
            .flat_map(|now| std::iter::repeat_n(now, 2_000).take_while(|now| bucket.take(*now).is_ok()).collect::<Vec<_>>())
            .collect()
    }

    /// The most that left in any 10 s.
    fn most_in_a_window(taken: &[Moment]) -> usize {
        let in_window = |from: &Moment| taken.iter().filter(|at| **at >= *from && at.since(*from) < WINDOW).count();
        taken.iter().map(in_window).max().unwrap_or(0)
    }

    fn start() -> Moment {
        Moment::from_micros(77_000_000)
    }

    #[test]
    fn no_window_holds_more_than_this_nodes_share() {
        let cases = [(800, 1), (800, 3), (800, 7), (80, 1), (80, 4), (80, 10), (80, 20), (80, 80), (15, 1), (5, 1), (1, 1)];
        for (rate, nodes) in cases {
            let mut bucket = Bucket::new(rate);
            bucket.set_nodes(nodes);
            let taken = greedy(&mut bucket, start(), Duration::from_secs(60));
            let share = (rate / nodes) as usize;
            assert!(most_in_a_window(&taken) <= share, "rate {rate}, nodes {nodes}: {} in a window", most_in_a_window(&taken));
            // Nine tenths of the share flow, and not much less.
            let flow = 6.0 * 0.9 * f64::from(rate) / f64::from(nodes);
            assert!(taken.len() as f64 >= flow * 0.95 - 1.0, "rate {rate}, nodes {nodes}: {} of {flow}", taken.len());
        }
    }

    #[test]
    fn a_429_pauses_and_halves_and_the_budget_comes_back_by_a_twentieth_per_window() {
        let mut bucket = Bucket::new(800);
        let now = start();
        bucket.slow_down(Some(Duration::from_secs(7)), now);
        assert_eq!(bucket.take(now), Err(Duration::from_secs(7)));
        assert_eq!(bucket.factor(now), 0.5);
        assert!(bucket.is_paused(now) && bucket.is_spent(now) && !bucket.is_ample(now));

        // Another of the same burst: the pause grows, the factor stays.
        bucket.slow_down(Some(Duration::from_secs(9)), now + Duration::from_secs(1));
        assert_eq!(bucket.take(now + Duration::from_secs(1)), Err(Duration::from_secs(9)));
        let later = now + Duration::from_secs(10);
        assert!((bucket.factor(later) - 0.55).abs() < 1e-9);
        assert!(bucket.take(later).is_ok());
        assert_eq!(bucket.factor(now + Duration::from_secs(1_000)), 1.0);
    }

    #[test]
    fn while_halved_no_window_holds_more_than_half_and_what_has_come_back() {
        let mut bucket = Bucket::new(800);
        bucket.slow_down(None, start());
        let from = start() + PAUSE_DEFAULT;
        let taken = greedy(&mut bucket, from, Duration::from_secs(20));
        assert!(most_in_a_window(&taken) <= 480, "{}", most_in_a_window(&taken));
    }

    #[test]
    fn however_often_the_origin_complains_something_is_left() {
        let mut bucket = Bucket::new(80);
        let mut now = start();
        for _ in 0..50 {
            bucket.slow_down(Some(Duration::from_secs(1)), now);
            now = now + Duration::from_secs(1);
        }
        assert!(bucket.factor(now) >= FACTOR_MIN);
        assert!(bucket.wait_for(1, now) <= Duration::from_secs(10));
    }

    #[test]
    fn a_pause_is_never_longer_than_five_minutes_nor_shorter_than_a_second() {
        for (asked, paused) in [(0, 1), (1, 1), (86_400, 300)] {
            let mut bucket = Bucket::new(800);
            bucket.slow_down(Some(Duration::from_secs(asked)), start());
            assert_eq!(bucket.take(start()), Err(Duration::from_secs(paused)));
        }
    }

    #[test]
    fn the_wait_it_names_is_the_wait_it_takes() {
        let mut bucket = Bucket::new(80);
        bucket.set_nodes(3);
        let mut now = start();
        for _ in 0..40 {
            let named = bucket.wait_for(1, now);
            match bucket.take(now) {
                Ok(()) => assert_eq!(named, Duration::ZERO),
                Err(wait) => {
                    assert!(named.abs_diff(wait) < Duration::from_millis(1), "{named:?} and {wait:?}");
                    now = now + wait + Duration::from_micros(1);
                    assert!(bucket.take(now).is_ok());
                }
            }
        }
    }

    #[test]
    fn half_of_the_burst_is_kept_from_what_nobody_waits_for() {
        let mut bucket = Bucket::new(800);
        let mut left = 0;
        while bucket.is_ample(start()) {
            bucket.take(start()).expect("there is a burst of 80");
            left += 1;
        }
        assert_eq!(left, 41);
        assert!(!bucket.is_spent(start()));
    }
}
