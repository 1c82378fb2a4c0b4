//! Service keys: who calls, and what the key may do. Compared in constant time; a key itself is never kept or logged.

use std::str::FromStr;

use aws_lc_rs::{constant_time, digest};

/// What a key may do. Each scope includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Reads.
    Read,
    /// Reads and evictions.
    Evict,
    /// Everything.
    Admin,
}

/// A configured key: its name, its scope and the SHA-256 of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceKey {
    /// For logs.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// SHA-256 of the key's bytes.
    pub digest: [u8; 32],
}

/// The keys of this process.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<ServiceKey>);

impl Keys {
    /// Holds the given keys.
    pub fn new(keys: Vec<ServiceKey>) -> Self {
        Self(keys)
    }

    /// Finds the key with these bytes. Every configured key is compared, each in constant time.
    pub fn find(&self, bytes: &[u8]) -> Option<&ServiceKey> {
        let digest = digest::digest(&digest::SHA256, bytes);
        let is_same = |key: &&ServiceKey| constant_time::verify_slices_are_equal(&key.digest, digest.as_ref()).is_ok();
        self.0.iter().fold(None, |found, key| if is_same(&key) { Some(key) } else { found })
    }
}

impl Scope {
    /// As written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Evict => "evict",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "read" => Ok(Self::Read),
            "evict" => Ok(Self::Evict),
            "admin" => Ok(Self::Admin),
            _ => Err(()),
        }
    }
}
