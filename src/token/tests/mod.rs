//! Session tokens made here, with keys made here, taken and refused.

mod admitted;
mod forged;
mod keys;
mod ring;

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicEncryptingKey};
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_790_000_000;
pub(crate) const ISSUER: &str = "https://clerk.harbour-works.test";

/// A key pair of an instance.
pub(crate) struct Pair(RsaKeyPair);

/// The instance's, and somebody else's.
pub(crate) static OURS: LazyLock<Pair> = LazyLock::new(|| Pair::new(KeySize::Rsa2048));
pub(crate) static THEIRS: LazyLock<Pair> = LazyLock::new(|| Pair::new(KeySize::Rsa2048));

impl Pair {
    fn new(size: KeySize) -> Self {
        Self(RsaKeyPair::generate(size).expect("a key"))
    }

    /// Modulus and exponent.
    fn parts(&self) -> (String, String) {
        let der = self.0.public_key().as_ref();
        // SEQUENCE, INTEGER of 257 bytes with a leading zero, INTEGER of 3 bytes.
        (URL_SAFE_NO_PAD.encode(&der[9..265]), URL_SAFE_NO_PAD.encode(&der[267..270]))
    }

    pub(crate) fn jwk(&self, key_id: &str) -> Value {
        let (n, e) = self.parts();
        json!({"use": "sig", "kty": "RSA", "kid": key_id, "alg": "RS256", "n": n, "e": e})
    }

    /// The key in PEM, as Clerk's dashboard shows it.
    pub(crate) fn pem(&self) -> String {
        let (n, e) = self.parts();
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
        let key: PublicEncryptingKey = RsaPublicKeyComponents { n: bytes(&n), e: bytes(&e) }.try_into().expect("a key");
        let base64 = STANDARD.encode(AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(&key).expect("encodes").as_ref());
        let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub(crate) fn header() -> Value {
    json!({"alg": "RS256", "kid": "ins_1", "typ": "JWT", "cat": "cl_B7d4PD111AAA"})
}

/// What every session token says.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "user_ada", "sid": "sess_1", "azp": "https://app.test", "jti": "j", "sts": "active",
        "iat": NOW, "nbf": NOW - 10, "exp": NOW + 60, "fva": [3, -1],
    })
}

/// `base` with members set, or taken out where they are null.
pub(crate) fn with(mut base: Value, members: Value) -> Value {
    let target = base.as_object_mut().expect("an object");
    for (name, value) in members.as_object().expect("an object") {
        match value.is_null() {
            true => _ = target.remove(name),
            false => _ = target.insert(name.clone(), value.clone()),
        }
    }
    base
}

fn policy() -> Policy {
    Policy { issuer: Some(ISSUER.to_owned()), ..Policy::default() }
}

/// All three steps, with our key.
fn take(token: &str, policy: &Policy, now_ms: i64) -> Result<Claims, TokenError> {
    let key = Key::from_pem(&OURS.pem()).expect("a key");
    policy.admit(&Jws::parse(token)?.verify(&key)?, Duration::from_millis(now_ms as u64))
}

/// Signs these claims and has them judged.
fn judge(claims: Value) -> Result<Claims, TokenError> {
    take(&OURS.sign(&header().to_string(), &claims.to_string()), &policy(), NOW * 1_000)
}
