//! The forwarding fields of a request: which client it comes from and what that client asked for.
//!
//! Without trusted proxies the gateway is the first to know, so it sets all fields itself, and only
//! appends to `X-Forwarded-For`. What a trusted proxy in front sent is kept, and the addresses are
//! followed back as long as trusted proxies added them: the first that is not trusted is the client,
//! and everything before it is the client's own invention (nginx calls this rule
//! `real_ip_recursive`).

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName};
use model::Subnet;

use crate::backend::line::{joined, put};
use crate::client::state::Client;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Whether [`write`] writes the field.
pub(crate) fn is_written(name: &HeaderName) -> bool {
    [FOR, PROTO, HOST, PORT].contains(name)
}

/// Writes the fields of a request from `client` for `host`. `trust` has the trusted proxies.
pub(crate) fn write(
    out: &mut Vec<u8>,
    headers: &HeaderMap,
    client: &Client,
    host: &str,
    trust: &[Subnet],
) {
    out.extend_from_slice(b"x-forwarded-for: ");
    if trust.is_empty() {
        if headers.contains_key(&FOR) {
            joined(out, headers, &FOR, b", ");
            out.extend_from_slice(b", ");
        }
    } else {
        for address in trusted_chain(headers, client.peer.ip(), trust) {
            put(out, &[address.as_bytes(), b", "]);
        }
    }
    put(out, &[client.address.as_bytes(), b"\r\n"]);
    let is_trusted = trusts(trust, client.peer.ip());
    let mut field = |name: &HeaderName, own: Option<&str>| {
        let sent = is_trusted && headers.contains_key(name);
        if !sent && own.is_none() {
            return;
        }
        put(out, &[name.as_str().as_bytes(), b": "]);
        match own {
            Some(own) if !sent => out.extend_from_slice(own.as_bytes()),
            _ => joined(out, headers, name, b", "),
        }
        out.extend_from_slice(b"\r\n");
    };
    field(&PROTO, Some("http"));
    field(&HOST, Some(host));
    // The port of this listener is not the one of a scheme that the proxy in front ended.
    let is_scheme_sent = is_trusted && headers.contains_key(&PROTO);
    field(&PORT, (!is_scheme_sent).then_some(&client.port));
}

fn trusts(trust: &[Subnet], address: IpAddr) -> bool {
    trust.iter().any(|subnet| subnet.contains(address))
}

/// The addresses that trusted proxies added, in the order of the field, from the client on. Without
/// `peer`, which sent the request.
fn trusted_chain<'a>(headers: &'a HeaderMap, peer: IpAddr, trust: &[Subnet]) -> Vec<&'a str> {
    let values = headers.get_all(FOR).iter().map(|value| value.to_str().unwrap_or_default());
    let sent: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut is_trusted = trusts(trust, peer);
    let mut chain = Vec::new();
    for text in sent.into_iter().rev() {
        let Some(address) = parsed(text).filter(|_| is_trusted) else { break };
        chain.push(text);
        is_trusted = trusts(trust, address);
    }
    chain.reverse();
    chain
}

/// An address of `X-Forwarded-For`. Some proxies add the port, or brackets.
fn parsed(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    address.or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(trust: &[&str], sent: &[(&'static str, &str)], expected: [Option<&str>; 4]) {
        let trust: Vec<Subnet> = trust.iter().map(|subnet| subnet.parse().unwrap()).collect();
        let client = Client::for_tests("10.0.0.9:5000", "10.0.0.1:8080");
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, value.parse().unwrap());
        }
        let mut out = Vec::new();
        write(&mut out, &headers, &client, "shop.example", &trust);
        let written: String = [FOR, PROTO, HOST, PORT]
            .iter()
            .zip(expected)
            .filter_map(|(name, value)| Some(format!("{name}: {}\r\n", value?)))
            .collect();
        assert_eq!(String::from_utf8(out).unwrap(), written, "{trust:?} {sent:?}");
    }

    fn check_for(trust: &[&str], sent: &[&str], expected: &str) {
        let sent: Vec<_> = sent.iter().map(|value| ("x-forwarded-for", *value)).collect();
        let others = [Some("http"), Some("shop.example"), Some("8080")];
        let [proto, host, port] = others;
        check(trust, &sent, [Some(expected), proto, host, port]);
    }

    #[test]
    fn without_trusted_proxies_the_address_of_the_client_is_appended() {
        check_for(&[], &[], "10.0.0.9");
        check_for(&[], &["1.1.1.1", "evil, 2.2.2.2"], "1.1.1.1, evil, 2.2.2.2, 10.0.0.9");
    }

    #[test]
    fn a_client_that_is_not_trusted_says_nothing_about_addresses() {
        check_for(&["10.0.0.8"], &["1.1.1.1"], "10.0.0.9");
        check_for(&["fd00::/8"], &["1.1.1.1"], "10.0.0.9");
    }

    #[test]
    fn the_first_address_that_is_not_trusted_is_the_client() {
        let trust = ["10.0.0.0/8", "fd00::/8"];
        check_for(&trust, &[], "10.0.0.9");
        check_for(&trust, &["1.1.1.1"], "1.1.1.1, 10.0.0.9");
        check_for(&trust, &["6.6.6.6, 1.1.1.1"], "1.1.1.1, 10.0.0.9");
        check_for(&trust, &["6.6.6.6", "1.1.1.1, 10.0.0.8"], "1.1.1.1, 10.0.0.8, 10.0.0.9");
        let ports = "6.6.6.6, 1.1.1.1:80, [fd00::2]:81, [fd00::3]";
        check_for(&trust, &[ports], "1.1.1.1:80, [fd00::2]:81, [fd00::3], 10.0.0.9");
        // All of them are trusted: the first one is the client.
        check_for(&trust, &["10.0.0.7, 10.0.0.8"], "10.0.0.7, 10.0.0.8, 10.0.0.9");
        // No proxy adds a name: it is from a client.
        check_for(&trust, &["1.1.1.1, unknown, 10.0.0.8"], "10.0.0.8, 10.0.0.9");
        check_for(&trust, &["1.1.1.1,", ""], "10.0.0.9");
    }

    #[test]
    fn the_other_fields_are_kept_from_a_trusted_proxy_only() {
        let (own, host) = (Some("10.0.0.9"), Some("shop.example"));
        let sent = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.test"),
            ("x-forwarded-port", "443"),
        ];
        check(&["10.0.0.8"], &sent, [own, Some("http"), host, Some("8080")]);
        check(&["10.0.0.9"], &sent, [own, Some("https"), Some("shop.test"), Some("443")]);
        check(&["10.0.0.9"], &sent[..1], [own, Some("https"), host, None]);
        check(&["10.0.0.9"], &sent[1..2], [own, Some("http"), Some("shop.test"), Some("8080")]);
    }
}
