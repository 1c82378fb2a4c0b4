//! The lines about settings: each with its value and where it was written, or what is wrong with it. Of a secret only what its
//! kind tells.

use secrecy::ExposeSecret;

use super::Line;
use crate::config::{Name, Problem, Settings, Shown, Source, TABLE};
use crate::webhook::Secrets;

/// A line for every setting, then what is of none.
pub(super) fn lines(settings: &Settings, unread: &[(Option<Name>, Problem)]) -> Vec<Line> {
    let resolved = settings.resolve().err().map(|error| error.problems).unwrap_or_default();
    let of = |problem: &Problem| (name_of(problem), problem.clone());
    let mut problems: Vec<_> = resolved.iter().map(of).collect();
    // A setting that could not be read is missing for want of that alone.
    problems.retain(|(name, _)| name.is_none() || unread.iter().all(|(unread, _)| unread != name));
    problems.extend(unread.iter().cloned());
    let mut lines: Vec<Line> = TABLE.iter().flat_map(|setting| lines_of(settings, setting.name, &problems)).collect();
    lines.extend(problems.iter().filter(|(name, _)| name.is_none()).map(|(_, problem)| told(problem, "configuration")));
    let unknown = settings.warnings.iter();
    lines.extend(unknown.map(|warning| Line::warn("configuration", warning, "correct its name, or remove it")));
    lines
}

fn lines_of(settings: &Settings, name: Name, problems: &[(Option<Name>, Problem)]) -> Vec<Line> {
    let own: Vec<_> = problems.iter().filter(|(of, _)| *of == Some(name)).collect();
    match own.is_empty() {
        true => vec![good(settings, name)],
        false => own.iter().map(|(_, problem)| told(problem, name.setting().variable)).collect(),
    }
}

/// Whose line a problem belongs on; of two settings at odds, on the first one's.
fn name_of(problem: &Problem) -> Option<Name> {
    match problem {
        Problem::Missing { name, .. } => Some(*name),
        Problem::Malformed { shown, .. } => Some(shown.name),
        Problem::Relation { first, .. } => Some(first.name),
        Problem::UnknownKey { .. } | Problem::File { .. } => None,
    }
}

fn told(problem: &Problem, line: &'static str) -> Line {
    match problem {
        Problem::Missing { how, .. } => Line::fail(line, "missing", *how),
        Problem::Malformed { shown, why } => Line::fail(line, value(shown), why),
        Problem::Relation { first, second, rule } => Line::fail(line, format!("{}, and {second}", value(first)), rule),
        Problem::UnknownKey { key, path, accepted } => {
            Line::fail(line, format!("unknown key `{key}` in {path}"), format!("accepted: {accepted}"))
        }
        Problem::File { path, by, why } => {
            Line::fail(line, format!("{path} (named by {by}) cannot be used"), format!("correct it: {why}"))
        }
    }
}

/// A setting that is as it should be, or that one should look at.
fn good(settings: &Settings, name: Name) -> Line {
    let (variable, shown) = (name.setting().variable, settings.shown(name));
    if settings.source(name).is_none() {
        if name == Name::Issuer {
            return issuer(settings);
        }
        return Line::ok(variable, name.setting().default_text().replace('`', ""));
    }
    let source = &shown.source;
    match name {
        Name::ClerkSecretKey => key_kind(settings, source),
        Name::WebhookSecrets => secrets(settings, source),
        Name::ApiKeys => Line::ok(variable, format!("{} ({source})", keys(settings))),
        _ => Line::ok(variable, value(&shown)),
    }
}

fn value(shown: &Shown) -> String {
    let default = shown.name.setting().default.filter(|_| shown.source == Source::Default);
    match shown.value.as_deref().or(default) {
        Some(value) => format!("{value} ({})", shown.source),
        None => format!("set ({})", shown.source),
    }
}

/// Where none is named.
fn issuer(settings: &Settings) -> Line {
    let name = Name::Issuer.setting().variable;
    match settings.tokens().ok().and_then(|tokens| tokens.policy.issuer) {
        Some(issuer) => Line::ok(name, format!("{issuer} (from the publishable key)")),
        None => Line::ok(name, "iss is not compared: the instance's keys alone say whose session tokens are taken"),
    }
}

fn key_kind(settings: &Settings, source: &Source) -> Line {
    let name = Name::ClerkSecretKey.setting().variable;
    let key = settings.clerk_secret_key();
    let key = key.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
    match () {
        () if key.starts_with("sk_live_") => Line::ok(name, format!("sk_live_: of a production instance ({source})")),
        () if key.starts_with("sk_test_") => Line::ok(name, format!("sk_test_: of a development instance ({source})")),
        () => {
            let fix = "Clerk's secret keys do: copy it whole from the dashboard, Configure, API keys";
            Line::warn(name, format!("begins with neither sk_live_ nor sk_test_ ({source})"), fix)
        }
    }
}

fn secrets(settings: &Settings, source: &Source) -> Line {
    let name = Name::WebhookSecrets.setting().variable;
    let texts = settings.webhook_secrets().unwrap_or_default();
    let parsed = Secrets::parse(&texts);
    let count = match texts.len() {
        1 => format!("1 secret ({source})"),
        count => format!("{count} secrets ({source})"),
    };
    match parsed.as_ref().map(Secrets::short).unwrap_or_default() {
        [] => Line::ok(name, count),
        [short, ..] => {
            let fix = "24 bytes are usual: copy it whole from the dashboard, Configure, Webhooks, the endpoint's Signing Secret";
            Line::warn(name, format!("{count}; number {short} is short"), fix)
        }
    }
}

/// Names and scopes; what the keys are nobody here knows.
fn keys(settings: &Settings) -> String {
    let keys = settings.api_keys().unwrap_or_default();
    keys.iter().map(|key| format!("{}:{}", key.name, key.scope.as_str())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::config::{Environment, Typed};

    const HEX: &str = "abababababababababababababababababababababababababababababababab";

    fn check(variables: &[(&str, &str)], name: &str, status: Status, words: &[&str]) {
        let environment = Environment::new(variables, std::env::temp_dir());
        let (settings, unread) = Settings::look(&Typed::default(), &environment);
        let lines = lines(&settings, &unread);
        let line = lines.iter().find(|line| line.name == name).unwrap_or_else(|| panic!("no {name}: {lines:?}"));
        assert_eq!(line.status, status, "{line:?}");
        let text = format!("{} -> {}", line.found, line.fix.clone().unwrap_or_default());
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not in {text}");
        assert!(!format!("{lines:?}").contains("hidden"), "{lines:?}");
    }

    #[test]
    fn every_setting_is_told_with_its_source_or_with_what_to_do() {
        check(&[], "ROLLCALL_TTL", Status::Ok, &["5m (the default)"]);
        check(&[("ROLLCALL_TTL", "2m")], "ROLLCALL_TTL", Status::Ok, &["2m (from the environment, ROLLCALL_TTL)"]);
        check(&[("ROLLCALL_TTL", "25m")], "ROLLCALL_TTL", Status::Fail, &["25m", "ROLLCALL_GRACE = 10m", "at most the 30m"]);
        check(&[("ROLLCALL_TTL", "long")], "ROLLCALL_TTL", Status::Fail, &["long (from", "Accepted: a number with a unit"]);
        check(&[("ROLLCALL_TLL", "1m")], "configuration", Status::Warn, &["ROLLCALL_TLL is not a setting", "remove it"]);
        check(&[], "REDIS_URL", Status::Ok, &["none: one process"]);
        check(&[("REDIS_URL", "redis://:hidden@a")], "REDIS_URL", Status::Ok, &["set (from the environment, REDIS_URL)"]);
        check(&[], "DATABASE_URL", Status::Ok, &["sqlite://rollcall.db (the default)"]);
        check(&[("ROLLCALL_API_KEYS", &format!("web:read:{HEX}"))], "ROLLCALL_API_KEYS", Status::Ok, &["web:read (from"]);
        check(
            &[("CLERK_PUBLISHABLE_KEY", "pk_test_MTI3LjAuMC4xOjg3ODgk")],
            "CLERK_PUBLISHABLE_KEY",
            Status::Ok,
            &["pk_test_MTI3"],
        );
    }

    #[test]
    fn a_secret_is_told_by_its_kind_alone() {
        let key = "CLERK_SECRET_KEY";
        check(&[(key, "sk_live_hidden")], key, Status::Ok, &["production"]);
        check(&[(key, "sk_test_hidden")], key, Status::Ok, &["development"]);
        check(&[(key, "hidden")], key, Status::Warn, &["neither", "dashboard"]);
        check(&[(key, "pk_live_hidden")], key, Status::Fail, &["the publishable key", "sk_live_"]);
        check(&[], key, Status::Fail, &["missing", "dashboard"]);
        check(&[("CLERK_SECRET_KEY_FILE", "/absent")], key, Status::Fail, &["/absent", "No such file"]);
        let secret = "CLERK_WEBHOOK_SIGNING_SECRET";
        check(&[(secret, "hidden!")], secret, Status::Fail, &["secret 1 of 1", "copy it whole from Clerk"]);
        check(&[(secret, "whsec_aGlkZGVu")], secret, Status::Warn, &["number 1 is short", "Signing Secret"]);
        check(&[(secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")], secret, Status::Ok, &["1 secret ("]);
    }
}
