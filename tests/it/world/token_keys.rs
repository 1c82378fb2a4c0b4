//! Keys that sign tokens, in a test's own hands, and a place that publishes them as Clerk does an instance's: the stand-in
//! never gives its own away, and signs nothing that Clerk would not.

use std::net::SocketAddr;

use actix_web::dev::ServerHandle;
use actix_web::web::{Data, get};
use actix_web::{App, HttpResponse, HttpServer};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RsaKeyPair, RsaSignatureEncoding};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// DER of a 2048-bit public key: SEQUENCE, INTEGER of 257 bytes with a leading zero, INTEGER of 3 bytes.
const MODULUS: std::ops::Range<usize> = 9..265;
const EXPONENT: std::ops::Range<usize> = 267..270;

/// An RSA key of 2048 bits, both halves.
pub struct TokenKey {
    id: String,
    pair: RsaKeyPair,
}

impl TokenKey {
    /// A new one under this id.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), pair: RsaKeyPair::generate(KeySize::Rsa2048).expect("a size that can be made") }
    }

    /// The public half, as Clerk publishes it.
    pub fn jwk(&self) -> Value {
        let der = self.pair.public_key().as_ref();
        let part = |range| URL_SAFE_NO_PAD.encode(&der[range]);
        json!({"use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256", "n": part(MODULUS), "e": part(EXPONENT)})
    }

    /// The public half in PEM.
    pub fn pem(&self) -> String {
        pem_of(&self.jwk())
    }

    /// A token of these two parts, which are in base64url already.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        self.sign_by(&RSA_PKCS1_SHA256, header, claims)
    }

    /// The same by another algorithm, RS384.
    pub fn sign_longer(&self, header: &str, claims: &str) -> String {
        self.sign_by(&RSA_PKCS1_SHA384, header, claims)
    }

    /// The same by HS256, with the public half as the secret that both sides know.
    pub fn authenticate(&self, header: &str, claims: &str) -> String {
        let text = format!("{header}.{claims}");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.pem().as_bytes()), text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    fn sign_by(&self, encoding: &'static RsaSignatureEncoding, header: &str, claims: &str) -> String {
        let text = format!("{header}.{claims}");
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("it fits");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A published key in PEM: SubjectPublicKeyInfo of RSA with 2048 bits.
pub fn pem_of(jwk: &Value) -> String {
    let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().expect("text")).expect("base64url");
    let algorithm = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let key = [&[0x30, 0x82, 1, 0x0a, 2, 0x82, 1, 1, 0], part("n").as_slice(), &[2, 3], part("e").as_slice()].concat();
    let bits = [&[3, 0x82, 1, 0x0f, 0], key.as_slice()].concat();
    let der = [&[0x30, 0x82, 1, 0x22], algorithm.as_slice(), bits.as_slice()].concat();
    // Lines of 64, as Clerk's dashboard shows it.
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", lines.join("\n"))
}

/// Publishes keys, where Clerk's API does and where everybody may read.
pub struct PublishedKeys {
    pub address: SocketAddr,
    server: ServerHandle,
}

impl PublishedKeys {
    pub fn start(keys: &[&TokenKey]) -> Self {
        let document = json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() });
        let tell = async |document: Data<Value>| HttpResponse::Ok().json(&**document);
        let app = move || {
            let app = App::new().app_data(Data::new(document.clone()));
            app.route("/v1/jwks", get().to(tell)).route("/.well-known/jwks.json", get().to(tell))
        };
        let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a free port");
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { address, server: handle }
    }

    /// `http://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for PublishedKeys {
    fn drop(&mut self) {
        // The message is sent as the future is made.
        drop(self.server.stop(false));
    }
}
