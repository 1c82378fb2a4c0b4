//! `ROLLCALL_METRICS_LISTEN`: metrics without a key, on a listener of their own.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::world::redis_server::free_port;
use crate::world::service::{ADMIN_KEY, Deployment, READ_KEY, Setup, World, run_test};
use crate::world::shell::Shell;
use crate::world::wait::until;

/// A world of one node that gives metrics there.
async fn with_metrics(test: impl AsyncFnOnce(&mut World, String) -> anyhow::Result<()>) {
    run_test(Deployment::Bare, Setup::default(), async |world: &mut World| {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        world.add_node_with(|config| config.metrics_listen = Some(address)).await;
        test(world, format!("http://{address}")).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_given_without_a_key_there_and_with_one_where_callers_ask() {
    with_metrics(async |world, metrics| {
        world.list("user_ada").await?;
        let answer = world.send(world.http.get(format!("{metrics}/metrics"))).await?;
        assert!(answer.header("content-type").starts_with("application/openmetrics-text"), "{answer:?}");
        let text = String::from_utf8(answer.body)?;
        assert!(text.contains("rollcall_reads_total{tier=\"origin\",outcome=\"answered\"} 1"), "{text}");
        let with_key = |key: &str| world.send(world.request("GET", "/metrics").bearer_auth(key));
        assert_eq!(world.send(world.request("GET", "/metrics")).await?.status, 401);
        assert_eq!((with_key(READ_KEY).await?.status, with_key(ADMIN_KEY).await?.status), (403, 200));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_there_too_and_nothing_of_anybody() {
    with_metrics(async |world, metrics| {
        for path in ["/livez", "/readyz"] {
            assert_eq!(world.send(world.http.get(format!("{metrics}{path}"))).await?.status, 200, "{path}");
        }
        for path in ["/v1/users/user_ada/orgs", "/webhooks/clerk", "/"] {
            let answer = world.send(world.http.get(format!("{metrics}{path}")).bearer_auth(ADMIN_KEY)).await?;
            assert_eq!((answer.status, &answer.json()["code"]), (404, &"route-unknown".into()), "{path}");
        }
        let posted = world.send(world.http.post(format!("{metrics}/metrics"))).await?;
        assert_eq!((posted.status, posted.header("allow")), (405, "GET"));
        Ok(())
    })
    .await;
}

/// A read under way keeps the node at its drain, with nobody let in any more.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_sees_a_stop_to_its_end() {
    with_metrics(async |world, metrics| {
        let (held, reading) = world.begin_slow_list(0, "user_ada").await?;
        let mut node = world.nodes.pop().expect("the node");
        node.begin_stop();
        until("callers are refused", async || TcpStream::connect(node.address).await.is_err().then_some(())).await;
        let watch = async |path: &str| world.http.get(format!("{metrics}{path}")).send().await.ok();
        assert_eq!(watch("/readyz").await.expect("an answer").status(), 503);
        assert_eq!(watch("/metrics").await.expect("an answer").status(), 200);
        held.release();
        assert_eq!(reading.answer().await?.status, 200);
        node.stop().await;
        until("nobody listens any more", async || watch("/metrics").await.is_none().then_some(())).await;
        Ok(())
    })
    .await;
}

#[test]
fn two_listeners_at_one_address_are_refused_and_one_of_metrics_is_said_to_listen() {
    let ran = Shell::new().set("ROLLCALL_METRICS_LISTEN", "127.0.0.1:8787").run(&["serve"]).ends_with(78);
    ran.says(&["ROLLCALL_METRICS_LISTEN = 127.0.0.1:8787", "ROLLCALL_LISTEN = 127.0.0.1:8787 (the default)", "two addresses"]);
    let ran = Shell::new().run(&["serve", "--metrics-listen", "9090"]).ends_with(78);
    ran.says(&["ROLLCALL_METRICS_LISTEN = 9090 (from the flag --metrics-listen)", "not an address with a port"]);
}
