//! Replicas that run on one server, in front of one upstream.

use tempfile::TempDir;

use super::Arguments;
use super::harness::api::Api;
use super::harness::database::Server;
use super::harness::service::Service;
use super::harness::upstream::Upstream;

/// A cluster; its processes and its folders go with it.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) upstream: Upstream,
    pub(crate) replicas: Vec<Service>,
    pub(crate) apis: Vec<Api>,
    _folders: Vec<TempDir>,
}

impl Cluster {
    /// Starts one with a script for the upstream, and keys of its provider.
    pub(crate) async fn start(arguments: &Arguments, script: &str, keys: &str) -> anyhow::Result<Self> {
        let (server, upstream) = (Server::start().await?, Upstream::start(script)?);
        server.count_functions().await?;
        let (mut replicas, mut apis, mut folders) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..arguments.replicas {
            let folder = arguments.setting.folder()?;
            let provider = format!(
                "[providers.bench]\nbase_url = \"{}\"\nheaders = {{ \"x-caller\" = \"r{number}\" }}\n{keys}\n\
                 [[providers.bench.lanes]]\nmatch = \"bench\"\n",
                upstream.base_url()
            );
            let mut service = Service::configure_on(folder.path(), server.url(), &provider)?;
            apis.push(service.start_ready().await?);
            replicas.push(service);
            folders.push(folder);
        }
        Ok(Self { server, upstream, replicas, apis, _folders: folders })
    }

    /// Ends the replicas.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.replicas.iter_mut().try_for_each(Service::kill)
    }
}
