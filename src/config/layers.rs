//! Where settings come from: flags over environment over file over default, each remembered with its source.
//!
//! Called once by each verb that needs settings. It reads texts and never judges them (`resolve` does); it never prints.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::args::Typed;
use super::error::{ConfigError, Problem, Shown};
use super::file::{self, FileLayer};
use super::table::{Flag, Name, Setting, TABLE};

/// The variables and the folder that a process was started with.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    folder: PathBuf,
    /// Settings that count as written nowhere.
    without: Vec<Name>,
}

impl Environment {
    /// Those of this process. A variable that is not UTF-8 is kept with marks in the bad places, to be refused by its rule.
    pub fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self { variables: std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect(), ..Self::default() }
    }

    /// These variables, in this folder.
    pub fn new(variables: &[(&str, &str)], folder: impl Into<PathBuf>) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Self { variables, folder: folder.into(), ..Self::default() }
    }

    /// The same, with this variable set, whatever it was and whatever file it was to come from.
    pub fn with(mut self, variable: &str, value: impl Into<String>) -> Self {
        self.variables.remove(&format!("{variable}_FILE"));
        self.variables.insert(variable.to_owned(), value.into());
        self
    }

    /// The same without this setting, wherever it is written: an empty variable would leave it to the file.
    pub fn without(mut self, name: Name) -> Self {
        self.without.push(name);
        self
    }

    /// A variable's value. An empty one counts as unset: that is how compose files and charts write "none".
    pub fn get(&self, variable: &str) -> Option<&str> {
        self.variables.get(variable).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// A path as the process would see it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag.
    Flag(String),
    /// A variable.
    Variable(String),
    /// A key of the configuration file.
    File(String),
    /// Nowhere.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "from the flag {flag}"),
            Self::Variable(variable) => write!(f, "from the environment, {variable}"),
            Self::File(path) => write!(f, "from {path}"),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value as written, and where. Every text is held as a secret: which ones are is the table's business.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) text: SecretString,
    pub(super) source: Source,
}

/// What was written for every setting.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    given: BTreeMap<Name, Given>,
    /// What works, and should still be changed; to be logged once.
    pub warnings: Vec<String>,
}

/// The name that `CLERK_WEBHOOK_SIGNING_SECRET` had in older set-ups.
const OLD_WEBHOOK_VARIABLE: &str = "CLERK_WEBHOOK_SECRET";

impl Settings {
    /// Reads the layers. Fails with everything that could not be read.
    pub fn gather(typed: &Typed, environment: &Environment) -> Result<Self, ConfigError> {
        match Self::look(typed, environment) {
            (settings, unread) if unread.is_empty() => Ok(settings),
            (_, unread) => Err(ConfigError { problems: unread.into_iter().map(|(_, problem)| problem).collect() }),
        }
    }

    /// The same for whoever shows all of it: what could be read, and what not, with the setting where it is of one.
    pub fn look(typed: &Typed, environment: &Environment) -> (Self, Vec<(Option<Name>, Problem)>) {
        let mut unread = Vec::new();
        let file = FileLayer::read(typed, environment).unwrap_or_else(|problem| {
            unread.push((None, problem));
            FileLayer::default()
        });
        unread.extend(file.unknown_keys().into_iter().map(|problem| (None, problem)));
        let mut settings = Self { given: BTreeMap::new(), warnings: unknown_variables(environment) };
        for setting in &TABLE {
            match settings.find(setting, typed, environment, &file) {
                Ok(Some(given)) => _ = settings.given.insert(setting.name, given),
                Ok(None) => {}
                Err(problem) => unread.push((Some(setting.name), problem)),
            }
        }
        (settings, unread)
    }

    fn find(&mut self, setting: &Setting, typed: &Typed, env: &Environment, file: &FileLayer) -> Result<Option<Given>, Problem> {
        if let Some(text) = typed.get(setting.name) {
            return from_flag(setting, text, env).map(Some);
        }
        if env.without.contains(&setting.name) {
            return Ok(default(setting));
        }
        if let Some(given) = from_variable(setting, setting.variable, env)? {
            return Ok(Some(given));
        }
        if setting.name == Name::WebhookSecrets
            && let Some(given) = from_variable(setting, OLD_WEBHOOK_VARIABLE, env)?
        {
            self.warnings.push(format!("{OLD_WEBHOOK_VARIABLE} is the old name of {}: rename it", setting.variable));
            return Ok(Some(given));
        }
        if setting.name == Name::Listen
            && let Some(port) = env.get("PORT")
        {
            return Ok(Some(Given { text: format!("0.0.0.0:{port}").into(), source: Source::Variable("PORT".to_owned()) }));
        }
        if let Some(given) = file.given(setting, env)? {
            return Ok(Some(given));
        }
        if setting.name == Name::RedisUrl && env.get("UPSTASH_REDIS_REST_URL").is_some() {
            return Err(only_rest_url());
        }
        Ok(default(setting))
    }

    /// What was written, or the default; none when there is neither.
    pub(super) fn given(&self, name: Name) -> Option<&Given> {
        self.given.get(&name)
    }

    /// Where a setting was written; none: nowhere, and it has no default.
    pub fn source(&self, name: Name) -> Option<&Source> {
        self.given(name).map(|given| &given.source)
    }

    /// A setting as it is shown to people.
    pub fn shown(&self, name: Name) -> Shown {
        match self.given(name) {
            Some(given) => Shown::new(name, Some(given.text.expose_secret()), &given.source),
            None => Shown::new(name, None, &Source::Default),
        }
    }
}

fn default(setting: &Setting) -> Option<Given> {
    setting.default.map(|text| Given { text: text.into(), source: Source::Default })
}

fn from_flag(setting: &Setting, text: &str, env: &Environment) -> Result<Given, Problem> {
    let source = Source::Flag(setting.typed());
    let text = match setting.flag {
        Flag::Value(_) => SecretString::from(text.trim()),
        Flag::PathOfSecret(_) => file::read_secret(&env.path(text), &source.to_string())?,
    };
    Ok(Given { text, source })
}

fn from_variable(setting: &Setting, variable: &str, env: &Environment) -> Result<Option<Given>, Problem> {
    let file_variable = format!("{variable}_FILE");
    let path = env.get(&file_variable).filter(|_| setting.may_hold_a_secret());
    match (env.get(variable), path) {
        (Some(_), Some(path)) => Err(Problem::File {
            path: path.to_owned(),
            by: file_variable,
            why: format!("{variable} is set too; set one of the two"),
        }),
        (Some(text), None) => Ok(Some(Given { text: text.into(), source: Source::Variable(variable.to_owned()) })),
        (None, Some(path)) => {
            let text = file::read_secret(&env.path(path), &file_variable)?;
            Ok(Some(Given { text, source: Source::Variable(file_variable) }))
        }
        (None, None) => Ok(None),
    }
}

fn only_rest_url() -> Problem {
    let source = Source::Variable("where only UPSTASH_REDIS_REST_URL is set".to_owned());
    Problem::Malformed {
        shown: Shown::new(Name::RedisUrl, None, &source),
        why: "the change stream needs Redis over TCP, which the REST URL is not. Upstash shows the TCP URL beside it \
              (`rediss://default:…@….upstash.io:6379`): set REDIS_URL to that, or unset UPSTASH_REDIS_REST_URL to run without Redis"
            .to_owned(),
    }
}

/// Variables that look like ours and are not read by this release. Kubernetes makes some for a service named `rollcall`.
fn unknown_variables(environment: &Environment) -> Vec<String> {
    let mut not_settings = vec!["ROLLCALL_KEY", "ROLLCALL_KEY_FILE", "ROLLCALL_COMMIT", "ROLLCALL_API_KEYS_FILE"];
    if cfg!(feature = "rule-switches") {
        not_settings.push("ROLLCALL_RULE_OFF");
    }
    let from_kubernetes = ["ROLLCALL_PORT", "ROLLCALL_SERVICE_"];
    let is_unknown = |variable: &&String| {
        variable.starts_with("ROLLCALL_")
            && !TABLE.iter().any(|setting| setting.variable == variable.as_str())
            && !not_settings.contains(&variable.as_str())
            && !from_kubernetes.iter().any(|prefix| variable.starts_with(prefix))
    };
    let unknown = environment.variables.keys().filter(is_unknown);
    unknown.map(|variable| format!("{variable} is not a setting of this release and does nothing")).collect()
}
