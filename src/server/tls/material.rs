//! Certificates and keys: from files to what a handshake needs, or to a sentence that says which file
//! is wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use crate::node::{ClientAuth, Tls};
use crate::wal::{Disk, read_all};

/// What is wrong with the files of `[tls]`.
#[derive(Debug, Error)]
#[error("tls.{key} {}: {what}", path.display())]
pub struct TlsError {
    key: &'static str,
    path: PathBuf,
    what: String,
}

/// The files as they were read; compared to see whether they have changed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Option<Vec<u8>>,
}

fn wrong(key: &'static str, path: &Path, what: impl ToString) -> TlsError {
    TlsError {
        key,
        path: path.to_path_buf(),
        what: what.to_string(),
    }
}

impl Material {
    pub(super) fn read(tls: &Tls, disk: &dyn Disk) -> Result<Material, TlsError> {
        let read = |key, path: &Path| read_all(disk, path).map_err(|error| wrong(key, path, error));
        Ok(Material {
            cert: read("cert_file", &tls.cert_file)?,
            key: read("key_file", &tls.key_file)?,
            ca: match &tls.ca_file {
                Some(path) => Some(read("ca_file", path)?),
                None => None,
            },
        })
    }

    /// What a handshake needs.
    pub(super) fn config(&self, tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates("cert_file", &tls.cert_file, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| wrong("key_file", &tls.key_file, no_pem("private key", error)))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("cert_file", &tls.cert_file, error))?;
        let builder = match self.verifier(tls, provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, key).map_err(|error| {
            if let rustls::Error::InvalidCertificate(_) = error {
                return wrong("cert_file", &tls.cert_file, error);
            }
            let cert = tls.cert_file.display();
            let what = format!("{error}; does this key belong to the certificate in {cert}?");
            wrong("key_file", &tls.key_file, what)
        })?;
        Ok(Arc::new(config))
    }

    fn verifier(
        &self,
        tls: &Tls,
        provider: Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let (Some(path), Some(text)) = (&tls.ca_file, &self.ca) else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca_file", path, text)? {
            roots
                .add(certificate)
                .map_err(|error| wrong("ca_file", path, error))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match tls.client_auth {
            ClientAuth::Required => builder,
            ClientAuth::Optional | ClientAuth::No => builder.allow_unauthenticated(),
        };
        let built = builder.build();
        built
            .map(Some)
            .map_err(|error| wrong("ca_file", path, error))
    }
}

fn certificates(
    key: &'static str,
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| wrong(key, path, no_pem("certificate", error)))?;
    match found.is_empty() {
        true => Err(wrong(
            key,
            path,
            "there is no certificate in it; PEM is wanted",
        )),
        false => Ok(found),
    }
}

fn no_pem(what: &str, error: impl std::fmt::Display) -> String {
    format!("no {what} can be read from it ({error}); PEM is wanted")
}
