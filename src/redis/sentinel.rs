//! Which server is the primary, by Sentinel's word. The maker of connections asks before each one, and a task once a second
//! while all goes well: a deposed primary goes on answering, and would else be believed for as long as it does.
//!
//! All sentinels are asked at once and the address that most of them name is taken, so one that hangs, or was cut off and
//! still names the old primary, decides nothing. Whether it is a primary its own word has to confirm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::{self, IntoConnectionInfo};
use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

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
}

impl Sentinels {
    /// Whether a URL is one of sentinels.
    pub(super) fn is_meant_by(url: &str) -> bool {
        url.starts_with(SCHEME)
    }

    /// Reads `redis+sentinel://[user:password@]a[:port],b,c/name[/db]`; user, password and database are the primary's. An error
    /// is a phrase without anything of the URL.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = url.strip_prefix(SCHEME).ok_or("not a URL of sentinels")?;
        let (credentials, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
        let (hosts, path) = rest.split_once('/').ok_or("the name of the primary is missing: redis+sentinel://a,b,c/mymaster")?;
        let (name, database) = path.split_once('/').map_or((path, ""), |(name, database)| (name, database));
        if name.is_empty() {
            return Err("the name of the primary is missing: redis+sentinel://a,b,c/mymaster");
        }
        if !database.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("the database is not a number: redis+sentinel://a,b,c/mymaster/0");
        }
        let client = |host: &str| redis::Client::open(format!("redis://{}", with_port(host))).ok();
        let sentinels: Option<Vec<_>> = hosts.split(',').map(str::trim).map(client).collect();
        let sentinels = sentinels.filter(|_| !hosts.is_empty()).ok_or("an address of a sentinel cannot be read")?;
        let at = if credentials.is_empty() { "" } else { "@" };
        let inner = Inner {
            sentinels,
            name: name.to_owned(),
            credentials: format!("{credentials}{at}").into(),
            database: if database.is_empty() { String::new() } else { format!("/{database}") },
        };
        let sentinels = Self(Arc::new(inner));
        match sentinels.url_of("127.0.0.1:6379").expose_secret().into_connection_info() {
            Ok(_) => Ok(sentinels),
            Err(_) => Err("user or password cannot be read (their characters are percent-encoded)"),
        }
    }

    /// The primary's address, as most sentinels say.
    pub(super) async fn primary(&self) -> Option<String> {
        let answers = join_all(self.0.sentinels.iter().map(|sentinel| self.ask(sentinel))).await;
        let mut votes = BTreeMap::<String, usize>::new();
        for address in answers.into_iter().flatten() {
            *votes.entry(address).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(address, _)| address)
    }

    /// The URL of a server, with what the primary asks for.
    pub(super) fn url_of(&self, address: &str) -> SecretString {
        format!("redis://{}{address}{}", self.0.credentials.expose_secret(), self.0.database).into()
    }

    async fn ask(&self, sentinel: &redis::Client) -> Option<String> {
        let asking = async {
            let mut connection = sentinel.get_multiplexed_async_connection().await.ok()?;
            let mut question = redis::cmd("SENTINEL");
            question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.0.name);
            let (host, port) = question.query_async::<Option<(String, u16)>>(&mut connection).await.ok()??;
            Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
        };
        timeout(ANSWER_TIME_MAX, asking).await.ok()?
    }
}

fn with_port(host: &str) -> String {
    let behind_brackets = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    if behind_brackets.contains(':') { host.to_owned() } else { format!("{host}:{PORT}") }
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
        for bad in
            ["redis://a/main", "redis+sentinel://a,b", "redis+sentinel://a/", "redis+sentinel:///main", "redis+sentinel://a/m/x"]
        {
            assert!(Sentinels::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(with_port("a"), "a:26379");
        assert_eq!(with_port("[::1]"), "[::1]:26379");
    }
}
