//! How a client of ours comes in at a client port: TLS, user and password.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::connection::Connection;
use crate::resp::Reply;

/// Flags of the commands that speak to a client port. No password is a flag: every user of the machine
/// could read it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LoginArgs {
    /// File with the password for the client port, one line
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// User to authenticate as, with --password-file [default: default]
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub user: Option<String>,
    /// Speak TLS with the client port, and trust only whom this file's certificates (PEM) vouch for
    #[arg(long, value_name = "FILE")]
    pub tls_ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show, with --tls-key-file
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_ca_file",
        requires = "tls_key_file"
    )]
    pub tls_cert_file: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// Name that the client port's certificate must carry [default: its address]
    #[arg(long, value_name = "NAME", requires = "tls_ca_file")]
    pub tls_server_name: Option<String>,
}

impl LoginArgs {
    /// Reads the files.
    pub fn read(&self) -> anyhow::Result<Login> {
        Ok(Login {
            credentials: self.credentials()?,
            tls: self.tls()?,
        })
    }

    fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let text =
            std::fs::read(path).with_context(|| format!("--password-file {}", path.display()))?;
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        let password = text.strip_suffix(b"\r").unwrap_or(text);
        let user = self.user.clone().unwrap_or_else(|| "default".to_owned());
        Ok(Some(Arc::new((user, password.to_vec()))))
    }

    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let Some(path) = &self.tls_ca_file else {
            return Ok(None);
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .with_context(|| path.display().to_string())?;
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(cert), Some(key)) => {
                let private = PrivateKeyDer::from_pem_file(key)
                    .with_context(|| format!("--tls-key-file {}", key.display()))?;
                builder.with_client_auth_cert(certificates(cert)?, private)?
            }
            _ => builder.with_no_client_auth(),
        };
        let name = self.tls_server_name.clone().map(ServerName::try_from);
        Ok(Some(Tls {
            connector: TlsConnector::from(Arc::new(config)),
            name: name.transpose().context("--tls-server-name")?,
        }))
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read().with_context(|| format!("certificates in {}", path.display()))?;
    anyhow::ensure!(
        !found.is_empty(),
        "there is no certificate in {}",
        path.display()
    );
    Ok(found)
}

/// User and password.
type Credentials = Arc<(String, Vec<u8>)>;

/// Who we are.
#[derive(Clone, Default)]
pub struct Login {
    credentials: Option<Credentials>,
    tls: Option<Tls>,
}

/// How to speak TLS.
#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

/// What a connection runs over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.credentials.as_ref().map(|known| &known.0);
        f.debug_struct("Login").field("user", &user).finish()
    }
}

impl Login {
    /// What is spoken over a new connection.
    pub(super) async fn wrap(&self, socket: TcpStream) -> io::Result<Box<dyn Stream>> {
        let Some(tls) = &self.tls else {
            return Ok(Box::new(socket));
        };
        let name = match &tls.name {
            Some(name) => name.clone(),
            None => ServerName::from(socket.peer_addr()?.ip()),
        };
        Ok(Box::new(tls.connector.connect(name, socket).await?))
    }

    /// Says on a new connection who we are.
    pub(super) async fn introduce(&self, connection: &mut Connection) -> io::Result<()> {
        let Some(known) = &self.credentials else {
            return Ok(());
        };
        let (user, password) = (known.0.as_bytes(), &known.1[..]);
        match connection.ask(&[b"AUTH", user, password]).await? {
            Reply::Error(text) => Err(io::Error::new(io::ErrorKind::PermissionDenied, &*text)),
            _ => Ok(()),
        }
    }
}
