//! Reading a request body: counted as it streams, and not for ever. The framework's own extractors limit less and time
//! nothing. Upholds I12.

use std::time::Duration;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::problem::{Code, Problem};

/// A body has this long to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);

/// The whole body as sent, at most `bytes_max`. A declared length over it is refused unread; an encoding is refused, so that
/// the bytes are those that were signed.
pub async fn read(request: &HttpRequest, payload: web::Payload, bytes_max: usize) -> Result<Bytes, Problem> {
    let encoding = request.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::new(Code::MediaTypeUnsupported, "the body is encoded").at("Content-Encoding", "none"));
    }
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let timed_out = |_| Problem::new(Code::BodyTimeout, "the body did not arrive within 5 s");
    tokio::time::timeout(BODY_TIME_MAX, gather(payload, bytes_max)).await.map_err(timed_out)?
}

async fn gather(mut payload: web::Payload, bytes_max: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Code::BodyMalformed, "the body broke off"))?;
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, "the body is over the limit").at("body", format!("at most {bytes_max} bytes"))
}
