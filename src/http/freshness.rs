//! What a caller asks for in HTTP's own words (RFC 9111, 5861) and in `Rollcall-Max-Lag`, as [`Wants`].

use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderMap};

use super::names::ROLLCALL_MAX_LAG;
use super::problem::{Code, Problem};
use crate::protocol::freshness::Wants;

/// Reads the directives. Unknown ones are ignored, malformed values are 400, of two of a kind the stricter counts.
pub fn wants(headers: &HeaderMap) -> Result<Wants, Problem> {
    let mut wants = Wants::default();
    for value in headers.get_all(CACHE_CONTROL) {
        let text = value.to_str().map_err(|_| malformed("the header is not ASCII"))?;
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            read(directive, &mut wants)?;
        }
    }
    if wants.no_cache && wants.only_if_cached {
        return Err(malformed("no-cache and only-if-cached exclude each other"));
    }
    if let Some(value) = headers.get(ROLLCALL_MAX_LAG) {
        let ms = value.to_str().ok().and_then(number);
        let ms = ms.ok_or_else(|| {
            Problem::new(Code::ParameterInvalid, "the lag is not a number of milliseconds")
                .at("Rollcall-Max-Lag", "milliseconds, digits only")
        })?;
        wants.lag_max = Some(Duration::from_millis(ms));
    }
    Ok(wants)
}

fn read(directive: &str, wants: &mut Wants) -> Result<(), Problem> {
    let (name, value) = match directive.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(value.trim_start().trim_matches('"'))),
        None => (directive, None),
    };
    let seconds = || {
        let seconds = value.and_then(number).map(Duration::from_secs);
        seconds.ok_or_else(|| malformed(&format!("{} needs a number of seconds", name.to_ascii_lowercase())))
    };
    let stricter = |known: Option<Duration>, given: Duration| Some(known.map_or(given, |known| known.min(given)));
    match name.to_ascii_lowercase().as_str() {
        "no-cache" => wants.no_cache = true,
        "only-if-cached" => wants.only_if_cached = true,
        "max-age" => match seconds()? {
            Duration::ZERO => wants.no_cache = true,
            max_age => wants.max_age = stricter(wants.max_age, max_age),
        },
        "stale-if-error" => wants.stale_if_error = stricter(wants.stale_if_error, seconds()?),
        _ => {}
    }
    Ok(())
}

/// Digits only; more than fits means as long as can be, as RFC 9111 has it.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX).min(1 << 31))
}

fn malformed(detail: &str) -> Problem {
    Problem::new(Code::ParameterInvalid, detail).at("Cache-Control", "no-cache, max-age=N, only-if-cached, stale-if-error=N")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn check(lines: &[&'static str], expected: Option<Wants>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(line));
        }
        assert_eq!(wants(&headers).ok(), expected, "{lines:?}");
    }

    const S: fn(u64) -> Option<Duration> = |seconds| Some(Duration::from_secs(seconds));

    #[test]
    fn directives_are_read_and_unknown_ones_ignored() {
        let none = Wants::default();
        check(&[], Some(none));
        check(&["no-store, x=1, private"], Some(none));
        check(&["no-cache"], Some(Wants { no_cache: true, ..none }));
        check(&["Max-Age=0"], Some(Wants { no_cache: true, ..none }));
        check(&["max-age=10"], Some(Wants { max_age: S(10), ..none }));
        check(&["max-age=\"10\""], Some(Wants { max_age: S(10), ..none }));
        check(&["max-age=10", "max-age=5"], Some(Wants { max_age: S(5), ..none }));
        check(&["max-age=99999999999999999999"], Some(Wants { max_age: S(1 << 31), ..none }));
        check(&["only-if-cached, stale-if-error=60"], Some(Wants { only_if_cached: true, stale_if_error: S(60), ..none }));
    }

    #[test]
    fn malformed_values_and_contradictions_are_refused() {
        for bad in [
            "max-age",
            "max-age=",
            "max-age=x",
            "max-age=-1",
            "max-age=1.5",
            "stale-if-error",
            "no-cache, only-if-cached",
            "max-age=0, only-if-cached",
        ] {
            check(&[bad], None);
        }
    }

    #[test]
    fn the_lag_is_in_milliseconds() {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(ROLLCALL_MAX_LAG), HeaderValue::from_static("250"));
        assert_eq!(wants(&headers).ok().and_then(|wants| wants.lag_max), Some(Duration::from_millis(250)));
        headers.insert(HeaderName::from_static(ROLLCALL_MAX_LAG), HeaderValue::from_static("1s"));
        assert!(wants(&headers).is_err());
    }
}
