//! Clients side by side, for servers that carry many calls on one connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use reqwest::{Client, Url};

use super::client;
use super::settings::{UpstreamError, UpstreamSettings};

/// Most calls on one connection: providers allow about 100 streams, and the rest would queue unseen.
pub(super) const SHARD_CALLS: usize = 90;

/// A provider's clients; all but the first are made when they are needed.
pub(super) struct Shards {
    settings: UpstreamSettings,
    base: Url,
    shards: Box<[Shard]>,
}

#[derive(Default)]
struct Shard {
    client: OnceLock<Client>,
    in_flight: AtomicUsize,
}

impl Shards {
    pub(super) fn new(settings: &UpstreamSettings, base: &Url) -> Result<Self, UpstreamError> {
        let several = client::multiplexes(settings, base);
        let count = if several { settings.max_in_flight.div_ceil(SHARD_CALLS).max(1) } else { 1 };
        let shards: Box<[Shard]> = (0..count).map(|_| Shard::default()).collect();
        let first = client::build(settings, base)?;
        shards[0].client.get_or_init(|| first);
        Ok(Self { settings: settings.clone(), base: base.clone(), shards })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.shards.iter().map(|shard| shard.in_flight.load(Ordering::Relaxed)).sum()
    }

    /// A place for one call, on the least loaded client that exists, or on another when all are full.
    pub(super) fn take(self: &Arc<Self>) -> Place {
        let index = self.least_loaded();
        let shard = &self.shards[index];
        shard.in_flight.fetch_add(1, Ordering::Relaxed);
        // Made here, so that the next call sees that it exists.
        self.client_of(shard);
        Place { shards: Arc::clone(self), index }
    }

    fn least_loaded(&self) -> usize {
        let mut best = 0;
        let mut load = self.shards[0].in_flight.load(Ordering::Relaxed);
        for (index, shard) in self.shards.iter().enumerate().skip(1) {
            if shard.client.get().is_none() {
                if load < SHARD_CALLS {
                    break;
                }
                return index;
            }
            let other = shard.in_flight.load(Ordering::Relaxed);
            if other < load {
                (best, load) = (index, other);
            }
        }
        best
    }

    fn client_of<'a>(&'a self, shard: &'a Shard) -> &'a Client {
        shard.client.get_or_init(|| {
            let made = client::build(&self.settings, &self.base);
            // Same settings as the first, so this fails only if a file went away since.
            made.unwrap_or_else(|_| self.client_of(&self.shards[0]).clone())
        })
    }
}

/// A place taken on a client; given back when dropped. It may outlive the call that took it: a reply
/// that is still being read holds it.
pub(super) struct Place {
    shards: Arc<Shards>,
    index: usize,
}

impl Place {
    pub(super) fn client(&self) -> &Client {
        self.shards.client_of(&self.shards.shards[self.index])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shards.shards[self.index].in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::HttpVersion;
    use super::*;

    fn shards(http: HttpVersion, max_in_flight: usize) -> Arc<Shards> {
        let mut settings = UpstreamSettings::new("http://127.0.0.1:9/v1");
        settings.http = http;
        settings.max_in_flight = max_in_flight;
        let base = Url::parse(&settings.base_url).expect("a URL");
        Arc::new(Shards::new(&settings, &base).expect("clients"))
    }

    fn loads(shards: &Shards) -> Vec<usize> {
        shards.shards.iter().map(|shard| shard.in_flight.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn a_client_is_added_when_all_are_full() {
        let shards = shards(HttpVersion::Two, 200);
        let mut places: Vec<_> = (0..90).map(|_| shards.take()).collect();
        assert_eq!(loads(&shards), [90, 0, 0]);
        places.extend((0..110).map(|_| shards.take()));
        assert_eq!(loads(&shards), [90, 90, 20]);
        places.drain(..50);
        let _more: Vec<_> = (0..20).map(|_| shards.take()).collect();
        assert_eq!(loads(&shards), [40, 90, 40]);
        drop(places);
        assert_eq!(shards.in_flight(), 20);
    }

    #[test]
    fn what_does_not_share_connections_has_one_client() {
        let shards = shards(HttpVersion::One, 1000);
        let _places: Vec<_> = (0..200).map(|_| shards.take()).collect();
        assert_eq!(loads(&shards), [200]);
    }
}
