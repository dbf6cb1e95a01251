//! What this process is called among those that share a store.

use std::net::SocketAddr;

/// Its address, with the machine's name where every machine has such an address. Two processes of one name would be taken
/// for one that starts again and again, so the port is always part of it.
pub(super) fn worker_name(address: SocketAddr) -> String {
    let system = rustix::system::uname();
    let machine = system.nodename().to_string_lossy();
    if address.ip().is_unspecified() {
        format!("{machine}:{}", address.port())
    } else if address.ip().is_loopback() {
        // Behind a proxy of its own machine.
        format!("{machine}/{address}")
    } else {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_machine_and_port() {
        let name = |address: &str| worker_name(address.parse().unwrap());
        assert_eq!(name("10.0.0.7:8080"), "10.0.0.7:8080");
        for own in ["127.0.0.1:8080", "[::1]:1"] {
            let name = name(own);
            let (machine, address) = name.split_once('/').unwrap();
            assert!(!machine.is_empty() && address == own, "{name}");
        }
        for all in ["0.0.0.0:8080", "[::]:8080"] {
            let name = name(all);
            let machine = name.strip_suffix(":8080").unwrap();
            assert!(!machine.is_empty() && machine != "0.0.0.0" && machine != "[::]", "{name}");
        }
    }
}
