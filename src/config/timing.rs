//! Who is told how long a call took, as it is configured.

use super::parse::{Parsed, entries, key_name};
use super::tokens::switch;
use crate::http::TimedFor;

pub(super) fn timed_for(text: &str) -> Parsed<TimedFor> {
    match switch(text) {
        Ok(true) => Ok(TimedFor::Everybody),
        Ok(false) => Ok(TimedFor::Nobody),
        Err(_) => {
            let names = entries(text).map(key_name).collect::<Parsed<Vec<String>>>();
            let names = names.ok().filter(|names| !names.is_empty());
            names.map(TimedFor::Keys).ok_or_else(|| "Accepted: on, off, or names of service keys, comma-separated".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_or_off_or_for_some_keys() {
        let keys = |names: &[&str]| Ok(TimedFor::Keys(names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(timed_for("on"), Ok(TimedFor::Everybody));
        assert_eq!(timed_for("off"), Ok(TimedFor::Nobody));
        assert_eq!(timed_for("console"), keys(&["console"]));
        assert_eq!(timed_for("console, billing"), keys(&["console", "billing"]));
        for bad in ["", ",", "Console", "a b"] {
            assert!(timed_for(bad).is_err(), "{bad}");
        }
    }
}
