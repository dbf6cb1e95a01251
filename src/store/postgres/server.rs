//! The server that `store.url` names: how it is reached, and whether it will do.

use std::future::poll_fn;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Notification};

use super::credentials::Credentials;
use super::facts::Facts;
use super::fault::told;
use super::tls::{Roots, Tls, Trust};
use crate::store::StoreError;

/// A server and how to talk to it.
#[derive(Clone)]
pub(super) struct Server {
    config: Config,
    /// Where to look for other credentials.
    credentials: Option<Arc<Credentials>>,
    tls: Tls,
    commit_mode: &'static str,
    /// Whether what does not say otherwise reads by the rules that everything here is written for.
    reads_committed: bool,
}

impl Server {
    /// What a URL means. `sslmode` and `sslrootcert` are libpq's; without a file the system's authorities are
    /// asked, where libpq would look for one in the home folder.
    pub(super) fn of(url: &str) -> Result<Self, StoreError> {
        let unusable = |reason: String| StoreError::Unavailable(format!("store.url can't be used: {reason}"));
        Self::meant(url).map_err(unusable)
    }

    /// The same; why not, without what the URL holds. Reads the file of authorities, and connects to nothing.
    pub(super) fn meant(url: &str) -> Result<Self, String> {
        let (mut config, wanted) = parse(url)?;
        check_addresses(&config)?;
        // Like libpq: a socket of this machine needs no TLS, and its server offers none.
        let is_local = !config.get_hosts().is_empty()
            && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        config.ssl_mode(if is_local { SslMode::Disable } else { wanted.mode });
        config.keepalives_idle(Duration::from_secs(10)).keepalives_interval(Duration::from_secs(3));
        config.keepalives_retries(3).tcp_user_timeout(Duration::from_secs(10));
        // Looked at by every connection, not once at the start: after a switch to the standby an address may lead to the one that
        // was the primary for a while, and whoever gets in there would stay.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if config.get_application_name().is_none() {
            config.application_name("sluicegate");
        }
        let tls = Tls::new(wanted.trust, &wanted.roots)?;
        Ok(Self { config, credentials: None, tls, commit_mode: "on", reads_committed: true })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// What the file says of who connects holds for each connection from now on, without a new start.
    pub(super) fn renew_credentials_from(&mut self, file: PathBuf) {
        // The server would take another user's name for it.
        let database = self.database().to_owned();
        self.config.dbname(database);
        self.credentials = Some(Arc::new(Credentials::new(file)));
    }

    /// How to connect now.
    async fn current(&self) -> Config {
        let mut config = self.config.clone();
        if let Some(credentials) = &self.credentials {
            credentials.lay_over(&mut config).await;
        }
        config
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Whom it is spoken to as.
    pub(super) fn user(&self) -> &str {
        self.config.get_user().unwrap_or("of the system")
    }

    /// The database of it that is meant.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_else(|| self.user())
    }

    /// Whether it is reached without leaving this machine.
    pub(super) fn is_local(&self) -> bool {
        self.config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
            Host::Unix(_) => true,
        })
    }

    /// The `synchronous_commit` of what this process writes.
    pub(super) fn commit_mode(&self) -> &'static str {
        self.commit_mode
    }

    /// Whether a statement by itself runs as `READ COMMITTED`.
    pub(super) fn reads_committed(&self) -> bool {
        self.reads_committed
    }

    /// Connects once and looks whether this server, database and user will do.
    pub(super) async fn check(&mut self) -> Result<(), StoreError> {
        let alone = self.connect().await?;
        let facts = Facts::ask(&alone.client).await?;
        facts.judge()?;
        if !facts.syncs() {
            tracing::warn!(
                "the server runs with fsync = off: what is acknowledged may be lost when its machine fails"
            );
        }
        self.commit_mode = facts.commit_mode();
        self.reads_committed = facts.reads_committed();
        Ok(())
    }

    /// A connection outside of every pool.
    pub(super) async fn connect(&self) -> Result<Alone, StoreError> {
        let config = self.current().await;
        let connecting = config.connect(self.tls.clone());
        let connected = tokio::time::timeout(Duration::from_secs(10), connecting).await;
        let late = |_| StoreError::Unavailable("the server did not answer within 10 s".to_owned());
        let (client, connection) = connected.map_err(late)?.map_err(|error| self.refused(&error))?;
        let connection = tokio::spawn(async move {
            // Whoever uses it hears of its end.
            let _ = connection.await;
        });
        Ok(Alone { client, connection })
    }

    /// The same, and what the server notifies it of.
    pub(super) async fn connect_hearing(
        &self,
    ) -> Result<(Alone, UnboundedReceiver<Notification>), StoreError> {
        let config = self.current().await;
        let connecting = config.connect(self.tls.clone());
        let connected = tokio::time::timeout(Duration::from_secs(10), connecting).await;
        let late = |_| StoreError::Unavailable("the server did not answer within 10 s".to_owned());
        let (client, mut connection) = connected.map_err(late)?.map_err(|error| self.refused(&error))?;
        let (notifications, heard) = mpsc::unbounded_channel();
        let connection = tokio::spawn(async move {
            // Its end is heard of by the end of what it notifies of.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    // Nobody listens any more if this fails; the connection ends with its user.
                    let _ = notifications.send(notification);
                }
            }
        });
        Ok((Alone { client, connection }, heard))
    }

    /// Why the server let nobody in, with what can be done about it.
    fn refused(&self, error: &tokio_postgres::Error) -> StoreError {
        let (user, database) = (self.user(), self.database());
        let said = told(error);
        StoreError::Unavailable(match error.code() {
            Some(&SqlState::INVALID_PASSWORD) => {
                format!("the server refuses the password of user {user}; look at store.url: {said}")
            }
            Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                format!("the server does not let user {user} in from here; look at its pg_hba.conf: {said}")
            }
            Some(&SqlState::INVALID_CATALOG_NAME) => {
                format!("the server has no database {database}; make it first: {said}")
            }
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                format!("user {user} may not connect to database {database}: {said}")
            }
            _ => said,
        })
    }
}

impl Connect for Server {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(async move {
            let (client, connection) = self.current().await.connect(self.tls.clone()).await?;
            // Whoever uses it hears of its end.
            let connection = tokio::spawn(async move { drop(connection.await) });
            Ok((client, connection))
        })
    }
}

/// How long the server may take to hear that nobody waits for a statement any more.
const GIVING_UP: Duration = Duration::from_secs(5);

/// Ends a connection whose answer nobody waits for any more. The server does not see by itself that it is gone while its
/// statement waits, for somebody's lock or for a standby: each would be a session more, until it lets nobody in.
///
/// Not for a commit: one that waits for a standby would count as done without it.
pub(super) fn give_up(connection: impl Send + 'static, cancel: CancelToken, tls: Tls) {
    let Ok(runtime) = Handle::try_current() else { return };
    runtime.spawn(async move {
        // No answer and no connection come to the same: the server is away, and its session with it.
        let _ = tokio::time::timeout(GIVING_UP, cancel.cancel_query(tls)).await;
        // Only now: a proxy passes nothing on for one that has left.
        drop(connection);
    });
}

/// A connection with one use; it ends when dropped.
pub(super) struct Alone {
    pub(super) client: Client,
    connection: JoinHandle<()>,
}

impl Alone {
    /// Ends it while its statement may still be waiting.
    pub(super) fn give_up(self, server: &Server) {
        let cancel = self.client.cancel_token();
        give_up(self, cancel, server.tls.clone());
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What the words of a URL are.
pub(super) fn parse(url: &str) -> Result<(Config, WantedTls), String> {
    if cuts_a_password(url) {
        return Err("in a password / is written %2F, ? %3F, # %23 and @ %40".to_owned());
    }
    let (rest, wanted) = without_tls(url)?;
    Ok((rest.parse().map_err(|error| told(&error))?, wanted))
}

/// What a URL says of TLS.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WantedTls {
    mode: SslMode,
    trust: Trust,
    roots: Roots,
}

/// Whether a password ends too early, by a character that has to be written in another way: the rest of it would be taken
/// for a database or a parameter, and told as such.
fn cuts_a_password(url: &str) -> bool {
    let Some((_, after)) = url.split_once("://") else { return false };
    let (authority, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_password =
        authority.rsplit_once(':').is_some_and(|(_, last)| !is_port(last) && !last.ends_with(']'));
    path.contains('@') || (has_password && !authority.contains('@') && rest.contains('@'))
}

/// What the driver would refuse when it is about to connect.
fn check_addresses(config: &Config) -> Result<(), String> {
    let (hosts, addresses, ports) =
        (config.get_hosts(), config.get_hostaddrs().len(), config.get_ports().len());
    let servers = hosts.len().max(addresses);
    if servers == 0 {
        return Err("it names no host".to_owned());
    }
    if !hosts.is_empty() && addresses > 0 && addresses != hosts.len() {
        return Err(format!("it has {} hosts and {addresses} hostaddrs", hosts.len()));
    }
    if ports > 1 && ports != servers {
        return Err(format!("it has {servers} hosts and {ports} ports"));
    }
    Ok(())
}

/// Takes libpq's TLS parameters off a URL: the driver knows but some of them.
fn without_tls(url: &str) -> Result<(String, WantedTls), String> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut roots, mut rest) = (String::from("prefer"), None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || percent_decode_str(value).decode_utf8_lossy().into_owned();
        match name {
            "sslmode" => mode = value(),
            "sslrootcert" => roots = Some(value()),
            // Of several hosts the one that takes writes is looked for in any case.
            "target_session_attrs" if ["any", "read-write", "primary"].contains(&&*value()) => {}
            "target_session_attrs" => {
                return Err(format!(
                    "target_session_attrs={}: the store needs a server that takes writes",
                    value()
                ));
            }
            "channel_binding" if value() == "require" => {
                return Err(
                    "channel_binding=require can't be kept: leave it out, and take sslmode=verify-full"
                        .to_owned(),
                );
            }
            _ => rest.push(pair),
        }
    }
    let roots = match roots.as_deref() {
        None => Roots::Unnamed,
        // As libpq has it: no weaker check goes with the system's authorities.
        Some("system") if mode != "verify-full" => {
            return Err("sslrootcert=system goes with sslmode=verify-full only".to_owned());
        }
        Some("system") => Roots::System,
        Some(path) => Roots::File(path.into()),
    };
    // With a file of authorities at hand libpq's `require` checks against it too.
    let required = if matches!(roots, Roots::File(_)) { Trust::Authority } else { Trust::Anyone };
    let (mode, trust) = match mode.as_str() {
        "disable" => (SslMode::Disable, Trust::Anyone),
        "allow" | "prefer" => (SslMode::Prefer, Trust::Anyone),
        "require" => (SslMode::Require, required),
        "verify-ca" => (SslMode::Require, Trust::Authority),
        "verify-full" => (SslMode::Require, Trust::Name),
        other => return Err(format!("unknown sslmode {other:?}")),
    };
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((url, WantedTls { mode, trust, roots }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(query: &str) -> (SslMode, Trust, Roots) {
        let (_, WantedTls { mode, trust, roots }) = without_tls(&format!("postgres://h/d{query}")).unwrap();
        (mode, trust, roots)
    }

    #[test]
    fn tls_is_what_libpq_means_by_its_words() {
        let file = || Roots::File("/c a.pem".into());
        assert_eq!(wanted(""), (SslMode::Prefer, Trust::Anyone, Roots::Unnamed));
        assert_eq!(wanted("?sslmode=disable"), (SslMode::Disable, Trust::Anyone, Roots::Unnamed));
        assert_eq!(wanted("?sslmode=allow"), (SslMode::Prefer, Trust::Anyone, Roots::Unnamed));
        assert_eq!(wanted("?sslmode=require"), (SslMode::Require, Trust::Anyone, Roots::Unnamed));
        assert_eq!(
            wanted("?sslmode=require&sslrootcert=/c%20a.pem"),
            (SslMode::Require, Trust::Authority, file())
        );
        assert_eq!(wanted("?sslrootcert=/c%20a.pem"), (SslMode::Prefer, Trust::Anyone, file()));
        assert_eq!(wanted("?sslmode=verify-ca"), (SslMode::Require, Trust::Authority, Roots::Unnamed));
        assert_eq!(
            wanted("?sslmode=verify-full&sslrootcert=system"),
            (SslMode::Require, Trust::Name, Roots::System)
        );
        assert!(without_tls("postgres://h/d?sslmode=verify_full").is_err());
        assert!(without_tls("postgres://h/d?sslmode=require&sslrootcert=system").is_err());
    }

    #[test]
    fn the_other_parameters_stay() {
        let (rest, _) = without_tls("postgres://h/d?a=1&sslmode=disable&b=%20").unwrap();
        assert_eq!(rest, "postgres://h/d?a=1&b=%20");
        assert_eq!(without_tls("postgres://h/d?sslmode=disable").unwrap().0, "postgres://h/d");
        for known in
            ["target_session_attrs=primary", "target_session_attrs=read-write", "channel_binding=prefer"]
        {
            assert!(parse(&format!("postgres://u@h,i/d?{known}")).is_ok(), "{known}");
        }
    }

    #[test]
    fn an_unusable_url_is_told_without_its_password() {
        for url in [
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?sslcert=x",
            "postgres://u:secret@h/d?sslmode=x",
            "postgres://u:p@a/secret@h/d",
            "postgres://u:p/secret@h/d",
            "postgres://u:p?secret@h/d",
            "postgres://u:p#secret@h/d",
            "postgres:///d?password=secret",
            "postgres://u:secret@h:1,i:2/d?port=3",
            "postgres://u:secret@h,i/d?hostaddr=127.0.0.1",
            "postgres://u:secret@h/d?target_session_attrs=standby",
            "postgres://u:secret@h/d?channel_binding=require",
        ] {
            let told = Server::of(url).err().unwrap().to_string();
            assert!(told.contains("store.url") && !told.contains("secret"), "{told}");
        }
    }
}
