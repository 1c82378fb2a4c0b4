//! The lines about Redis: whether a node could start with it, what it may evict, its memory, its replicas, whose the prefix is, and
//! which nodes are there.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use super::database::OurJournal;
use super::{LOOK_TIME_MAX, Line, NO_ANSWER, not_looked_at};
use crate::config::Settings;
use crate::protocol::freshness::{Bounds, Consistency};
use crate::redis::{self, LookError, Redis, Report, StartError};

const REDIS: &str = "redis";
const POLICY: &str = "redis policy";
const MEMORY: &str = "redis memory";
const REPLICAS: &str = "redis replicas";
const PREFIX: &str = "redis prefix";
const NODES: &str = "redis nodes";

/// Nothing that is asked here rests on them.
const NO_BOUNDS: Bounds =
    Bounds { staleness: Duration::ZERO, ttl: Duration::ZERO, grace: Duration::ZERO, local_age_max: Duration::ZERO };

/// Of its limit; above it new values find no room soon.
const MEMORY_PER_CENT_MAX: u64 = 90;

/// What was found.
pub(super) enum Found {
    /// There is none, or it could not be looked at.
    Only(Line),
    Report {
        redis: Box<Redis>,
        report: Box<Report>,
        awaited: u32,
    },
}

pub(super) async fn look(settings: &Settings) -> Found {
    let (url, prefix) = match settings.redis() {
        Ok(Some(place)) => place,
        Ok(None) => return Found::Only(Line::ok(REDIS, "none: this is for one process")),
        Err(_) => return Found::Only(not_looked_at(REDIS, "REDIS_URL and ROLLCALL_KEY_PREFIX")),
    };
    // Settings that cannot be used have lines of their own.
    let replicas = settings.redis_replicas().unwrap_or_default();
    let consistency = settings.consistency().unwrap_or(Consistency::Bounded);
    let bounds = settings.bounds().unwrap_or(NO_BOUNDS);
    let settings = redis::Settings { url, replicas, consistency, prefix, bounds, io: Handle::current() };
    let looking = async {
        let redis = Redis::prepare(settings)?;
        let report = redis.report().await?;
        Ok((redis, report))
    };
    match timeout(LOOK_TIME_MAX, looking).await {
        Ok(Ok((redis, report))) => Found::Report { redis: Box::new(redis), report: Box::new(report), awaited: replicas },
        Ok(Err(error)) => Found::Only(refused(REDIS, &error)),
        Err(_) => Found::Only(refused(REDIS, &StartError::Unreachable { what: NO_ANSWER.to_owned() })),
    }
}

impl Found {
    /// The lines, once it is known whose the key is and which journal this is.
    pub(super) fn lines(self, instance: Option<&str>, journal: &OurJournal) -> Vec<Line> {
        match self {
            Self::Only(line) => vec![line],
            Self::Report { redis, report, awaited } => {
                let mut lines = server(&report);
                lines.extend([policy(&report), memory(&report), replicas(&report, awaited)]);
                lines.extend([prefix(&redis, &report, instance), nodes(&report, journal)]);
                lines
            }
        }
    }
}

fn refused(name: &'static str, error: &StartError) -> Line {
    Line::fail(name, error.what(), error.fix())
}

fn unseen(name: &'static str, error: &LookError) -> Line {
    Line::fail(name, error.to_string(), error.fix())
}

fn is_of_policy(error: &StartError) -> bool {
    matches!(error, StartError::EvictionPolicy { .. })
}

fn server(report: &Report) -> Vec<Line> {
    let refusals: Vec<_> = report.refusals.iter().filter(|error| !is_of_policy(error)).collect();
    let role = if report.is_primary { "primary" } else { "not a primary" };
    match refusals.is_empty() {
        true => vec![Line::ok(REDIS, format!("{}, {role}", report.server))],
        false => refusals.into_iter().map(|error| refused(REDIS, error)).collect(),
    }
}

fn policy(report: &Report) -> Line {
    let policy = report.eviction_policy.as_str();
    let would_be_refused = StartError::EvictionPolicy { policy: policy.to_owned() };
    match report.refusals.iter().find(|error| is_of_policy(error)) {
        Some(error) => refused(POLICY, error),
        // Not refused where nothing rests on the stream, and still a loss.
        None if policy.starts_with("allkeys-") => Line { status: super::Status::Warn, ..refused(POLICY, &would_be_refused) },
        None if policy.is_empty() => {
            Line::warn(POLICY, "it does not say", "see to it that maxmemory-policy is noeviction or volatile-ttl")
        }
        None => Line::ok(POLICY, policy),
    }
}

fn memory(report: &Report) -> Line {
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    match (report.memory_used, report.memory_max) {
        (Some(used), None | Some(0)) => Line::ok(MEMORY, format!("{} used, no limit of its own", mib(used))),
        (Some(used), Some(max)) if used.saturating_mul(100) > max.saturating_mul(MEMORY_PER_CENT_MAX) => {
            let fix = "raise maxmemory: what finds no room is read from Clerk, and changes may exceed the limit";
            Line::warn(MEMORY, format!("{} used of {}", mib(used), mib(max)), fix)
        }
        (Some(used), Some(max)) => Line::ok(MEMORY, format!("{} used of {}", mib(used), mib(max))),
        (None, _) => Line::ok(MEMORY, "it does not say"),
    }
}

fn replicas(report: &Report, awaited: u32) -> Line {
    let Some(connected) = report.replicas else { return Line::ok(REPLICAS, "it does not say") };
    let found = format!("{connected} connected, {awaited} awaited");
    match connected.cmp(&awaited) {
        std::cmp::Ordering::Equal => Line::ok(REPLICAS, found),
        std::cmp::Ordering::Less => {
            let fix = "bring the missing one back, or lower ROLLCALL_REDIS_REPLICAS: until then every read asks Clerk, and no \
                       webhook is acknowledged";
            Line::fail(REPLICAS, found, fix)
        }
        std::cmp::Ordering::Greater => {
            let fix = "set ROLLCALL_REDIS_REPLICAS to all that may be promoted: one that is not awaited may come without what was \
                       acknowledged";
            Line::warn(REPLICAS, found, fix)
        }
    }
}

fn prefix(redis: &Redis, report: &Report, instance: Option<&str>) -> Line {
    match (&report.owner, instance) {
        (Err(error), _) => unseen(PREFIX, error),
        (Ok(None), _) => Line::ok(PREFIX, "nobody's yet: the first start claims it"),
        (Ok(Some(owner)), None) => {
            Line::warn(PREFIX, format!("{owner}'s; whose the key is, is not known"), "see the lines about Clerk")
        }
        (Ok(Some(owner)), Some(ours)) => match redis.check_owner(owner, ours) {
            Ok(()) => Line::ok(PREFIX, format!("{owner}'s, as the key is")),
            Err(error) => Line::fail(PREFIX, error.what(), format!("{}, or CLERK_SECRET_KEY to one of {owner}", error.fix())),
        },
    }
}

fn nodes(report: &Report, journal: &OurJournal) -> Line {
    let journals = match &report.journals {
        Ok(journals) => journals,
        Err(error) => return unseen(NODES, error),
    };
    let ours = match journal {
        OurJournal::Unknown => None,
        // Whoever starts here makes one, and then it is another than theirs.
        OurJournal::NotMadeYet => Some("not made yet"),
        OurJournal::Id(id) => Some(id.as_str()),
    };
    match ours.and_then(|ours| Some((ours, journals.iter().find(|found| *found != ours)?))) {
        Some((ours, found)) => refused(NODES, &StartError::OtherJournal { found: found.clone(), ours: ours.to_owned() }),
        None => Line::ok(NODES, format!("{} running", journals.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn report() -> Report {
        Report {
            server: "Redis 7.0.15".to_owned(),
            is_primary: true,
            eviction_policy: "noeviction".to_owned(),
            memory_used: Some(10 << 20),
            memory_max: Some(0),
            replicas: Some(0),
            refusals: Vec::new(),
            owner: Ok(None),
            journals: Ok(Vec::new()),
        }
    }

    #[test]
    fn memory_is_judged_by_its_limit_and_replicas_by_those_awaited() {
        let check = |line: Line, status, word: &str| assert!(line.status == status && line.found.contains(word), "{line:?}");
        check(memory(&report()), Status::Ok, "10 MiB used, no limit");
        check(memory(&Report { memory_max: Some(12 << 20), ..report() }), Status::Ok, "10 MiB used of 12 MiB");
        check(memory(&Report { memory_max: Some(11 << 20), ..report() }), Status::Warn, "10 MiB used of 11 MiB");
        check(replicas(&report(), 0), Status::Ok, "0 connected, 0 awaited");
        check(replicas(&report(), 1), Status::Fail, "0 connected, 1 awaited");
        check(replicas(&Report { replicas: Some(2), ..report() }, 1), Status::Warn, "2 connected, 1 awaited");
    }

    #[test]
    fn nodes_are_judged_by_their_journals() {
        let among = |journals: &[&str], ours: OurJournal| {
            nodes(&Report { journals: Ok(journals.iter().map(|id| (*id).to_owned()).collect()), ..report() }, &ours)
        };
        let ours = || OurJournal::Id("a".to_owned());
        assert_eq!(among(&["a", "a"], ours()).found, "2 running");
        assert_eq!(among(&["a"], OurJournal::Unknown).status, Status::Ok);
        assert_eq!(among(&[], OurJournal::NotMadeYet).found, "0 running");
        let other = among(&["a"], OurJournal::NotMadeYet);
        assert!(other.status == Status::Fail && other.found.contains("ours is not made yet"), "{other:?}");
        let other = among(&["a", "b"], ours());
        assert!(other.status == Status::Fail && other.fix.expect("a fix").contains("DATABASE_URL"));
    }
}
