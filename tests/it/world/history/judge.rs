//! Whether an answer agrees with the history. Only what was wrong through the whole of a read is held against it.

use std::collections::HashSet;
use std::time::Duration;

use super::{About, Event, History, Life, Membership, Profile, Read, Row, Said, When};

/// A refused newcomer is let in this long after joining, even if no webhook says so.
const NEW_SHOWS_AFTER: Duration = Duration::from_millis(1_100);
/// A list that lacks what an origin that lags does not know yet is kept for 5 s.
pub(super) const GAPS_LAST: Duration = Duration::from_secs(6);
/// Ages and lags are told in whole milliseconds, rounded down.
pub(super) const ROUNDING: Duration = Duration::from_millis(1);

impl History {
    /// What is wrong with these answers; nothing, when nothing is.
    pub fn judge(&mut self, reads: &[Read]) -> Vec<String> {
        // What was lost may have been a refusal, which the node remembers.
        for read in reads.iter().filter(|read| matches!(read.said, Said::NotAMember | Said::Lost)) {
            let first = self.refusals.entry((read.user.clone(), read.about.clone())).or_insert(read.began);
            *first = read.began.min(*first);
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
            Said::NotAMember | Said::RoleMissing | Said::UserUnknown | Said::Nothing | Said::Lost => None,
        };
        reads.iter().filter_map(of_read).max().unwrap_or_default()
    }

    /// How long it took until half of the changes were acknowledged, and until nineteen of twenty were.
    pub fn acknowledged_within(&self) -> [Duration; 2] {
        let took = |when: &When| Some(when.acknowledged?.saturating_duration_since(when.done));
        let mut took: Vec<_> = self.events.iter().skip(1).filter_map(took).collect();
        took.sort();
        [50, 95].map(|percent| took.get(took.len() * percent / 100).copied().unwrap_or_default())
    }

    fn judge_said(&self, read: &Read) -> Result<(), String> {
        let life = &self.users[&read.user];
        match &read.said {
            Said::Nothing | Said::Lost => Ok(()),
            Said::UserUnknown => check(self.may_be_unknown(life, read), || "a living user is unknown".into()),
            Said::NotAMember | Said::RoleMissing | Said::Rows(_)
                if life.died.is_some_and(|event| self.must_show(event, read)) =>
            {
                Err(format!("a deleted user is known: {}", self.tell_of(life.died)))
            }
            Said::NotAMember if read.about == About::List => Err("a list is never a no".into()),
            Said::NotAMember => self.judge_no(read),
            Said::RoleMissing if read.role.is_none() => Err("no role was asked for".into()),
            Said::RoleMissing => check(self.may_lack_the_role(read), || "a role that is there is missing".into()),
            Said::Rows(rows) => {
                rows.iter().try_for_each(|row| self.judge_row(read, row))?;
                let memberships: HashSet<_> = rows.iter().map(|row| &row.membership_id).collect();
                check(memberships.len() == rows.len(), || "a membership is there twice".into())?;
                match read.about {
                    About::List => self.judge_gaps(read, rows),
                    About::Id(_) | About::Slug(_) => check(rows.len() == 1, || "a check answers one row".into()),
                }
            }
        }
    }

    /// A user who may be gone by now; or one so new that an origin that lags need not know.
    fn may_be_unknown(&self, life: &Life, read: &Read) -> bool {
        let is_news = !self.origin_lag.is_zero() && !self.must_be_listed(life.born, read);
        is_news || life.died.is_some_and(|event| self.may_show(event, read))
    }

    /// Whether the user may have been a member, and in another role than the one asked for, by what could be known.
    fn may_lack_the_role(&self, read: &Read) -> bool {
        let is_elsewhere = |membership: &Membership| {
            let others = membership.roles.iter().enumerate().filter(|(_, (_, role, _))| Some(role) != read.role.as_ref());
            let mut others = others.filter(|(_, (_, _, since))| self.may_show(*since, read));
            others.any(|(at, _)| membership.roles.get(at + 1).is_none_or(|(_, _, event)| !self.must_show(*event, read)))
        };
        let may_last = |membership: &Membership| !membership.ended.is_some_and(|event| self.must_show(event, read));
        let is_asked = |membership: &Membership| match &read.about {
            About::List => false,
            About::Id(id) => membership.organization == *id,
            About::Slug(slug) => self.may_be_called(&membership.organization, slug, read),
        };
        self.of_user(&read.user).any(|(_, row)| is_asked(row) && may_last(row) && is_elsewhere(row))
    }

    fn judge_row(&self, read: &Read, row: &Row) -> Result<(), String> {
        let is_asked = match &read.about {
            About::List => true,
            About::Id(id) => row.organization_id == *id,
            About::Slug(slug) => row.organization_slug.as_ref() == Some(slug),
        };
        check(is_asked, || "not what was asked for".into())?;
        check(read.role.as_ref().is_none_or(|role| row.role == *role), || "not the role that was asked for".into())?;
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
            !is_listed && self.lasts(membership, read) && self.must_be_listed(membership.granted, read)
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

    /// Whether the organization may have had this slug, by what could be known.
    fn may_be_called(&self, organization: &str, slug: &str, read: &Read) -> bool {
        let profiles = &self.organizations[organization];
        profiles.iter().enumerate().any(|(at, profile)| {
            let may_last = profiles.get(at + 1).is_none_or(|next| !self.must_show(next.since, read));
            profile.slug.as_deref() == Some(slug) && may_last && self.may_show(profile.since, read)
        })
    }

    fn of_user(&self, user: &str) -> impl Iterator<Item = (&String, &Membership)> {
        self.users[user].memberships.iter().map(|id| (id, &self.memberships[id]))
    }

    fn lasts(&self, membership: &Membership, read: &Read) -> bool {
        membership.ended.is_none_or(|event| self.events[event.0].began > read.ended)
    }

    fn may_show(&self, event: Event, read: &Read) -> bool {
        self.events[event.0].began <= read.ended
    }

    /// Whether every decision of this read had to know of the event: it was acknowledged longer ago than the caller bears, or
    /// than the answer admits; or the origin was asked after it. Who reads the stream knows it even of an origin that lags.
    fn must_show(&self, event: Event, read: &Read) -> bool {
        let when = &self.events[event.0];
        let was_known = |lag: Duration| when.acknowledged.is_some_and(|at| at + lag < read.began);
        let was_read = |age: Duration| when.done + age + self.origin_lag < read.began;
        let lag_max = self.lag_max(read);
        let is_hearing = read.stamp.is_some_and(|stamp| stamp.lag <= lag_max + (read.ended - read.began));
        let behind = if is_hearing { Duration::ZERO } else { self.origin_lag };
        let by_its_words = read.stamp.is_some_and(|stamp| was_known(stamp.lag + ROUNDING) || was_read(stamp.age + ROUNDING));
        was_known(lag_max + behind) || (read.is_demanded && was_read(Duration::ZERO)) || by_its_words
    }

    /// The same of what only a reading can tell: an origin that lags does not, and what it said is kept for a while.
    fn must_be_listed(&self, event: Event, read: &Read) -> bool {
        self.must_show(event, read) && !self.is_news(&self.events[event.0], read)
    }

    fn is_news(&self, when: &When, read: &Read) -> bool {
        !self.origin_lag.is_zero() && when.done + self.origin_lag + GAPS_LAST > read.began
    }

    /// How far behind the answer may be.
    pub(super) fn lag_max(&self, read: &Read) -> Duration {
        read.lag_max.map_or(self.bound, |lag_max| lag_max.min(self.bound))
    }

    /// Whether a "no" had to know of it: also soon after it happened, unless the same was refused before.
    fn must_admit(&self, event: Event, read: &Read) -> bool {
        let when = &self.events[event.0];
        let refused = self.refusals.get(&(read.user.clone(), read.about.clone()));
        let was_refused = refused.is_some_and(|at| *at < when.done);
        let must_know = self.must_show(event, read) || (!was_refused && when.done + NEW_SHOWS_AFTER < read.began);
        must_know && !self.is_news(when, read)
    }

    fn explain(&self, what: &str, read: &Read) -> String {
        let [asked, told] = [read.began, read.ended].map(|at| at - self.began());
        format!("node {}, asked after {asked:?}, told after {told:?}: {what}\n    in {read:?}", read.node)
    }
}

pub(super) fn check(is_right: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(what()) }
}
