//! The HTTP client of the verbs that talk to a running service. Every request has a limit; redirects are not followed:
//! a signature or a key is meant for one address only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::Usage;

/// A client for requests to `url`, each within `limit`. A proxy from the environment is not used towards this machine.
pub(super) fn client(url: &Url, limit: Duration) -> anyhow::Result<Client> {
    let builder =
        Client::builder().redirect(Policy::none()).timeout(limit).user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")));
    let builder = if is_this_machine(url) { builder.no_proxy() } else { builder };
    builder.build().context("the HTTP client cannot be made")
}

/// A URL of a service, as typed: `http://` or `https://`.
pub(super) fn url(text: &str) -> Result<Url, Usage> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| Usage(format!("{text} is not an http:// or https:// address")))
}

/// The address of the service listening on `listen`, as seen from this machine.
pub(super) fn own_url(listen: SocketAddr, path: &str) -> Url {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let address = SocketAddr::new(ip, listen.port());
    Url::parse(&format!("http://{address}{path}")).expect("an address and a path of ours make a URL")
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_on_this_machine() {
        let check = |listen: &str, expected| {
            assert_eq!(own_url(listen.parse().unwrap(), "/livez").as_str(), expected);
        };
        check("0.0.0.0:8787", "http://127.0.0.1:8787/livez");
        check("[::]:8787", "http://[::1]:8787/livez");
        check("192.0.2.1:1", "http://192.0.2.1:1/livez");
    }

    #[test]
    fn this_machine_is_told_from_others() {
        let check = |text, expected| assert_eq!(is_this_machine(&url(text).unwrap()), expected, "{text}");
        check("http://127.0.0.1:1/", true);
        check("http://[::1]:1/", true);
        check("http://localhost/", true);
        check("https://rollcall.example.test/", false);
        assert!(url("ftp://x").is_err() && url("x").is_err());
    }
}
