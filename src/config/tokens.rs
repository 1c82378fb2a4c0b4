//! How session tokens are verified, as it is configured: where the keys come from, who issues, for whom.
//!
//! Pure like `parse`; an error never repeats the text.

use std::sync::Arc;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use reqwest::Url;

use super::parse::{Parsed, entries};
use crate::token::{Key, Policy};

/// Clerk leaves the padding out, and not always.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Each is compared with a token's party.
const PARTIES_MAX: usize = 256;

/// How session tokens are verified.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Where the keys come from.
    pub keys: TokenKeys,
    /// What a token must say.
    pub policy: Policy,
    /// Whether the `__session` cookie is read where there is no `Authorization`.
    pub is_cookie_read: bool,
}

/// Where the keys come from.
#[derive(Debug, Clone)]
pub enum TokenKeys {
    /// One key, configured: nobody is asked.
    Pinned(Arc<Key>),
    /// The public document of the frontend API at this base.
    Published(String),
    /// The Backend API, asked with the secret key.
    OfTheApi,
}

pub(super) fn jwt_key(text: &str) -> Parsed<Arc<Key>> {
    Key::from_pem(text).map(Arc::new).map_err(|_| {
        "not an RSA public key in PEM. Accepted: what Clerk's dashboard shows as the JWT public key, from `-----BEGIN PUBLIC KEY-----` on"
            .to_owned()
    })
}

/// The base of the frontend API: `pk_test_` or `pk_live_`, and its host with a `$` behind it in base64.
pub(super) fn publishable_key(text: &str) -> Parsed<String> {
    let accepted = "Accepted: pk_test_… or pk_live_…, whole, from Clerk's dashboard";
    if text.starts_with("sk_") {
        return Err(format!("this is the secret key. {accepted}"));
    }
    let encoded = text.strip_prefix("pk_test_").or_else(|| text.strip_prefix("pk_live_"));
    let decoded = encoded.and_then(|encoded| BASE64.decode(encoded).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    let host = decoded.as_deref().and_then(|text| text.strip_suffix('$'));
    let is_host = |host: &&str| host.contains('.') && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
    let host = host.filter(is_host).ok_or_else(|| format!("not a publishable key. {accepted}"))?;
    // Only a stand-in is on loopback, and it has no certificate.
    let scheme = if host.starts_with("127.0.0.1:") { "http" } else { "https" };
    Ok(format!("{scheme}://{host}"))
}

pub(super) fn issuer(text: &str) -> Parsed<String> {
    let is_url = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    match is_url && !text.ends_with('/') {
        true => Ok(text.to_owned()),
        false => Err(
            "not an issuer. Accepted: the `iss` of the instance's tokens, https://clerk.example.com, without a slash at the end"
                .into(),
        ),
    }
}

pub(super) fn authorized_parties(text: &str) -> Parsed<Vec<String>> {
    let parties: Vec<String> = entries(text).map(str::to_owned).collect();
    let is_origin = |party: &String| party.contains("://") && !party.ends_with('/') && !party.contains(char::is_whitespace);
    match (1..=PARTIES_MAX).contains(&parties.len()) && parties.iter().all(is_origin) {
        true => Ok(parties),
        false => Err(format!(
            "not 1 to {PARTIES_MAX} origins, comma-separated. Accepted: https://app.example.com, without a path or a slash at the end"
        )),
    }
}

pub(super) fn switch(text: &str) -> Parsed<bool> {
    match text {
        "on" | "true" | "1" => Ok(true),
        "off" | "false" | "0" => Ok(false),
        _ => Err("neither on nor off. Accepted: on, off".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::OURS;

    #[test]
    fn a_publishable_key_names_the_frontend_api() {
        for (key, base) in [
            ("pk_test_Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk", "https://foo-bar-13.clerk.accounts.dev"),
            ("pk_live_Y2xlcmsuaW5zcGlyZWQucHVtYS03NC5sY2wuZGV2JA", "https://clerk.inspired.puma-74.lcl.dev"),
            ("pk_live_ZmFrZS1jbGVyay10ZXN0LmNsZXJrLmFjY291bnRzLmRldiQ=", "https://fake-clerk-test.clerk.accounts.dev"),
            ("pk_test_MTI3LjAuMC4xOjg3ODgk", "http://127.0.0.1:8788"),
        ] {
            assert_eq!(publishable_key(key).as_deref(), Ok(base), "{key}");
        }
        let encode = |text: &str| format!("pk_test_{}", base64::engine::general_purpose::STANDARD.encode(text));
        for bad in ["", "pk_test_", "pk_test_!", "Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk", "sk_test_Zm9v"] {
            assert!(publishable_key(bad).is_err(), "{bad}");
        }
        for host in ["clerk.example.test", "localhost$", "a.test$$", "a.test/x$", "evil@a.test$", "a b.test$", "$"] {
            assert!(publishable_key(&encode(host)).is_err(), "{host}");
        }
        assert!(publishable_key("sk_live_1").unwrap_err().contains("secret key"));
    }

    #[test]
    fn a_key_an_issuer_and_parties_are_checked() {
        assert!(jwt_key(&OURS.pem()).is_ok());
        assert!(jwt_key("sk_test_1").is_err());
        assert!(issuer("https://clerk.example.test").is_ok());
        for bad in ["clerk.example.test", "https://clerk.example.test/", "ftp://a.test", ""] {
            assert!(issuer(bad).is_err(), "{bad}");
        }
        let parties = authorized_parties("https://a.test, http://localhost:3000,chrome-extension://abc").unwrap();
        assert_eq!(parties, ["https://a.test", "http://localhost:3000", "chrome-extension://abc"]);
        for bad in ["", ",", "a.test", "https://a.test/", "https://a.test,b.test"] {
            assert!(authorized_parties(bad).is_err(), "{bad}");
        }
        assert_eq!((switch("on"), switch("off")), (Ok(true), Ok(false)));
        assert!(switch("yes").is_err());
    }
}
