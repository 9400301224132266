//! A mail server of the tests, in this process: it accepts emails or refuses them, as it is set.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use countersign::config::SmtpUrl;
use countersign::mail::{Mailer, Smtp, Transport};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::PATIENCE;

/// How clients reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    None,
    StartTls,
    Tls,
}

/// What it does with an email.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    Take,
    /// Answers each recipient with this.
    Refuse(&'static str),
    /// Receives it, and never acknowledges it.
    Hang,
}

/// An email that it accepted.
#[derive(Clone, Debug)]
pub struct Received {
    pub from: String,
    pub to: String,
    /// All of it, as it came.
    pub raw: String,
}

struct Shared {
    manner: Mutex<Manner>,
    received: watch::Sender<Vec<Received>>,
    /// Emails that were received in full, accepted or not.
    whole: watch::Sender<usize>,
    security: Security,
    password: Option<&'static str>,
}

/// Closes with its connections when it is dropped.
pub struct SmtpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinSet<()>>,
}

impl SmtpServer {
    pub async fn start() -> Self {
        Self::with(Security::None, None).await
    }

    /// A server with these requirements for its clients.
    pub async fn with(security: Security, password: Option<&'static str>) -> Self {
        let shared = Shared {
            manner: Mutex::new(Manner::Take),
            received: watch::Sender::default(),
            whole: watch::Sender::default(),
            security,
            password,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Self { address, shared: Arc::new(shared), serving: None };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let shared = self.shared.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                open.spawn(accept(client, shared.clone()));
            }
        });
        self.serving = Some(serving);
    }

    /// Refuses connections from now on, and closes those that are open.
    pub async fn stop(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            serving.shutdown().await;
        }
    }

    /// Accepts connections again, at the same port.
    pub async fn restart(&mut self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// The value of `--smtp-url` for it.
    pub fn url(&self) -> String {
        let port = self.address.port();
        let login = self.shared.password.map_or_else(String::new, |password| format!("user:{password}@"));
        match self.shared.security {
            Security::None => format!("smtp://{login}localhost:{port}?tls=none"),
            Security::StartTls => format!("smtp://{login}localhost:{port}"),
            Security::Tls => format!("smtps://{login}localhost:{port}"),
        }
    }

    /// A mailer that delivers emails to it.
    pub fn mailer(&self) -> Mailer {
        self.postman_to(&self.url())
    }

    /// A mailer that goes by this URL, and trusts the authority of the tests.
    pub fn postman_to(&self, url: &str) -> Mailer {
        let url = SmtpUrl::from(url.to_owned());
        let smtp = Smtp::open(&url, None, Some(&certificate("authority.pem")), "test.example").unwrap();
        Mailer {
            from: "Countersign <no-reply@test.example>".parse().unwrap(),
            transport: Transport::Smtp(smtp),
        }
    }

    /// All that it has accepted so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.borrow().clone()
    }

    /// What it has accepted for this mailbox, when there are so many.
    #[track_caller]
    pub fn mails_to(&self, to: &str, count: usize) -> impl Future<Output = Vec<Received>> {
        let mut received = self.shared.received.subscribe();
        let to = to.to_owned();
        async move {
            let for_them = |all: &Vec<Received>| -> Vec<Received> {
                all.iter().filter(|mail| mail.to == to).cloned().collect()
            };
            let enough = received.wait_for(|all| for_them(all).len() >= count);
            let all = tokio::time::timeout(PATIENCE, enough).await;
            let all = all.unwrap_or_else(|_| panic!("no {count} mails to {to}")).unwrap().clone();
            for_them(&all)
        }
    }

    /// The newest email to this mailbox, when there is one.
    pub async fn mail_to(&self, to: &str) -> Received {
        self.mails_to(to, 1).await.pop().unwrap()
    }

    /// Waits until so many emails were received in full, accepted or not.
    pub async fn has_had(&self, count: usize) {
        let mut whole = self.shared.whole.subscribe();
        tokio::time::timeout(PATIENCE, whole.wait_for(|so_many| *so_many >= count)).await.unwrap().unwrap();
    }
}

/// A file of the tests' own authority, or of the certificate that it signed for `localhost`.
pub fn certificate(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/harness/certificates").join(name)
}

fn acceptor() -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(certificate("server.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(certificate("server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(client: TcpStream, shared: Arc<Shared>) {
    // A client may disconnect at any time.
    let _ = match shared.security {
        Security::None => talk(BufReader::new(client), &shared, false, true).await.map(|_| ()),
        Security::Tls => match acceptor().accept(client).await {
            Ok(client) => talk(BufReader::new(client), &shared, true, true).await.map(|_| ()),
            Err(error) => Err(error),
        },
        Security::StartTls => match talk(BufReader::new(client), &shared, false, true).await {
            Ok(Some(client)) => match acceptor().accept(client.into_inner()).await {
                Ok(client) => talk(BufReader::new(client), &shared, true, false).await.map(|_| ()),
                Err(error) => Err(error),
            },
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        },
    };
}

/// Serves the client until it disconnects, or asks for TLS.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufReader<S>,
    shared: &Shared,
    encrypted: bool,
    greet: bool,
) -> std::io::Result<Option<BufReader<S>>> {
    let offers_tls = shared.security == Security::StartTls && !encrypted;
    let mut trusted = shared.password.is_none();
    let (mut from, mut to) = (String::new(), String::new());
    if greet {
        stream.write_all(b"220 test.example ESMTP\r\n").await?;
    }
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let verb = line.split([' ', ':', '\r']).next().unwrap_or_default().to_ascii_uppercase();
        let argument = |prefix: &str| line.trim_end()[prefix.len()..].trim_matches(['<', '>']).to_owned();
        let answer = match verb.as_str() {
            "EHLO" if offers_tls => "250-test.example\r\n250 STARTTLS\r\n",
            "EHLO" if shared.password.is_some() => "250-test.example\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n",
            "EHLO" => "250-test.example\r\n250 8BITMIME\r\n",
            "STARTTLS" if offers_tls => {
                stream.write_all(b"220 go on\r\n").await?;
                return Ok(Some(stream));
            }
            _ if offers_tls => "530 5.7.0 STARTTLS first\r\n",
            "AUTH" => {
                trusted = shared.password.is_some_and(|password| line.trim_end() == plain(password));
                if trusted { "235 2.7.0 ok\r\n" } else { "535 5.7.8 wrong password\r\n" }
            }
            "MAIL" if !trusted => "530 5.7.0 authenticate first\r\n",
            "MAIL" => {
                from = argument("MAIL FROM:").split(['>', ' ']).next().unwrap_or_default().to_owned();
                "250 ok\r\n"
            }
            "RCPT" => match &*shared.manner.lock().unwrap() {
                Manner::Refuse(says) => says,
                Manner::Take | Manner::Hang => {
                    to = argument("RCPT TO:");
                    "250 ok\r\n"
                }
            },
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let raw = data(&mut stream).await?;
                shared.whole.send_modify(|so_many| *so_many += 1);
                if *shared.manner.lock().unwrap() == Manner::Hang {
                    std::future::pending::<()>().await;
                }
                let mail = Received { from: from.clone(), to: to.clone(), raw };
                shared.received.send_modify(|all| all.push(mail));
                "250 taken\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(None);
            }
            _ => "250 ok\r\n",
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// What a client that knows the password sends.
fn plain(password: &str) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    format!("AUTH PLAIN {}", BASE64_STANDARD.encode(format!("\0user\0{password}")))
}

async fn data<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<String> {
    let mut raw = Vec::new();
    loop {
        let start = raw.len();
        if stream.read_until(b'\n', &mut raw).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if &raw[start..] == b".\r\n" {
            raw.truncate(start);
            return Ok(String::from_utf8(raw).unwrap());
        }
        if raw[start..].starts_with(b"..") {
            raw.remove(start);
        }
    }
}

impl Received {
    /// A line of its head, unfolded; it must be there once.
    #[track_caller]
    pub fn header(&self, name: &str) -> String {
        let (head, _) = self.raw.split_once("\r\n\r\n").unwrap();
        let head = head.replace("\r\n ", " ");
        let mut found = head.split("\r\n").filter_map(|line| line.strip_prefix(&format!("{name}: ")));
        let value = found.next().unwrap_or_else(|| panic!("no {name} in {head}")).to_owned();
        assert_eq!(found.next(), None, "{name} stands twice in {head}");
        value
    }

    /// The names of all lines of its head.
    pub fn header_names(&self) -> Vec<String> {
        let (head, _) = self.raw.split_once("\r\n\r\n").unwrap();
        let lines = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
        lines.map(|line| line.split(':').next().unwrap().to_owned()).collect()
    }

    /// The part of this type, decoded.
    #[track_caller]
    pub fn part(&self, content_type: &str) -> String {
        let boundary = self.header("Content-Type");
        let boundary = boundary.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let boundary = format!("--{boundary}");
        let mut parts = self.raw.split(&boundary);
        let wanted = format!("Content-Type: {content_type}");
        let part = parts.find(|part| part.contains(&wanted)).unwrap_or_else(|| panic!("no {content_type}"));
        let (head, body) = part.trim_start().split_once("\r\n\r\n").unwrap();
        if head.contains("quoted-printable") {
            return quoted_printable(body);
        }
        if head.contains("base64") {
            use base64::prelude::{BASE64_STANDARD, Engine as _};
            let body: String = body.split_whitespace().collect();
            return String::from_utf8(BASE64_STANDARD.decode(body).unwrap()).unwrap();
        }
        body.to_owned()
    }

    /// The link in it: the same in the plain text and in the HTML.
    #[track_caller]
    pub fn link(&self) -> String {
        let text = self.part("text/plain");
        let link = text.lines().find(|line| line.contains("?code=")).expect("a link");
        assert!(self.part("text/html").contains(&format!("href=\"{link}\"")), "the HTML has another link");
        crate::harness::watch(link.split_once("?code=").unwrap().1);
        link.to_owned()
    }

    /// The code in its link.
    #[track_caller]
    pub fn code(&self) -> String {
        self.link().split_once("?code=").unwrap().1.to_owned()
    }
}

fn quoted_printable(body: &str) -> String {
    let body = body.replace("=\r\n", "");
    let (mut bytes, mut rest) = (Vec::new(), body.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'=' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}
