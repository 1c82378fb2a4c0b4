//! Whether an answer agrees with the history. Only what was wrong through the whole of a read is held against it.

use std::time::Duration;

use super::{About, Event, History, Membership, Profile, Read, Row, Said};

/// A refused newcomer is let in this long after joining, even if no webhook says so.
const NEW_SHOWS_AFTER: Duration = Duration::from_millis(1_100);
/// Ages and lags are told in whole milliseconds, rounded down.
const ROUNDING: Duration = Duration::from_millis(1);

impl History {
    /// What is wrong with these answers; nothing, when nothing is.
    pub fn judge(&mut self, reads: &[Read]) -> Vec<String> {
        // What was lost may have been a refusal, which the node remembers.
        for read in reads.iter().filter(|read| matches!(read.said, Said::NotAMember | Said::Lost)) {
            self.refusals.entry((read.user.clone(), read.about.clone())).or_default().push(read.began);
        }
        let judge = |read: &Read| self.judge_said(read).and_then(|()| self.judge_stamp(read));
        reads.iter().filter_map(|read| judge(read).err().map(|what| self.explain(&what, read))).collect()
    }

    /// How long after its acknowledgement the end of a membership was longest unknown to an answer.
    pub fn latest_yes(&self, reads: &[Read]) -> Duration {
        let late = |read: &Read, row: &Row| {
            let ended = self.memberships.get(&row.membership_id)?.ended?;
            Some(read.began.saturating_duration_since(self.events[ended.0].acknowledged?))
        };
        let of_read = |read: &Read| match &read.said {
            Said::Rows(rows) => rows.iter().filter_map(|row| late(read, row)).max(),
            Said::NotAMember | Said::UserUnknown | Said::Nothing | Said::Lost => None,
        };
        reads.iter().filter_map(of_read).max().unwrap_or_default()
    }

    fn judge_said(&self, read: &Read) -> Result<(), String> {
        let died = self.users[&read.user];
        match &read.said {
            Said::Nothing | Said::Lost => Ok(()),
            Said::UserUnknown => {
                check(died.is_some_and(|event| self.may_show(event, read)), || "a living user is unknown".into())
            }
            Said::NotAMember | Said::Rows(_) if died.is_some_and(|event| self.must_show(event, read)) => {
                Err("a deleted user is known".into())
            }
            Said::NotAMember => self.judge_no(read),
            Said::Rows(rows) => {
                rows.iter().try_for_each(|row| self.judge_row(read, row))?;
                match read.about {
                    About::List => self.judge_gaps(read, rows),
                    About::Id(_) | About::Slug(_) => check(rows.len() == 1, || "a check answers one row".into()),
                }
            }
        }
    }

    /// No answer says of itself that it is past the bound, unless the node stood still between the decision and its words.
    fn judge_stamp(&self, read: &Read) -> Result<(), String> {
        let Some(stamp) = read.stamp else { return Ok(()) };
        let took = read.ended - read.began;
        let lag_max = self.lag_max(read) + took + ROUNDING;
        check(stamp.age.min(stamp.lag) <= lag_max, || "past the bound, in its own words".into())
    }

    fn judge_row(&self, read: &Read, row: &Row) -> Result<(), String> {
        let is_asked = match &read.about {
            About::List => true,
            About::Id(id) => row.organization_id == *id,
            About::Slug(slug) => row.organization_slug.as_ref() == Some(slug),
        };
        check(is_asked, || "not what was asked for".into())?;
        let membership = self.memberships.get(&row.membership_id).ok_or("a membership that never was")?;
        let is_whose = membership.user == read.user && membership.organization == row.organization_id;
        check(is_whose && self.may_show(membership.granted, read), || "somebody else's, or before it began".into())?;
        if let Some(ended) = membership.ended {
            check(!self.must_show(ended, read), || format!("a late yes: it ended by {}", self.tell(ended)))?;
        }
        let at = membership.roles.iter().position(|(at, role, _)| (*at, role) == (row.updated_at, &row.role));
        let at = at.ok_or("a role that never was")?;
        let later = membership.roles[at + 1..].iter().find(|(_, _, event)| self.must_show(*event, read));
        check(later.is_none(), || format!("a late role: {later:?}, {}", self.tell_of(later.map(|(_, _, event)| *event))))?;
        let profiles = &self.organizations[&row.organization_id];
        let is_called = |profile: &Profile| {
            profile.updated_at == row.organization_updated_at
                && profile.name == row.organization_name
                && profile.slug == row.organization_slug
        };
        let at = profiles.iter().position(is_called).ok_or("a name that never was")?;
        let later = profiles[at + 1..].iter().find(|profile| self.must_show(profile.since, read));
        check(later.is_none(), || format!("a late name: {later:?}, {}", self.tell_of(later.map(|profile| profile.since))))
    }

    /// A membership that lasted through the read, and that had to be known, is in the list.
    fn judge_gaps(&self, read: &Read, rows: &[Row]) -> Result<(), String> {
        let is_missing = |(id, membership): &(&String, &Membership)| {
            let is_listed = rows.iter().any(|row| row.membership_id == **id);
            !is_listed && self.lasts(membership, read) && self.must_show(membership.granted, read)
        };
        let missing = self.of_user(&read.user).find(is_missing);
        check(missing.is_none(), || format!("a gap: {missing:?}, {}", self.tell_of(missing.map(|(_, row)| row.granted))))
    }

    fn judge_no(&self, read: &Read) -> Result<(), String> {
        let is_denied = |(_, membership): &(&String, &Membership)| {
            let is_asked = match &read.about {
                About::List => false,
                About::Id(id) => membership.organization == *id,
                About::Slug(slug) => self.is_called(&membership.organization, slug, read),
            };
            is_asked && self.lasts(membership, read) && self.must_admit(membership.granted, read)
        };
        let denied = self.of_user(&read.user).find(is_denied);
        check(denied.is_none(), || format!("a false no: {denied:?}, {}", self.tell_of(denied.map(|(_, row)| row.granted))))
    }

    /// Whether the organization has this slug through the read, and that had to be known.
    fn is_called(&self, organization: &str, slug: &str, read: &Read) -> bool {
        let profiles = &self.organizations[organization];
        profiles.iter().enumerate().any(|(at, profile)| {
            let lasts = profiles.get(at + 1).is_none_or(|next| self.events[next.since.0].began > read.ended);
            profile.slug.as_deref() == Some(slug) && lasts && self.must_admit(profile.since, read)
        })
    }

    fn of_user<'a>(&'a self, user: &'a str) -> impl Iterator<Item = (&'a String, &'a Membership)> {
        self.memberships.iter().filter(move |(_, membership)| membership.user == user)
    }

    fn lasts(&self, membership: &Membership, read: &Read) -> bool {
        membership.ended.is_none_or(|event| self.events[event.0].began > read.ended)
    }

    fn may_show(&self, event: Event, read: &Read) -> bool {
        self.events[event.0].began <= read.ended
    }

    /// Whether every decision of this read had to know of the event: it was acknowledged longer ago than the caller bears, or
    /// than the answer admits; or the origin was asked after it.
    fn must_show(&self, event: Event, read: &Read) -> bool {
        let when = &self.events[event.0];
        let was_known = |lag: Duration| when.acknowledged.is_some_and(|at| at + lag < read.began);
        let was_read = |age: Duration| when.done + age < read.began;
        let by_its_words = read.stamp.is_some_and(|stamp| was_known(stamp.lag + ROUNDING) || was_read(stamp.age + ROUNDING));
        was_known(self.lag_max(read)) || (read.is_demanded && was_read(Duration::ZERO)) || by_its_words
    }

    /// How far behind the answer may be.
    fn lag_max(&self, read: &Read) -> Duration {
        read.lag_max.map_or(self.bound, |lag_max| lag_max.min(self.bound))
    }

    /// Whether a "no" had to know of it: also soon after it happened, unless the same was refused before.
    fn must_admit(&self, event: Event, read: &Read) -> bool {
        let done = self.events[event.0].done;
        let refusals = self.refusals.get(&(read.user.clone(), read.about.clone()));
        let was_refused = refusals.is_some_and(|refusals| refusals.iter().any(|at| *at < done));
        self.must_show(event, read) || (!was_refused && done + NEW_SHOWS_AFTER < read.began)
    }

    fn explain(&self, what: &str, read: &Read) -> String {
        let [asked, told] = [read.began, read.ended].map(|at| at - self.began());
        format!("node {}, asked after {asked:?}, told after {told:?}: {what}\n    in {read:?}", read.node)
    }
}

fn check(is_right: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(what()) }
}
