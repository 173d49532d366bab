//! TLS on the client port: stock clients, client certificates, and new certificates while it runs.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{Lab, PATIENCE, alone, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use understudy::cli::local_cluster::Plan;

/// Who vouches for others.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // The same name as another's would make OpenSSL take that one for self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
        Authority { issuer }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for 127.0.0.1, and its key.
    fn vouch(&self) -> (String, String) {
        let names = vec!["127.0.0.1".to_string(), "localhost".to_string()];
        let params = CertificateParams::new(names).expect("good names");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("it signs");
        (certificate.pem(), key.serialize_pem())
    }
}

/// A node that speaks TLS.
struct Node {
    lab: Lab,
    authority: Authority,
    dir: PathBuf,
}

impl Node {
    fn start(plan: Plan, more: &str) -> Node {
        let mut node = Node::prepare(plan, more);
        node.lab.cluster.start_all().expect("they start");
        node.lab.ready();
        node
    }

    fn prepare(plan: Plan, more: &str) -> Node {
        let mut lab = Lab::prepare(plan, |_, text| text);
        let authority = Authority::new();
        let dir = lab.cluster.folder().path().to_path_buf();
        let place = |name: &str| dir.join(name).display().to_string();
        let (cert, key) = authority.vouch();
        fs::write(dir.join("node.pem"), cert).expect("ours");
        fs::write(dir.join("node.key"), key).expect("ours");
        fs::write(dir.join("ca.pem"), authority.pem()).expect("ours");
        for id in lab.cluster.ids() {
            let config = lab.config_file(id);
            let text = fs::read_to_string(&config).expect("it was just written");
            let tls = format!(
                "\n[tls]\ncert_file = '{}'\nkey_file = '{}'\n{}\n",
                place("node.pem"),
                place("node.key"),
                more.replace("CA", &format!("'{}'", place("ca.pem")))
            );
            fs::write(&config, text + &tls).expect("ours");
        }
        Node {
            lab,
            authority,
            dir,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.lab.addr(1)
    }

    fn log(&mut self) -> String {
        fs::read_to_string(self.lab.log_file(1)).unwrap_or_default()
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts `authority`, and shows a certificate if it has one.
fn connect(addr: SocketAddr, ca: &str, own: Option<(String, String)>) -> Tls {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM");
    roots.add(ca).expect("a certificate");
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            builder
                .with_client_auth_cert(vec![cert], key)
                .expect("they fit")
        }
    };
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let socket = TcpStream::connect(addr).expect("the node listens");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a read timeout");
    StreamOwned::new(session, socket)
}

/// PING, and what comes back; none where the connection ends instead.
fn ping(stream: &mut (impl Read + Write)) -> Option<String> {
    stream.write_all(b"PING\r\n").ok()?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..read]).into_owned()).filter(|text| !text.is_empty())
}

fn pong() -> Option<String> {
    Some("+PONG\r\n".to_string())
}

fn redis_cli(node: &Node, more: &[&str]) -> Option<String> {
    let output = Command::new("redis-cli")
        .args(["-p", &node.addr().port().to_string()])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn clients_speak_through_it_and_others_are_told() {
    let mut node = Node::start(alone(), "");
    let ca = node.authority.pem();
    let mut client = connect(node.addr(), &ca, None);
    assert_eq!(ping(&mut client), pong());
    // More than fits into one record or one write, both ways.
    let value = "x".repeat(3 << 20);
    let request = format!(
        "*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n{value}\r\n",
        value.len()
    );
    client.write_all(request.as_bytes()).expect("it is read");
    let mut ok = [0; 5];
    client.read_exact(&mut ok).expect("an answer");
    assert_eq!(&ok, b"+OK\r\n");
    client.write_all(b"GET a\r\nGET a\r\n").expect("it is read");
    let mut both = vec![0; 2 * (value.len() + "$3145728\r\n\r\n".len())];
    client.read_exact(&mut both).expect("both answers");
    assert!(both.ends_with(b"xx\r\n"));
    // Who does not trust it goes; who does not speak TLS is told.
    let mut other = connect(node.addr(), &Authority::new().pem(), None);
    assert_eq!(ping(&mut other), None);
    let mut plain = TcpStream::connect(node.addr()).expect("the node listens");
    plain
        .set_read_timeout(Some(PATIENCE))
        .expect("a read timeout");
    let said = ping(&mut plain).unwrap_or_default();
    assert!(said.starts_with("-ERR this port speaks TLS only"), "{said}");
    let ca = node.dir.join("ca.pem").display().to_string();
    match redis_cli(&node, &["--tls", "--cacert", &ca, "PING"]) {
        None => eprintln!("SKIPPED: no redis-cli on PATH"),
        Some(said) => assert_eq!(said, "PONG\n"),
    }
    // The probe of its own port needs no certificate.
    let log = node.log();
    assert!(log.contains("(TLS)"), "{log}");
    assert!(!log.contains("the probe of this node"), "{log}");
}

#[test]
fn the_probe_goes_on_where_clients_show_certificates() {
    let mut node = Node::start(alone(), "ca_file = CA\nclient_auth = 'required'");
    let ca = node.authority.pem();
    let mut client = connect(node.addr(), &ca, Some(node.authority.vouch()));
    assert_eq!(ping(&mut client), pong());
    for wrong in [None, Some(Authority::new().vouch())] {
        let mut client = connect(node.addr(), &ca, wrong);
        assert_eq!(ping(&mut client), None);
    }
    let mut received = || {
        client.write_all(b"INFO stats\r\n").expect("it is read");
        let mut answer = [0; 4096];
        let read = client.read(&mut answer).expect("an answer");
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        line.and_then(|count| count.trim().parse::<u64>().ok())
            .expect("it is counted")
    };
    let before = received();
    until("two probes", || (received() >= before + 2).then_some(()));
    let log = node.log();
    assert!(!log.contains("the probe of this node"), "{log}");
    assert!(node.lab.says_primary(1));
}

#[test]
fn both_kinds_come_in_where_that_is_said() {
    let node = Node::start(
        alone(),
        "ca_file = CA\nclient_auth = 'optional'\nplaintext = true",
    );
    let ca = node.authority.pem();
    assert_eq!(ping(&mut connect(node.addr(), &ca, None)), pong());
    let own = node.authority.vouch();
    assert_eq!(ping(&mut connect(node.addr(), &ca, Some(own))), pong());
    let wrong = Authority::new().vouch();
    assert_eq!(ping(&mut connect(node.addr(), &ca, Some(wrong))), None);
    let mut plain = TcpStream::connect(node.addr()).expect("the node listens");
    assert_eq!(ping(&mut plain), pong());
}

fn certificate_of(addr: SocketAddr, ca: &str) -> Option<Vec<u8>> {
    let mut client = connect(addr, ca, None);
    ping(&mut client)?;
    let chain = client.conn.peer_certificates()?;
    Some(chain.first()?.to_vec())
}

#[test]
fn new_certificates_are_taken_while_it_runs_and_wrong_ones_are_not() {
    let mut node = Node::start(alone(), "");
    let ca = node.authority.pem();
    let mut old = connect(node.addr(), &ca, None);
    assert_eq!(ping(&mut old), pong());
    let first = certificate_of(node.addr(), &ca).expect("a certificate");
    // A key that does not belong to the certificate.
    let (cert, key) = node.authority.vouch();
    let (_, stray) = node.authority.vouch();
    fs::write(node.dir.join("node.pem"), &cert).expect("ours");
    fs::write(node.dir.join("node.key"), stray).expect("ours");
    hang_up(&mut node);
    until("a complaint", || {
        let log = node.log();
        log.contains("the certificate read before stays in force")
            .then_some(())
    });
    assert!(node.log().contains("tls.key_file"));
    assert_eq!(certificate_of(node.addr(), &ca), Some(first.clone()));
    // Now it does; nobody says so.
    fs::write(node.dir.join("node.key"), key).expect("ours");
    until("the new certificate", || {
        let now = certificate_of(node.addr(), &ca)?;
        (now != first).then_some(())
    });
    assert_eq!(ping(&mut old), pong(), "who is in stays in");
}

fn hang_up(node: &mut Node) {
    let id = node.lab.cluster.process_id(1).expect("it runs");
    let sent = Command::new("kill")
        .args(["-HUP", &id.to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn wrong_files_are_said_at_the_start() {
    let mut node = Node::prepare(alone(), "");
    let (cert, key) = ("node.pem", "node.key");
    let good = fs::read(node.dir.join(key)).expect("ours");
    let (_, stray) = node.authority.vouch();
    for (file, content, complaint) in [
        (cert, &b""[..], "tls.cert_file"),
        (
            cert,
            b"-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n",
            "tls.cert_file",
        ),
        (key, b"no key", "tls.key_file"),
        (
            key,
            stray.as_bytes(),
            "does this key belong to the certificate in",
        ),
    ] {
        let path = node.dir.join(file);
        let before = fs::read(&path).expect("ours");
        fs::write(&path, content).expect("ours");
        let said = refusal(&node.lab.config_file(1));
        assert!(said.contains(complaint), "{said}");
        fs::write(&path, before).expect("ours");
    }
    assert_eq!(fs::read(node.dir.join(key)).expect("ours"), good);
    fs::remove_file(node.dir.join(cert)).expect("ours");
    let said = refusal(&node.lab.config_file(1));
    assert!(
        said.contains("tls.cert_file") && said.contains("No such file"),
        "{said}"
    );
}

fn refusal(config: &Path) -> String {
    let refused = assert_cmd::Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["serve", "--config", &config.to_string_lossy()])
        .timeout(Duration::from_secs(30))
        .output()
        .expect("it runs");
    assert!(!refused.status.success());
    String::from_utf8_lossy(&refused.stderr).into_owned()
}

#[test]
fn the_command_line_speaks_it() {
    let node = Node::start(alone(), "ca_file = CA\nclient_auth = 'required'");
    let (cert, key) = node.authority.vouch();
    fs::write(node.dir.join("own.pem"), cert).expect("ours");
    fs::write(node.dir.join("own.key"), key).expect("ours");
    let place = |name: &str| node.dir.join(name).display().to_string();
    let bench = |more: &[&str]| {
        assert_cmd::Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(["bench", "--addr", &node.addr().to_string(), "--secs", "0.2"])
            .args(["--clients", "1", "--pipeline", "1"])
            .args(more)
            .timeout(Duration::from_secs(30))
            .output()
            .expect("it runs")
    };
    let ca = ["--tls-ca-file", &place("ca.pem")];
    assert!(!bench(&ca).status.success(), "it shows no certificate");
    let own = [
        "--tls-cert-file",
        &place("own.pem"),
        "--tls-key-file",
        &place("own.key"),
    ];
    let done = bench(&[ca, [own[0], own[1]], [own[2], own[3]]].concat());
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Whoever says nothing, or says it slowly, keeps nobody else out.
#[test]
fn silent_clients_keep_nobody_out() {
    let node = Node::start(alone(), "");
    let ca = node.authority.pem();
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(node.addr()).expect("the node listens");
            stream.write_all(&[22, 3]).expect("it is read");
            stream
        })
        .collect();
    assert_eq!(ping(&mut connect(node.addr(), &ca, None)), pong());
    let mut last = silent.into_iter().next_back().expect("there are some");
    last.set_read_timeout(Some(PATIENCE))
        .expect("a read timeout");
    let mut byte = [0];
    let ended = last.read(&mut byte);
    assert!(matches!(ended, Ok(0)) || ended.is_err_and(|error| !is_timeout(&error)));
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}
