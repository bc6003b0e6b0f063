//! Free ports on the loopback address that stay free for their owner, also while nothing listens on them.
//!
//! A port that the kernel hands out lies in the range of outgoing connections: while its server is down, any client of the
//! machine may be given it. So these lie below that range, and each is held by a UDP socket on the same number for as long
//! as it is owned: other runs of the harness see that it is taken, and it is free again when this process ends.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::{Result, bail};

/// Below it are well-known ports, above it outgoing connections (32768 on Linux).
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// A port on 127.0.0.1 that no other run of the harness takes while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UdpSocket,
}

impl Port {
    /// Finds a free port and holds it.
    ///
    /// # Errors
    /// When none is free.
    pub fn free() -> Result<Self> {
        let start = (uuid::Uuid::new_v4().as_u128() % RANGE.len() as u128) as usize;
        for number in RANGE.cycle().skip(start).take(RANGE.len()) {
            let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _claim: claim });
            }
        }
        bail!("no port is free on 127.0.0.1 from {} to {}", RANGE.start, RANGE.end - 1)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ports_differ_and_are_free_to_listen_on() {
        let (one, other) = (Port::free().unwrap(), Port::free().unwrap());
        assert_ne!(one.number(), other.number());
        let listen = |port: &Port| TcpListener::bind((Ipv4Addr::LOCALHOST, port.number()));
        assert!(listen(&one).is_ok() && listen(&other).is_ok());
    }
}
