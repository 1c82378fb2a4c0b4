//! Every setting in one table: variable, flag, default, and what too low or too high a value does.
//!
//! Read by the command line (flags and their help), by the layers (which names exist), by the errors, and by the README,
//! whose table is this one. It holds words only: what a value means is decided in `resolve`.

/// The name of a setting; its place in [`TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is described by its row")]
pub enum Name {
    ClerkSecretKey,
    WebhookSecrets,
    ApiKeys,
    ClerkApiUrl,
    JwtKey,
    PublishableKey,
    Issuer,
    AuthorizedParties,
    RedisUrl,
    RedisReplicas,
    DatabaseUrl,
    Listen,
    MetricsListen,
    KeyPrefix,
    Ttl,
    Grace,
    StalenessBound,
    Consistency,
    LocalBytesMax,
    LocalAgeMax,
    OriginRate,
    JournalRetention,
    JournalPayload,
    AllowPending,
    SessionCookie,
    ServerTiming,
    ShutdownDelay,
    Log,
    LogFormat,
    ConfigFile,
}

/// How a setting is given on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// By value.
    Value(&'static str),
    /// By the path of a file that holds it: every process of a machine can read another's command line.
    PathOfSecret(&'static str),
}

/// One setting, in words.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Which.
    pub name: Name,
    /// The environment variable. In the file: the same in lower case, without `rollcall_`.
    pub variable: &'static str,
    /// The flag, without its dashes.
    pub flag: Flag,
    /// The default, as it would be typed; none when there is nothing to assume.
    pub default: Option<&'static str>,
    /// What is assumed when `default` cannot say it in one value.
    pub default_note: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What a value does that is too low.
    pub too_low: &'static str,
    /// What a value does that is too high.
    pub too_high: &'static str,
    /// Whether its value is a secret.
    pub is_secret: bool,
    /// How to get one, for settings that `serve` cannot do without.
    pub required: Option<&'static str>,
}

impl Setting {
    const fn new(name: Name, variable: &'static str, flag: Flag, about: &'static str) -> Self {
        let (default, default_note, too_low, too_high) = (None, "", "", "");
        Self { name, variable, flag, default, default_note, about, too_low, too_high, is_secret: false, required: None }
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.default_note = note;
        self
    }

    const fn range(mut self, too_low: &'static str, too_high: &'static str) -> Self {
        self.too_low = too_low;
        self.too_high = too_high;
        self
    }

    const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    const fn required(mut self, how: &'static str) -> Self {
        self.required = Some(how);
        self
    }

    /// Whether its value may be one that nobody may see: it is never shown, and may come from a file of its own. Service keys are
    /// configured by their digests; but a key itself is easily pasted there.
    pub fn may_hold_a_secret(&self) -> bool {
        self.is_secret || self.name == Name::ApiKeys
    }

    /// The key in the file.
    pub fn key(&self) -> String {
        self.variable.strip_prefix("ROLLCALL_").unwrap_or(self.variable).to_lowercase()
    }

    /// The flag as it is typed.
    pub fn typed(&self) -> String {
        let (Flag::Value(flag) | Flag::PathOfSecret(flag)) = self.flag;
        format!("--{flag}")
    }

    /// The default, in words.
    pub fn default_text(&self) -> &'static str {
        match (self.default, self.required) {
            _ if !self.default_note.is_empty() => self.default_note,
            (Some(default), _) => default,
            (None, Some(_)) => "required by `serve`",
            (None, None) => "none",
        }
    }
}

/// All settings, in the order of [`Name`].
pub const TABLE: [Setting; 30] = [
    Setting::new(
        Name::ClerkSecretKey,
        "CLERK_SECRET_KEY",
        Flag::PathOfSecret("clerk-secret-key-file"),
        "Secret key of the Clerk instance, `sk_live_…` or `sk_test_…`.",
    )
    .secret()
    .required("Clerk dashboard, Configure, API keys, Secret keys"),
    Setting::new(
        Name::WebhookSecrets,
        "CLERK_WEBHOOK_SIGNING_SECRET",
        Flag::PathOfSecret("clerk-webhook-signing-secret-file"),
        "Signing secret of the webhook endpoint, `whsec_…`; several, comma-separated, during a rotation.",
    )
    .secret()
    .required("Clerk dashboard, Configure, Webhooks, the endpoint's Signing Secret"),
    Setting::new(
        Name::ApiKeys,
        "ROLLCALL_API_KEYS",
        Flag::Value("api-keys"),
        "Service keys, `name:scope:sha256hex`, comma-separated; scopes `read`, `evict`, `admin`.",
    )
    .required("`rollcall keys new NAME --scope read` prints a key and its entry"),
    Setting::new(
        Name::ClerkApiUrl,
        "CLERK_API_URL",
        Flag::Value("clerk-api-url"),
        "Where Clerk's Backend API is; `/v1` is appended.",
    )
    .default("https://api.clerk.com"),
    Setting::new(
        Name::JwtKey,
        "CLERK_JWT_KEY",
        Flag::PathOfSecret("clerk-jwt-key-file"),
        "Public key of the instance in PEM, to verify session tokens with; Clerk is then never asked for keys, and whoever rotates them changes this.",
    )
    .secret()
    .note("none: the instance's key set is fetched"),
    Setting::new(
        Name::PublishableKey,
        "CLERK_PUBLISHABLE_KEY",
        Flag::Value("clerk-publishable-key"),
        "Publishable key of the instance, `pk_live_…` or `pk_test_…`: it says who issues session tokens, and where the key set is that everybody may read.",
    )
    .note("none: the key set is fetched with the secret key"),
    Setting::new(
        Name::Issuer,
        "CLERK_ISSUER",
        Flag::Value("clerk-issuer"),
        "The `iss` that session tokens must have, compared exactly.",
    )
    .note("from the publishable key; without either `iss` is not compared, and the instance's keys alone decide"),
    Setting::new(
        Name::AuthorizedParties,
        "CLERK_AUTHORIZED_PARTIES",
        Flag::Value("clerk-authorized-parties"),
        "Origins that session tokens may be minted for (`azp`), comma-separated: `https://app.example.com`.",
    )
    .note("none: any"),
    Setting::new(
        Name::RedisUrl,
        "REDIS_URL",
        Flag::Value("redis-url"),
        "The shared tier and the change stream, `redis://…`, `rediss://…`, `redis+sentinel://a,b,c/mymaster` or `redis+cluster://a,b,c`.",
    )
    .secret()
    .note("none: one process"),
    Setting::new(
        Name::RedisReplicas,
        "ROLLCALL_REDIS_REPLICAS",
        Flag::Value("redis-replicas"),
        "How many replicas of Redis every change, and every question that keeps answers fresh, waits for.",
    )
    .default("0")
    .range(
        "a failover may lose acknowledged changes, until the journal is applied again",
        "a replica that is away stops hits and webhooks; above 5 refused",
    ),
    Setting::new(
        Name::DatabaseUrl,
        "DATABASE_URL",
        Flag::Value("database-url"),
        "The journal of webhook messages: `sqlite://path`, for one process, or `postgres://…`, which several nodes share.",
    )
    .secret()
    .default("sqlite://rollcall.db"),
    Setting::new(
        Name::Listen,
        "ROLLCALL_LISTEN",
        Flag::Value("listen"),
        "Address and port to listen on. `PORT` alone means `0.0.0.0:$PORT`.",
    )
    .default("127.0.0.1:8787"),
    Setting::new(
        Name::MetricsListen,
        "ROLLCALL_METRICS_LISTEN",
        Flag::Value("metrics-listen"),
        "Address and port of a listener of its own for `/metrics`, which asks for no key there; `/livez` and `/readyz` too. Where callers ask, `/metrics` goes on asking for an `admin` key.",
    )
    .note("none: `/metrics` asks for an `admin` key"),
    Setting::new(
        Name::KeyPrefix,
        "ROLLCALL_KEY_PREFIX",
        Flag::Value("key-prefix"),
        "Prefix of every key in Redis; one prefix belongs to one Clerk instance.",
    )
    .default("user-orgs:"),
    Setting::new(Name::Ttl, "ROLLCALL_TTL", Flag::Value("ttl"), "How old a reading of Clerk may be.").default("5m").range(
        "Clerk is asked more often, and its rate limit carries fewer users",
        "a change whose webhook never came is seen later",
    ),
    Setting::new(Name::Grace, "ROLLCALL_GRACE", Flag::Value("grace"), "How much older while Clerk cannot be asked.")
        .default("10m")
        .range(
            "an outage of Clerk turns into 503 sooner",
            "TTL + grace + 1 min must fit into the 30 min that changes are remembered",
        ),
    Setting::new(
        Name::StalenessBound,
        "ROLLCALL_STALENESS_BOUND",
        Flag::Value("staleness-bound"),
        "How far behind the change stream an answer may be; the stream is asked every fortieth of it.",
    )
    .default("1s")
    .range("below 100ms refused: a hiccup of Redis sends every read to Clerk", "a revocation is seen later; above 60s refused"),
    Setting::new(
        Name::Consistency,
        "ROLLCALL_CONSISTENCY",
        Flag::Value("consistency"),
        "`bounded`; or `eventual`, only for Redis services that cannot show how current their answers are: no staleness bound, \
         no local tier, and every answer says `Rollcall-Lag: unknown`.",
    )
    .default("bounded"),
    Setting::new(
        Name::LocalBytesMax,
        "ROLLCALL_LOCAL_BYTES_MAX",
        Flag::Value("local-bytes-max"),
        "Bytes of the local tier; `0` switches it off.",
    )
    .default("256MiB")
    .range(
        "users are pushed out and read from Redis again",
        "the process outgrows its container: its memory is about this plus 64 MiB",
    ),
    Setting::new(
        Name::LocalAgeMax,
        "ROLLCALL_LOCAL_AGE_MAX",
        Flag::Value("local-age-max"),
        "How long the local tier answers without looking at Redis again.",
    )
    .default("60s")
    .note("`60s`, or the TTL when that is shorter")
    .range("Redis is read more often", "a `DEL` by another program is noticed later; above the TTL refused"),
    Setting::new(
        Name::OriginRate,
        "ROLLCALL_ORIGIN_RATE",
        Flag::Value("origin-rate"),
        "Requests to Clerk per 10 s, of the whole fleet.",
    )
    .note("80 % of Clerk's limit: `800` with an `sk_live_` key, else `80`")
    .range(
        "cold reads are refused with 503 although Clerk would answer",
        "Clerk answers 429, also to the instance's other callers",
    ),
    Setting::new(
        Name::JournalRetention,
        "ROLLCALL_JOURNAL_RETENTION",
        Flag::Value("journal-retention"),
        "How long settled messages are kept; unreadable ones stay 180 days, open ones as long as they are open.",
    )
    .default("30d")
    .range(
        "a resend is taken for a new message, and nobody can look back; below TTL + grace + 1 min refused, and what \
         may still outrank a reading (16 min) is kept anyway",
        "the database grows",
    ),
    Setting::new(
        Name::JournalPayload,
        "ROLLCALL_JOURNAL_PAYLOAD",
        Flag::Value("journal-payload"),
        "What is kept of a message: `minimal`, the change it makes true and nothing of a person; or `full`, the whole body, with names and addresses.",
    )
    .default("minimal"),
    Setting::new(
        Name::AllowPending,
        "ROLLCALL_ALLOW_PENDING",
        Flag::Value("allow-pending"),
        "`on` takes tokens of sessions that still have tasks before they count as signed in.",
    )
    .default("off"),
    Setting::new(
        Name::SessionCookie,
        "ROLLCALL_SESSION_COOKIE",
        Flag::Value("session-cookie"),
        "`on` reads the `__session` cookie where there is no `Authorization`; its active organization is that of the tab last used.",
    )
    .default("off"),
    Setting::new(
        Name::ServerTiming,
        "ROLLCALL_SERVER_TIMING",
        Flag::Value("server-timing"),
        "Who is told in `Server-Timing` how long the stages of a call took: `on` everybody, or the callers with these keys of `ROLLCALL_API_KEYS`, by name, comma-separated.",
    )
    .default("off"),
    Setting::new(
        Name::ShutdownDelay,
        "ROLLCALL_SHUTDOWN_DELAY",
        Flag::Value("shutdown-delay"),
        "How long a stopping node still answers while it says it is not ready.",
    )
    .default("0s")
    .range("a load balancer still sends requests to a closed port", "a deploy takes longer; above 5m refused"),
    Setting::new(
        Name::Log,
        "ROLLCALL_LOG",
        Flag::Value("log"),
        "What is logged: `error`, `warn`, `info`, `debug`, `trace`, also per module (`info,rollcall::redis=debug`).",
    )
    .default("info")
    .range("the line that explains an incident is missing", "logs cost more than the answers"),
    Setting::new(Name::LogFormat, "ROLLCALL_LOG_FORMAT", Flag::Value("log-format"), "`text` or `json`.")
        .note("`text` on a terminal, else `json`"),
    Setting::new(
        Name::ConfigFile,
        "ROLLCALL_CONFIG",
        Flag::Value("config"),
        "The configuration file, in TOML; a key is a variable in lower case, without `ROLLCALL_`.",
    )
    .note("`./rollcall.toml` if there is one"),
];

impl Name {
    /// Its row.
    pub fn setting(self) -> &'static Setting {
        &TABLE[self as usize]
    }
}

/// The table as markdown, as the README shows it.
pub fn markdown() -> String {
    let mut text = String::from("| variable | flag | default | what it is; what too low / too high does |\n|---|---|---|---|\n");
    for setting in &TABLE {
        let default = match setting.default {
            Some(default) if setting.default_note.is_empty() => format!("`{default}`"),
            _ => setting.default_text().to_owned(),
        };
        let range = match setting.too_low.is_empty() {
            true => String::new(),
            false => format!(" Too low: {}. Too high: {}.", setting.too_low, setting.too_high),
        };
        let (variable, flag, about) = (setting.variable, setting.typed(), setting.about);
        text.push_str(&format!("| `{variable}` | `{flag}` | {default} | {about}{range} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_own_row() {
        for (place, setting) in TABLE.iter().enumerate() {
            assert_eq!(setting.name as usize, place, "{}", setting.variable);
        }
    }

    #[test]
    fn a_key_of_the_file_is_the_variable_without_our_name() {
        assert_eq!(Name::Ttl.setting().key(), "ttl");
        assert_eq!(Name::ClerkSecretKey.setting().key(), "clerk_secret_key");
    }

    #[test]
    fn the_markdown_has_a_row_for_every_setting() {
        let text = markdown();
        assert_eq!(text.lines().count(), TABLE.len() + 2);
        assert!(text.contains("| `ROLLCALL_TTL` | `--ttl` | `5m` | How old a reading of Clerk may be. Too low: "), "{text}");
        assert!(text.contains("| `CLERK_SECRET_KEY` | `--clerk-secret-key-file` | required by `serve` |"), "{text}");
        assert!(text.lines().all(|line| line.matches(" | ").count() == 3 || line.starts_with("|---")), "{text}");
    }
}
