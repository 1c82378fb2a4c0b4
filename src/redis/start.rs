//! What is asked of a Redis before it is used, and why it is refused. Called once at start, and again, for the log, whenever
//! a connection reaches another server.

use std::time::Duration;

use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::{self, Value};
use tokio::time::timeout;

use crate::ports::SharedError;
use crate::protocol::continuity::{EntryId, Position};
use crate::protocol::freshness::Consistency;
use crate::protocol::rules::{self, Rule};

use super::keys::Keys;
use super::link::{Link, read, unavailable};
use super::maker::NOT_NOW;
use super::question::{answer, question};
use super::reason::phrase;
use super::start_error::StartError;

/// How long a question may take that a start, or an operator, waits for: longer than what is asked while callers wait.
pub(super) const CHECK_TIME_MAX: Duration = Duration::from_secs(1);

/// What a server says of itself (INFO).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerInfo {
    /// Which server it is: `Redis 7.0.15`, `Valkey 9.1.2`.
    pub name: String,
    /// The version of Redis that it is, or says it is like.
    pub version: String,
    pub has_role: bool,
    /// It shares the keys with others.
    pub is_in_cluster: bool,
    pub is_primary: bool,
    pub replid: String,
    pub eviction_policy: String,
    /// Bytes in use, where it says so.
    pub memory_used: Option<u64>,
    /// Bytes it may use at most; 0: no limit of its own.
    pub memory_max: Option<u64>,
    /// Replicas connected to it.
    pub replicas: Option<u32>,
    /// How INFO was refused, if it was.
    pub info_refused: Option<String>,
    /// How a script was refused, if one was.
    pub scripts_refused: Option<String>,
}

impl ServerInfo {
    /// What is known of a server that refuses INFO.
    pub(super) fn refused(code: &str) -> Self {
        Self { info_refused: Some(code.to_owned()), ..Self::parse("") }
    }

    /// Reads the text of INFO. What is not said stays empty.
    pub(super) fn parse(info: &str) -> Self {
        let of = |name: &str| {
            let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.unwrap_or_default().trim().to_owned()
        };
        let (version, valkey) = (of("redis_version"), of("valkey_version"));
        Self {
            name: if valkey.is_empty() { format!("Redis {version}") } else { format!("Valkey {valkey}") },
            version,
            is_in_cluster: of("cluster_enabled") == "1",
            has_role: !of("role").is_empty(),
            is_primary: of("role") == "master" || !rules::is_on(Rule::OnlyAPrimaryVouches),
            replid: of("master_replid"),
            eviction_policy: of("maxmemory_policy"),
            memory_used: of("used_memory").parse().ok(),
            memory_max: of("maxmemory").parse().ok(),
            replicas: of("connected_slaves").parse().ok(),
            info_refused: None,
            scripts_refused: None,
        }
    }

    /// Whether the protocol can rest on this server.
    pub(super) fn check(&self, consistency: Consistency) -> Result<(), StartError> {
        self.refusals(consistency).into_iter().next().map_or(Ok(()), Err)
    }

    /// Everything that it cannot, what weighs most first.
    pub(super) fn refusals(&self, consistency: Consistency) -> Vec<StartError> {
        let no_scripts = self.scripts_refused.clone().map(|what| StartError::NoScripts { what });
        if consistency == Consistency::Eventual {
            // Whatever it is called and whatever it says of itself: it must run the scripts.
            return no_scripts.into_iter().collect();
        }
        if let Some(what) = self.lacks() {
            return vec![StartError::NoFence { what }];
        }
        let major = self.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let is_too_old = major.is_none_or(|major| major < 7);
        let may_evict = self.eviction_policy.starts_with("allkeys-") && rules::is_on(Rule::EvictingRedisIsRefused);
        let refusals = [
            is_too_old.then(|| StartError::TooOld { found: self.version.clone() }),
            may_evict.then(|| StartError::EvictionPolicy { policy: self.eviction_policy.clone() }),
            no_scripts,
            (!self.is_primary).then_some(StartError::Replica),
        ];
        refusals.into_iter().flatten().collect()
    }

    /// What a server does not say of itself that the fence is judged by.
    fn lacks(&self) -> Option<String> {
        match (&self.info_refused, self.has_role, self.replid.is_empty()) {
            (Some(code), ..) => Some(format!("INFO is refused: {code}")),
            (None, false, _) => Some("INFO tells no role".to_owned()),
            (None, true, true) => Some("INFO tells no replication id".to_owned()),
            (None, true, false) => None,
        }
    }
}

/// Whether the server answers the fence's question, and is the one it said it was: behind one address there may be several.
pub(super) async fn check_fence(
    mut connection: MultiplexedConnection,
    keys: &Keys,
    server: &ServerInfo,
) -> Result<(), StartError> {
    let nothing = Position { last: EntryId { ms: u64::MAX, seq: 0 }, counted: None, replid: String::new() };
    let mut pipeline = redis::pipe();
    pipeline.add_command(question(keys, Some(&nothing)));
    let asked = timeout(CHECK_TIME_MAX, connection.req_packed_commands(&pipeline, 0, 1)).await;
    let unreachable = |what: &str| StartError::Unreachable { what: what.to_owned() };
    let replies = asked.map_err(|_| unreachable("no answer in time"))?.map_err(|error| unreachable(&phrase(&error)))?;
    let reply = replies.into_iter().next().ok_or_else(|| unreachable("no answer"))?;
    let no_fence = |what: &str| StartError::NoFence { what: what.to_owned() };
    let answer = match reply {
        Value::ServerError(error) if NOT_NOW.contains(&error.code()) => return Err(unreachable(error.code())),
        reply => answer(reply).map_err(|error| no_fence(&format!("the question of the fence: {error}")))?,
    };
    match answer.reply.is_primary && answer.reply.replid == server.replid {
        true => Ok(()),
        false => Err(no_fence("several servers answer at its address")),
    }
}

/// Claims the prefix for `ours`, unless somebody did before; answers whose it is.
pub(super) async fn claim(link: &Link, keys: &Keys, ours: &str, within: Duration) -> Result<String, SharedError> {
    let mut question = redis::pipe();
    question.cmd("HSETNX").arg(keys.history()).arg("instance").arg(ours);
    question.cmd("HGET").arg(keys.history()).arg("instance");
    let replies = link.ask(&question, within).await?;
    let [claimed, owner] = <[Value; 2]>::try_from(replies).map_err(|_| unavailable("an answer that cannot be read"))?;
    let owner = read::<Option<String>>(owner)?;
    match owner {
        Some(owner) => Ok(owner),
        // Refused, because memory is full: whoever claims later is compared then.
        None => read::<u64>(claimed).map(|_| ours.to_owned()),
    }
}

/// Whether the instance that first used the prefix is ours.
pub(super) fn check_instance(keys: &Keys, found: &str, ours: &str) -> Result<(), StartError> {
    match found == ours {
        true => Ok(()),
        false => {
            Err(StartError::OtherInstance { prefix: keys.prefix().to_owned(), found: found.to_owned(), ours: ours.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: &str, role: &str, policy: &str) -> ServerInfo {
        ServerInfo::parse(&format!(
            "# Server\r\nredis_version:{version}\r\nrole:{role}\r\nmaster_replid:abc\r\nmaster_replid2:def\r\nmaxmemory_policy:{policy}\r\n"
        ))
    }

    #[test]
    fn a_server_is_refused_for_its_age_its_policy_and_its_role() {
        assert_eq!(info("7.0.15", "master", "noeviction").check(Consistency::Bounded), Ok(()));
        assert_eq!(info("10.1", "master", "volatile-ttl").check(Consistency::Bounded), Ok(()));
        assert!(matches!(info("6.2.14", "master", "noeviction").check(Consistency::Bounded), Err(StartError::TooOld { .. })));
        assert!(matches!(info("", "master", "noeviction").check(Consistency::Bounded), Err(StartError::TooOld { .. })));
        assert!(matches!(
            info("7.2.4", "master", "allkeys-lru").check(Consistency::Bounded),
            Err(StartError::EvictionPolicy { .. })
        ));
        assert_eq!(info("7.2.4", "slave", "noeviction").check(Consistency::Bounded), Err(StartError::Replica));
        assert_eq!(info("7.2.4", "master", "noeviction").replid, "abc");
        let all = info("6.2.14", "slave", "allkeys-lru").refusals(Consistency::Bounded);
        assert!(
            matches!(all[..], [StartError::TooOld { .. }, StartError::EvictionPolicy { .. }, StartError::Replica]),
            "{all:?}"
        );
    }

    #[test]
    fn a_server_that_does_not_say_who_answers_is_refused_unless_nothing_rests_on_it() {
        let check = |server: &ServerInfo, expected: &str| {
            let refused = server.check(Consistency::Bounded).expect_err(expected).to_string();
            assert!(refused.contains(expected) && refused.contains("ROLLCALL_CONSISTENCY=eventual"), "{refused}");
            assert_eq!(server.check(Consistency::Eventual), Ok(()), "{expected}");
        };
        check(&ServerInfo::refused("ERR"), "INFO is refused: ERR");
        check(&ServerInfo::parse("redis_version:7.0.15\r\n"), "INFO tells no role");
        check(&ServerInfo::parse("redis_version:7.0.15\r\nrole:master\r\n"), "INFO tells no replication id");
        assert_eq!(info("6.2.6", "slave", "allkeys-lru").check(Consistency::Eventual), Ok(()));
        let mut server = info("7.0.15", "master", "noeviction");
        server.scripts_refused = Some("ERR".to_owned());
        for consistency in [Consistency::Bounded, Consistency::Eventual] {
            assert!(matches!(server.check(consistency), Err(StartError::NoScripts { .. })), "{consistency:?}");
        }
    }

    #[test]
    fn a_server_says_its_own_name() {
        let name = |text: &str| ServerInfo::parse(text).name;
        assert_eq!(name("redis_version:7.0.15\r\n"), "Redis 7.0.15");
        assert_eq!(name("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n"), "Valkey 9.1.2");
    }
}
