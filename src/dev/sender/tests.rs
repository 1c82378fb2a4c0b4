//! The sender against a receiver of its own: what arrives, in which order, how often, and how wrong.

use std::sync::atomic::AtomicU16;

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use svix::webhooks::Webhook;

use super::*;
use crate::dev::sign::{fresh_message_id, fresh_secret};

/// An endpoint that keeps what it gets and answers what it is told: a queue of statuses, then 204.
#[derive(Clone)]
struct Receiver {
    got: Arc<Mutex<Vec<Got>>>,
    statuses: Arc<Mutex<Vec<u16>>>,
    followed: Arc<AtomicU16>,
    url: String,
    server: Option<ServerHandle>,
}

#[derive(Clone)]
struct Got {
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Got {
    fn values(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    fn is_signed_with(&self, secret: &str) -> bool {
        let mut headers = http1::HeaderMap::new();
        for name in super::super::sign::HEADER_NAMES {
            if let [value] = self.values(name)[..] {
                headers.insert(name, value.parse().expect("a value"));
            }
        }
        Webhook::new(secret).expect("a secret").verify(&self.body, &headers).is_ok()
    }
}

async fn receive(receiver: Data<Receiver>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let header = |(name, value): (&actix_web::http::header::HeaderName, &actix_web::http::header::HeaderValue)| {
        (name.to_string(), value.to_str().expect("text").to_owned())
    };
    let headers = request.headers().iter().map(header).collect();
    receiver.got.lock().expect("unpoisoned").push(Got { headers, body });
    let mut statuses = receiver.statuses.lock().expect("unpoisoned");
    let status = if statuses.is_empty() { 204 } else { statuses.remove(0) };
    let status = actix_web::http::StatusCode::from_u16(status).expect("a status");
    HttpResponse::build(status).insert_header(("location", "/elsewhere")).finish()
}

async fn elsewhere(receiver: Data<Receiver>) -> HttpResponse {
    receiver.followed.fetch_add(1, Ordering::Relaxed);
    HttpResponse::Ok().finish()
}

impl Receiver {
    async fn start(statuses: &[u16]) -> Self {
        let mut receiver = Self {
            got: Arc::default(),
            statuses: Arc::new(Mutex::new(statuses.to_vec())),
            followed: Arc::default(),
            url: String::new(),
            server: None,
        };
        let data = Data::new(receiver.clone());
        let app =
            move || App::new().app_data(data.clone()).route("/", web::post().to(receive)).default_service(web::to(elsewhere));
        let server = HttpServer::new(app).workers(1).disable_signals().bind("127.0.0.1:0").expect("binds");
        receiver.url = format!("http://{}/", server.addrs()[0]);
        let server = server.run();
        receiver.server = Some(server.handle());
        tokio::spawn(server);
        receiver
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().expect("unpoisoned").clone()
    }

    async fn stop(self) {
        self.server.expect("started").stop(false).await;
    }
}

fn message() -> Message {
    Message { id: fresh_message_id(), event_type: "user.updated", body: Bytes::from_static(br#"{"type":"user.updated"}"#) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_signed_and_only_2xx_is_taken() {
    let receiver = Receiver::start(&[204, 200, 307, 400, 503]).await;
    let secret = fresh_secret();
    let sender = Sender::new(secret.clone(), Vec::new(), 0.0).expect("a runtime");
    let mut taken = Vec::new();
    for _ in 0..5 {
        let delivery = sender.deliver_now(&message(), &receiver.url).await;
        taken.push((delivery.status, delivery.is_taken()));
    }
    assert_eq!(taken.iter().filter(|(_, is_taken)| *is_taken).count(), 2, "{taken:?}");
    assert!(receiver.got().iter().all(|got| got.is_signed_with(&secret)));
    assert_eq!(receiver.got()[0].values("content-type"), ["application/json"]);
    assert_eq!(receiver.followed.load(Ordering::Relaxed), 0, "redirects are not followed");
    let nowhere = sender.deliver_now(&message(), "http://127.0.0.1:1/").await;
    assert!(nowhere.status.is_none() && nowhere.error.is_some());
    receiver.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_is_wrong_in_that_way_alone() {
    let receiver = Receiver::start(&[]).await;
    let (secret, other) = (fresh_secret(), fresh_secret());
    let sender = Sender::new(secret.clone(), Vec::new(), 0.0).expect("a runtime");
    let sent = message();
    let forge = async |tamper: Tamper| {
        sender.deliver_forged(&sent, &receiver.url, &tamper).await;
        receiver.got().pop().expect("arrived")
    };
    assert!(forge(Tamper::None).await.is_signed_with(&secret));
    assert!(!forge(Tamper::Body).await.is_signed_with(&secret));
    assert!(forge(Tamper::Secret(other.clone())).await.is_signed_with(&other));
    assert!(forge(Tamper::Age(290)).await.is_signed_with(&secret));
    assert!(!forge(Tamper::Age(310)).await.is_signed_with(&secret));
    assert!(!forge(Tamper::Age(-310)).await.is_signed_with(&secret));
    assert!(!forge(Tamper::CutSignature).await.is_signed_with(&secret));
    assert!(forge(Tamper::Missing("svix-id")).await.values("svix-id").is_empty());
    assert_eq!(forge(Tamper::Doubled("svix-timestamp")).await.values("svix-timestamp").len(), 2);
    let mixed = forge(Tamper::MixedFamilies).await;
    assert_ne!(mixed.values("webhook-id"), mixed.values("svix-id"));
    sender.set_secrets(vec![other.clone(), secret.clone()]);
    let rotated = forge(Tamper::None).await;
    assert!(rotated.is_signed_with(&secret) && rotated.is_signed_with(&other));
    receiver.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_again_under_the_same_id_at_the_next_node_until_taken() {
    let [first, second] = [Receiver::start(&[500, 500]).await, Receiver::start(&[503]).await];
    let endpoints = vec![first.url.clone(), second.url.clone()];
    let sender = Sender::new(fresh_secret(), endpoints, 1e-6).expect("a runtime");
    let deliveries = sender.deliver_until_taken(&message()).await;
    let statuses: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.status).collect();
    assert_eq!(statuses, [500, 503, 500, 204]);
    let mut ids: Vec<_> = [first.got(), second.got()].concat().iter().map(|got| got.values("svix-id").concat()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_nobody_takes_is_given_up_after_eight_attempts() {
    let receiver = Receiver::start(&[500; 20]).await;
    let sender = Sender::new(fresh_secret(), vec![receiver.url.clone()], 0.0).expect("a runtime");
    let (deliveries, _) = sender.send(vec![message()]).await;
    assert_eq!(deliveries[0].status, Some(500));
    assert!(sender.idle(Duration::from_secs(10)).await);
    assert_eq!(receiver.got().len(), 8);
    assert!(sender.enqueue(vec![message()]));
    assert!(sender.idle(Duration::from_secs(10)).await);
    assert_eq!((receiver.got().len(), sender.refused()), (16, 0));
    receiver.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_drops_what_is_queued() {
    let sender = Sender::new(fresh_secret(), vec!["http://127.0.0.1:1/".to_owned()], 1.0).expect("a runtime");
    for _ in 0..OPEN_MAX {
        assert!(sender.enqueue(vec![message()]));
    }
    assert!(!sender.enqueue(vec![message()]), "the queue has a limit");
    assert_eq!(sender.refused(), 1);
    sender.stop();
    assert!(sender.idle(Duration::from_secs(10)).await);
}
