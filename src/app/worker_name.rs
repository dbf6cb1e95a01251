//! What this process is called among those that share a store.

use std::net::SocketAddr;

/// Its address; the machine's name where it listens on all addresses. Two processes of one name would be taken for one
/// that starts again and again, so the port is always part of it.
pub(super) fn worker_name(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    let system = rustix::system::uname();
    format!("{}:{}", system.nodename().to_string_lossy(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_machine_and_port() {
        let name = |address: &str| worker_name(address.parse().unwrap());
        assert_eq!(name("127.0.0.1:8080"), "127.0.0.1:8080");
        assert_eq!(name("[::1]:1"), "[::1]:1");
        for all in ["0.0.0.0:8080", "[::]:8080"] {
            let name = name(all);
            let machine = name.strip_suffix(":8080").unwrap();
            assert!(!machine.is_empty() && machine != "0.0.0.0" && machine != "[::]", "{name}");
        }
    }
}
