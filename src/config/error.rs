//! What is wrong with a configuration: all of it at once, each problem naming the setting, its value and where it came from.
//!
//! Made by the layers and by `resolve`; ends the process with exit code 78. The value of a secret is never in it.

use std::fmt;

use super::layers::Source;
use super::table::Name;

/// A configuration that cannot be used, with every reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// `serve` cannot do without it.
    #[error("{} is missing. Where to get it: {how}", .name.setting().variable)]
    Missing {
        /// Which.
        name: Name,
        /// Where to get one.
        how: &'static str,
    },
    /// The value cannot be read, or lies outside its range.
    #[error("{shown}: {why}")]
    Malformed {
        /// Name, value and source.
        shown: Shown,
        /// What is wrong and what is accepted.
        why: String,
    },
    /// Two settings that cannot both be as they are.
    #[error("{first} and {second}: {rule}")]
    Relation {
        /// One.
        first: Box<Shown>,
        /// The other.
        second: Box<Shown>,
        /// What must hold between them.
        rule: String,
    },
    /// A key of the file that is none of ours.
    #[error("unknown key `{key}` in {path}. Accepted: {accepted}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The file.
        path: String,
        /// All keys.
        accepted: String,
    },
    /// A file that cannot be read, or is not what it should be.
    #[error("{path} (named by {by}): {why}")]
    File {
        /// The file.
        path: String,
        /// What named it.
        by: String,
        /// What is wrong.
        why: String,
    },
}

/// A setting as it is shown to people: its variable, its value unless that may be a secret, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Which.
    pub name: Name,
    /// None where it may be a secret, and where there is none.
    pub value: Option<String>,
    /// Where it was written.
    pub source: Source,
}

impl Shown {
    pub(super) fn new(name: Name, value: Option<&str>, source: &Source) -> Self {
        let value = value.filter(|_| !name.setting().may_hold_a_secret()).map(str::to_owned);
        Self { name, value, source: source.clone() }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.setting().variable)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({})", self.source)
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for ConfigError {}
