//! What an operator is told of a Redis: whether a node could start with it, and what lies under the prefix. `rollcall check`
//! asks. It writes nothing, claims nothing and beats for nobody; a replica is looked at like a primary.

use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::{self, Pipeline, Value};
use tokio::time::timeout;

use crate::ports::SharedError;

use super::Redis;
use super::link::read;
use super::nodes;
use super::reason::phrase;
use super::start::{self, CHECK_TIME_MAX};
use super::start_error::StartError;

/// A Redis as it was found.
#[derive(Debug)]
pub struct Report {
    /// Which server it is: `Redis 7.0.15`.
    pub server: String,
    /// Whether it says that it is a primary.
    pub is_primary: bool,
    /// `maxmemory-policy`; empty where it does not say.
    pub eviction_policy: String,
    /// Bytes in use.
    pub memory_used: Option<u64>,
    /// Bytes it may use at most; 0: no limit of its own.
    pub memory_max: Option<u64>,
    /// Replicas connected to it.
    pub replicas: Option<u32>,
    /// Everything for which a start is refused.
    pub refusals: Vec<StartError>,
    /// The Clerk instance that the prefix belongs to; none: nobody has claimed it.
    pub owner: Result<Option<String>, LookError>,
    /// The journals of the nodes that run, one for each.
    pub journals: Result<Vec<String>, LookError>,
}

/// Why what lies under the prefix is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    /// Nobody answered.
    #[error("it cannot be reached ({what})")]
    Unreachable {
        /// A phrase: no address, no password.
        what: String,
    },
    /// It answered, and would not or could not tell.
    #[error("it does not tell ({what})")]
    Refused {
        /// Its code, or a phrase.
        what: String,
    },
}

impl LookError {
    /// What to do.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "see to it that every server of REDIS_URL answers",
            Self::Refused { .. } => {
                "let the user of REDIS_URL run HGET, ZRANGE and TIME on the prefix, and nobody else write there"
            }
        }
    }
}

impl Redis {
    /// Looks at it. An error where nothing answers, or nobody names it.
    pub async fn report(&self) -> Result<Report, StartError> {
        let (connection, server) = self.introduce().await?;
        let mut refusals = server.refusals(self.maker.server.consistency());
        if refusals.is_empty() {
            // What it says of itself would do; whether it is so, and what the other masters say.
            refusals.extend(self.check().await.err());
        }
        Ok(Report {
            server: server.name,
            is_primary: server.is_primary,
            eviction_policy: server.eviction_policy,
            memory_used: server.memory_used,
            memory_max: server.memory_max,
            replicas: server.replicas,
            refusals,
            owner: self.owner(connection).await,
            journals: self.journals().await,
        })
    }

    /// Whether the prefix, claimed by `owner`, is this instance's.
    pub fn check_owner(&self, owner: &str, ours: &str) -> Result<(), StartError> {
        start::check_instance(&self.shared.keys, owner, ours)
    }

    async fn owner(&self, mut connection: MultiplexedConnection) -> Result<Option<String>, LookError> {
        let mut question = redis::pipe();
        question.cmd("HGET").arg(self.shared.keys.history()).arg("instance");
        let replies = ask(&mut connection, &question).await?;
        replies.into_iter().next().map_or(Ok(None), read).map_err(refused)
    }

    async fn journals(&self) -> Result<Vec<String>, LookError> {
        let keys = &self.shared.keys;
        // In a cluster it is another server than the stream's.
        let (mut connection, _) = self.maker.for_key(keys.nodes()).make().await.map_err(unreachable)?;
        let replies = ask(&mut connection, &nodes::roll_call(keys)).await?;
        nodes::journals(replies).map_err(refused)
    }
}

async fn ask(connection: &mut MultiplexedConnection, question: &Pipeline) -> Result<Vec<Value>, LookError> {
    let asked = timeout(CHECK_TIME_MAX, connection.req_packed_commands(question, 0, question.len())).await;
    asked.map_err(|_| unreachable("no answer in time".to_owned()))?.map_err(|error| unreachable(phrase(&error)))
}

fn unreachable(what: String) -> LookError {
    LookError::Unreachable { what }
}

/// What a reply holds that is an error, or nothing of ours.
fn refused(error: SharedError) -> LookError {
    match error {
        SharedError::Unavailable { what } => LookError::Refused { what },
        SharedError::TimedOut | SharedError::Unconfirmed { .. } => unreachable(error.to_string()),
    }
}
