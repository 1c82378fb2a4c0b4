//! The file layer: `rollcall.toml`, and files that hold one secret each.
//!
//! Unknown keys are errors: a misspelt limit that is silently ignored is found only in an incident. What is wrong is told by
//! line and key, never by showing the line: it may hold a secret.

use std::path::Path;

use secrecy::SecretString;
use toml::{Table, Value};

use super::args::Typed;
use super::error::Problem;
use super::layers::{Environment, Given, Source};
use super::table::{Name, Setting, TABLE};

/// The most that is read of any of these files.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the file says.
#[derive(Default)]
pub(super) struct FileLayer {
    path: String,
    table: Table,
}

impl FileLayer {
    /// Reads the file named by flag or variable, or `rollcall.toml` where the process was started, if there is one.
    pub(super) fn read(typed: &Typed, environment: &Environment) -> Result<Self, Problem> {
        let setting = Name::ConfigFile.setting();
        let flag = typed.get(setting.name).map(|path| (path, setting.typed()));
        let named = flag.or_else(|| environment.get(setting.variable).map(|path| (path, setting.variable.to_owned())));
        let (path, by) = match named {
            Some(named) => named,
            None if environment.path("rollcall.toml").exists() => ("rollcall.toml", "being in the working folder".to_owned()),
            None => return Ok(Self::default()),
        };
        let text = read(&environment.path(path), &by)?;
        let table = text.parse::<Table>().map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Problem::File { path: path.to_owned(), by, why: format!("line {line}: {}", error.message()) }
        })?;
        Ok(Self { path: path.to_owned(), table })
    }

    /// Its keys that are none of ours. What else it says is no worse for them.
    pub(super) fn unknown_keys(&self) -> Vec<Problem> {
        let accepted: Vec<String> = TABLE.iter().filter(|setting| setting.name != Name::ConfigFile).flat_map(keys).collect();
        let unknown = self.table.keys().filter(|key| !accepted.contains(key));
        let problem =
            |key: &String| Problem::UnknownKey { key: key.clone(), path: self.path.clone(), accepted: accepted.join(", ") };
        unknown.map(problem).collect()
    }

    /// What the file says of a setting.
    pub(super) fn given(&self, setting: &Setting, environment: &Environment) -> Result<Option<Given>, Problem> {
        let key = setting.key();
        let file_key = format!("{key}_file");
        match (self.text(&key)?, self.text(&file_key)?) {
            (Some(_), Some(_)) => Err(self.problem(format!("`{key}` and `{file_key}` are both set; set one of the two"))),
            (Some(text), None) => Ok(Some(Given { text: text.into(), source: Source::File(self.path.clone()) })),
            (None, Some(path)) => {
                let text = read_secret(&environment.path(&path), &format!("`{file_key}` in {}", self.path))?;
                Ok(Some(Given { text, source: Source::File(format!("{path}, named in {}", self.path)) }))
            }
            (None, None) => Ok(None),
        }
    }

    /// A value as it would be typed: a text, a whole number, a boolean, or a list of texts.
    fn text(&self, key: &str) -> Result<Option<String>, Problem> {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.trim().to_owned()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Boolean(is_on) => Some(is_on.to_string()),
            Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
        };
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let found = match value {
            Value::Array(values) => values.iter().map(text).collect::<Option<Vec<_>>>().map(|texts| texts.join(",")),
            one => text(one),
        };
        found
            .map(Some)
            .ok_or_else(|| self.problem(format!("`{key}` must be a text, a whole number, a boolean or a list of texts")))
    }

    fn problem(&self, why: String) -> Problem {
        Problem::File { path: self.path.clone(), by: "the configuration".to_owned(), why }
    }
}

fn keys(setting: &Setting) -> Vec<String> {
    let key = setting.key();
    match setting.may_hold_a_secret() {
        true => vec![key.clone(), format!("{key}_file")],
        false => vec![key],
    }
}

/// The content of a file that holds one secret, without the white space around it. `by` is what named the file.
pub fn read_secret(path: &Path, by: &str) -> Result<SecretString, Problem> {
    let text = read(path, by)?;
    match text.trim() {
        "" => Err(Problem::File { path: path.display().to_string(), by: by.to_owned(), why: "it is empty".to_owned() }),
        secret => Ok(secret.into()),
    }
}

fn read(path: &Path, by: &str) -> Result<String, Problem> {
    let problem = |why: String| Problem::File { path: path.display().to_string(), by: by.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|error| problem(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(problem(format!("it has {size} bytes; at most {FILE_BYTES_MAX} are read")));
    }
    std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))
}
