//! TLS on the client port.
//!
//! Promises: at the start, files that do not fit together are an error that names the file. While the
//! node runs, changed files are taken within [`LOOK_EVERY`], or at once on SIGHUP, by connections that
//! come from then on; files that are wrong change nothing and are told once. A handshake ends within
//! [`HANDSHAKE`], and no more than `max_clients` are under way.
//!
//! There is one client port, and TLS on it: Sentinel's answers name one address for each member, and
//! a client that found the primary must be able to speak to it as it spoke to who told it. So that a
//! cluster can change over without a pause, the port can take clients of both kinds for a while
//! (`tls.plaintext`): a TLS client's first byte is 22, with which no request begins.
//! `docs/decisions/0014-tls-on-the-one-client-port.md` says more.

mod material;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

pub use material::TlsError;

use crate::node::{Host, Tls};
use crate::wal::Disk;
use material::Material;

/// Longest time for a handshake, the first byte included.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The first byte of a TLS record that begins a handshake.
const HANDSHAKE_RECORD: u8 = 22;

const ONLY_TLS: &[u8] =
    b"-ERR this port speaks TLS only; connect with TLS (redis-cli: --tls --cacert FILE)\r\n";

/// A client that has come in.
pub(super) enum Incoming {
    /// Through TLS.
    Secret(Box<TlsStream<TcpStream>>),
    /// Without.
    Plain(TcpStream),
}

/// The client port's certificate, and who is shaking hands.
pub(super) struct TlsPort {
    settings: Tls,
    now: Mutex<Now>,
    reload: Notify,
    doorway: Arc<Semaphore>,
}

struct Now {
    config: Arc<ServerConfig>,
    /// As read last, good or not.
    material: Option<Material>,
    /// What was wrong with it was told.
    told: String,
}

/// Whether the files fit together.
pub(super) fn check(settings: &Tls, disk: &dyn Disk) -> Result<(), TlsError> {
    Material::read(settings, disk)?.config(settings).map(drop)
}

impl std::fmt::Debug for TlsPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsPort")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl TlsPort {
    /// Reads the files.
    pub(super) fn open(settings: &Tls, at_once: u32, host: &dyn Host) -> Result<TlsPort, TlsError> {
        let material = Material::read(settings, &*host.disk())?;
        let config = material.config(settings)?;
        Ok(TlsPort {
            settings: settings.clone(),
            now: Mutex::new(Now {
                config,
                material: Some(material),
                told: String::new(),
            }),
            reload: Notify::new(),
            doorway: Arc::new(Semaphore::new(at_once as usize)),
        })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now
            .lock()
            .expect("nothing panics while it holds the certificate")
    }

    /// Has the files looked at now.
    pub(super) fn reload(&self) {
        self.reload.notify_one();
    }

    /// Looks at the files again and again; never ends.
    pub(super) async fn watch_files(&self, host: &dyn Host) {
        loop {
            tokio::select! {
                () = self.reload.notified() => self.now().told.clear(),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            host.blocking(|| self.look(host));
        }
    }

    /// Takes the files if they have changed and are good.
    fn look(&self, host: &dyn Host) {
        let read = Material::read(&self.settings, &*host.disk());
        let mut now = self.now();
        let (material, made) = match read {
            Ok(material) if now.material.as_ref() == Some(&material) && now.told.is_empty() => {
                return;
            }
            Ok(material) => {
                let made = material.config(&self.settings);
                (Some(material), made)
            }
            Err(error) => (None, Err(error)),
        };
        now.material = material;
        match made {
            Ok(config) => {
                now.config = config;
                now.told.clear();
                tracing::info!(
                    "TLS: the certificate was read again; new connections are served with it"
                );
            }
            Err(error) if now.told != error.to_string() => {
                now.told = error.to_string();
                tracing::warn!("TLS: {error}; the certificate read before stays in force");
            }
            Err(_) => {}
        }
    }

    /// Shakes hands; none where the client may not come in.
    pub(super) async fn greet(&self, stream: TcpStream) -> io::Result<Option<Incoming>> {
        let Ok(place) = Arc::clone(&self.doorway).try_acquire_owned() else {
            // More come than can be served; who is in finishes first.
            return Ok(None);
        };
        let first = tokio::time::timeout(HANDSHAKE, first_byte(&stream)).await;
        match first {
            Ok(Ok(Some(HANDSHAKE_RECORD))) => self.shake_hands(stream, place).await.map(Some),
            // Nothing was said, or the client is gone.
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(error),
            _ if self.settings.plaintext => Ok(Some(Incoming::Plain(stream))),
            Ok(Ok(Some(_))) => {
                let _ = tokio::time::timeout(Duration::from_secs(1), refuse(stream)).await;
                Ok(None)
            }
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        _place: OwnedSemaphorePermit,
    ) -> io::Result<Incoming> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.now().config));
        let done = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
        match done {
            Ok(done) => Ok(Incoming::Secret(Box::new(done?))),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Without taking it.
async fn first_byte(stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut first = [0];
    let read = stream.peek(&mut first).await?;
    Ok(first.first().copied().filter(|_| read > 0))
}

/// What was sent is read first: closing on it would take the answer along.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let mut said = [0; 1024];
    let _ = stream.try_read(&mut said);
    stream.write_all(ONLY_TLS).await?;
    stream.shutdown().await
}
