//! Which messages are meant, as typed: type, user, organization and moments. `list`, `retry` and the replay take these flags.

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use crate::cli::Usage;
use crate::domain::{OrganizationId, UserId};
use crate::journal::{Filter, State};

/// Flags that choose messages; each given one must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(in crate::cli) struct Chosen {
    /// Messages of this type, as in user.deleted; 'organization*': of every type that begins so
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Messages about this user
    #[arg(long, value_name = "USER", value_parser = UserId::parse)]
    user: Option<UserId>,
    /// Messages about this organization
    #[arg(long, value_name = "ORG", value_parser = OrganizationId::parse)]
    org: Option<OrganizationId>,
    /// Received at this moment or later: 2h (ago), 2026-03-01T12:00:00Z, or milliseconds since the Unix epoch
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// Received before this moment
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
}

/// A moment as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct When {
    typed: String,
    meant: Meant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meant {
    /// So long before now.
    Ago(Duration),
    /// Milliseconds since the Unix epoch.
    At(i64),
}

impl Chosen {
    /// As the journal understands it, at this time since the Unix epoch.
    pub(in crate::cli) fn filter(&self, now: Duration, states: Vec<State>) -> Result<Filter, Usage> {
        let filter = Filter {
            event_type: self.event_type.clone(),
            user: self.user.clone(),
            organization: self.org.clone(),
            states,
            since_ms: self.since.as_ref().map(|when| when.at_ms(now)),
            until_ms: self.until.as_ref().map(|when| when.at_ms(now)),
        };
        match (filter.since_ms, filter.until_ms) {
            (Some(since), Some(until)) if since >= until => Err(Usage("--since must be before --until".to_owned())),
            _ => Ok(filter),
        }
    }

    /// For how long the same words mean nearly the same messages: the length of a span that ends, or is counted back, from
    /// now. None where every moment is a date: they mean the same for ever.
    pub(in crate::cli) fn lasts(&self) -> Option<Duration> {
        let ago = |when: &Option<When>| when.as_ref().and_then(When::ago);
        match (ago(&self.since), ago(&self.until)) {
            (Some(since), Some(until)) => Some(since.saturating_sub(until)),
            (since, until) => since.or(until),
        }
    }

    /// As typed, the flags in an order of ours: the same choice is the same text.
    pub(in crate::cli) fn typed(&self) -> String {
        let flags = [
            ("--type", self.event_type.clone()),
            ("--user", self.user.as_ref().map(ToString::to_string)),
            ("--org", self.org.as_ref().map(ToString::to_string)),
            ("--since", self.since.as_ref().map(|when| when.typed.clone())),
            ("--until", self.until.as_ref().map(|when| when.typed.clone())),
        ];
        let typed = flags.into_iter().filter_map(|(flag, value)| value.map(|value| format!("{flag} {value}")));
        typed.collect::<Vec<_>>().join(" ")
    }
}

impl When {
    fn at_ms(&self, now: Duration) -> i64 {
        match self.meant {
            Meant::Ago(ago) => millis(now.saturating_sub(ago)),
            Meant::At(ms) => ms,
        }
    }

    fn ago(&self) -> Option<Duration> {
        match self.meant {
            Meant::Ago(ago) => Some(ago),
            Meant::At(_) => None,
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let meant = match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().ok().map(Meant::At),
            false => humantime::parse_duration(text).ok().map(Meant::Ago).or_else(|| rfc3339_ms(text).map(Meant::At)),
        };
        let accepted = "not a moment. Accepted: 2h or 3days (ago), 2026-03-01T12:00:00Z, milliseconds since the Unix epoch";
        meant.map(|meant| Self { typed: text.to_owned(), meant }).ok_or_else(|| accepted.to_owned())
    }
}

/// RFC 3339, whose offset from UTC is taken into account.
fn rfc3339_ms(text: &str) -> Option<i64> {
    let (local, offset_ms) = match text.get(text.len().checked_sub(6)?..).filter(|end| end.starts_with(['+', '-'])) {
        Some(offset) => (format!("{}Z", text.strip_suffix(offset)?), offset_ms(offset)?),
        None => (text.to_owned(), 0),
    };
    let since_epoch = humantime::parse_rfc3339(&local).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(millis(since_epoch) - offset_ms)
}

/// `+02:00`, as milliseconds.
fn offset_ms(text: &str) -> Option<i64> {
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.len() == 2).map(i64::from);
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let ms = (hours * 60 + minutes) * 60_000;
    (hours < 24 && minutes < 60).then_some(if text.starts_with('-') { -ms } else { ms })
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_duration_ago_a_date_or_a_number() {
        let now = Duration::from_millis(1_772_366_400_000);
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(text.parse::<When>().ok().map(|when| when.at_ms(now)), expected, "{text}");
        };
        check("2h", Some(1_772_366_400_000 - 7_200_000));
        check("1h 30m", Some(1_772_366_400_000 - 5_400_000));
        check("1000000days", Some(0));
        check("1772366400123", Some(1_772_366_400_123));
        check("2026-03-01T12:00:00Z", Some(1_772_366_400_000));
        check("2026-03-01T12:00:00.250Z", Some(1_772_366_400_250));
        check("2026-03-01T14:00:00+02:00", Some(1_772_366_400_000));
        check("2026-03-01T06:30:00-05:30", Some(1_772_366_400_000));
        for text in ["", "soon", "2026-03-01", "12:00", "-2h", "2026-03-01T12:00:00+99:00", "9999999999999999999999", "ä+02:00"]
        {
            check(text, None);
        }
    }

    #[test]
    fn words_that_count_back_from_now_mean_the_same_for_as_long_as_their_span_and_dates_for_ever() {
        let check = |since: Option<&str>, until: Option<&str>, expected: Option<u64>| {
            let when = |text: Option<&str>| text.map(|text| text.parse().expect("a moment"));
            let chosen = Chosen { since: when(since), until: when(until), ..Chosen::default() };
            assert_eq!(chosen.lasts(), expected.map(Duration::from_secs), "{since:?} {until:?}");
        };
        let date = Some("2026-03-01T12:00:00Z");
        check(Some("2h"), None, Some(7_200));
        check(Some("2h"), Some("30m"), Some(5_400));
        check(Some("2h"), Some("1772366400123"), Some(7_200));
        check(date, Some("1h"), Some(3_600));
        check(date, date, None);
        check(date, None, None);
        check(None, None, None);
    }

    #[test]
    fn the_same_choice_is_the_same_text_and_an_empty_span_is_refused() {
        let since = |text: &str| Chosen { since: text.parse().ok(), ..Chosen::default() };
        let all = Chosen { event_type: Some("user.*".to_owned()), user: UserId::parse("user_1").ok(), ..since("2h") };
        assert_eq!(all.typed(), "--type user.* --user user_1 --since 2h");
        assert_eq!(Chosen::default().typed(), "");
        let now = Duration::from_secs(1_000_000);
        assert!(Chosen { until: "1h".parse().ok(), ..since("2h") }.filter(now, Vec::new()).is_ok());
        assert!(Chosen { until: "2h".parse().ok(), ..since("1h") }.filter(now, Vec::new()).is_err());
    }
}
