//! Classes of network addresses, and which class may name which. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{Failure, FailureKind};

/// Where an address leads, by how much a stranger may learn or do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The internet.
    Public,
    /// A private network: RFC 1918, carrier NAT, unique local IPv6.
    Private,
    /// This machine.
    Loopback,
    /// Link-local, metadata services, multicast, reserved: nobody else may name these.
    Forbidden,
}

/// Host names of metadata services, refused before any lookup.
const METADATA_NAMES: [&str; 4] = ["metadata.google.internal", "metadata", "instance-data", "metadata.azure.internal"];

/// The class of an address; IPv6 forms that carry an IPv4 address have its class.
pub fn class_of(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(ip) => class_of_v4(ip),
        IpAddr::V6(ip) => embedded_v4(ip).map_or_else(|| class_of_v6(ip), class_of_v4),
    }
}

/// The class a host has by its text alone: literals, `localhost`, metadata names. `None`: ask the resolver.
pub fn class_of_host(host: &str) -> Option<Class> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(ip) = host.parse() {
        return Some(class_of(ip));
    }
    if METADATA_NAMES.contains(&host.as_str()) {
        return Some(Class::Forbidden);
    }
    is_localhost(&host).then_some(Class::Loopback)
}

/// Whether a name means this machine by RFC 6761.
pub fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether a peer of class `namer` may send us to `target`.
pub fn permits(namer: Class, target: Class) -> bool {
    match target {
        Class::Public => true,
        Class::Private | Class::Loopback => matches!(namer, Class::Private | Class::Loopback),
        Class::Forbidden => false,
    }
}

/// [`permits`] as a verdict on `host`.
///
/// # Errors
/// `Refused`, naming the host and its class.
pub fn admit(namer: Class, host: &str, target: Class) -> Result<(), Failure> {
    if permits(namer, target) {
        return Ok(());
    }
    let what = match target {
        Class::Public => "public",
        Class::Private => "private",
        Class::Loopback => "loopback",
        Class::Forbidden => "link-local, metadata or reserved",
    };
    Err(Failure::new(FailureKind::Refused, format!("another origin named {host}, a {what} address: refused")))
}

fn class_of_v4(ip: Ipv4Addr) -> Class {
    let [a, b, c, d] = ip.octets();
    match (a, b) {
        (127, _) => Class::Loopback,
        // Azure's wire server and Alibaba's metadata hide in public and carrier space.
        (168, 63) if (c, d) == (129, 16) => Class::Forbidden,
        (100, 100) if (c, d) == (100, 200) => Class::Forbidden,
        (10, _) | (192, 168) => Class::Private,
        (172, 16..=31) | (100, 64..=127) | (198, 18..=19) => Class::Private,
        (0, _) | (169, 254) | (224..=255, _) => Class::Forbidden,
        _ => Class::Public,
    }
}

fn class_of_v6(ip: Ipv6Addr) -> Class {
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if ip == AWS_METADATA || ip.is_unspecified() {
        return Class::Forbidden;
    }
    if ip.is_loopback() {
        return Class::Loopback;
    }
    match ip.segments()[0] {
        0xfc00..=0xfdff | 0xfec0..=0xfeff => Class::Private,
        0xfe80..=0xfebf | 0xff00..=0xffff => Class::Forbidden,
        _ => Class::Public,
    }
}

/// The IPv4 address inside mapped, compatible, NAT64, 6to4 and Teredo forms.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let pair = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    let compatible = s[..6] == [0; 6] && !(s[6] == 0 && s[7] <= 1);
    if s[..6] == [0, 0, 0, 0, 0, 0xffff] || s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || compatible {
        return Some(pair(s[6], s[7]));
    }
    if s[0] == 0x2002 {
        return Some(pair(s[1], s[2]));
    }
    // Teredo keeps the client's address inverted in the last 32 bits.
    (s[..2] == [0x2001, 0]).then(|| pair(!s[6], !s[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classed_in_every_disguise() {
        for (text, class) in [
            ("1.1.1.1", Class::Public),
            ("52.216.0.1", Class::Public),
            ("10.1.2.3", Class::Private),
            ("172.16.0.1", Class::Private),
            ("172.32.0.1", Class::Public),
            ("192.168.1.1", Class::Private),
            ("100.64.0.1", Class::Private),
            ("127.9.9.9", Class::Loopback),
            ("0.0.0.0", Class::Forbidden),
            ("169.254.169.254", Class::Forbidden),
            ("168.63.129.16", Class::Forbidden),
            ("100.100.100.200", Class::Forbidden),
            ("224.0.0.1", Class::Forbidden),
            ("255.255.255.255", Class::Forbidden),
            ("::1", Class::Loopback),
            ("::", Class::Forbidden),
            ("fe80::1", Class::Forbidden),
            ("febf::1", Class::Forbidden),
            ("fd00:ec2::254", Class::Forbidden),
            ("fd12::1", Class::Private),
            ("ff02::1", Class::Forbidden),
            ("2600::1", Class::Public),
            ("::ffff:169.254.169.254", Class::Forbidden),
            ("::ffff:10.0.0.1", Class::Private),
            ("::127.0.0.1", Class::Loopback),
            ("64:ff9b::a9fe:a9fe", Class::Forbidden),
            ("64:ff9b::101:101", Class::Public),
            ("2002:7f00:1::", Class::Loopback),
            ("2001:0:1:1:1:1:80ff:fffe", Class::Loopback),
        ] {
            assert_eq!(class_of(text.parse().unwrap()), class, "{text}");
        }
    }

    #[test]
    fn names_with_a_known_place_need_no_lookup() {
        for (host, class) in [
            ("localhost", Some(Class::Loopback)),
            ("A.LocalHost.", Some(Class::Loopback)),
            ("Metadata.Google.Internal.", Some(Class::Forbidden)),
            ("169.254.169.254", Some(Class::Forbidden)),
            ("example.org", None),
            ("notlocalhost", None),
        ] {
            assert_eq!(class_of_host(host), class, "{host}");
        }
    }

    #[test]
    fn only_the_inside_may_name_the_inside_and_nobody_the_metadata() {
        use Class::{Forbidden, Loopback, Private, Public};
        let inside = [Private, Loopback];
        for namer in [Public, Private, Loopback, Forbidden] {
            assert!(permits(namer, Public));
            assert!(!permits(namer, Forbidden));
            for target in inside {
                assert_eq!(permits(namer, target), inside.contains(&namer), "{namer:?} {target:?}");
            }
        }
    }
}
