//! Why a connection failed, as a phrase for the log: without addresses, keys or values, and where TLS is the reason, with
//! what to do about it. Used by whoever makes connections.

use std::error::Error;
use std::io;
use std::sync::Arc;

use deadpool_redis::redis::RedisError;
use rustls::CertificateError;

/// The phrase.
pub(super) fn phrase(error: &RedisError) -> String {
    match tls_error(error) {
        Some(error) => of_tls(error).to_owned(),
        None => error.code().unwrap_or(error.category()).to_owned(),
    }
}

/// The phrase for a connection that was not even made.
pub(super) fn phrase_of_making(error: &RedisError) -> String {
    match io_error(error).filter(|_| tls_error(error).is_none()).map(io::Error::kind) {
        Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            "the server closed the connection at once; rediss:// is for a port that speaks TLS, redis:// for another".to_owned()
        }
        Some(io::ErrorKind::TimedOut) => "no connection in time".to_owned(),
        Some(kind) => kind.to_string(),
        None => phrase(error),
    }
}

/// The driver wraps it twice.
fn tls_error(error: &RedisError) -> Option<&rustls::Error> {
    io_error(error)?.get_ref()?.downcast_ref()
}

fn io_error(error: &RedisError) -> Option<&io::Error> {
    error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref()
}

fn of_tls(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(refused) => of_certificate(refused),
        rustls::Error::AlertReceived(_) => "the server ends the TLS handshake; it may ask for a certificate of ours",
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS there; write redis://, or name its TLS port",
        _ => "the TLS handshake failed",
    }
}

fn of_certificate(refused: &CertificateError) -> &'static str {
    match refused {
        // Another CA of the same name has signed what cannot be verified.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is not trusted: its issuer is unknown here; name the file of its CA in SSL_CERT_FILE"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is not trusted: it is for another name than the one in REDIS_URL"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate is not trusted: it has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not trusted: it is not valid yet"
        }
        _ => "the server's certificate is not trusted",
    }
}
