//! From a text to a value, one function per kind. Pure; an error says what is wrong and what is accepted, and never repeats
//! the text: it may be a secret.

use std::net::SocketAddr;
use std::time::Duration;

use deadpool_redis::redis::IntoConnectionInfo;
use reqwest::Url;
use secrecy::SecretString;

use crate::http::auth::{Scope, ServiceKey};
use crate::ingest::Keep;
use crate::protocol::freshness::Consistency;

/// Keys are compared one after the other on every request.
const API_KEYS_MAX: usize = 256;
/// A rotation needs two; each one more costs a signature check of every foreign delivery.
const WEBHOOK_SECRETS_MAX: usize = 8;

pub(super) type Parsed<T> = Result<T, String>;

pub(super) fn duration(text: &str) -> Parsed<Duration> {
    humantime::parse_duration(text)
        .map_err(|_| "not a duration. Accepted: a number with a unit, such as 250ms, 30s, 5m, 1h".to_owned())
}

pub(super) fn bytes(text: &str) -> Parsed<u64> {
    let accepted = || "not a number of bytes. Accepted: 0, or a number with a unit, such as 64MiB, 1GiB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| accepted())?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(accepted()),
    };
    number.checked_mul(unit).ok_or_else(accepted)
}

pub(super) fn listen(text: &str) -> Parsed<SocketAddr> {
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    text.parse().map_err(|_| "not an address with a port. Accepted: 127.0.0.1:8787, 0.0.0.0:8787, [::1]:8787".to_owned())
}

pub(super) fn clerk_secret_key(text: &str) -> Parsed<SecretString> {
    for (prefix, what) in [("pk_", "the publishable key"), ("whsec_", "a webhook signing secret")] {
        if text.starts_with(prefix) {
            return Err(format!("this is {what}. The secret key is needed; it begins with sk_live_ or sk_test_"));
        }
    }
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.into()),
        false => Err("has white space or other characters that no key has inside it".to_owned()),
    }
}

pub(super) fn database_url(text: &str) -> Parsed<SecretString> {
    let accepted =
        "Accepted: sqlite://rollcall.db (a file; three slashes begin an absolute path) or postgres://user:password@host/database";
    if text.contains(":memory:") || text.contains("mode=memory") {
        return Err(format!("a journal in memory would lose what was acknowledged. {accepted}"));
    }
    let path = text.strip_prefix("sqlite:").map(|path| path.trim_start_matches("//")).unwrap_or_default();
    let is_file = path.split('?').next().is_some_and(|path| !path.is_empty() && !path.ends_with('/'));
    let is_server = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) && Url::parse(text).is_ok();
    match is_file || is_server {
        true => Ok(text.into()),
        false => Err(format!("not the URL of a database. {accepted}")),
    }
}

pub(super) fn journal_payload(text: &str) -> Parsed<Keep> {
    match text {
        "minimal" => Ok(Keep::Minimal),
        "full" => Ok(Keep::Full),
        _ => Err("not a kind of payload. Accepted: minimal, full".to_owned()),
    }
}

pub(super) fn webhook_secrets(text: &str) -> Parsed<Vec<SecretString>> {
    let secrets: Vec<&str> = entries(text).collect();
    if secrets.is_empty() || secrets.len() > WEBHOOK_SECRETS_MAX {
        return Err(format!("holds {} secrets. Accepted: 1 to {WEBHOOK_SECRETS_MAX}, comma-separated", secrets.len()));
    }
    let secret = |(place, text): (usize, &&str)| {
        let is_secret = svix::webhooks::Webhook::new(text).is_ok();
        is_secret.then(|| SecretString::from(*text)).ok_or_else(|| {
            format!("secret {} of {} is not `whsec_` followed by base64; copy it whole from Clerk", place + 1, secrets.len())
        })
    };
    secrets.iter().enumerate().map(secret).collect()
}

pub(super) fn api_keys(text: &str) -> Parsed<Vec<ServiceKey>> {
    let keys = entries(text).enumerate().map(|(place, entry)| {
        api_key(entry).map_err(|why| {
            format!("entry {}: {why}. Accepted: name:scope:sha256hex, as `rollcall keys new` prints it", place + 1)
        })
    });
    let keys: Vec<ServiceKey> = keys.collect::<Result<_, _>>()?;
    if keys.is_empty() || keys.len() > API_KEYS_MAX {
        return Err(format!("holds {} keys. Accepted: 1 to {API_KEYS_MAX}, comma-separated", keys.len()));
    }
    for (place, key) in keys.iter().enumerate() {
        if let Some(twin) = keys[..place].iter().find(|earlier| earlier.name == key.name || earlier.digest == key.digest) {
            return Err(format!("entries `{}` and `{}` have the same name or the same key", twin.name, key.name));
        }
    }
    Ok(keys)
}

fn api_key(entry: &str) -> Parsed<ServiceKey> {
    let parts: Vec<&str> = entry.split(':').map(str::trim).collect();
    let [name, scope, hex] = parts[..] else { return Err(format!("has {} parts", parts.len())) };
    if hex.starts_with("rk_") {
        return Err("holds the key itself; only its SHA-256 belongs here".to_owned());
    }
    Ok(ServiceKey {
        name: key_name(name)?,
        scope: scope.parse::<Scope>().map_err(|()| "the scope is not one of read, evict, admin".to_owned())?,
        digest: digest(hex).ok_or("the last part is not a SHA-256 in 64 hexadecimal digits")?,
    })
}

/// The name of a service key: `[a-z0-9-]{1,64}`.
pub fn key_name(text: &str) -> Parsed<String> {
    let is_valid =
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    is_valid.then(|| text.to_owned()).ok_or_else(|| "the name is not of the form [a-z0-9-]{1,64}".to_owned())
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, place) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[place..place + 2], 16).ok()?;
    }
    Some(digest)
}

pub(super) fn clerk_api_url(text: &str) -> Parsed<String> {
    let url = Url::parse(text).map_err(|_| "not a URL. Accepted: https://api.clerk.com".to_owned())?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() || !is_plain {
        return Err("not an https:// address without user, query and fragment".to_owned());
    }
    let base = url.as_str().trim_end_matches('/');
    Ok(base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/').to_owned())
}

pub(super) fn redis_url(text: &str) -> Parsed<SecretString> {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme {
        "redis" | "rediss" => {}
        "redis+sentinel" => {
            return match crate::redis::check_sentinel_url(text) {
                Ok(()) => Ok(text.into()),
                Err(what) => Err(format!("not a URL of sentinels: {what}")),
            };
        }
        "redis+cluster" => {
            return match crate::redis::check_cluster_url(text) {
                Ok(()) => Ok(text.into()),
                Err(what) => Err(format!("not a URL of a cluster: {what}")),
            };
        }
        "rediss+cluster" | "rediss+sentinel" => {
            return Err("TLS is not carried to a cluster or by way of sentinels: redis+cluster:// or redis+sentinel:// \
                        without it, or rediss:// to one primary"
                .to_owned());
        }
        "http" | "https" => {
            return Err("this is a REST URL; the change stream needs Redis over TCP, redis:// or rediss://".to_owned());
        }
        _ => return Err("not a Redis URL. Accepted: redis://host:port/db, rediss://user:password@host:port".to_owned()),
    }
    match text.into_connection_info() {
        Ok(_) => Ok(text.into()),
        Err(_) => {
            Err("not a Redis URL: host, port or database cannot be read (characters of a password are percent-encoded)"
                .to_owned())
        }
    }
}

/// What is promised.
pub(super) fn consistency(text: &str) -> Parsed<Consistency> {
    match text {
        "bounded" => Ok(Consistency::Bounded),
        "eventual" => Ok(Consistency::Eventual),
        _ => Err("not a consistency. Accepted: bounded, eventual".to_owned()),
    }
}

/// Replicas that are waited for.
pub(super) fn redis_replicas(text: &str) -> Parsed<u32> {
    let replicas = text.parse().ok().filter(|replicas| *replicas <= 5);
    replicas.ok_or_else(|| "not a number of replicas. Accepted: 0 to 5".to_owned())
}

pub(super) fn key_prefix(text: &str) -> Parsed<String> {
    let is_valid = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":._/-".contains(&b));
    // A brace would move the hash tag of a guard's key, a tilde would meet the stream's key.
    is_valid.then(|| text.to_owned()).ok_or_else(|| "not a prefix. Accepted: 1 to 64 letters, digits and : . _ / -".to_owned())
}

pub(super) fn origin_rate(text: &str) -> Parsed<u32> {
    let rate = text.parse().ok().filter(|rate| (1..=100_000).contains(rate));
    rate.ok_or_else(|| "not a number of requests per 10 s. Accepted: 1 to 100000".to_owned())
}

pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn bytes_come_with_a_unit_or_without() {
        let check = |text, expected| assert_eq!(bytes(text).ok(), expected, "{text}");
        check("0", Some(0));
        check("256MiB", Some(256 << 20));
        check("1 GiB", Some(1 << 30));
        check("10kb", Some(10_000));
        check("512", Some(512));
        for bad in ["", "MiB", "-1", "1.5GiB", "1TiB!", "99999999999GiB"] {
            check(bad, None);
        }
    }

    #[test]
    fn an_address_has_a_port() {
        let check =
            |text, expected: Option<&str>| assert_eq!(listen(text).ok().map(|a| a.to_string()).as_deref(), expected, "{text}");
        check("127.0.0.1:0", Some("127.0.0.1:0"));
        check("localhost:80", Some("127.0.0.1:80"));
        check("[::1]:8787", Some("[::1]:8787"));
        for bad in ["8787", ":8787", "host:8787", "1.2.3.4:70000"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_redis_url_is_of_a_kind_that_this_release_carries() {
        for good in ["redis+sentinel://a,b:26380/main", "redis://127.0.0.1:6379/1", "rediss://default:pa%40ss@example.test:6380"]
        {
            assert!(redis_url(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("redis+sentinel://a,b", "name of the primary"),
            ("redis+cluster://a,b/1", "databases"),
            ("rediss+cluster://:hunter2@a,b", "TLS is not carried to a cluster"),
            ("rediss+sentinel://a,b/main", "TLS is not carried"),
            ("https://eu1.example.test", "TCP"),
            ("127.0.0.1:6379", "Accepted"),
            ("redis://:hunter2@host:99999", "cannot be read"),
        ] {
            let error = redis_url(bad).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{bad}: {error}");
        }
    }

    #[test]
    fn the_api_base_loses_its_slash_and_version() {
        let check = |text, expected: &str| assert_eq!(clerk_api_url(text).as_deref(), Ok(expected), "{text}");
        check("https://api.clerk.com", "https://api.clerk.com");
        check("http://127.0.0.1:8788/", "http://127.0.0.1:8788");
        check("https://api.clerk.com/v1/", "https://api.clerk.com");
        for bad in ["api.clerk.com", "ftp://x.test", "https://u:p@x.test", "https://x.test/?a=b"] {
            assert!(clerk_api_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn service_keys_are_entries_of_three_parts() {
        let hex = "ab".repeat(32);
        let keys = api_keys(&format!("web:read:{hex}, ops:admin:{},", "0F".repeat(32))).unwrap();
        assert_eq!((keys[0].name.as_str(), keys[0].scope, keys[0].digest), ("web", Scope::Read, [0xab; 32]));
        assert_eq!((keys[1].name.as_str(), keys[1].scope, keys[1].digest), ("ops", Scope::Admin, [0x0f; 32]));
        for (bad, why) in [
            (format!("web:read:{hex},web:read:{}", "cd".repeat(32)), "same name"),
            (format!("web:read:{hex},job:admin:{hex}"), "same key"),
            (format!("Web:read:{hex}"), "name"),
            (format!("web:write:{hex}"), "scope"),
            ("web:read:abc".to_owned(), "64 hexadecimal"),
            ("web:read:rk_secretsecret".to_owned(), "only its SHA-256"),
            ("rk_secretsecret".to_owned(), "parts"),
            (",".to_owned(), "holds 0 keys"),
        ] {
            let error = api_keys(&bad).unwrap_err();
            assert!(error.contains(why) && !error.contains("secretsecret"), "{bad}: {error}");
        }
    }

    #[test]
    fn webhook_secrets_are_checked_one_by_one() {
        let secrets = webhook_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, whsec_plJ3nmyCDGBKInavdOK15jsl").unwrap();
        assert_eq!(secrets[1].expose_secret(), "whsec_plJ3nmyCDGBKInavdOK15jsl");
        for bad in ["", "whsec_", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,whsec_not base64"] {
            let error = webhook_secrets(bad).unwrap_err();
            assert!(!error.contains("not base64;") && !error.contains("MfKQ"), "{error}");
        }
    }

    #[test]
    fn a_key_of_the_wrong_kind_is_told_apart() {
        assert!(clerk_secret_key("sk_test_abc").is_ok());
        assert!(clerk_secret_key("pk_test_abc").unwrap_err().contains("publishable"));
        assert!(clerk_secret_key("sk_test abc").is_err());
    }

    #[test]
    fn a_prefix_has_no_brace_and_no_tilde() {
        assert!(key_prefix("prod/user-orgs:").is_ok());
        for bad in ["", "a{b", "a~", "a b", "ä"] {
            assert!(key_prefix(bad).is_err(), "{bad}");
        }
    }
}
