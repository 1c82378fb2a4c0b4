//! What the layers and the relations promise.

use std::time::Duration;

use super::*;

const HEX: &str = "abababababababababababababababababababababababababababababababab";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A folder with the given files, the three required variables, and others.
struct Start {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    typed: Typed,
}

impl Start {
    fn bare() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self { folder, variables: Vec::new(), typed: Typed::default() }
    }

    fn complete() -> Self {
        Self::bare()
            .set("CLERK_SECRET_KEY", "sk_test_0123456789")
            .set("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
            .set("ROLLCALL_API_KEYS", &format!("web:read:{HEX}"))
    }

    fn set(mut self, variable: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != variable);
        self.variables.push((variable.to_owned(), value.to_owned()));
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).expect("the folder takes a file");
        self
    }

    fn flag(mut self, name: Name, value: &str) -> Self {
        self.typed = Typed::only(name, Some(value.to_owned()));
        self
    }

    fn settings(&self) -> Result<Settings, ConfigError> {
        let variables: Vec<(&str, &str)> = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Settings::gather(&self.typed, &Environment::new(&variables, self.folder.path()))
    }

    fn config(&self) -> Result<Config, ConfigError> {
        self.settings()?.resolve()
    }

    fn error(&self) -> String {
        self.config().expect_err("this configuration must be refused").to_string()
    }

    #[track_caller]
    fn expect_refusal(self, words: &[&str]) {
        let error = self.error();
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    }
}

fn ttl(start: Start) -> Duration {
    start.config().expect("this configuration is right").bounds.ttl
}

#[test]
fn the_issuer_and_the_key_set_come_from_the_publishable_key_unless_they_are_named() {
    let tokens = |start: Start| start.config().expect("this configuration is right").tokens;
    let published = || Start::complete().set("CLERK_PUBLISHABLE_KEY", "pk_test_Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk");
    let base = "https://foo-bar-13.clerk.accounts.dev";
    let bare = tokens(Start::complete());
    assert!(matches!(bare.keys, TokenKeys::OfTheApi) && bare.policy == crate::token::Policy::default() && !bare.is_cookie_read);
    let found = tokens(published());
    assert!(matches!(&found.keys, TokenKeys::Published(at) if at == base));
    assert_eq!(found.policy.issuer.as_deref(), Some(base));
    let named = tokens(published().set("CLERK_ISSUER", "https://clerk.example.test").set("ROLLCALL_ALLOW_PENDING", "on"));
    assert_eq!((named.policy.issuer.as_deref(), named.policy.allows_pending), (Some("https://clerk.example.test"), true));
    let pem = crate::token::tests::OURS.pem();
    assert!(matches!(tokens(published().set("CLERK_JWT_KEY", &pem.replace('\n', "\\n"))).keys, TokenKeys::Pinned(_)));
    let in_a_file = Start::complete().file("key.pem", &pem).set("CLERK_JWT_KEY_FILE", "key.pem");
    assert!(matches!(tokens(in_a_file).keys, TokenKeys::Pinned(_)));
    Start::complete().set("ROLLCALL_SESSION_COOKIE", "maybe").expect_refusal(&["ROLLCALL_SESSION_COOKIE", "on, off"]);
    Start::complete().set("CLERK_AUTHORIZED_PARTIES", "app.test").expect_refusal(&["CLERK_AUTHORIZED_PARTIES", "origins"]);
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let start = Start::complete();
    assert_eq!(ttl(start), Duration::from_secs(300));
    let start = Start::complete().file("rollcall.toml", "ttl = \"2m\"");
    assert_eq!(ttl(start), Duration::from_secs(120));
    let start = Start::complete().file("rollcall.toml", "ttl = \"2m\"").set("ROLLCALL_TTL", "3m");
    assert_eq!(ttl(start), Duration::from_secs(180));
    let start = Start::complete().file("rollcall.toml", "ttl = \"2m\"").set("ROLLCALL_TTL", "3m").flag(Name::Ttl, "4m");
    assert_eq!(ttl(start), Duration::from_secs(240));
    assert_eq!(ttl(Start::complete().set("ROLLCALL_TTL", " ")), Duration::from_secs(300), "an empty variable is unset");
}

#[test]
fn the_defaults_are_those_of_the_table() {
    let config = Start::complete().config().expect("this configuration is right");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8787");
    assert_eq!(config.clerk_api_url, "https://api.clerk.com");
    assert_eq!((config.key_prefix.as_str(), config.local_bytes_max), ("user-orgs:", 256 << 20));
    assert_eq!((config.bounds.grace, config.bounds.local_age_max), (Duration::from_secs(600), Duration::from_secs(60)));
    assert_eq!((config.bounds.staleness, config.shutdown_delay), (Duration::from_secs(1), Duration::ZERO));
    assert!(config.redis_url.is_none());
}

#[test]
fn the_rate_follows_the_kind_of_key_unless_given() {
    let rate = |start: Start| start.config().expect("this configuration is right").origin_rate;
    assert_eq!(rate(Start::complete()), 80);
    assert_eq!(rate(Start::complete().set("CLERK_SECRET_KEY", "sk_live_x")), 800);
    assert_eq!(rate(Start::complete().file("rollcall.toml", "origin_rate = 7")), 7);
}

#[test]
fn a_port_alone_listens_everywhere() {
    let listen = |start: Start| start.config().expect("this configuration is right").listen.to_string();
    assert_eq!(listen(Start::complete().set("PORT", "3000")), "0.0.0.0:3000");
    assert_eq!(listen(Start::complete().set("PORT", "3000").set("ROLLCALL_LISTEN", "127.0.0.1:1")), "127.0.0.1:1");
    assert_eq!(listen(Start::complete().set("PORT", "3000").file("rollcall.toml", "listen = '[::1]:2'")), "0.0.0.0:3000");
    Start::complete().set("PORT", "http").expect_refusal(&["0.0.0.0:http", "PORT"]);
}

#[test]
fn all_that_is_missing_is_told_at_once_with_where_to_get_it() {
    let words = ["CLERK_SECRET_KEY is missing", "CLERK_WEBHOOK_SIGNING_SECRET is missing", "ROLLCALL_API_KEYS is missing"];
    Start::bare().expect_refusal(&words);
    Start::bare().expect_refusal(&["dashboard", "rollcall keys new"]);
}

#[test]
fn relations_name_both_settings_both_values_and_both_sources() {
    Start::complete().set("ROLLCALL_TTL", "25m").file("rollcall.toml", "grace = \"9m\"").expect_refusal(&[
        "ROLLCALL_TTL = 25m (from the environment",
        "ROLLCALL_GRACE = 9m (from rollcall.toml)",
        "30m",
    ]);
    Start::complete().set("ROLLCALL_TTL", "20m").expect_refusal(&["ROLLCALL_GRACE = 10m (the default)"]);
    Start::complete()
        .set("ROLLCALL_LOCAL_AGE_MAX", "6m")
        .expect_refusal(&["ROLLCALL_LOCAL_AGE_MAX = 6m", "ROLLCALL_TTL = 5m (the default)"]);
    assert!(Start::complete().set("ROLLCALL_TTL", "19m").config().is_ok(), "19m + 10m + 1m is 30m");
    let awaiting = || Start::complete().set("ROLLCALL_REDIS_REPLICAS", "2");
    awaiting().expect_refusal(&["ROLLCALL_REDIS_REPLICAS = 2 (from the environment", "REDIS_URL", "no replicas to wait for"]);
    assert!(awaiting().set("REDIS_URL", "redis+sentinel://a,b,c/main").config().is_ok());
    let eventual = || Start::complete().set("ROLLCALL_CONSISTENCY", "eventual");
    eventual().expect_refusal(&["ROLLCALL_CONSISTENCY = eventual (from the environment", "REDIS_URL", "leave it out"]);
    let awaiting = eventual().set("REDIS_URL", "redis://a").set("ROLLCALL_REDIS_REPLICAS", "1");
    awaiting.expect_refusal(&["ROLLCALL_CONSISTENCY = eventual", "ROLLCALL_REDIS_REPLICAS = 1", "eventual has none"]);
    assert!(eventual().set("REDIS_URL", "redis://a").config().is_ok());
}

#[test]
fn a_short_ttl_shortens_the_default_of_the_local_age() {
    let config = Start::complete().set("ROLLCALL_TTL", "5s").config().expect("this configuration is right");
    assert_eq!(config.bounds.local_age_max, Duration::from_secs(5));
}

#[test]
fn ranges_are_kept() {
    for (variable, value) in [
        ("ROLLCALL_STALENESS_BOUND", "99ms"),
        ("ROLLCALL_STALENESS_BOUND", "61s"),
        ("ROLLCALL_TTL", "0s"),
        ("ROLLCALL_LOCAL_AGE_MAX", "0s"),
        ("ROLLCALL_ORIGIN_RATE", "0"),
        ("ROLLCALL_SHUTDOWN_DELAY", "1h"),
        ("ROLLCALL_REDIS_REPLICAS", "6"),
        ("ROLLCALL_CONSISTENCY", "strong"),
        ("ROLLCALL_REDIS_REPLICAS", "-1"),
        ("ROLLCALL_TTL", "300"),
        ("ROLLCALL_LOCAL_BYTES_MAX", "lots"),
        ("ROLLCALL_LOG", "info,=nothing"),
        ("ROLLCALL_LOG_FORMAT", "xml"),
    ] {
        Start::complete()
            .set(variable, value)
            .expect_refusal(&[&format!("{variable} = {value} (from the environment"), "Accepted"]);
    }
}

#[test]
fn a_switch_of_the_file_is_a_word_or_a_boolean() {
    let tokens = |text: &str| Start::complete().file("rollcall.toml", text).config().expect("this configuration is right").tokens;
    for (text, expected) in [("true", true), ("false", false), ("\"on\"", true), ("\"off\"", false), ("1", true)] {
        let tokens = tokens(&format!("session_cookie = {text}\nallow_pending = {text}"));
        assert_eq!((tokens.is_cookie_read, tokens.policy.allows_pending), (expected, expected), "{text}");
    }
    Start::complete().file("rollcall.toml", "ttl = true").expect_refusal(&["ROLLCALL_TTL = true (from rollcall.toml)"]);
}

#[test]
fn a_secret_may_stand_in_a_file_and_is_trimmed() {
    let start = Start::complete()
        .set("CLERK_SECRET_KEY", "")
        .set("CLERK_SECRET_KEY_FILE", "clerk")
        .file("clerk", "\n sk_live_fromfile \n")
        .file("rollcall.toml", "redis_url_file = \"redis\"")
        .file("redis", "redis://:hunter2@127.0.0.1:6379\n");
    let config = start.config().expect("this configuration is right");
    assert_eq!(secrecy::ExposeSecret::expose_secret(&config.clerk_secret_key), "sk_live_fromfile");
    assert!(config.redis_url.is_some());
    Start::complete().set("CLERK_SECRET_KEY_FILE", "absent").expect_refusal(&["CLERK_SECRET_KEY_FILE", "set one of the two"]);
    Start::bare().set("CLERK_SECRET_KEY_FILE", "absent").expect_refusal(&["absent", "CLERK_SECRET_KEY_FILE", "No such file"]);
}

#[test]
fn the_old_name_of_the_webhook_secret_works_and_is_warned_about() {
    let start = Start::complete().set("CLERK_WEBHOOK_SIGNING_SECRET", "").set("CLERK_WEBHOOK_SECRET", SECRET);
    let settings = start.settings().expect("this can be read");
    assert_eq!(settings.webhook_secrets().map(|secrets| secrets.len()), Ok(1));
    assert!(settings.warnings[0].contains("CLERK_WEBHOOK_SECRET is the old name"), "{:?}", settings.warnings);
}

#[test]
fn an_unknown_key_is_an_error_and_an_unknown_variable_a_warning() {
    Start::complete().file("rollcall.toml", "tll = \"5m\"").expect_refusal(&["`tll`", "rollcall.toml", "ttl, grace"]);
    let start = Start::complete().set("ROLLCALL_TLL", "5m").set("ROLLCALL_PORT_8787_TCP", "tcp://10.0.0.1:8787");
    let warnings = start.settings().expect("this can be read").warnings;
    assert_eq!(warnings, ["ROLLCALL_TLL is not a setting of this release and does nothing"]);
}

#[test]
fn a_named_file_must_be_there_and_be_toml() {
    Start::complete().set("ROLLCALL_CONFIG", "absent.toml").expect_refusal(&["absent.toml", "ROLLCALL_CONFIG", "No such file"]);
    Start::complete().flag(Name::ConfigFile, "absent.toml").expect_refusal(&["--config"]);
    Start::complete().file("rollcall.toml", "ttl = 1.5").expect_refusal(&["`ttl` must be"]);
    let start = Start::complete().file("rollcall.toml", "ttl = \"5m\"\nclerk_secret_key = \"sk_test_hidden\" oops");
    assert!(start.error().contains("line 2"), "{}", start.error());
    assert!(!start.error().contains("hidden"), "{}", start.error());
}

#[test]
fn only_the_rest_url_of_upstash_is_explained() {
    let start = || Start::complete().set("UPSTASH_REDIS_REST_URL", "https://eu1.example.test");
    start().expect_refusal(&["REDIS_URL", "UPSTASH_REDIS_REST_URL", "TCP", "rediss://"]);
    assert!(start().set("REDIS_URL", "rediss://eu1.example.test:6379").config().is_ok());
}

#[test]
fn no_secret_is_shown_by_debug_or_by_an_error() {
    let start = Start::complete()
        .set("CLERK_SECRET_KEY", "sk_test_hidden")
        .set("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_aGlkZGVuaGlkZGVu")
        .set("REDIS_URL", "redis://:hidden@127.0.0.1:6379");
    let settings = start.settings().expect("this can be read");
    let config = settings.resolve().expect("this configuration is right");
    for shown in [format!("{config:?}"), format!("{settings:?}")] {
        assert!(!shown.contains("hidden") && !shown.contains("aGlkZGVu"), "{shown}");
    }
    let bad = Start::complete()
        .set("CLERK_SECRET_KEY", "pk_test_hidden")
        .set("CLERK_WEBHOOK_SIGNING_SECRET", "hidden!")
        .set("REDIS_URL", "postgres://:hidden@127.0.0.1")
        // Pasted where its digest, its name or the publishable key belongs.
        .set("ROLLCALL_API_KEYS", "web:read:rk_hidden")
        .set("ROLLCALL_SERVER_TIMING", "rk_hidden")
        .set("CLERK_PUBLISHABLE_KEY", "sk_live_hidden");
    assert!(!bad.error().contains("hidden"), "{}", bad.error());
    assert!(!format!("{:?}", bad.config()).contains("hidden"));
}
