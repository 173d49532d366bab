//! `[tls]`, settled: how the client port proves who it is, and whether clients must.

use std::path::PathBuf;

use serde::Deserialize;

use super::config::{ConfigError, TlsFile, wrong};

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    No,
    /// One that is shown must be good.
    Optional,
    /// Nobody comes in without.
    Required,
}

/// TLS on the client port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, PEM, followed by those that vouch for it.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Who vouches for clients, PEM.
    pub ca_file: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// Clients without TLS are served on the same port, too.
    pub plaintext: bool,
}

impl Tls {
    /// None where no key of `[tls]` is set.
    pub(super) fn settle(file: &TlsFile) -> Result<Option<Tls>, ConfigError> {
        if *file == TlsFile::default() {
            return Ok(None);
        }
        let (Some(cert_file), Some(key_file)) = (&file.cert_file, &file.key_file) else {
            return wrong("[tls] needs tls.cert_file and tls.key_file");
        };
        let client_auth = file.client_auth.unwrap_or_default();
        if client_auth != ClientAuth::No && file.ca_file.is_none() {
            return wrong(
                "tls.client_auth needs tls.ca_file: who vouches for the clients' certificates",
            );
        }
        if client_auth == ClientAuth::No && file.ca_file.is_some() {
            return wrong(
                "tls.ca_file is for clients' certificates; say tls.client_auth = \"optional\" or \
                 \"required\", too",
            );
        }
        let plaintext = file.plaintext.unwrap_or(false);
        if plaintext && client_auth == ClientAuth::Required {
            return wrong(
                "tls.client_auth = \"required\" means nothing with tls.plaintext = true: whoever has \
                 no certificate comes in without TLS",
            );
        }
        Ok(Some(Tls {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            ca_file: file.ca_file.clone(),
            client_auth,
            plaintext,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(text: &str) -> Result<Option<Tls>, ConfigError> {
        Tls::settle(&super::super::parse(text)?.tls)
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let files = "[tls]\ncert_file = 'c'\nkey_file = 'k'\n";
        assert_eq!(settled(""), Ok(None));
        assert!(settled(files).is_ok_and(|tls| tls.is_some()));
        assert!(settled("[tls]\ncert_file = 'c'").is_err());
        assert!(settled("[tls]\nplaintext = true").is_err());
        for (more, good) in [
            ("client_auth = 'required'", false),
            ("ca_file = 'a'", false),
            (
                "ca_file = 'a'\nclient_auth = 'optional'\nplaintext = true",
                true,
            ),
            (
                "ca_file = 'a'\nclient_auth = 'required'\nplaintext = true",
                false,
            ),
            ("client_auth = 'maybe'", false),
        ] {
            assert_eq!(settled(&format!("{files}{more}")).is_ok(), good, "{more}");
        }
    }
}
