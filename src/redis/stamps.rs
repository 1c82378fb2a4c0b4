//! Ranges of stamps, in microseconds of the server's clock: what it says twice, because it was set back.

use std::fmt;
use std::ops::RangeInclusive;

/// A clock that is set back more often than that within anybody's memory is not to be dated by.
const RANGES_MAX: usize = 16;

/// Ranges that do not overlap, in order. Written `first-last,first-last`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamps(Vec<RangeInclusive<u64>>);

impl Stamps {
    /// Reads them; what cannot be read is left out.
    pub(super) fn parse(text: &str) -> Self {
        let range = |text: &str| text.split_once('-').and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
        let mut stamps = Self::default();
        text.split(',').filter_map(range).for_each(|range| stamps.add(range));
        stamps
    }

    /// Whether the stamp is in one of them.
    pub(super) fn contain(&self, stamp: u64) -> bool {
        self.0.iter().any(|range| range.contains(&stamp))
    }

    /// The last of them.
    pub(super) fn last(&self) -> Option<u64> {
        self.0.last().map(|range| *range.end())
    }

    /// Both.
    pub(super) fn with(&self, others: &Self) -> Self {
        let mut both = self.clone();
        others.0.iter().for_each(|range| both.add(range.clone()));
        both
    }

    /// Adds a range. Of too many the lowest goes: its readings are gone the soonest.
    pub(super) fn add(&mut self, range: RangeInclusive<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut first, mut last) = range.into_inner();
        self.0.retain(|known| {
            let overlaps = *known.start() <= last && first <= *known.end();
            if overlaps {
                (first, last) = (first.min(*known.start()), last.max(*known.end()));
            }
            !overlaps
        });
        let place = self.0.partition_point(|known| *known.end() < first);
        self.0.insert(place, first..=last);
        if self.0.len() > RANGES_MAX {
            self.0.remove(0);
        }
    }
}

impl fmt::Display for Stamps {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(out, "{comma}{}-{}", range.start(), range.end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_are_one_and_others_stay_apart() {
        let check = |text: &str, expected: &str| assert_eq!(Stamps::parse(text).to_string(), expected, "{text}");
        check("", "");
        check("5-9", "5-9");
        check("50-90,5-9", "5-9,50-90");
        check("5-9,9-12", "5-12");
        check("5-9,20-30,40-50,8-45", "5-50");
        check("9-5,x-7,-,3-4", "3-4");
        let stamps = Stamps::parse("5-9,50-90");
        assert_eq!([4, 5, 9, 10, 90, 91].map(|stamp| stamps.contain(stamp)), [false, true, true, false, true, false]);
        assert_eq!((stamps.last(), Stamps::default().last()), (Some(90), None));
        assert_eq!(stamps.with(&Stamps::parse("9-20")).to_string(), "5-20,50-90");
    }

    #[test]
    fn of_too_many_the_lowest_goes() {
        let all: Vec<_> = (1..=17).map(|n| format!("{}-{}", n * 10, n * 10 + 1)).collect();
        assert_eq!(Stamps::parse(&all.join(",")).to_string(), all[1..].join(","));
    }
}
