//! A read-only registry on loopback whose answers a test can spoil.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use moby::store::Digest;

use crate::fixtures::Images;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// How many requests for this path came before.
    pub before: usize,
}

impl Asked {
    pub fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }

    pub fn is_manifest(&self) -> bool {
        self.path.contains("/manifests/")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub ending: Ending,
}

/// How the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Whole,
    /// After so many bytes the connection is closed.
    Cut(usize),
    /// After so many bytes nothing comes any more.
    Stall(usize),
    /// The body is repeated, chunked, without an end.
    Endless,
}

impl Reply {
    pub fn new(status: u16, body: &[u8]) -> Reply {
        Reply { status, headers: Vec::new(), body: body.to_vec(), ending: Ending::Whole }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.retain(|(there, _)| !there.eq_ignore_ascii_case(name));
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    pub fn ending(mut self, ending: Ending) -> Reply {
        self.ending = ending;
        self
    }
}

type Spoil = dyn Fn(&Asked, Reply) -> Reply + Send + Sync;

/// A running server; stops when dropped.
pub struct Server {
    pub port: u16,
    inner: Arc<Inner>,
}

struct Inner {
    images: Images,
    spoil: Box<Spoil>,
    log: Mutex<Vec<Asked>>,
    busy: AtomicUsize,
    most_busy: AtomicUsize,
    stopped: AtomicBool,
}

impl Server {
    /// Serves images; `spoil` turns each right answer into what is sent.
    pub fn start(images: Images, spoil: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::new(Inner {
            images,
            spoil: Box::new(spoil),
            log: Mutex::default(),
            busy: AtomicUsize::new(0),
            most_busy: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let shared = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let shared = shared.clone();
                if let Ok(stream) = stream {
                    // A client that hangs up is part of the tests.
                    std::thread::spawn(move || drop(shared.serve(stream)));
                }
            }
        });
        Server { port, inner }
    }

    /// A server that does everything right.
    pub fn honest(images: Images) -> Server {
        Server::start(images, |_, reply| reply)
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked so far.
    pub fn log(&self) -> Vec<Asked> {
        self.inner.log.lock().unwrap().clone()
    }

    /// How many requests were being answered at once, at most.
    pub fn most_busy(&self) -> usize {
        self.inner.most_busy.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Inner {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        while let Some(mut asked) = read_request(&mut reader)? {
            {
                let mut log = self.log.lock().unwrap();
                asked.before = log.iter().filter(|one| one.path == asked.path && one.method == asked.method).count();
                log.push(asked.clone());
            }
            let busy = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_busy.fetch_max(busy, Ordering::SeqCst);
            let reply = (self.spoil)(&asked, self.right_answer(&asked));
            let whole = reply.ending == Ending::Whole;
            let sent = self.send(&mut stream, &asked, reply);
            self.busy.fetch_sub(1, Ordering::SeqCst);
            sent?;
            if !whole {
                break;
            }
        }
        Ok(())
    }

    fn right_answer(&self, asked: &Asked) -> Reply {
        if asked.path == "/v2/" {
            return Reply::new(200, b"{}");
        }
        let Some(rest) = asked.path.strip_prefix("/v2/") else { return Reply::new(404, b"no such page") };
        if let Some((repository, reference)) = rest.split_once("/manifests/") {
            let by_digest = reference.parse::<Digest>().ok().filter(|digest| self.images.kinds.contains_key(digest));
            let digest = by_digest.or_else(|| self.images.tags.get(&format!("{repository}:{reference}")).copied());
            let Some(digest) = digest else {
                return Reply::new(404, br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such manifest"}]}"#);
            };
            return Reply::new(200, &self.images.blobs[&digest])
                .with("Content-Type", &self.images.kinds[&digest])
                .with("Docker-Content-Digest", digest);
        }
        let blob = rest.split_once("/blobs/").and_then(|(_, digest)| digest.parse::<Digest>().ok());
        let Some(bytes) = blob.and_then(|digest| self.images.blobs.get(&digest)) else {
            return Reply::new(404, br#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#);
        };
        ranged(asked, bytes).with("ETag", format!("\"{}\"", Digest::of(bytes)))
    }

    fn send(&self, stream: &mut TcpStream, asked: &Asked, reply: Reply) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let has_length = reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if reply.ending == Ending::Endless {
            head += "Transfer-Encoding: chunked\r\n";
        } else if !has_length {
            head += &format!("Content-Length: {}\r\n", reply.body.len());
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if asked.method == "HEAD" {
            return Ok(());
        }
        match reply.ending {
            Ending::Whole => stream.write_all(&reply.body)?,
            Ending::Cut(length) => stream.write_all(&reply.body[..length.min(reply.body.len())])?,
            Ending::Stall(length) => {
                stream.write_all(&reply.body[..length.min(reply.body.len())])?;
                while !self.stopped.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Ending::Endless => loop {
                stream.write_all(format!("{:x}\r\n", reply.body.len()).as_bytes())?;
                stream.write_all(&reply.body)?;
                stream.write_all(b"\r\n")?;
            },
        }
        Ok(())
    }
}

/// The part of a document that was asked for.
pub fn ranged(asked: &Asked, bytes: &[u8]) -> Reply {
    let start = asked.header("range").strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')?.parse::<usize>().ok());
    match start {
        Some(start) if start < bytes.len() => Reply::new(206, &bytes[start..])
            .with("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
        Some(_) => Reply::new(416, b""),
        None => Reply::new(200, bytes),
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_string();
    let target = words.next().unwrap_or_default();
    // A proxy is asked for whole URLs.
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_string(), query.to_string());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut Vec::new())?;
    Ok(Some(Asked { method, path, query, headers, before: 0 }))
}
