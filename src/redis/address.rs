//! Addresses of servers as URLs have them. Named by whoever reads one from a setting, or is told one by a server.

use std::fmt::Display;

/// The address with this port if it names none. IPv6 stands in brackets.
pub(super) fn with_port(address: &str, port: u16) -> String {
    let behind_brackets = address.rsplit_once(']').map_or(address, |(_, rest)| rest);
    if behind_brackets.contains(':') { address.to_owned() } else { format!("{address}:{port}") }
}

/// The address of a host, as a server names it, and a port.
pub(super) fn joined(host: &str, port: impl Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The host of an address, as it is without a port.
pub(super) fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_port_keeps_it_and_brackets_hide_colons() {
        let check = |address: &str, expected: &str| assert_eq!(with_port(address, 6379), expected);
        check("a", "a:6379");
        check("a:7001", "a:7001");
        check("[::1]", "[::1]:6379");
        check("[::1]:7001", "[::1]:7001");
        assert_eq!(joined("::1", 7001), "[::1]:7001");
        assert_eq!(joined("a", "7001"), "a:7001");
        assert_eq!([host_of("[::1]:7001"), host_of("a:7001")], ["::1", "a"]);
    }
}
