//! Which server is the primary, by Sentinel's word. The maker of connections asks before each one, and a task twice a second
//! while all goes well: a deposed primary goes on answering, and would else be believed for as long as it does.
//!
//! All sentinels are asked at once and the address that most of them name is taken, so one that hangs, or was cut off and
//! still names the old primary, decides nothing, and keeps nobody waiting. Whether it is a primary its own word has to confirm.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::{self, IntoConnectionInfo};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::address::{joined, with_port};

/// How long a sentinel may take; a connection as a whole has a second.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(400);
const PORT: u16 = 26_379;
const SCHEME: &str = "redis+sentinel://";

/// The sentinels of one primary.
#[derive(Clone)]
pub(super) struct Sentinels(Arc<Inner>);

struct Inner {
    sentinels: Vec<redis::Client>,
    /// What the primary is called there.
    name: String,
    /// `user:password@`, as written, for the primary; may be empty.
    credentials: SecretString,
    /// `/db`, or nothing.
    database: String,
    /// Whom most of them named last. Guards itself only, never held over an await.
    believed: Mutex<Option<String>>,
}

/// Why no sentinel names a primary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPrimary {
    #[error("no sentinel answers")]
    Silent,
    #[error("the sentinels refuse us: {code}")]
    Refused { code: String },
    #[error("the sentinels know no primary called {name:?}")]
    UnknownName { name: String },
}

impl Sentinels {
    /// Whether a URL is one of sentinels.
    pub(super) fn is_meant_by(url: &str) -> bool {
        url.starts_with(SCHEME)
    }

    /// Reads `redis+sentinel://[user:password@]a[:port],b,c/name[/db][?sentinel_user=…&sentinel_password=…]`; what stands before
    /// the addresses, and the database, are the primary's. An error is a phrase without anything of the URL.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = url.strip_prefix(SCHEME).ok_or("not a URL of sentinels")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let own_credentials = credentials_of(query)?;
        let (credentials, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
        let (hosts, path) = rest.split_once('/').ok_or(NO_NAME)?;
        let (name, database) = path.split_once('/').map_or((path, ""), |(name, database)| (name, database));
        let name = decoded(name).filter(|name| !name.is_empty()).ok_or(NO_NAME)?;
        if !database.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("the database is not a number: redis+sentinel://a,b,c/mymaster/0");
        }
        let client = |host: &str| redis::Client::open(format!("redis://{own_credentials}{}", with_port(host, PORT))).ok();
        let sentinels: Option<Vec<_>> = hosts.split(',').map(str::trim).map(client).collect();
        let sentinels = sentinels.filter(|_| !hosts.is_empty()).ok_or("an address of a sentinel cannot be read")?;
        let at = if credentials.is_empty() { "" } else { "@" };
        let inner = Inner {
            sentinels,
            name,
            credentials: format!("{credentials}{at}").into(),
            database: if database.is_empty() { String::new() } else { format!("/{database}") },
            believed: Mutex::default(),
        };
        let sentinels = Self(Arc::new(inner));
        match sentinels.url_of("127.0.0.1:6379").expose_secret().into_connection_info() {
            Ok(_) => Ok(sentinels),
            Err(_) => Err("user or password cannot be read (their characters are percent-encoded)"),
        }
    }

    /// The primary's address, as most sentinels say. Once most of all agree, the others are not waited for.
    pub(super) async fn primary(&self) -> Result<String, NoPrimary> {
        let mut answers: FuturesUnordered<_> = self.0.sentinels.iter().map(|sentinel| self.ask(sentinel)).collect();
        let mut votes = BTreeMap::<String, usize>::new();
        let mut why = NoPrimary::Silent;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(address) => {
                    let votes = votes.entry(address.clone()).or_default();
                    *votes += 1;
                    if *votes > self.0.sentinels.len() / 2 {
                        *self.believed() = Some(address.clone());
                        return Ok(address);
                    }
                }
                // A wrong name tells more than a wrong password, and that more than silence.
                Err(NoPrimary::Silent) => {}
                Err(_) if matches!(why, NoPrimary::UnknownName { .. }) => {}
                Err(told) => why = told,
            }
        }
        without_most(votes, self.believed().as_deref()).ok_or(why)
    }

    fn believed(&self) -> MutexGuard<'_, Option<String>> {
        self.0.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The URL of a server, with what the primary asks for.
    pub(super) fn url_of(&self, address: &str) -> SecretString {
        format!("redis://{}{address}{}", self.0.credentials.expose_secret(), self.0.database).into()
    }

    async fn ask(&self, sentinel: &redis::Client) -> Result<String, NoPrimary> {
        let asking = async {
            let mut connection = sentinel.get_multiplexed_async_connection().await?;
            let mut question = redis::cmd("SENTINEL");
            question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.0.name);
            question.query_async::<Option<(String, u16)>>(&mut connection).await
        };
        match timeout(ANSWER_TIME_MAX, asking).await {
            Ok(Ok(Some((host, port)))) => Ok(joined(&host, port)),
            Ok(Ok(None)) => Err(NoPrimary::UnknownName { name: self.0.name.clone() }),
            Ok(Err(error)) if is_refusal(&error) => Err(NoPrimary::Refused { code: refusal(&error) }),
            Ok(Err(_)) | Err(_) => Err(NoPrimary::Silent),
        }
    }
}

/// Whom to believe while most sentinels say nothing, or not the same. It takes most of them to promote a replica, so as long as
/// one still names whom most named last, nothing else is believed.
fn without_most(votes: BTreeMap<String, usize>, believed: Option<&str>) -> Option<String> {
    let is_named = |address: &&str| votes.contains_key(*address);
    if let Some(believed) = believed.filter(is_named) {
        return Some(believed.to_owned());
    }
    votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(address, _)| address)
}

const NO_NAME: &str = "the name of the primary is missing: redis+sentinel://a,b,c/mymaster";

/// `user:password@` for the sentinels, from what stands behind the question mark.
fn credentials_of(query: &str) -> Result<String, &'static str> {
    let (mut user, mut password) = (String::new(), None);
    for (key, value) in query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        let value = decoded(value).ok_or(NO_PARAMETER)?;
        match key {
            "sentinel_user" => user = value,
            "sentinel_password" => password = Some(value),
            _ => return Err(NO_PARAMETER),
        }
    }
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    match password {
        Some(password) => Ok(format!("{}:{}@", encoded(&user), encoded(&password))),
        None if user.is_empty() => Ok(String::new()),
        None => Err("sentinel_user needs sentinel_password"),
    }
}

const NO_PARAMETER: &str =
    "what follows the question mark cannot be read; sentinel_user and sentinel_password are accepted, percent-encoded";

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

fn is_refusal(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::AuthenticationFailed || error.code().is_some()
}

/// The code alone: the text behind it is the server's.
fn refusal(error: &redis::RedisError) -> String {
    error.code().unwrap_or(error.category()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_sentinels_a_primary_and_what_it_asks_for() {
        let check = |url: &str, sentinels: usize, name: &str, primary: &str| {
            let parsed = Sentinels::parse(url).expect(url);
            assert_eq!((parsed.0.sentinels.len(), parsed.0.name.as_str()), (sentinels, name), "{url}");
            assert_eq!(parsed.url_of("10.0.0.1:6379").expose_secret(), primary, "{url}");
        };
        check("redis+sentinel://a,b:26380,c/mymaster", 3, "mymaster", "redis://10.0.0.1:6379");
        check("redis+sentinel://[::1],[::1]:26380/main/2", 2, "main", "redis://10.0.0.1:6379/2");
        check("redis+sentinel://me:pa%40ss@a/main", 1, "main", "redis://me:pa%40ss@10.0.0.1:6379");
        check("redis+sentinel://:p%2Fw@a,b/my%20main?sentinel_password=x%2Fy", 2, "my main", "redis://:p%2Fw@10.0.0.1:6379");
        for bad in [
            "redis://a/main",
            "redis+sentinel://a,b",
            "redis+sentinel://a/",
            "redis+sentinel:///main",
            "redis+sentinel://a/m/x",
            "redis+sentinel://a/main?password=hunter2",
            "redis+sentinel://a/main?sentinel_user=me",
            "redis+sentinel://me:hunter2?@a/main",
        ] {
            let error = Sentinels::parse(bad).err().expect(bad);
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(credentials_of("sentinel_user=me&sentinel_password=p%40%2Fw%C3%BC"), Ok("me:p%40%2Fw%C3%BC@".to_owned()));
        assert_eq!(credentials_of("sentinel_password=s"), Ok(":s@".to_owned()));
    }

    #[test]
    fn whom_most_named_last_is_believed_while_they_disagree() {
        let check = |votes: &[(&str, usize)], believed: Option<&str>, expected: Option<&str>| {
            let votes = votes.iter().map(|(address, votes)| ((*address).to_owned(), *votes)).collect();
            assert_eq!(without_most(votes, believed).as_deref(), expected);
        };
        check(&[("a:1", 1), ("b:1", 1)], Some("a:1"), Some("a:1"));
        check(&[("a:1", 1), ("b:1", 1)], Some("b:1"), Some("b:1"));
        check(&[("a:1", 1)], Some("b:1"), Some("a:1"));
        check(&[("a:1", 1), ("b:1", 2)], None, Some("b:1"));
        check(&[], Some("b:1"), None);
    }
}
