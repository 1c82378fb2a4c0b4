//! Settings as typed on the command line. The flags are made from the table, so none can be missing from it.
//!
//! Environment variables are read by the layers and not here: a flag that was not typed is simply absent.

use clap::{Arg, ArgMatches, Command, error::Error};

use super::table::{Flag, Name, TABLE};

/// The flags that were typed. No `Debug`: a Redis URL may hold a password.
#[derive(Clone, Default)]
pub struct Typed(Vec<(Name, String)>);

impl Typed {
    /// As if this one flag had been typed, or none.
    pub fn only(name: Name, value: Option<String>) -> Self {
        Self(value.map(|value| (name, value)).into_iter().collect())
    }

    /// The value typed for a setting; for a secret, the path of its file.
    pub fn get(&self, name: Name) -> Option<&str> {
        self.0.iter().find(|(typed, _)| *typed == name).map(|(_, value)| value.as_str())
    }
}

impl clap::Args for Typed {
    fn augment_args(command: Command) -> Command {
        let flags = TABLE.iter().map(|setting| {
            let (flag, kind) = match setting.flag {
                Flag::Value(flag) => (flag, "VALUE"),
                Flag::PathOfSecret(flag) => (flag, "PATH"),
            };
            let default = match setting.required {
                Some(_) => "[required]".to_owned(),
                None => format!("[default: {}]", setting.default_text()),
            };
            let help = format!("{} [env: {}] {default}", setting.about, setting.variable);
            Arg::new(setting.variable).long(flag).value_name(kind).help(help.replace('`', ""))
        });
        command.args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Typed {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let typed = |name: Name| Some((name, matches.get_one::<String>(name.setting().variable)?.clone()));
        Ok(Self(TABLE.iter().filter_map(|setting| typed(setting.name)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
