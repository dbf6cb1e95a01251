//! What can be seen on this machine: the configuration, the disk, open files, the address.

use std::net::TcpListener;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::cli::exit::Exit;
use crate::config::Config;
use crate::domain::quantity::display_size;

/// Open files that a service with a thousand streams needs.
const OPEN_FILES: u64 = 4_096;

/// Whether it can be used, and what an operator may wonder about.
pub(super) fn configuration(config: &Config) -> Vec<Finding> {
    let names: Vec<&str> = config.providers.iter().map(|provider| provider.name.as_str()).collect();
    let first = match config.require_provider() {
        Ok(()) => Finding::ok("configuration", format!("good; providers: {}", names.join(", "))),
        Err(error) => Finding::fail("configuration", error.to_string(), "", Exit::Usage),
    };
    let notices = config.notices.iter().map(|notice| Finding::warn("configuration", notice, ""));
    let unlimited =
        [&config.limits].into_iter().chain(config.providers.iter().map(|provider| &provider.limits));
    let unlimited = unlimited
        .chain(config.providers.iter().flat_map(|provider| provider.lanes.iter().map(|lane| &lane.limits)));
    let mut rates =
        unlimited.map(|limits| limits.requests.len() + limits.tokens.len() + limits.input_tokens.len());
    let no_rate = (!config.providers.is_empty() && rates.all(|rates| rates == 0)).then(|| {
        let advice = "set limits.requests and limits.tokens to what your account allows, if you know it";
        Finding::warn("limits", "no rate is configured: it is learned from what the provider says", advice)
    });
    [first].into_iter().chain(notices).chain(no_rate).collect()
}

/// Room for what is kept: with less than `least` bytes nothing new is taken.
pub(super) fn disk(database: &Path, least: u64) -> Finding {
    let folder =
        database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // Before the first start it is not there yet.
    let Some(there) = folder
        .ancestors()
        .map(|it| if it.as_os_str().is_empty() { Path::new(".") } else { it })
        .find(|it| it.exists())
    else {
        return Finding::fail("disk", format!("{} does not exist", folder.display()), "", Exit::Local);
    };
    let about = format!("disk of {}", folder.display());
    if let Some(found) = no_place_for_data(there, database) {
        let advice = "give the folder to the user that runs the service, or name another in store.url";
        return Finding::fail(about, found, advice, Exit::Local);
    }
    let free = match statvfs(there) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => return Finding::fail(about, error.to_string(), "", Exit::Local),
    };
    // As 41 GiB, not to the byte.
    let unit = if free >= 10 << 30 { 1 << 30 } else { 1 << 20 };
    let rounded = display_size(free - free % unit);
    if free < least {
        let found =
            format!("{rounded} free, below store.min_free ({}): nothing new is taken", display_size(least));
        return Finding::fail(about, found, "free some room, or set store.min_free lower", Exit::Local);
    }
    if free < least.saturating_mul(2) {
        return Finding::warn(about, format!("{rounded} free"), "below store.min_free nothing new is taken");
    }
    Finding::ok(about, format!("{rounded} free"))
}

/// Why a service can't keep its data below `there`, or in the database that lies there already.
fn no_place_for_data(there: &Path, database: &Path) -> Option<String> {
    if !there.is_dir() {
        return Some(format!("{} is no folder", there.display()));
    }
    let folder = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let held = [(there, folder), (database, Access::READ_OK | Access::WRITE_OK)];
    let mut held = held.into_iter().filter(|(path, _)| path.exists());
    held.find_map(|(path, rights)| {
        let error = access(path, rights).err()?;
        Some(format!("{} can't be written: {}", path.display(), std::io::Error::from(error)))
    })
}

/// Sockets and files that the process may have.
pub(super) fn open_files() -> Finding {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if most < OPEN_FILES {
        let advice =
            "raise it, with `ulimit -Hn` or LimitNOFILE= of a systemd unit, for many clients at once";
        return Finding::warn("open files", format!("at most {most}"), advice);
    }
    Finding::ok("open files", format!("at most {most}"))
}

/// Whether a service could listen.
pub(super) fn address(config: &Config) -> Finding {
    let address = config.server.listen;
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok("address", format!("{address} is free")),
        Err(error) => Finding::warn(
            "address",
            format!("{address}: {error}"),
            "if a service runs there, all is well: `sluicegate doctor --url` looks at it; else set server.listen",
        ),
    }
}
