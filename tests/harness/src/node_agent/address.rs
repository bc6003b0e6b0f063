//! The network addresses of Pods.
//!
//! All Pods share the machine's network, so that two of them can't both listen on a port of every address. Each has a loopback
//! address of its own instead. The API server takes no loopback address for an endpoint of a Service; it is shown another
//! one, of the same last three bytes, that nothing listens on.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Pod;

/// The port whose claim stands for the whole address; what it is does not matter, as long as all agents use the same.
const CLAIM: u16 = 11_999;

/// How many addresses are tried: of sixteen million nearly all are free.
const TRIES: usize = 100;

/// Where the processes of a Pod listen on this machine; `None` until the Pod has an address.
pub fn listening(pod: &Pod) -> Option<Ipv4Addr> {
    let shown: Ipv4Addr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    let [_, second, third, fourth] = shown.octets();
    Some(Ipv4Addr::new(127, second, third, fourth))
}

/// An address that no other Pod of this machine has while this value lives.
#[derive(Debug)]
pub(super) struct PodAddress {
    local: Ipv4Addr,
    _claim: UdpSocket,
}

impl PodAddress {
    /// Finds a free address and holds it.
    pub(super) fn free() -> Result<Self> {
        for _ in 0..TRIES {
            let [second, third, fourth, ..] = *uuid::Uuid::new_v4().as_bytes();
            // 127.0.0.0/16 has the addresses that others use; none ends like a network's own or its broadcast's.
            let local = Ipv4Addr::new(127, second.max(1), third, fourth.clamp(1, 254));
            if let Ok(claim) = UdpSocket::bind((local, CLAIM)) {
                return Ok(Self { local, _claim: claim });
            }
        }
        bail!("no loopback address is free")
    }

    /// Where its processes listen.
    pub(super) fn local(&self) -> Ipv4Addr {
        self.local
    }

    /// The Pod's address as the API has it.
    pub(super) fn shown(&self) -> Ipv4Addr {
        let [_, second, third, fourth] = self.local.octets();
        Ipv4Addr::new(10, second, third, fourth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pods_have_two_addresses_to_listen_on() {
        let (one, other) = (PodAddress::free().unwrap(), PodAddress::free().unwrap());
        assert_ne!(one.local(), other.local());
        let listen = |address: &PodAddress| std::net::TcpListener::bind((address.local(), 8080));
        let listeners = (listen(&one), listen(&other));
        assert!(listeners.0.is_ok() && listeners.1.is_ok());
        assert_eq!(one.shown().octets()[1..], one.local().octets()[1..]);
    }
}
