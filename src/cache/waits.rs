//! How long one request waited, and for whom. Watched from beside the search: nothing is ever decided by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::domain::Moment;

/// Whom a request may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Redis.
    Shared,
    /// Clerk, or who asks it already.
    Origin,
}

/// The longest waits of one request, or nothing where nobody wants to know. A clone watches the same.
#[derive(Debug, Clone, Default)]
pub struct Waits(Option<Arc<[AtomicU64; 2]>>);

impl Waits {
    /// Waits that somebody wants to know of.
    pub fn watched() -> Self {
        Self(Some(Arc::default()))
    }

    /// The longest wait in microseconds' grain; none: it was not waited for.
    pub fn longest(&self, behind: Behind) -> Option<Duration> {
        let longest = self.0.as_ref()?[behind as usize].load(Ordering::Relaxed);
        (longest > 0).then(|| Duration::from_micros(longest))
    }

    /// Begins a wait. It ends when it is dropped, so that one that was given up counts too.
    pub(super) fn begin(&self, behind: Behind) -> Option<Wait<'_>> {
        self.0.as_ref().map(|longest| Wait { longest: &longest[behind as usize], since: clock::now() })
    }
}

/// A wait under way.
pub(super) struct Wait<'a> {
    longest: &'a AtomicU64,
    since: Moment,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waited = clock::now().since(self.since).as_micros() as u64;
        // A batch waits for many at once.
        self.longest.fetch_max(waited.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_shows_when_it_ended_however_it_did_and_only_where_it_is_watched() {
        let waits = Waits::watched();
        assert_eq!(waits.longest(Behind::Origin), None);
        drop(waits.clone().begin(Behind::Origin));
        assert!(waits.longest(Behind::Origin).is_some());
        assert_eq!(waits.longest(Behind::Shared), None);
        assert!(Waits::default().begin(Behind::Shared).is_none());
    }
}
