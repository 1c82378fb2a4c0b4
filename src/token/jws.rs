//! The compact form of a signed token: taken apart, then verified. Nothing of the claims is looked at before that.
//!
//! The algorithm is ours to choose, never the token's: RS256. A header that brings a key of its own, names a place to find one,
//! or demands what we do not understand is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::error::TokenError;
use super::json;
use super::keys::Key;

/// Clerk advises cookies of 4 KB; a header may carry more permissions than that.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// What opaque tokens begin with: API keys, machines (two spellings), OAuth.
const OPAQUE: [&str; 4] = ["ak_", "mt_", "m2m_", "oat_"];
/// The category of session tokens.
const CATEGORY_SESSION: &str = "cl_B7d4PD111AAA";
/// A category that says nothing.
const CATEGORY_NONE: &str = "cl_I7d4PD111III";

/// A token taken apart. Nothing is proved of it yet.
#[derive(Debug)]
pub struct Jws<'a> {
    header: Header,
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

/// A payload that a key of ours signed.
#[derive(Debug)]
pub struct Signed {
    pub(super) payload: Vec<u8>,
    pub(super) is_of_session: bool,
}

/// Members that are not here are ignored; those that are must not come twice.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "json::present")]
    typ: Option<String>,
    cat: Option<String>,
    #[serde(default, rename = "crit", deserialize_with = "refused")]
    _crit: (),
    #[serde(default, rename = "jku", deserialize_with = "refused")]
    _jku: (),
    #[serde(default, rename = "jwk", deserialize_with = "refused")]
    _jwk: (),
    #[serde(default, rename = "x5u", deserialize_with = "refused")]
    _x5u: (),
    #[serde(default, rename = "x5c", deserialize_with = "refused")]
    _x5c: (),
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::invalid("longer than any token"));
        }
        if OPAQUE.iter().any(|prefix| token.starts_with(prefix)) {
            return Err(TokenError::KindRefused);
        }
        let malformed = TokenError::invalid("not three parts of base64url");
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = signed.split_once('.').filter(|(_, payload)| !payload.contains('.')).ok_or(malformed)?;
        // Strict: no padding, no bits that say nothing. Of one token there is one spelling.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
        let (header, signature) = (decode(header)?, decode(signature)?);
        let header: Header = json::object(&header).ok_or(TokenError::invalid("a header we cannot take"))?;
        if header.alg != "RS256" {
            return Err(TokenError::invalid("another algorithm than RS256"));
        }
        Ok(Self { header, signed, payload, signature })
    }

    /// The key it claims to be signed with.
    pub fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Checks the signature.
    pub fn verify(&self, key: &Key) -> Result<Signed, TokenError> {
        if !key.has_signed(self.signed.as_bytes(), &self.signature) {
            return Err(TokenError::invalid("the key did not sign this"));
        }
        let payload = URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| TokenError::invalid("a payload that is no base64url"))?;
        Ok(Signed { payload, is_of_session: self.header.is_of_session() })
    }
}

impl Header {
    /// Whether the header is that of a session token, as far as it says.
    fn is_of_session(&self) -> bool {
        let is_jwt = self.typ.as_deref().is_none_or(|typ| typ == "JWT");
        is_jwt && self.cat.as_deref().is_none_or(|category| [CATEGORY_SESSION, CATEGORY_NONE].contains(&category))
    }
}

fn refused<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    Err(D::Error::custom("a member that is never taken"))
}
