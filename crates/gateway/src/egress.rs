//! Outside endpoints: which names are host names, which addresses a name may stand for, and dialling them.
//!
//! What it is: the rule that a resolved name never leads into the box, its network or a metadata service.
//! An address that the composition itself names is not judged here: its author wrote it down.
//! Addresses follow the IANA special-purpose registries (RFC 6890 and later entries).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use crate::limits::Limits;

/// Longest host name, in bytes, without the final dot (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;
/// Longest label, in bytes (same section).
const LABEL_BYTES_MAX: usize = 63;
/// How many addresses of one name are dialled.
const ADDRESSES_MAX: usize = 8;

/// Why an outside endpoint was not reached.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EgressError {
    /// All addresses of the name are ones that a name may not stand for.
    #[error("name stands for {found}, expected a public address")]
    AddressRefused {
        /// The first of them.
        found: IpAddr,
    },
    /// The name has no address, or none in time.
    #[error("name does not resolve")]
    Unresolved,
    /// The name stands for an address of the box itself.
    #[error("name stands for {found}, which is the box's own")]
    Own {
        /// Which.
        found: IpAddr,
    },
    /// No address took the connection in time.
    #[error("no address answers")]
    Unreachable,
}

/// Whether `text` is a host name of letters, digits, `-` and `_`, or an IP address.
pub(crate) fn is_host(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let label = |l: &str| {
        (1..=LABEL_BYTES_MAX).contains(&l.len())
            && l.bytes().all(|b| plain(b) || b == b'-')
            && l.bytes().next().is_some_and(plain)
            && l.bytes().next_back().is_some_and(plain)
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= HOST_BYTES_MAX && text.split('.').all(label))
}

/// Connects to `host`, or to `address` where the composition gives one.
pub(crate) async fn dial(
    host: &str,
    port: u16,
    address: Option<IpAddr>,
    limits: &Limits,
) -> Result<TcpStream, EgressError> {
    match address {
        Some(address) => connect(&[SocketAddr::new(address, port)], limits).await,
        None => {
            let stream = connect(&resolve(host, port, limits).await?, limits).await?;
            let ends = stream.local_addr().and_then(|local| Ok((local.ip(), stream.peer_addr()?.ip())));
            let (local, peer) = ends.map_err(|_| EgressError::Unreachable)?;
            if is_own(local, peer) { Err(EgressError::Own { found: peer }) } else { Ok(stream) }
        }
    }
}

async fn connect(addresses: &[SocketAddr], limits: &Limits) -> Result<TcpStream, EgressError> {
    let deadline = Instant::now() + limits.connect_max;
    for address in addresses {
        if let Ok(Ok(stream)) = timeout_at(deadline, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    Err(EgressError::Unreachable)
}

/// Whether a connection with these ends leads to the box that it comes from: a public address may be the box's own. One
/// that is a second address of an interface is called from the first one, and does not show so.
fn is_own(local: IpAddr, peer: IpAddr) -> bool {
    local.to_canonical() == peer.to_canonical()
}

async fn resolve(host: &str, port: u16, limits: &Limits) -> Result<Vec<SocketAddr>, EgressError> {
    let found = timeout(limits.lookup_max, lookup_host((host, port))).await;
    let found: Vec<_> =
        found.map_err(|_| EgressError::Unresolved)?.map_err(|_| EgressError::Unresolved)?.collect();
    choose(&found)
}

fn choose(found: &[SocketAddr]) -> Result<Vec<SocketAddr>, EgressError> {
    let first = found.first().ok_or(EgressError::Unresolved)?;
    let public: Vec<_> = found.iter().filter(|a| is_public(a.ip())).take(ADDRESSES_MAX).copied().collect();
    if public.is_empty() { Err(EgressError::AddressRefused { found: first.ip() }) } else { Ok(public) }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        // This network, private, loopback, and the whole of multicast, reserved and broadcast.
        [0 | 10 | 127 | 224..=255, ..] => true,
        // Shared address space of carriers; also the metadata service of one cloud (100.100.100.200).
        [100, 64..=127, ..] => true,
        // Link-local, with the metadata service of most clouds (169.254.169.254).
        [169, 254, ..] => true,
        [172, 16..=31, ..] | [192, 168, ..] => true,
        // Protocol assignments, documentation, 6to4 relay, AS112.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [192, 31, 196, _] | [192, 52, 193, _] | [192, 175, 48, _] => {
            true
        }
        // Benchmarking and documentation.
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // The host's wire server on Azure: public by number, the operator by nature.
        [168, 63, 129, 16] => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(v4) = address.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    match address.segments() {
        // NAT64 (RFC 6052): what counts is the address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        // Protocol assignments with Teredo, documentation, 6to4.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast is 2000::/3; all else (unique local, link-local, multicast ..) is not.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 443)
    }

    #[test]
    fn takes_host_names_and_addresses() {
        for name in
            ["a", "api.example.com", "my_service", "xn--bcher-kva.example", "8.8.8.8", "2606:4700::1111"]
        {
            assert!(is_host(name), "{name}");
        }
        assert!(is_host(&["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".")));
    }

    #[test]
    fn refuses_what_is_no_host_name() {
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".");
        let label = "a".repeat(64);
        let bad = ["", ".", "a.", ".a", "a..b", "a\0b", "a b", "-a", "a-", "*.a", "a/b", "a:1", "é", "[::1]"];
        for name in bad.into_iter().chain([long.as_str(), label.as_str()]) {
            assert!(!is_host(name), "{name:?}");
        }
    }

    #[test]
    fn refuses_addresses_that_lead_inside() {
        let inside = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.64.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for address in inside {
            let found = at(address).ip();
            assert_eq!(choose(&[at(address)]), Err(EgressError::AddressRefused { found }), "{address}");
        }
    }

    #[test]
    fn a_connection_from_an_address_to_itself_leads_to_the_box() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(is_own(ip("8.8.8.8"), ip("8.8.8.8")));
        assert!(is_own(ip("8.8.8.8"), ip("::ffff:8.8.8.8")));
        assert!(is_own(ip("2606:4700::1111"), ip("2606:4700::1111")));
        assert!(!is_own(ip("192.168.1.2"), ip("8.8.8.8")));
    }

    #[test]
    fn takes_public_addresses_and_leaves_out_the_others_of_a_name() {
        for address in
            ["8.8.8.8", "100.128.0.1", "172.32.0.1", "192.169.0.1", "2606:4700::1111", "64:ff9b::808:808"]
        {
            assert_eq!(choose(&[at(address)]), Ok(vec![at(address)]), "{address}");
        }
        assert_eq!(choose(&[at("127.0.0.1"), at("8.8.8.8"), at("::1")]), Ok(vec![at("8.8.8.8")]));
        assert_eq!(choose(&[]), Err(EgressError::Unresolved));
    }
}
