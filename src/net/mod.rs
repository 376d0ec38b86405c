//! HTTP: retries with back-off, resumed transfers, certificates, proxies.
//!
//! Everything here blocks; the asynchronous runtime that the HTTP client needs is owned by [`Net`] and never seen.
//! Proxies come from the environment (`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, in either case); loopback
//! addresses are never asked for through a proxy. TLS is rustls with ring; roots are the system's certificates and
//! those of `--cert-file`. A machine without certificates can still use plain http.
//!
//! Not supported: client certificates, HTTP/3, SOCKS proxies.

mod address;
mod backoff;
mod blob;
mod failure;
mod mirror;
mod refusal;
mod transfer;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

pub use failure::{Failure, Reason};
pub use mirror::Mirror;
pub use reqwest::Url;
pub use transfer::Sink;

pub(crate) use address::{is_loopback, shown};
pub(crate) use blob::BlobSink;
pub(crate) use transfer::{Answer, Progress, Request};

use crate::error::{Error, IoContext, Result};
use crate::ui::{Task, Ui};

/// Certificate files larger than this are refused: the largest system bundles are 300 KB.
const CERT_FILE_LIMIT: u64 = 16 << 20;

/// What the command line says about the network.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// PEM files with certificates of authorities that are trusted beside the system's (`--cert-file`).
    pub cert_files: Vec<PathBuf>,
    /// Registries to ask before the one that a reference names (`--mirror`, `MOBY_MIRROR`).
    pub mirrors: Vec<Mirror>,
    /// Registries, `HOST` or `HOST:PORT`, that are spoken to in plain http (`--insecure`).
    pub insecure_hosts: Vec<String>,
    /// What this program calls itself.
    pub user_agent: String,
    /// The folder of Docker's `config.json`, where passwords are; `None` is `$DOCKER_CONFIG`, else `~/.docker`, else
    /// podman's `auth.json`.
    pub docker_config: Option<PathBuf>,
    /// How long a connection may take to come up.
    pub connect_timeout: Duration,
    /// How long to wait for the next byte.
    pub stall_timeout: Duration,
    /// Refuse every request (`--offline`).
    pub offline: bool,
}

impl Default for NetOptions {
    fn default() -> NetOptions {
        NetOptions {
            cert_files: Vec::new(),
            mirrors: Vec::new(),
            insecure_hosts: Vec::new(),
            user_agent: concat!("moby/", env!("CARGO_PKG_VERSION")).to_string(),
            docker_config: None,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            offline: false,
        }
    }
}

/// The network. One per program; share it by reference, from any number of threads.
#[derive(Debug)]
pub struct Net {
    runtime: tokio::runtime::Runtime,
    options: NetOptions,
    ui: Ui,
    certificates: Vec<reqwest::Certificate>,
    certificate_pem: Vec<Vec<u8>>,
    proxied: OnceLock<Result<reqwest::Client, String>>,
    direct: OnceLock<Result<reqwest::Client, String>>,
}

impl Net {
    /// Reads the certificate files and starts the runtime. Nothing is connected yet. Notes (a mirror that fails, a
    /// retry) go to `ui`.
    pub fn new(options: NetOptions, ui: &Ui) -> Result<Net> {
        // Without this, the first TLS client would panic: no provider is compiled in as the default. A second `Net`
        // finds the provider in place, which is not an error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut certificates = Vec::new();
        let mut certificate_pem = Vec::new();
        for path in &options.cert_files {
            let pem = read_certificate_file(path)?;
            let wrong = |why: String| {
                Error::usage(format!("{} holds no PEM certificate{why}", path.display()))
                    .hint("--cert-file wants a file with -----BEGIN CERTIFICATE----- blocks")
            };
            let found = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| wrong(format!(" that is sound: {error}")))?;
            if found.is_empty() {
                return Err(wrong(String::new()));
            }
            certificates.extend(found);
            certificate_pem.push(pem);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            // Names are looked up on blocking threads; four are enough for four transfers.
            .max_blocking_threads(4)
            .thread_stack_size(512 << 10)
            .thread_name("net")
            .enable_all()
            .build()
            .map_err(|error| Error::failed(format!("starting the network runtime: {error}")))?;
        let (proxied, direct) = (OnceLock::new(), OnceLock::new());
        Ok(Net { runtime, options, ui: ui.clone(), certificates, certificate_pem, proxied, direct })
    }

    /// What the network was made with.
    pub fn options(&self) -> &NetOptions {
        &self.options
    }

    /// Where notes go.
    pub fn ui(&self) -> &Ui {
        &self.ui
    }

    /// Gets a document into memory; one of more than `limit` bytes is refused.
    pub fn get_bytes(&self, url: &str, limit: u64) -> Result<Vec<u8>, Failure> {
        let url = parse_url(url)?;
        let mut bytes = Vec::new();
        self.transfer(&Request::get(&url, limit), &mut Progress::default(), &mut bytes, None)?;
        Ok(bytes)
    }

    /// Gets a document into a sink; one of more than `limit` bytes is refused. Returns its size in bytes. When a
    /// broken transfer cannot be resumed, the sink is told to begin again.
    pub fn get_to(&self, url: &str, sink: &mut dyn Sink, limit: u64, task: &Task) -> Result<u64, Failure> {
        let url = parse_url(url)?;
        Ok(self.transfer(&Request::get(&url, limit), &mut Progress::default(), sink, Some(task))?.size)
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// The certificates of the options, each block of PEM for itself.
    pub(crate) fn certificate_pems(&self) -> Vec<Vec<u8>> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        let blocks = |pem: &Vec<u8>| -> Vec<Vec<u8>> {
            let text = String::from_utf8_lossy(pem);
            text.split(BEGIN).skip(1).map(|rest| format!("{BEGIN}{rest}").into_bytes()).collect()
        };
        self.certificate_pem.iter().flat_map(blocks).collect()
    }

    /// Whether the system has certificates of its own. Without any, some TLS libraries give up at the start.
    pub(crate) fn has_system_certificates(&self) -> bool {
        reqwest::Client::builder().build().is_ok()
    }

    fn client(&self, url: &Url) -> Result<&reqwest::Client, Failure> {
        let direct = is_loopback(url.host_str().unwrap_or_default());
        let slot = if direct { &self.direct } else { &self.proxied };
        slot.get_or_init(|| self.build_client(direct)).as_ref().map_err(|why| {
            Failure::new(Reason::Local, format!("the HTTP client cannot be set up: {why}"))
                .hint("check the certificates of --cert-file and the proxy variables of the environment")
        })
    }

    fn build_client(&self, direct: bool) -> Result<reqwest::Client, String> {
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(&self.options.user_agent)
                .connect_timeout(self.options.connect_timeout)
                .redirect(transfer::redirect_policy())
                .referer(false);
            if direct { builder.no_proxy() } else { builder }
        };
        // A machine without any certificate makes the first form fail; with an empty list of authorities plain http
        // works and every https server is refused with a message that says what to install.
        let with_system = builder().tls_certs_merge(self.certificates.iter().cloned()).build();
        let without_system = |_| builder().tls_certs_only(self.certificates.iter().cloned()).build();
        with_system.or_else(without_system).map_err(|error| error.to_string())
    }
}

fn read_certificate_file(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).at("reading the certificates in", path)?;
    file.take(CERT_FILE_LIMIT + 1).read_to_end(&mut pem).at("reading the certificates in", path)?;
    if pem.len() as u64 > CERT_FILE_LIMIT {
        return Err(Error::usage(format!("{} is too large for a file of certificates", path.display())));
    }
    Ok(pem)
}

/// Parses a URL for the functions that take text. Only http and https are spoken.
pub(crate) fn parse_url(text: &str) -> Result<Url, Failure> {
    let wrong = |why: String| Failure::new(Reason::Url, why).hint("a URL is http://HOST/PATH or https://HOST/PATH");
    // The text is not shown: it may hold a password that the parser did not find.
    let url = Url::parse(text).map_err(|error| wrong(format!("this is not a URL: {error}")))?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => Ok(url),
        _ => Err(wrong(format!("{}: only http and https are spoken", shown(&url)))),
    }
}
