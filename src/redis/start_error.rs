//! Why a node cannot start with a Redis, and what to do about it. `start` finds most of it; `check` tells the two apart.

use std::fmt;

/// Why this node cannot start with this Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartError {
    /// It does not answer. Not fatal for serving: reads go to the origin until it does.
    Unreachable {
        /// A phrase for the log: no address, no password.
        what: String,
    },
    /// The URL cannot be used.
    Url {
        /// A phrase: no part of the URL.
        what: String,
    },
    /// The sentinels answer, and know no primary of this name.
    UnknownPrimary {
        /// As configured.
        name: String,
    },
    /// The prefix cannot be used.
    Prefix {
        /// As configured.
        prefix: String,
    },
    /// Too old.
    TooOld {
        /// Its version.
        found: String,
    },
    /// It may evict what it must not.
    EvictionPolicy {
        /// Its policy.
        policy: String,
    },
    /// It does not answer what the staleness bound rests on.
    NoFence {
        /// A phrase: what it does not answer.
        what: String,
    },
    /// It runs no scripts, or not ours.
    NoScripts {
        /// How it refused.
        what: String,
    },
    /// It is one of several that share the keys.
    InCluster,
    /// It is a replica.
    Replica,
    /// A node with another journal is alive.
    OtherJournal {
        /// Its journal.
        found: String,
        /// Ours.
        ours: String,
    },
    /// The prefix is another instance's.
    OtherInstance {
        /// The prefix.
        prefix: String,
        /// Who used it first.
        found: String,
        /// Who we are.
        ours: String,
    },
}

impl StartError {
    /// What is wrong.
    pub fn what(&self) -> String {
        match self {
            Self::Unreachable { what } => format!("Redis cannot be reached ({what})"),
            Self::Url { what } => format!("REDIS_URL is not usable ({what})"),
            Self::UnknownPrimary { name } => format!("the sentinels of REDIS_URL know no primary called {name:?}"),
            Self::Prefix { prefix } => format!("the key prefix {prefix:?} is not usable"),
            Self::TooOld { found } => format!("Redis {found} is too old"),
            Self::EvictionPolicy { policy } => format!("Redis evicts by {policy}, which may drop the change stream"),
            Self::NoFence { what } => {
                format!(
                    "this Redis service cannot show how current its answers are ({what}): it may be a proxy, or read from replicas"
                )
            }
            Self::NoScripts { what } => {
                format!("this Redis service refuses the scripts that keep its values right ({what})")
            }
            Self::InCluster => "this Redis is part of a cluster".to_owned(),
            Self::Replica => "this Redis is a replica".to_owned(),
            Self::OtherJournal { found, ours } => {
                format!("a node with another journal ({found}, ours is {ours}) is running on this Redis")
            }
            Self::OtherInstance { prefix, found, ours } => {
                format!("the key prefix {prefix} belongs to the Clerk instance {found}, this node to {ours}")
            }
        }
    }

    /// What to do.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => {
                "start Redis, or correct REDIS_URL: without it every read asks Clerk, and no webhook is acknowledged"
            }
            Self::Url { .. } => "write redis://host:6379 or rediss://user:password@host:6380",
            Self::UnknownPrimary { .. } => "it ends with the name that they monitor, as in redis+sentinel://a,b,c/mymaster",
            Self::Prefix { .. } => "use 1 to 128 visible ASCII characters without braces, like user-orgs:",
            Self::TooOld { .. } => "7.0 or newer is needed, for scripts that also run when memory is full",
            Self::EvictionPolicy { .. } => "set maxmemory-policy to volatile-ttl or noeviction",
            Self::NoFence { .. } => {
                "name a Redis primary in REDIS_URL, or set ROLLCALL_CONSISTENCY=eventual: then there is no staleness bound and no \
                 local tier, and every answer says Rollcall-Lag: unknown"
            }
            Self::NoScripts { .. } => "use Redis 7.0 or newer, or Valkey",
            Self::InCluster => "write redis+cluster://host:port,host:port in REDIS_URL",
            Self::Replica => "name the primary in REDIS_URL",
            Self::OtherJournal { .. } => {
                "nodes that share a Redis must share a journal: set DATABASE_URL of all of them to one Postgres"
            }
            Self::OtherInstance { .. } => "set ROLLCALL_KEY_PREFIX to one of its own",
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.fix())
    }
}

impl std::error::Error for StartError {}
