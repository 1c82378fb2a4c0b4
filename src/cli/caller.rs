//! Where a running service is, and the key to ask it with: the flags of verbs that go through one.

use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};

use super::Usage;
use crate::config::{ConfigError, Environment, read_secret};

/// Flags of whoever asks a running service. No `Debug`: one is a key.
#[derive(clap::Args)]
pub(super) struct Caller {
    /// A running service, such as http://127.0.0.1:8787
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// A service key for it; better by file or variable: a command line can be seen by others [env: ROLLCALL_KEY]
    #[arg(long, value_name = "KEY", conflicts_with = "key_file")]
    key: Option<String>,
    /// The file that holds the service key [env: ROLLCALL_KEY_FILE]
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,
}

impl Caller {
    /// `Bearer …`: flags over environment, as everywhere.
    pub(super) fn authorization(&self) -> anyhow::Result<String> {
        Ok(format!("Bearer {}", self.key()?.expose_secret()))
    }

    fn key(&self) -> anyhow::Result<SecretString> {
        let environment = Environment::of_process();
        let from_file = |path: &Path, by| read_secret(path, by).map_err(ConfigError::from);
        if let Some(key) = &self.key {
            return Ok(key.trim().into());
        }
        if let Some(path) = &self.key_file {
            return Ok(from_file(path, "--key-file")?);
        }
        match (environment.get("ROLLCALL_KEY"), environment.get("ROLLCALL_KEY_FILE")) {
            (Some(key), _) => Ok(key.into()),
            (None, Some(path)) => Ok(from_file(Path::new(path), "ROLLCALL_KEY_FILE")?),
            (None, None) => Err(Usage("--server needs a service key: --key-file, --key or ROLLCALL_KEY".to_owned()).into()),
        }
    }
}

/// What a service means that refuses a key; `scope` is what it takes.
pub(super) fn refusal(status: StatusCode, scope: &str) -> anyhow::Error {
    match status {
        StatusCode::UNAUTHORIZED => anyhow::anyhow!("401: the service does not know this key"),
        StatusCode::FORBIDDEN => anyhow::anyhow!("403: the key's scope is not {scope}"),
        status => anyhow::anyhow!("{status}"),
    }
}
