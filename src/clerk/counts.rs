//! What this room counts. The roof registers it; the client moves it at its branches.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::ports::Priority;

/// One label with one of few fixed values.
type Label = [(&'static str, &'static str); 1];

/// The counts of the origin. A clone shares the numbers.
#[derive(Debug, Clone)]
pub struct Counts {
    requests: Family<Label, Counter>,
    /// Seconds that a read took, from the first request to the last page, waits for the budget included.
    pub(super) read_seconds: Histogram,
    pub(super) retries: Counter,
    budget_refused: Family<Label, Counter>,
    pub(super) breaker_opened: Counter,
    pub(super) oversized: Counter,
    pub(super) incomplete: Counter,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            read_seconds: Histogram::new([0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0]),
            retries: Counter::default(),
            budget_refused: Family::default(),
            breaker_opened: Counter::default(),
            oversized: Counter::default(),
            incomplete: Counter::default(),
        }
    }
}

impl Counts {
    /// Makes the counts visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "rollcall_origin_requests",
            "Requests sent to Clerk by outcome; anything but ok and user_unknown rising means Clerk or the way to it is in trouble",
            self.requests.clone(),
        );
        registry.register(
            "rollcall_origin_read_seconds",
            "Time of a whole read of one user; rising means Clerk is slow or the budget is short",
            self.read_seconds.clone(),
        );
        registry.register(
            "rollcall_origin_retries",
            "Requests sent again after a failure; rising means Clerk fails now and then",
            self.retries.clone(),
        );
        registry.register(
            "rollcall_origin_budget_refused",
            "Reads refused because the request budget was spent; cold rising means more users are active than the rate carries",
            self.budget_refused.clone(),
        );
        registry.register(
            "rollcall_origin_breaker_opened",
            "Times that Clerk failed so often that only one request a second was sent; rising means an outage",
            self.breaker_opened.clone(),
        );
        registry.register(
            "rollcall_origin_oversized",
            "Answers of Clerk beyond the limits of memberships or bytes; rising means a user cannot be read at all",
            self.oversized.clone(),
        );
        registry.register(
            "rollcall_origin_incomplete",
            "Lists gathered again because the pages did not add up; rising means memberships change quickly, or pages disagree",
            self.incomplete.clone(),
        );
    }

    pub(super) fn request(&self, outcome: &'static str) {
        self.requests.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn refused(&self, priority: Priority) {
        let name = match priority {
            Priority::Cold => "cold",
            Priority::FirstDenial => "first_denial",
            Priority::RepeatedDenial => "repeated_denial",
            Priority::NoCache => "no_cache",
            Priority::Refresh => "refresh",
        };
        self.budget_refused.get_or_create(&[("priority", name)]).inc();
    }

    #[cfg(test)]
    pub(super) fn requests_with(&self, outcome: &'static str) -> u64 {
        self.requests.get_or_create(&[("outcome", outcome)]).get()
    }
}
