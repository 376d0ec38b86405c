//! The network as the archive needs it: [`Net`], with its retries and resumed transfers.

use std::fs::File;

use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};

use super::fetch::{Answer, CheckedFile, Fetch, Validators};
use crate::error::Result;
use crate::net::{Net, Progress, Reason, Request, Sink, Url, parse_url};
use crate::store::{Digest, Store};
use crate::ui::Task;

impl Fetch for Net {
    fn document(&self, url: &str, limit: u64, known: &Validators) -> Result<Answer> {
        let url = parse_url(url)?;
        let mut request = Request::get(&url, limit);
        for (name, value) in [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)] {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                request.headers.insert(name, value);
            }
        }
        let mut bytes = Vec::new();
        match self.transfer(&request, &mut Progress::default(), &mut bytes, None) {
            Ok(answer) => {
                let etag = text(&answer.headers, ETAG);
                let last_modified = text(&answer.headers, LAST_MODIFIED);
                Ok(Answer::Found(bytes, Validators { etag, last_modified }))
            }
            Err(failure) => match failure.reason() {
                Reason::Status(304) => Ok(Answer::NotModified),
                Reason::NotFound | Reason::Forbidden => Ok(Answer::Absent),
                _ => Err(failure.into()),
            },
        }
    }

    fn file(&self, url: &str, store: &Store, digest: &Digest, size: u64, task: &Task) -> Result<File> {
        let url = parse_url(url)?;
        match self.checked_file(&url, store, digest, size, task) {
            // Damaged on the way, or a proxy's copy of an older one: a second try costs little.
            Err(error) if error.exit() == crate::error::Exit::Refused => {
                self.checked_file(&url, store, digest, size, task)
            }
            other => other,
        }
    }
}

impl Net {
    fn checked_file(&self, url: &Url, store: &Store, digest: &Digest, size: u64, task: &Task) -> Result<File> {
        let start = || CheckedFile::new(store, url.as_str(), digest, size);
        let mut sink = Restartable { file: start()?, start: &start };
        let mut request = Request::get(url, size);
        request.size = Some(size);
        // What comes together from two answers is checked as a whole.
        request.fixed = true;
        self.transfer(&request, &mut Progress::default(), &mut sink, Some(task)).map_err(crate::Error::from)?;
        sink.file.finish()
    }
}

/// A file that can be begun again.
struct Restartable<'a> {
    file: CheckedFile,
    start: &'a dyn Fn() -> Result<CheckedFile>,
}

impl Sink for Restartable<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write(bytes)
    }

    fn restart(&mut self) -> Result<()> {
        self.file = (self.start)()?;
        Ok(())
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::NetOptions;
    use crate::ui::{Mode, Ui};
    use std::io::{BufRead, BufReader, Read, Write};

    const CONTENT: &[u8] = b"the content of a file";

    /// A server of one file that answers conditional requests and breaks off whole transfers of `/broken`. Ends with
    /// the program.
    fn server() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines: Vec<String> = BufReader::new(&stream)
                    .lines()
                    .map(|line| line.unwrap().to_lowercase())
                    .take_while(|line| !line.is_empty())
                    .collect();
                let has = |header: &str| lines.iter().any(|line| line == header);
                let path = lines[0].split(' ').nth(1).unwrap();
                let size = CONTENT.len();
                let (status, headers, body) = match path {
                    "/file" if has("if-none-match: \"one\"") => ("304 Not Modified", String::new(), &[][..]),
                    "/broken" if has("range: bytes=7-") => (
                        "206 Partial Content",
                        format!("Content-Range: bytes 7-{}/{size}\r\n", size - 1),
                        &CONTENT[7..],
                    ),
                    "/broken" => ("200 OK", String::new(), &CONTENT[..7]),
                    "/file" => ("200 OK", "ETag: \"one\"\r\n".to_string(), CONTENT),
                    _ => ("404 Not Found", String::new(), &[][..]),
                };
                let length = if path == "/broken" && status == "200 OK" { size } else { body.len() };
                let head =
                    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
                stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
            }
        });
        base
    }

    #[test]
    fn documents_are_asked_for_once_and_files_to_their_end() {
        let base = server();
        let ui = Ui::new(Mode::Quiet);
        let net = Net::new(NetOptions::default(), &ui).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let ask = |path: &str, known: &Validators| net.document(&format!("{base}/{path}"), 100, known).unwrap();
        let Answer::Found(bytes, validators) = ask("file", &Validators::default()) else { panic!("not found") };
        assert_eq!((bytes.as_slice(), validators.etag.as_deref()), (CONTENT, Some("\"one\"")));
        assert_eq!(ask("file", &validators), Answer::NotModified);
        assert_eq!(ask("other", &validators), Answer::Absent);
        assert!(net.document(&format!("{base}/file"), 5, &Validators::default()).is_err());
        let task = ui.task("fetch", "it", None);
        for path in ["file", "broken"] {
            let get = |digest, size| net.file(&format!("{base}/{path}"), &store, &digest, size, &task);
            let mut text = Vec::new();
            get(Digest::of(CONTENT), CONTENT.len() as u64).unwrap().read_to_end(&mut text).unwrap();
            assert_eq!(text, CONTENT);
            for wrong in [get(Digest::of(b""), CONTENT.len() as u64), get(Digest::of(CONTENT), 5)] {
                assert_eq!(wrong.unwrap_err().exit(), crate::error::Exit::Refused);
            }
        }
    }
}
