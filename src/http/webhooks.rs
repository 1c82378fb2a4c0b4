//! `POST /webhooks/clerk`: raw bytes in, a status out. What a message means is the intake's. Upholds I1, I2, I12.
//!
//! Failures are 503 without `Retry-After`: the sender tries again after five seconds, and could only be made to wait longer.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::body;
use super::call::Call;
use super::description::refusals;
use super::headers::plain;
use super::problem::{Code, Problem};
use crate::ingest::{Acknowledged, TakeError};
use crate::webhook::{self, VerifyError};

/// Svix's limit of 1 MiB, and a quarter more in doubt.
const BYTES_MAX: usize = (1 << 20) + (1 << 18);

refusals!(
    Refusals: DeliveryMalformed, MessageTooOld, BodyMalformed, SignatureInvalid, BodyTimeout, BodyTooLarge, MediaTypeUnsupported,
    SharedUnavailable, JournalUnavailable, Overloaded, Internal
);

/// `POST /webhooks/clerk`
#[utoipa::path(
    post,
    path = "/webhooks/clerk",
    operation_id = "takeWebhook",
    tag = "webhooks",
    summary = "A webhook of Clerk's",
    description = "Signed by Svix. The headers may instead have the names of Standard Webhooks, `webhook-…`, all three of them.",
    params(
        ("svix-id" = Option<String>, Header, description = "The message's id, the same through all its deliveries."),
        ("svix-timestamp" = Option<String>, Header, description = "Seconds since the Unix epoch, within 5 min of now."),
        ("svix-signature" = Option<String>, Header, description = "`v1,` and the signature; several are parted by spaces."),
    ),
    request_body(content = serde_json::Value, description = "Clerk's event, byte for byte as it was signed; at most 1.25 MiB."),
    responses((status = 204, description = "Recorded, and in effect on every node within a second."), Refusals)
)]
pub async fn take(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let call = Call::begin(&request);
    match take_delivery(&call, payload).await {
        Ok(Acknowledged { .. }) => plain(&call, StatusCode::NO_CONTENT).finish(),
        Err(problem) => problem.without_retry_after().respond(&call.id),
    }
}

async fn take_delivery(call: &Call<'_>, payload: web::Payload) -> Result<Acknowledged, Problem> {
    let intake = call.state.intake.clone();
    let place = intake.admit().ok_or_else(|| Problem::new(Code::Overloaded, "too many deliveries at once"))?;
    let headers = call.request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let headers = webhook::headers(headers).map_err(|error| intake.refuse(error)).map_err(problem_of)?;
    let body = body::read(call.request, payload, BYTES_MAX).await?;

    // On the I/O runtime: a sender that hangs up must not leave a change half applied.
    let taken = call.state.cache.io().spawn(async move {
        let _place = place;
        intake.take(headers, body).await
    });
    match taken.await {
        Ok(Ok(acknowledged)) => Ok(acknowledged),
        Ok(Err(TakeError::Refused(error))) => Err(problem_of(error)),
        Ok(Err(TakeError::Unconfirmed(_))) => {
            Err(Problem::new(Code::SharedUnavailable, "the change is not confirmed for the other nodes"))
        }
        Ok(Err(TakeError::Unrecorded(_))) => Err(Problem::new(Code::JournalUnavailable, "the message could not be recorded")),
        Err(_) => Err(Problem::new(Code::Internal, "the delivery ended without a result")),
    }
}

fn problem_of(error: VerifyError) -> Problem {
    match error {
        VerifyError::Malformed { which } => {
            Problem::new(Code::DeliveryMalformed, format!("the {which} header is missing, doubled or malformed"))
                .at(which, "one family of svix-id, svix-timestamp, svix-signature, each once")
        }
        VerifyError::SignatureInvalid => Problem::new(Code::SignatureInvalid, "the signature does not match"),
        VerifyError::TooOld { .. } => {
            Problem::new(Code::MessageTooOld, "the timestamp is more than 300 s from this server's clock")
        }
    }
}
