//! One row of the world and what it was before: so that a read can be answered from the world of a moment ago.
//!
//! Owned by the world's maps. Times are wall-clock milliseconds. Upholds I12: old versions give way.

use std::collections::VecDeque;

/// Which state of the world a read sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// The state after the last write.
    Now,
    /// The state at this time, milliseconds since the Unix epoch.
    At(i64),
}

/// Versions kept of one row. A row that changes oftener within the lag is answered from its oldest version left.
const VERSIONS_MAX: usize = 64;

/// The versions of one row, oldest first; `None` is its end.
#[derive(Debug, Clone)]
pub(super) struct Timeline<T>(VecDeque<(i64, Option<T>)>);

impl<T> Timeline<T> {
    /// A row that begins at `at`.
    pub(super) fn new(at: i64, row: T) -> Self {
        Self(VecDeque::from([(at, Some(row))]))
    }

    /// Adds a version, or the end of the row.
    pub(super) fn push(&mut self, at: i64, row: Option<T>) {
        if self.0.len() == VERSIONS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((at, row));
    }

    /// The row as it is, if it lives.
    pub(super) fn now(&self) -> Option<&T> {
        self.0.back().and_then(|(_, row)| row.as_ref())
    }

    /// The row as it was, if it lived.
    pub(super) fn get(&self, as_of: AsOf) -> Option<&T> {
        let AsOf::At(at) = as_of else { return self.now() };
        self.0.iter().rev().find(|(since, _)| *since <= at).and_then(|(_, row)| row.as_ref())
    }

    /// Whether it ended before `at`, so that no read will see it again.
    pub(super) fn ended_before(&self, at: i64) -> bool {
        self.0.back().is_some_and(|(since, row)| row.is_none() && *since < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_seen_as_it_was() {
        let mut row = Timeline::new(10, "a");
        row.push(20, Some("b"));
        row.push(30, None);
        for (at, expected) in [(9, None), (10, Some("a")), (19, Some("a")), (20, Some("b")), (29, Some("b")), (30, None)] {
            assert_eq!(row.get(AsOf::At(at)).copied(), expected, "{at}");
        }
        assert_eq!(row.get(AsOf::Now), None);
        assert!(row.ended_before(31) && !row.ended_before(30));
    }

    #[test]
    fn old_versions_give_way() {
        let mut row = Timeline::new(0, 0);
        (1..1000).for_each(|at| row.push(at, Some(at)));
        assert_eq!(row.0.len(), VERSIONS_MAX);
        assert_eq!(row.now(), Some(&999));
    }
}
