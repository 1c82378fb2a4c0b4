//! Public keys, as Clerk publishes them: a JWKS, or one key in PEM.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

/// A document holds one key, two during a rotation.
const KEYS_MAX: usize = 32;
/// Shorter keys verify nothing.
const MODULUS_BYTES_MIN: usize = 2048 / 8;

/// An RSA key that signs tokens.
#[derive(Debug)]
pub struct Key(ParsedPublicKey);

/// The keys of an instance, each under its id.
#[derive(Debug, Clone)]
pub struct KeySet(Vec<(String, Arc<Key>)>);

/// Keys that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a public key in PEM.
    #[error("not an RSA public key in PEM")]
    NotPem,
    /// Not a JWKS.
    #[error("not a JSON Web Key Set")]
    NotAKeySet,
    /// A JWKS without a key that could sign a session token.
    #[error("no RSA key for signatures in it")]
    NoKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// Every member may be missing. What is of another shape is not for us, and is passed over.
#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    kty: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Key {
    /// From PEM (`BEGIN PUBLIC KEY`), whose line ends may be written as `\n`, or the bare base64 of it.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let text = text.replace("\\n", "\n");
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        let base64: String = lines.flat_map(str::split_whitespace).collect();
        let der = STANDARD.decode(base64).map_err(|_| KeyError::NotPem)?;
        ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).map(Self).map_err(|_| KeyError::NotPem)
    }

    /// In one spelling, wherever it was read.
    fn der(&self) -> Option<PublicKeyX509Der<'static>> {
        self.0.as_der().ok()
    }

    /// Whether the key signed these bytes (RSASSA-PKCS1-v1_5 with SHA-256; 2048 to 8192 bits).
    pub(super) fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(bytes, signature).is_ok()
    }
}

/// The same modulus and exponent.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let (Some(ours), Some(theirs)) = (self.der(), other.der()) else { return false };
        ours.as_ref() == theirs.as_ref()
    }
}

impl KeySet {
    /// Reads a JWKS. Keys of other kinds and uses are passed over.
    pub fn parse(document: &[u8]) -> Result<Self, KeyError> {
        let document: Document = serde_json::from_slice(document).map_err(|_| KeyError::NotAKeySet)?;
        let keys: Vec<_> =
            document.keys.into_iter().take(KEYS_MAX).filter_map(|key| Jwk::deserialize(key).ok()?.into_key()).collect();
        if keys.is_empty() { Err(KeyError::NoKey) } else { Ok(Self(keys)) }
    }

    /// The key of this id.
    pub fn find(&self, key_id: &str) -> Option<&Arc<Key>> {
        self.0.iter().find(|(id, _)| id == key_id).map(|(_, key)| key)
    }

    /// Whether this key is one of them, under whatever id.
    pub fn holds(&self, key: &Key) -> bool {
        self.0.iter().any(|(_, known)| **known == *key)
    }

    /// Whether both are of one instance: during a rotation one may be ahead of the other, and they have a key in common.
    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        other.0.iter().any(|(_, key)| self.holds(key))
    }
}

impl Jwk {
    fn into_key(self) -> Option<(String, Arc<Key>)> {
        let is_or_absent = |member: &Option<String>, value: &str| member.as_deref().is_none_or(|text| text == value);
        let is_ours =
            self.kty.as_deref() == Some("RSA") && is_or_absent(&self.used_for, "sig") && is_or_absent(&self.alg, "RS256");
        let part = |member: Option<String>| URL_SAFE_NO_PAD.decode(member?).ok();
        let components = RsaPublicKeyComponents { n: part(self.n)?, e: part(self.e)? };
        let is_long_enough = components.n.len() >= MODULUS_BYTES_MIN;
        let key = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok().filter(|_| is_ours && is_long_enough)?;
        Some((self.kid?, Arc::new(Key(key))))
    }
}
