//! Redis over REST in the way of Upstash, on a real Redis: as much of it as `@upstash/redis` needs to read.
//!
//! `POST /` takes a command as a JSON array and `POST /pipeline` an array of them; the answers are `{result}` or `{error}`. Texts
//! are in base64, as the library asks by `Upstash-Encoding`.

use std::net::{Ipv4Addr, SocketAddr};

use actix_web::dev::ServerHandle;
use actix_web::web::{Data, Json, post};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{self, RedisError};
use serde_json::{Value, json};

/// The only token that it takes.
pub const TOKEN: &str = "upstash_stand_in";

/// A running one. Stopped when dropped.
pub struct Upstash {
    pub address: SocketAddr,
    server: ServerHandle,
}

impl Upstash {
    /// Serves this Redis.
    pub async fn start(redis_url: &str) -> Self {
        let client = redis::Client::open(redis_url).expect("an address");
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let redis = Data::new(client.get_multiplexed_async_connection_with_config(&patient).await.expect("a Redis"));
        let app = move || App::new().app_data(redis.clone()).route("/", post().to(one)).route("/pipeline", post().to(several));
        let server = HttpServer::new(app).workers(1).disable_signals().bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { address, server: handle }
    }
}

impl Drop for Upstash {
    fn drop(&mut self) {
        // The message is sent as the future is made.
        drop(self.server.stop(false));
    }
}

async fn one(request: HttpRequest, redis: Data<MultiplexedConnection>, command: Json<Vec<Value>>) -> HttpResponse {
    if !may_ask(&request) {
        return unauthorized();
    }
    match run(&redis, &command).await {
        Ok(result) => HttpResponse::Ok().json(json!({ "result": result })),
        Err(error) => HttpResponse::BadRequest().json(json!({ "error": error.to_string() })),
    }
}

async fn several(request: HttpRequest, redis: Data<MultiplexedConnection>, commands: Json<Vec<Vec<Value>>>) -> HttpResponse {
    if !may_ask(&request) {
        return unauthorized();
    }
    let mut results = Vec::new();
    for command in commands.iter() {
        results.push(match run(&redis, command).await {
            Ok(result) => json!({ "result": result }),
            Err(error) => json!({ "error": error.to_string() }),
        });
    }
    HttpResponse::Ok().json(results)
}

fn may_ask(request: &HttpRequest) -> bool {
    let has = |name: &str, text: &str| request.headers().get(name).is_some_and(|given| given == text);
    has("authorization", &format!("Bearer {TOKEN}")) && has("upstash-encoding", "base64")
}

fn unauthorized() -> HttpResponse {
    HttpResponse::Unauthorized().json(json!({ "error": "Unauthorized" }))
}

async fn run(redis: &MultiplexedConnection, command: &[Value]) -> Result<Value, RedisError> {
    let mut words = redis::Cmd::new();
    for word in command {
        words.arg(word.as_str().expect("the library writes every word as a text"));
    }
    Ok(as_json(words.query_async(&mut redis.clone()).await?))
}

fn as_json(reply: redis::Value) -> Value {
    match reply {
        redis::Value::Nil => Value::Null,
        redis::Value::Int(number) => json!(number),
        redis::Value::BulkString(bytes) => json!(STANDARD.encode(bytes)),
        redis::Value::Array(replies) => replies.into_iter().map(as_json).collect(),
        other => panic!("{other:?} is no answer to a read"),
    }
}
