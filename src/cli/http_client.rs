//! Asking a node over HTTP, with errors that say what to do.
//!
//! Every request is bounded in time. A request that changes something carries
//! `X-Understudy-Request: 1` (a header that no web page can send across sites) and, where a secret
//! file was given, the secret as bearer token. The secret is never printed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use thiserror::Error;

/// Longest time that one file may take on its way.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// Where to ask and how to prove the right to; flags shared by all commands that talk to a node.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectArgs {
    /// HTTP address of any node of the cluster
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7381")]
    pub addr: String,
    /// File with the cluster's secret, for commands that change something
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Why a node could not be asked, or what it refused.
#[derive(Debug, Error)]
pub enum HttpError {
    /// No connection.
    #[error("cannot reach {addr}: {cause}; is a node running there? (--addr HOST:PORT)")]
    Unreachable {
        /// The address asked.
        addr: String,
        /// What the system said.
        cause: String,
    },
    /// The node refused the request.
    #[error("{addr} answered {status}: {message}")]
    Refused {
        /// The address asked.
        addr: String,
        /// HTTP status.
        status: u16,
        /// The node's own words.
        message: String,
    },
    /// The secret is missing or wrong.
    #[error("{addr} wants the cluster's secret: {message} (--secret-file FILE)")]
    Unauthorized {
        /// The address asked.
        addr: String,
        /// The node's own words.
        message: String,
    },
    /// Something else answers at this address.
    #[error("{addr} does not answer like an understudy node ({cause}); is this its HTTP address?")]
    NotANode {
        /// The address asked.
        addr: String,
        /// What was wrong with the answer.
        cause: String,
    },
    /// The secret file cannot be used.
    #[error("cannot read the secret in {}: {cause}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        cause: String,
    },
}

/// Asks one node.
#[derive(Clone, Debug)]
pub struct HttpClient {
    agent: ureq::Agent,
    addr: String,
    bearer: Option<String>,
}

impl HttpClient {
    /// A client of the node at `addr` (`HOST:PORT`); each request ends after `timeout`.
    pub fn new(addr: &str, timeout: Duration) -> HttpClient {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build()
            .into();
        HttpClient {
            agent,
            addr: addr.to_owned(),
            bearer: None,
        }
    }

    /// A client as the flags say. Reads the secret file, if one is named.
    pub fn from_args(args: &ConnectArgs) -> Result<HttpClient, HttpError> {
        // A switchover may wait for a standby to catch up, so this is generous.
        let mut client = HttpClient::new(&args.addr, Duration::from_secs(30));
        if let Some(path) = &args.secret_file {
            client.bearer = Some(read_secret(path)?);
        }
        Ok(client)
    }

    /// The same client with the same secret, asking another node.
    pub fn at(&self, addr: &str) -> HttpClient {
        HttpClient {
            agent: self.agent.clone(),
            addr: addr.to_owned(),
            bearer: self.bearer.clone(),
        }
    }

    /// The address asked.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// The status of `GET path`, whatever it is.
    pub fn status(&self, path: &str) -> Result<u16, HttpError> {
        let answer = self
            .agent
            .get(self.url(path))
            .call()
            .map_err(|error| self.failed(error))?;
        Ok(answer.status().as_u16())
    }

    /// `GET path`, decoded. Any status but 200 is an error.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        let request = self.agent.get(self.url(path));
        let request = match &self.bearer {
            Some(secret) => request.header("Authorization", format!("Bearer {secret}")),
            None => request,
        };
        self.decode(request.call().map_err(|error| self.failed(error))?)
    }

    /// `POST path` with a JSON body, decoded. Any status but 200 is an error.
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, HttpError> {
        let request = self
            .agent
            .post(self.url(path))
            .header("X-Understudy-Request", "1");
        let request = match &self.bearer {
            Some(secret) => request.header("Authorization", format!("Bearer {secret}")),
            None => request,
        };
        self.decode(
            request
                .send_json(body)
                .map_err(|error| self.failed(error))?,
        )
    }

    /// The body of `GET path` as it comes, for what is long, and for what needs the secret as an
    /// order does. Any status but 200 is an error; a body that ends early is one when it is read.
    pub fn download(&self, path: &str) -> Result<impl std::io::Read + use<>, HttpError> {
        let request = self
            .agent
            .get(self.url(path))
            .config()
            .timeout_global(Some(DOWNLOAD_TIMEOUT))
            .build()
            .header("X-Understudy-Request", "1");
        let request = match &self.bearer {
            Some(secret) => request.header("Authorization", format!("Bearer {secret}")),
            None => request,
        };
        let answer = request.call().map_err(|error| self.failed(error))?;
        if answer.status().as_u16() == 200 {
            return Ok(answer.into_body().into_reader());
        }
        match self.decode::<serde_json::Value>(answer) {
            Err(error) => Err(error),
            Ok(_) => Err(self.not_a_node(&"an error without its status")),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn decode<T: DeserializeOwned>(
        &self,
        mut answer: ureq::http::Response<ureq::Body>,
    ) -> Result<T, HttpError> {
        let status = answer.status().as_u16();
        let body = answer
            .body_mut()
            .read_to_string()
            .map_err(|error| self.failed(error))?;
        if status == 200 {
            return serde_json::from_str(&body).map_err(|error| self.not_a_node(&error));
        }
        let message = serde_json::from_str::<serde_json::Value>(&body)
            .ok()
            .and_then(|json| json.get("error")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| body.trim().chars().take(200).collect());
        let addr = self.addr.clone();
        Err(match status {
            401 | 403 => HttpError::Unauthorized { addr, message },
            _ => HttpError::Refused {
                addr,
                status,
                message,
            },
        })
    }

    fn not_a_node(&self, cause: &dyn std::fmt::Display) -> HttpError {
        HttpError::NotANode {
            addr: self.addr.clone(),
            cause: cause.to_string(),
        }
    }

    fn failed(&self, error: ureq::Error) -> HttpError {
        let cause = match &error {
            ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
                "connection refused".to_owned()
            }
            ureq::Error::Io(io) => io.to_string(),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::HostNotFound => "no such host".to_owned(),
            ureq::Error::ConnectionFailed => "no connection".to_owned(),
            other => return self.not_a_node(other),
        };
        HttpError::Unreachable {
            addr: self.addr.clone(),
            cause,
        }
    }
}

fn read_secret(path: &Path) -> Result<String, HttpError> {
    let refused = |cause: String| HttpError::Secret {
        path: path.to_owned(),
        cause,
    };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused(
            "a secret is one word of printable ASCII".to_owned(),
        ));
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with `response` and returns what was asked.
    fn one_answer(response: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address")
            .to_string();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("the client connects");
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            loop {
                let got = socket.read(&mut chunk).expect("the request is readable");
                request.extend_from_slice(&chunk[..got]);
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
                let wanted = if text.starts_with("POST") { 1 } else { 0 };
                if got == 0 || body.is_some_and(|length| length >= wanted) {
                    break;
                }
            }
            socket
                .write_all(response.as_bytes())
                .expect("the answer is sent");
            String::from_utf8_lossy(&request).into_owned()
        });
        (addr, server)
    }

    #[test]
    fn nobody_there_says_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address")
            .to_string();
        drop(listener);
        let error = HttpClient::new(&addr, Duration::from_secs(2)).status("/primary");
        let text = error.expect_err("nobody listens").to_string();
        assert_eq!(
            text,
            format!(
                "cannot reach {addr}: connection refused; is a node running there? \
                 (--addr HOST:PORT)"
            )
        );
    }

    #[test]
    fn a_post_carries_the_header_and_the_secret_and_reads_the_nodes_words() {
        let (addr, server) = one_answer(
            "HTTP/1.1 409 Conflict\r\nContent-Length: 27\r\n\r\n{\"error\":\"node 3 lags: 12\"}",
        );
        let secret = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(secret.path(), "s3cret\n").expect("it is writable");
        let args = ConnectArgs {
            addr,
            secret_file: Some(secret.path().to_owned()),
            json: false,
        };
        let client = HttpClient::from_args(&args).expect("the secret is fine");
        let error = client
            .post::<serde_json::Value>("/switchover", &serde_json::json!({"to": 3}))
            .expect_err("409 is an error");
        assert!(
            error.to_string().ends_with("answered 409: node 3 lags: 12"),
            "{error}"
        );
        let request = server.join().expect("the server ran").to_ascii_lowercase();
        assert!(request.contains("x-understudy-request: 1"), "{request}");
        assert!(
            request.contains("authorization: bearer s3cret"),
            "{request}"
        );
    }

    #[test]
    fn another_server_is_recognised() {
        let (addr, server) = one_answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        let error = HttpClient::new(&addr, Duration::from_secs(2))
            .get::<super::super::answers::Cluster>("/cluster")
            .expect_err("hello is no JSON");
        assert!(
            error
                .to_string()
                .contains("does not answer like an understudy node"),
            "{error}"
        );
        server.join().expect("the server ran");
    }
}
