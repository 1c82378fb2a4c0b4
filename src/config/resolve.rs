//! From what was written to what is meant: parses every setting, then checks what must hold between them.
//!
//! All problems are gathered before any is told. Never reads a clock, a file or a variable.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::error::{ConfigError, Problem, Shown};
use super::layers::{Given, Settings, Source};
use super::parse::{self, Parsed};
use super::table::{Name, TABLE};
use super::tokens::{self, TokenKeys, Tokens};
use super::{Config, LogFormat, Logging, Rotating, timing};
use crate::http::TimedFor;
use crate::http::auth::ServiceKey;
use crate::ingest::SweepPace;
use crate::protocol::freshness::{Bounds, Consistency};
use crate::token::Policy;

/// How long changes are remembered. TTL and grace must end within it: an older reading could miss a change that is forgotten.
const FACTS_WINDOW: Duration = Duration::from_secs(30 * 60);
/// What is kept free of the facts window for reads under way and clocks.
const FACTS_RESERVE: Duration = Duration::from_secs(60);
/// Below, the stream would be asked more often than every 2.5 ms; above, a revocation is no longer "at once" for anybody.
const STALENESS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// Longer than any orchestrator waits before it kills.
const SHUTDOWN_DELAY_MAX: Duration = Duration::from_secs(300);
/// A century: more is a slip of the hand.
const RETENTION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Clerk's limits per 10 s, by kind of key.
const ORIGIN_LIMIT_LIVE: u32 = 1000;
const ORIGIN_LIMIT_OTHER: u32 = 100;

/// Where a secret is easily pasted instead: the secret key for the publishable one, a service key for its name. What is malformed
/// there is not shown.
const TAKEN_FOR_SECRETS: [Name; 2] = [Name::PublishableKey, Name::ServerTiming];

impl Settings {
    /// The configuration that `serve` runs with. Fails with everything that is missing, malformed or at odds.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let mut problems: Vec<Problem> = TABLE.iter().filter_map(|setting| self.missing(setting.name)).collect();
        let clerk_secret_key = keep(self.value(Name::ClerkSecretKey, parse::clerk_secret_key), &mut problems);
        let webhook_secrets = keep(self.value(Name::WebhookSecrets, parse::webhook_secrets), &mut problems);
        let api_keys = keep(self.value(Name::ApiKeys, parse::api_keys), &mut problems);
        let clerk_api_url = keep(self.value(Name::ClerkApiUrl, parse::clerk_api_url), &mut problems);
        let tokens = self.find_tokens(&mut problems);
        let redis_url = keep(self.value(Name::RedisUrl, parse::redis_url), &mut problems);
        let redis_replicas = keep(self.value(Name::RedisReplicas, parse::redis_replicas), &mut problems);
        let consistency = keep(self.value(Name::Consistency, parse::consistency), &mut problems);
        let listen = keep(self.value(Name::Listen, parse::listen), &mut problems);
        let metrics_listen = keep(self.value(Name::MetricsListen, parse::listen), &mut problems);
        let key_prefix = keep(self.value(Name::KeyPrefix, parse::key_prefix), &mut problems);
        let local_bytes_max = keep(self.value(Name::LocalBytesMax, parse::bytes), &mut problems);
        let database_url = keep(self.value(Name::DatabaseUrl, parse::database_url), &mut problems);
        let journal_keep = keep(self.value(Name::JournalPayload, parse::journal_payload), &mut problems);
        let journal_retention = keep(self.within(Name::JournalRetention, Duration::ZERO, RETENTION_MAX), &mut problems);
        let origin_rate = keep(self.value(Name::OriginRate, parse::origin_rate), &mut problems);
        let timed_for = self.find_timed_for(api_keys.as_deref(), &mut problems);
        let shutdown_delay = keep(self.within(Name::ShutdownDelay, Duration::ZERO, SHUTDOWN_DELAY_MAX), &mut problems);
        if redis_replicas.is_some_and(|replicas| replicas > 0) && self.given(Name::RedisUrl).is_none() {
            let rule = "without Redis there are no replicas to wait for";
            problems.push(self.relation(Name::RedisReplicas, Name::RedisUrl, rule));
        }
        if metrics_listen.is_some_and(|metrics| metrics.port() != 0 && Some(metrics) == listen) {
            let rule = "two listeners need two addresses: whoever reaches the one for metrics needs no key";
            problems.push(self.relation(Name::MetricsListen, Name::Listen, rule));
        }
        let bounds = self.find_bounds(&mut problems);
        self.check_retention(journal_retention, bounds, &mut problems);
        self.check_consistency(consistency, redis_replicas, &mut problems);
        problems.extend(self.logging().err().into_iter().flat_map(|error| error.problems));
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let clerk_secret_key: SecretString = clerk_secret_key.expect("what is required was found, or is a problem");
        Ok(Config {
            origin_rate: origin_rate.unwrap_or_else(|| default_rate(&clerk_secret_key)),
            clerk_secret_key,
            webhook_secrets: webhook_secrets.expect("what is required was found, or is a problem"),
            api_keys: api_keys.expect("what is required was found, or is a problem"),
            clerk_api_url: clerk_api_url.expect(HAS_DEFAULT),
            tokens: tokens.expect(HAS_DEFAULT),
            redis_url,
            redis_replicas: redis_replicas.expect(HAS_DEFAULT),
            consistency: consistency.expect(HAS_DEFAULT),
            database_url: database_url.expect(HAS_DEFAULT),
            journal_retention: journal_retention.expect(HAS_DEFAULT),
            journal_keep: journal_keep.expect(HAS_DEFAULT),
            listen: listen.expect(HAS_DEFAULT),
            metrics_listen,
            key_prefix: key_prefix.expect(HAS_DEFAULT),
            local_bytes_max: local_bytes_max.expect(HAS_DEFAULT),
            shutdown_delay: shutdown_delay.expect(HAS_DEFAULT),
            timed_for: timed_for.expect(HAS_DEFAULT),
            is_description_open: false,
            bounds: bounds.expect("no problem was found"),
            sweep: SweepPace::default(),
        })
    }

    /// Where to listen.
    pub fn listen(&self) -> Result<SocketAddr, ConfigError> {
        Ok(self.value(Name::Listen, parse::listen)?.expect(HAS_DEFAULT))
    }

    /// The signing secrets of the webhook endpoint, or an error that says where to get one.
    pub fn webhook_secrets(&self) -> Result<Vec<SecretString>, ConfigError> {
        let found = self.value(Name::WebhookSecrets, parse::webhook_secrets)?;
        found.ok_or_else(|| self.missing(Name::WebhookSecrets).expect("it is required and was not found").into())
    }

    /// What may be exchanged while the service runs. Fails with everything that is wrong with it.
    pub fn rotating(&self) -> Result<Rotating, ConfigError> {
        match (self.api_keys(), self.webhook_secrets()) {
            (Ok(api_keys), Ok(webhook_secrets)) => Ok(Rotating { api_keys, webhook_secrets }),
            (api_keys, webhook_secrets) => {
                let problems = [api_keys.err(), webhook_secrets.err()].into_iter().flatten().flat_map(|error| error.problems);
                Err(ConfigError { problems: problems.collect() })
            }
        }
    }

    /// Where the publishable key leads: the base of the frontend API.
    pub fn frontend(&self) -> Result<Option<String>, ConfigError> {
        Ok(self.value(Name::PublishableKey, tokens::publishable_key)?)
    }

    /// The service keys, or an error that says how to get one.
    pub fn api_keys(&self) -> Result<Vec<ServiceKey>, ConfigError> {
        let found = self.value(Name::ApiKeys, parse::api_keys)?;
        found.ok_or_else(|| self.missing(Name::ApiKeys).expect("it is required and was not found").into())
    }

    /// How many replicas of Redis a write waits for.
    pub fn redis_replicas(&self) -> Result<u32, ConfigError> {
        Ok(self.value(Name::RedisReplicas, parse::redis_replicas)?.expect(HAS_DEFAULT))
    }

    /// What is promised of answers.
    pub fn consistency(&self) -> Result<Consistency, ConfigError> {
        Ok(self.value(Name::Consistency, parse::consistency)?.expect(HAS_DEFAULT))
    }

    /// Redis, if there is one, and the prefix of its keys.
    pub fn redis(&self) -> Result<Option<(SecretString, String)>, ConfigError> {
        let prefix = self.value(Name::KeyPrefix, parse::key_prefix)?.expect(HAS_DEFAULT);
        Ok(self.value(Name::RedisUrl, parse::redis_url)?.map(|url| (url, prefix)))
    }

    /// The secret key of the Clerk instance, or an error that says where to get one; and where its API is.
    pub fn clerk(&self) -> Result<(SecretString, String), ConfigError> {
        let api_url = self.value(Name::ClerkApiUrl, parse::clerk_api_url)?.expect(HAS_DEFAULT);
        Ok((self.clerk_secret_key()?, api_url))
    }

    /// The secret key alone.
    pub fn clerk_secret_key(&self) -> Result<SecretString, ConfigError> {
        let found = self.value(Name::ClerkSecretKey, parse::clerk_secret_key)?;
        found.ok_or_else(|| self.missing(Name::ClerkSecretKey).expect("it is required and was not found").into())
    }

    /// Where the journal is.
    pub fn database_url(&self) -> Result<SecretString, ConfigError> {
        Ok(self.value(Name::DatabaseUrl, parse::database_url)?.expect(HAS_DEFAULT))
    }

    /// TTL, grace, staleness bound, local age.
    pub fn bounds(&self) -> Result<Bounds, ConfigError> {
        let mut problems = Vec::new();
        let bounds = self.find_bounds(&mut problems);
        bounds.filter(|_| problems.is_empty()).ok_or(ConfigError { problems })
    }

    /// How session tokens are verified.
    pub fn tokens(&self) -> Result<Tokens, ConfigError> {
        let mut problems = Vec::new();
        let tokens = self.find_tokens(&mut problems);
        tokens.filter(|_| problems.is_empty()).ok_or(ConfigError { problems })
    }

    /// What is logged, and how.
    pub fn logging(&self) -> Result<Logging, ConfigError> {
        let filter = self.value(Name::Log, |text| match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => {
                Err("not a log filter. Accepted: error, warn, info, debug, trace, or info,rollcall::redis=debug".to_owned())
            }
        })?;
        let format = self.value(Name::LogFormat, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("not a log format. Accepted: text, json".to_owned()),
        })?;
        Ok(Logging { filter: filter.expect(HAS_DEFAULT), format })
    }

    fn missing(&self, name: Name) -> Option<Problem> {
        let how = name.setting().required.filter(|_| self.given(name).is_none())?;
        Some(Problem::Missing { name, how })
    }

    fn value<T>(&self, name: Name, parse: impl Fn(&str) -> Parsed<T>) -> Result<Option<T>, Problem> {
        let Some(Given { text, .. }) = self.given(name) else { return Ok(None) };
        parse(text.expose_secret()).map(Some).map_err(|why| self.malformed(name, why))
    }

    fn within(&self, name: Name, min: Duration, max: Duration) -> Result<Option<Duration>, Problem> {
        self.value(name, |text| match parse::duration(text)? {
            value if (min..=max).contains(&value) => Ok(value),
            _ => {
                Err(format!("out of range. Accepted: {} to {}", humantime::format_duration(min), humantime::format_duration(max)))
            }
        })
    }

    fn malformed(&self, name: Name, why: String) -> Problem {
        let shown = self.shown(name);
        let value = shown.value.filter(|_| !TAKEN_FOR_SECRETS.contains(&name));
        Problem::Malformed { shown: Shown { value, ..shown }, why }
    }

    /// The four durations of the freshness rule, and what must hold between them.
    fn find_bounds(&self, problems: &mut Vec<Problem>) -> Option<Bounds> {
        let staleness = keep(self.within(Name::StalenessBound, STALENESS.0, STALENESS.1), problems);
        let ttl = keep(self.within(Name::Ttl, Duration::from_secs(1), FACTS_WINDOW), problems);
        let grace = keep(self.within(Name::Grace, Duration::ZERO, FACTS_WINDOW), problems);
        let local_age_max = keep(self.within(Name::LocalAgeMax, Duration::from_millis(1), FACTS_WINDOW), problems);
        let (staleness, ttl, grace, local_age_max) = (staleness?, ttl?, grace?, local_age_max?);
        if ttl + grace + FACTS_RESERVE > FACTS_WINDOW {
            let rule = "TTL + grace + 1m must be at most the 30m for which changes are remembered";
            problems.push(self.relation(Name::Ttl, Name::Grace, rule));
        }
        let is_default = self.given(Name::LocalAgeMax).is_some_and(|given| given.source == Source::Default);
        if local_age_max > ttl && !is_default {
            problems.push(self.relation(Name::LocalAgeMax, Name::Ttl, "the local age must be at most the TTL"));
        }
        Some(Bounds { staleness, ttl, grace, local_age_max: local_age_max.min(ttl) })
    }

    /// Where session tokens' keys come from, and what a token must say.
    fn find_tokens(&self, problems: &mut Vec<Problem>) -> Option<Tokens> {
        let jwt_key = keep(self.value(Name::JwtKey, tokens::jwt_key), problems);
        let frontend = keep(self.value(Name::PublishableKey, tokens::publishable_key), problems);
        let issuer = keep(self.value(Name::Issuer, tokens::issuer), problems);
        let authorized_parties = keep(self.value(Name::AuthorizedParties, tokens::authorized_parties), problems);
        let allows_pending = keep(self.value(Name::AllowPending, tokens::switch), problems)?;
        let is_cookie_read = keep(self.value(Name::SessionCookie, tokens::switch), problems)?;
        let keys = match (jwt_key, &frontend) {
            (Some(key), _) => TokenKeys::Pinned(key),
            (None, Some(base)) => TokenKeys::Published(base.clone()),
            (None, None) => TokenKeys::OfTheApi,
        };
        let authorized_parties = authorized_parties.unwrap_or_default();
        let policy = Policy { issuer: issuer.or(frontend), authorized_parties, allows_pending };
        Some(Tokens { keys, policy, is_cookie_read })
    }

    /// Who is told how long a call took. A key that is named must be there at the start; later it may be rotated away.
    fn find_timed_for(&self, api_keys: Option<&[ServiceKey]>, problems: &mut Vec<Problem>) -> Option<TimedFor> {
        let timed_for = keep(self.value(Name::ServerTiming, timing::timed_for), problems)?;
        if let (TimedFor::Keys(names), Some(keys)) = (&timed_for, api_keys)
            && names.iter().any(|name| keys.iter().all(|key| key.name != *name))
        {
            problems.push(self.relation(
                Name::ServerTiming,
                Name::ApiKeys,
                "every key that is named must be one of the service keys",
            ));
        }
        Some(timed_for)
    }

    /// What a lost history is put back from must still be there.
    fn check_retention(&self, retention: Option<Duration>, bounds: Option<Bounds>, problems: &mut Vec<Problem>) {
        let (Some(retention), Some(bounds)) = (retention, bounds) else { return };
        if retention < bounds.ttl + bounds.grace + FACTS_RESERVE {
            let rule = "the journal must keep messages for at least TTL + grace + 1m: a lost history is put back from them";
            problems.push(self.relation(Name::JournalRetention, Name::Grace, rule));
        }
    }

    /// Less is promised only where a Redis service cannot carry more.
    fn check_consistency(&self, consistency: Option<Consistency>, replicas: Option<u32>, problems: &mut Vec<Problem>) {
        if consistency != Some(Consistency::Eventual) {
            return;
        }
        if self.given(Name::RedisUrl).is_none() {
            let rule = "eventual is for Redis services only: a process without Redis keeps every promise, leave it out";
            problems.push(self.relation(Name::Consistency, Name::RedisUrl, rule));
        }
        if replicas.is_some_and(|replicas| replicas > 0) {
            let rule = "replicas are awaited to keep the bound, and eventual has none";
            problems.push(self.relation(Name::Consistency, Name::RedisReplicas, rule));
        }
    }

    fn relation(&self, first: Name, second: Name, rule: &str) -> Problem {
        Problem::Relation { first: self.shown(first).into(), second: self.shown(second).into(), rule: rule.to_owned() }
    }
}

const HAS_DEFAULT: &str = "the table has a default for it";

fn keep<T>(found: Result<Option<T>, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    found.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    })
}

/// Four fifths of what Clerk allows: the rest is for the instance's other callers.
fn default_rate(key: &SecretString) -> u32 {
    let limit = match key.expose_secret().starts_with("sk_live_") {
        true => ORIGIN_LIMIT_LIVE,
        false => ORIGIN_LIMIT_OTHER,
    };
    limit * 4 / 5
}
