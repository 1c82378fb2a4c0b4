//! The instance's signing keys: made when first asked for, published as a JWKS, able to sign a token, and rotated when told to.
//!
//! The private halves never leave this value.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::dev::world::INSTANCE_ID;

/// DER of a 2048-bit public key: SEQUENCE, INTEGER of 257 bytes with a leading zero, INTEGER of 3 bytes.
const MODULUS: std::ops::Range<usize> = 9..265;
const EXPONENT: std::ops::Range<usize> = 267..270;
/// Keys published at once: the oldest go.
const KEYS_MAX: usize = 8;

/// RSA keys of 2048 bits; the last one signs. Making one takes a moment, so the first waits until somebody asks.
#[derive(Debug, Default)]
pub(super) struct SigningKeys(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    keys: Vec<SigningKey>,
    made: u32,
}

/// A key with its id: the first one's is the instance's, as with Clerk.
#[derive(Debug, Clone)]
struct SigningKey {
    id: String,
    pair: Arc<RsaKeyPair>,
}

impl SigningKeys {
    /// The public halves, as Clerk publishes them.
    pub(super) fn jwks(&self) -> Value {
        let keys: Vec<Value> = self.ring().keys.iter().map(SigningKey::jwk).collect();
        json!({ "keys": keys })
    }

    /// A session token with these claims, signed.
    pub(super) fn sign(&self, claims: &Value) -> String {
        let key = self.ring().keys.last().expect("the ring makes its first key").clone();
        let header = json!({"alg": "RS256", "kid": key.id, "typ": "JWT", "cat": "cl_B7d4PD111AAA"});
        key.sign(&header, claims)
    }

    /// A new key signs from now on. The old ones are published as before, or retired. Answers the ids that are published.
    pub(super) fn rotate(&self, retire: bool) -> Vec<String> {
        let mut ring = self.ring();
        if retire {
            ring.keys.clear();
        }
        ring.make();
        let excess = ring.keys.len().saturating_sub(KEYS_MAX);
        ring.keys.drain(..excess);
        ring.keys.iter().map(|key| key.id.clone()).collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.keys.is_empty() {
            ring.make();
        }
        ring
    }
}

impl Ring {
    fn make(&mut self) {
        let id = if self.made == 0 { INSTANCE_ID.to_owned() } else { format!("{INSTANCE_ID}_{}", self.made) };
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("2048 bits is a size that can be made");
        self.made += 1;
        self.keys.push(SigningKey { id, pair: Arc::new(pair) });
    }
}

impl SigningKey {
    fn jwk(&self) -> Value {
        let der = self.pair.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(der.get(range).unwrap_or_default());
        json!({"use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256", "n": part(MODULUS), "e": part(EXPONENT)})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("the buffer is as long as the modulus");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Jws, KeySet, Signed, TokenError};

    fn verify(token: &str, jwks: &Value) -> Option<Result<Signed, TokenError>> {
        let keys = KeySet::parse(jwks.to_string().as_bytes()).expect("keys");
        let jws = Jws::parse(token).expect("a token");
        keys.find(jws.key_id().expect("a key id")).map(|key| jws.verify(key))
    }

    #[test]
    fn the_published_keys_verify_what_the_private_ones_signed() {
        let (keys, others) = (SigningKeys::default(), SigningKeys::default());
        let first = keys.sign(&json!({"sub": "user_ada"}));
        assert!(verify(&first, &keys.jwks()).expect("published").is_ok());
        assert!(verify(&first, &others.jwks()).expect("of the same id").is_err(), "each stand-in has keys of its own");
        assert_eq!(keys.rotate(false), [INSTANCE_ID.to_owned(), format!("{INSTANCE_ID}_1")]);
        let second = keys.sign(&json!({"sub": "user_ada"}));
        assert_ne!(Jws::parse(&second).expect("a token").key_id(), Jws::parse(&first).expect("a token").key_id());
        for token in [&first, &second] {
            assert!(verify(token, &keys.jwks()).expect("published").is_ok());
        }
        assert_eq!(keys.rotate(true), [format!("{INSTANCE_ID}_2")]);
        for token in [&first, &second] {
            assert!(verify(token, &keys.jwks()).is_none(), "retired");
        }
    }
}
