//! A small JSON API to change the world by hand: `/world`. By default every change is told by signed webhook, at once.
//!
//! No key: the stand-in listens on loopback only, and JSON bodies keep web pages out. Errors are JSON with a sentence.

use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, JsonConfig, Path, Query, QueryConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::faults::{Faults, RATE_WINDOW};
use super::tokens::{self, NewToken};
use crate::dev::sender::Habits;
use crate::dev::world::{Done, NewOrganization, NewUser, SessionEnd, World, WorldError};

/// Bytes of a request's body.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// The routes under `/world`.
pub(super) fn routes(config: &mut ServiceConfig) {
    let json = JsonConfig::default().limit(BODY_BYTES_MAX).error_handler(|error, _| {
        let response = refusal(StatusCode::BAD_REQUEST, &error.to_string());
        InternalError::from_response(error, response).into()
    });
    let query = QueryConfig::default().error_handler(|error, _| {
        let response = refusal(StatusCode::BAD_REQUEST, &error.to_string());
        InternalError::from_response(error, response).into()
    });
    config.service(
        web::scope("/world")
            .app_data(json)
            .app_data(query)
            .route("", web::get().to(describe))
            .route("/users", web::post().to(create_user))
            .route("/users/{user}", web::patch().to(update_user))
            .route("/users/{user}", web::delete().to(delete_user))
            .route("/organizations", web::post().to(create_organization))
            .route("/organizations/{organization}", web::patch().to(rename))
            .route("/organizations/{organization}", web::delete().to(delete_organization))
            .route("/memberships", web::post().to(grant))
            .route("/memberships", web::patch().to(change_role))
            .route("/memberships", web::delete().to(revoke))
            .route("/sessions", web::post().to(start_session))
            .route("/sessions/{session}", web::delete().to(end_session))
            .route("/tokens", web::post().to(mint))
            .route("/keys", web::post().to(rotate_keys))
            .route("/faults", web::get().to(faults))
            .route("/faults", web::put().to(set_faults))
            .route("/habits", web::put().to(set_habits))
            .route("/calls", web::get().to(calls))
            .route("/calls", web::delete().to(reset_calls))
            .default_service(web::to(unknown)),
    );
}

/// `?webhook=false` changes the world without telling anybody.
#[derive(Debug, Deserialize)]
struct Telling {
    #[serde(default = "yes")]
    webhook: bool,
}

fn yes() -> bool {
    true
}

/// Who, where and as what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    user: String,
    organization: String,
    role: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrganizationPatch {
    name: Option<String>,
    slug: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserPatch {
    first_name: Option<String>,
    banned: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSession {
    user: String,
}

/// `?how=revoked`
#[derive(Debug, Deserialize)]
struct Ending {
    #[serde(default)]
    how: SessionEnd,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// Whether the old keys are published no more.
    #[serde(default)]
    retire: bool,
}

async fn describe(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(shared.world.lock().describe())
}

async fn create_user(shared: Data<Shared>, telling: Query<Telling>, new: Json<NewUser>) -> HttpResponse {
    change(&shared, &telling, |world| world.create_user(new.into_inner())).await
}

async fn update_user(shared: Data<Shared>, telling: Query<Telling>, user: Path<String>, patch: Json<UserPatch>) -> HttpResponse {
    change(&shared, &telling, |world| match (&patch.first_name, patch.banned) {
        (_, Some(true)) => world.ban(&user),
        (_, Some(false)) => world.unban(&user),
        (Some(name), None) => world.rename_user(&user, name),
        (None, None) => Err(WorldError::Malformed { value: "{}".to_owned(), what: "a change of a user" }),
    })
    .await
}

async fn delete_user(shared: Data<Shared>, telling: Query<Telling>, user: Path<String>) -> HttpResponse {
    change(&shared, &telling, |world| world.delete_user(&user)).await
}

async fn create_organization(shared: Data<Shared>, telling: Query<Telling>, new: Json<NewOrganization>) -> HttpResponse {
    change(&shared, &telling, |world| world.create_organization(new.into_inner())).await
}

async fn rename(
    shared: Data<Shared>,
    telling: Query<Telling>,
    organization: Path<String>,
    patch: Json<OrganizationPatch>,
) -> HttpResponse {
    change(&shared, &telling, |world| world.rename(&organization, patch.name.as_deref(), patch.slug.as_deref())).await
}

async fn delete_organization(shared: Data<Shared>, telling: Query<Telling>, organization: Path<String>) -> HttpResponse {
    change(&shared, &telling, |world| world.delete_organization(&organization)).await
}

async fn grant(shared: Data<Shared>, telling: Query<Telling>, place: Json<Place>) -> HttpResponse {
    let role = place.role.as_deref().unwrap_or("org:member");
    change(&shared, &telling, |world| world.grant(&place.user, &place.organization, role)).await
}

async fn change_role(shared: Data<Shared>, telling: Query<Telling>, place: Json<Place>) -> HttpResponse {
    let role = place.role.as_deref().unwrap_or("org:member");
    change(&shared, &telling, |world| world.change_role(&place.user, &place.organization, role)).await
}

async fn revoke(shared: Data<Shared>, telling: Query<Telling>, place: Json<Place>) -> HttpResponse {
    change(&shared, &telling, |world| world.revoke(&place.user, &place.organization)).await
}

async fn start_session(shared: Data<Shared>, telling: Query<Telling>, new: Json<NewSession>) -> HttpResponse {
    change(&shared, &telling, |world| world.start_session(&new.user)).await
}

async fn end_session(
    shared: Data<Shared>,
    telling: Query<Telling>,
    ending: Query<Ending>,
    session: Path<String>,
) -> HttpResponse {
    change(&shared, &telling, |world| world.end_session(&session, ending.how)).await
}

/// A token, and its session: to end it, or to mint another.
async fn mint(shared: Data<Shared>, new: Json<NewToken>) -> HttpResponse {
    match tokens::mint(&mut shared.world.lock(), &shared.issuer, &new) {
        Ok(minted) => HttpResponse::Ok().json(json!({"session": minted.session, "jwt": shared.keys.sign(&minted.claims)})),
        Err(error) => refuse(&error),
    }
}

async fn rotate_keys(shared: Data<Shared>, rotation: Json<Rotation>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "keys": shared.keys.rotate(rotation.retire) }))
}

async fn faults(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(shared.faults.get())
}

async fn set_faults(shared: Data<Shared>, faults: Json<Faults>) -> HttpResponse {
    shared.faults.set(faults.into_inner());
    HttpResponse::Ok().json(shared.faults.get())
}

async fn set_habits(shared: Data<Shared>, habits: Json<Habits>) -> HttpResponse {
    shared.sender.set_habits(habits.clone());
    HttpResponse::Ok().json(habits.into_inner())
}

async fn calls(shared: Data<Shared>) -> HttpResponse {
    let times: Vec<u64> = shared.calls.times(1_000).iter().map(|at| at.as_micros() / 1_000).collect();
    let (seen, busiest) = (shared.calls.seen(), shared.calls.busiest(RATE_WINDOW));
    HttpResponse::Ok().json(json!({"seen": seen, "busiestTenSeconds": busiest, "lastMs": times}))
}

async fn reset_calls(shared: Data<Shared>) -> HttpResponse {
    shared.calls.reset();
    HttpResponse::NoContent().finish()
}

async fn unknown(request: HttpRequest) -> HttpResponse {
    let sentence = format!("The world has no {} {}.", request.method(), request.path());
    refusal(StatusCode::NOT_FOUND, &sentence)
}

/// Changes the world, tells about it, and answers what was done and how each delivery ended.
async fn change(
    shared: &Data<Shared>,
    telling: &Telling,
    verb: impl FnOnce(&mut World) -> Result<Done, WorldError>,
) -> HttpResponse {
    let done = verb(&mut shared.world.lock());
    let done = match done {
        Ok(done) => done,
        Err(error) => return refuse(&error),
    };
    let events: Vec<_> = done.messages.iter().map(|message| message.event_type).collect();
    if !telling.webhook {
        return HttpResponse::Ok().json(json!({"id": done.id, "events": events, "deliveries": []}));
    }
    let (sender, messages) = (shared.sender.clone(), done.messages);
    match shared.io.spawn(async move { sender.send(messages).await }).await {
        Ok((deliveries, plan)) => HttpResponse::Ok().json(json!({
            "id": done.id,
            "events": events,
            "deliveries": deliveries,
            "lost": plan.lost,
            "heldBack": plan.held_back,
        })),
        Err(error) => {
            refusal(StatusCode::INTERNAL_SERVER_ERROR, &format!("The world changed, telling about it failed: {error}."))
        }
    }
}

fn refuse(error: &WorldError) -> HttpResponse {
    let status = match error {
        WorldError::UserUnknown(_)
        | WorldError::OrganizationUnknown(_)
        | WorldError::SessionUnknown(_)
        | WorldError::NotAMember { .. } => StatusCode::NOT_FOUND,
        WorldError::AlreadyAMember { .. } | WorldError::Taken(_) => StatusCode::CONFLICT,
        WorldError::Malformed { .. } => StatusCode::BAD_REQUEST,
        WorldError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
    };
    refusal(status, &format!("Nothing was done: {error}."))
}

fn refusal(status: StatusCode, sentence: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": sentence }))
}
