//! Waiting on a condition, with a limit; never for a time.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep};

const LIMIT: Duration = Duration::from_secs(10);

/// Looks until something is there; says what was waited for when it does not come within ten seconds.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    until_within(LIMIT, what, look).await
}

/// The same, with a limit of its own.
pub async fn until_within<T, F: Future<Output = Option<T>>>(limit: Duration, what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Looks until the value is the expected one; shows the last one seen when it does not come within ten seconds.
pub async fn until_eq<T: PartialEq + Debug>(what: &str, expected: T, mut look: impl FnMut() -> T) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let seen = look();
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}; expected {expected:?}, last seen {seen:?}");
        sleep(Duration::from_millis(5)).await;
    }
}
