//! The lines about Clerk: whether it knows the key, whose instance that is, and whether its clock and ours agree.

use std::time::Duration;

use tokio::time::timeout;

use super::token_keys::{self, Configured};
use super::{LOOK_TIME_MAX, Line, NO_ANSWER, not_looked_at};
use crate::clerk::{self, Clerk, Offset, Seen};
use crate::config::Settings;
use crate::ports::OriginError;

/// Above it the times in a session token are judged wrongly.
const OFF_WARN: Duration = Duration::from_secs(5);
/// Above it most of a session token's minute is over when it comes, and soon webhooks are refused, at five minutes.
const OFF_FAIL: Duration = Duration::from_secs(60);

const KEY: &str = "clerk key";
const INSTANCE: &str = "clerk instance";
const CLOCK: &str = "clock";

/// What was found, and the instance that the key belongs to.
pub(super) struct Found {
    pub lines: Vec<Line>,
    pub instance: Option<String>,
}

pub(super) async fn look(settings: &Settings) -> Found {
    let Ok((secret_key, api_url)) = settings.clerk() else {
        return Found { lines: vec![not_looked_at(KEY, "CLERK_SECRET_KEY and CLERK_API_URL")], instance: None };
    };
    let Ok(clerk) = Clerk::new(clerk::Settings { secret_key, api_url, rate: 1 }) else {
        let fix = "install the system's certificates (ca-certificates)";
        return Found { lines: vec![Line::fail(KEY, "the HTTPS client cannot be made", fix)], instance: None };
    };
    match timeout(LOOK_TIME_MAX, async { tokio::join!(clerk.look(), token_keys::look(settings)) }).await {
        Ok((seen, configured)) => told(seen, &configured),
        Err(_) => Found { lines: vec![Line::fail(KEY, NO_ANSWER, REACH)], instance: None },
    }
}

const REACH: &str = "check CLERK_API_URL, and the way there: DNS, proxy, firewall";

fn told(seen: Seen, configured: &Configured) -> Found {
    let mut lines = match &seen.instance {
        Ok(Some(instance)) => vec![Line::ok(KEY, "Clerk knows it"), Line::ok(INSTANCE, instance)],
        Ok(None) => {
            let fix = "have a look at the instance's API keys: without a signing key nobody can tell which instance it is";
            vec![Line::ok(KEY, "Clerk knows it"), Line::warn(INSTANCE, "it shows no signing key", fix)]
        }
        Err(error) => vec![refused(error)],
    };
    lines.extend(token_keys::lines(configured, &seen));
    lines.push(seen.clock.map_or_else(|| Line::warn(CLOCK, "Clerk told no time", REACH), clock));
    Found { lines, instance: seen.instance.ok().flatten() }
}

fn refused(error: &OriginError) -> Line {
    match error {
        OriginError::Unauthorized => Line::fail(
            KEY,
            "Clerk refuses it (401)",
            "copy the secret key of the instance that CLERK_API_URL serves: Clerk dashboard, Configure, API keys, Secret keys",
        ),
        OriginError::RateLimited { .. } => Line::warn(KEY, "Clerk is asked too often just now (429)", "try again in a moment"),
        OriginError::Malformed { .. } => Line::fail(KEY, error.to_string(), "check that CLERK_API_URL is Clerk's Backend API"),
        OriginError::TimedOut | OriginError::Unavailable { .. } => Line::fail(KEY, error.to_string(), REACH),
    }
}

fn clock(offset: Offset) -> Line {
    let seconds = offset.by.as_secs();
    if offset.by <= OFF_WARN {
        return Line::ok(CLOCK, format!("within {} s of Clerk's", OFF_WARN.as_secs()));
    }
    let direction = if offset.is_ahead { "ahead of" } else { "behind" };
    let found = format!("this machine's clock is {seconds} s {direction} Clerk's");
    let fix = "set it by NTP (timedatectl set-ntp true): webhooks more than 300 s from it are refused";
    match offset.by <= OFF_FAIL {
        true => Line::warn(CLOCK, found, fix),
        false => Line::fail(CLOCK, found, fix),
    }
}

/// Whether the webhooks come from the instance that is asked; none where one of them is not known.
pub(super) fn compare(of_webhooks: &str, ours: Option<&str>) -> Option<Line> {
    let ours = ours?;
    let fix = "unless it was an example of Clerk's Testing tab, or the instance was exchanged on purpose, give CLERK_SECRET_KEY and \
               CLERK_WEBHOOK_SIGNING_SECRET of one instance; this goes with its next webhook";
    Some(match of_webhooks == ours {
        true => Line::ok("webhook instance", ours),
        false => Line::warn("webhook instance", format!("the last one was {of_webhooks}'s, and the key is {ours}'s"), fix),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_clock_may_be_off_by_a_little() {
        let check = |seconds, is_ahead, status, word: &str| {
            let line = clock(Offset { by: Duration::from_secs(seconds), is_ahead });
            assert!(line.status == status && line.found.contains(word), "{line:?}");
        };
        check(5, true, Status::Ok, "within 5 s");
        check(6, true, Status::Warn, "6 s ahead");
        check(60, false, Status::Warn, "60 s behind");
        check(600, false, Status::Fail, "600 s behind");
    }
}
