//! One transfer: asked for, retried, resumed, bounded.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::time::timeout;

use super::backoff::{ATTEMPTS, delay};
use super::refusal::{complaint, of_status};
use super::{Failure, Net, Reason, Url, is_loopback, shown};
use crate::error::Result;
use crate::ui::Task;

/// A transfer that came this many bytes further than ever before counts as working: the count of failures begins anew.
/// A slow, often broken link gets a large layer in the end; a server that drips a byte per attempt does not hold us.
const PROGRESS: u64 = 1 << 20;

/// Waits of this length are told to people, who would wonder.
const WORTH_A_NOTE: Duration = Duration::from_secs(1);

/// Redirects that are followed; the web's usual number.
const REDIRECTS: usize = 10;

/// Takes the bytes of a transfer.
pub trait Sink {
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Throws away everything taken so far: the transfer begins again at the first byte.
    fn restart(&mut self) -> Result<()>;
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.clear();
        Ok(())
    }
}

/// What to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) url: &'a Url,
    pub(crate) head: bool,
    pub(crate) headers: HeaderMap,
    /// More bytes than this are refused.
    pub(crate) limit: u64,
    /// The size that the content must have.
    pub(crate) size: Option<u64>,
    /// The URL names content by its digest, so that parts of two answers belong together.
    pub(crate) fixed: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn get(url: &'a Url, limit: u64) -> Request<'a> {
        Request { url, head: false, headers: HeaderMap::new(), limit, size: None, fixed: false }
    }
}

/// The headers of the last answer, and the size of the content in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) size: u64,
}

/// How far a transfer got. Kept by the caller, so that a transfer goes on after new credentials were fetched.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes that the sink has.
    received: u64,
    /// The entity tag of the content that they belong to.
    tag: Option<HeaderValue>,
}

impl Net {
    /// Does a request, with retries, until the sink has everything.
    pub(crate) fn transfer(
        &self,
        request: &Request<'_>,
        progress: &mut Progress,
        sink: &mut dyn Sink,
        task: Option<&Task>,
    ) -> Result<Answer, Failure> {
        if self.options.offline {
            return Err(Failure::offline(&shown(request.url)));
        }
        let mut failures = 0;
        let mut mark = progress.received;
        let mut intake = Intake { progress, sink, task };
        loop {
            let failure = match self.runtime.block_on(self.attempt(request, &mut intake)) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !failure.may_pass() {
                return Err(failure);
            }
            if intake.progress.received >= mark.saturating_add(PROGRESS) {
                failures = 0;
            }
            // Never lower: else a server whose content changes all the time would keep us for ever.
            mark = mark.max(intake.progress.received);
            failures += 1;
            if failures == ATTEMPTS {
                return Err(failure.context(format_args!("tried {ATTEMPTS} times")));
            }
            let wait = delay(failures, failure.reason() == Reason::TooManyRequests, failure.retry_after());
            if wait >= WORTH_A_NOTE {
                self.ui().note(format!("{failure}; asking again in {:.0} s", wait.as_secs_f32()));
            }
            std::thread::sleep(wait);
        }
    }

    /// Does one request without a body and returns its status, or what kept it from being answered. No retries.
    pub(crate) fn probe(&self, url: &Url) -> Result<(StatusCode, String), Failure> {
        if self.options.offline {
            return Err(Failure::offline(&shown(url)));
        }
        self.runtime.block_on(async {
            let asked = shown(url);
            let send = self.client(url)?.get(url.clone()).send();
            let response = timeout(self.options.stall_timeout, send)
                .await
                .map_err(|_| stalled(&asked, self.options.stall_timeout))?
                .map_err(|error| Failure::of_client(&asked, error))?;
            let status = response.status();
            Ok((status, complaint(response).await))
        })
    }

    async fn attempt(&self, request: &Request<'_>, intake: &mut Intake<'_>) -> Result<Answer, Failure> {
        let asked = shown(request.url);
        let stall = self.options.stall_timeout;
        if intake.progress.received > 0 && !request.fixed && intake.progress.tag.is_none() {
            intake.begin_again()?;
        }
        let method = if request.head { Method::HEAD } else { Method::GET };
        // Not compressed in transit: digests and ranges are those of the content itself.
        let mut builder = self
            .client(request.url)?
            .request(method, request.url.clone())
            .header(ACCEPT_ENCODING, "identity")
            .headers(request.headers.clone());
        if intake.progress.received > 0 {
            builder = builder.header(RANGE, format!("bytes={}-", intake.progress.received));
            if let Some(tag) = intake.progress.tag.as_ref().filter(|_| !request.fixed) {
                builder = builder.header(IF_RANGE, tag.clone());
            }
        }
        let response = timeout(stall, builder.send())
            .await
            .map_err(|_| stalled(&asked, stall))?
            .map_err(|error| Failure::of_client(&asked, error))?;
        let headers = response.headers().clone();
        if request.head && response.status() == StatusCode::OK {
            return Ok(Answer { headers, size: 0 });
        }
        let (position, total) = match response.status() {
            StatusCode::OK => {
                let tag = strong_tag(&headers);
                if intake.progress.received > 0 && !request.fixed && (tag.is_none() || tag != intake.progress.tag) {
                    intake.begin_again()?;
                }
                intake.progress.tag = tag;
                (0, response.content_length())
            }
            StatusCode::PARTIAL_CONTENT => match content_range(&headers) {
                Some((start, total)) if intake.progress.received > 0 && start == intake.progress.received => {
                    (start, total)
                }
                _ => {
                    intake.begin_again()?;
                    return Err(Failure::new(Reason::Broken, format!("{asked}: another range than asked for came")));
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE if intake.progress.received > 0 => {
                intake.begin_again()?;
                return Err(Failure::new(Reason::Broken, format!("{asked}: the transfer cannot be resumed")));
            }
            _ => return Err(of_status(&asked, response).await),
        };
        if let (Some(total), Some(size)) = (total, request.size)
            && total != size
        {
            return Err(wrong_size(&asked, size, &format!("{total} bytes")));
        }
        if total.is_some_and(|total| total > request.limit) {
            return Err(too_large(&asked, request.limit));
        }
        let size = intake.receive(request, response, position, total, stall).await?;
        Ok(Answer { headers, size })
    }
}

/// Where the bytes of a transfer go.
struct Intake<'a> {
    progress: &'a mut Progress,
    sink: &'a mut dyn Sink,
    task: Option<&'a Task>,
}

impl Intake<'_> {
    /// Reads a body whose first byte belongs at `position` of a content of `total` bytes. Returns the content's size.
    async fn receive(
        &mut self,
        request: &Request<'_>,
        mut response: Response,
        mut position: u64,
        total: Option<u64>,
        stall: Duration,
    ) -> Result<u64, Failure> {
        let asked = &shown(request.url);
        loop {
            let chunk = timeout(stall, response.chunk())
                .await
                .map_err(|_| stalled(asked, stall))?
                .map_err(|error| Failure::of_client(asked, error))?;
            let Some(chunk) = chunk else { break };
            let end = position.saturating_add(chunk.len() as u64);
            if let Some(size) = request.size.filter(|size| end > *size) {
                return Err(wrong_size(asked, size, "more"));
            }
            if end > request.limit {
                return Err(too_large(asked, request.limit));
            }
            // A server that ignores ranges sends again what is there already.
            let known = usize::try_from(self.progress.received.saturating_sub(position)).unwrap_or(usize::MAX);
            if let Some(fresh) = chunk.get(known..).filter(|fresh| !fresh.is_empty()) {
                self.sink.write(fresh).map_err(Failure::local)?;
                self.progress.received = end;
                if let Some(task) = self.task {
                    task.advance(fresh.len() as u64);
                }
            }
            position = end;
        }
        match total.or(request.size) {
            Some(total) if position < total => Err(Failure::new(
                Reason::Broken,
                format!("{asked}: the transfer ended after {position} of {total} bytes"),
            )),
            _ if position < self.progress.received => {
                Err(Failure::new(Reason::Corrupt, format!("{asked}: the content is shorter than what came before")))
            }
            _ => Ok(position),
        }
    }

    fn begin_again(&mut self) -> Result<(), Failure> {
        *self.progress = Progress::default();
        self.sink.restart().map_err(Failure::local)
    }
}

/// A strong entity tag; weak ones do not promise equal bytes (RFC 9110, section 8.8.1).
fn strong_tag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ETAG).filter(|tag| tag.as_bytes().first() == Some(&b'"')).cloned()
}

/// Start and total size of `Content-Range: bytes START-END/TOTAL`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

fn stalled(asked: &str, stall: Duration) -> Failure {
    Failure::new(Reason::Unreachable, format!("{asked}: not a byte came for {} s", stall.as_secs_f32()))
}

fn too_large(asked: &str, limit: u64) -> Failure {
    Failure::new(Reason::TooLarge, format!("{asked}: more than the {limit} bytes that are allowed here"))
}

fn wrong_size(asked: &str, size: u64, found: &str) -> Failure {
    Failure::new(Reason::Corrupt, format!("{asked}: wrong size: expected {size} bytes, found {found}"))
        .hint("the server, or something on the way to it, is damaged or lies; nothing was kept")
}

/// Follows redirects as browsers do, but never from https to plain http elsewhere: what was asked for in private must
/// not come over the open wire. The client drops credentials when host, port or scheme change.
pub(super) fn redirect_policy() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let downgraded = attempt.previous().last().is_some_and(|from| from.scheme() == "https")
            && attempt.url().scheme() != "https"
            && !is_loopback(attempt.url().host_str().unwrap_or_default());
        if attempt.previous().len() > REDIRECTS {
            attempt.error("too many redirects")
        } else if downgraded {
            attempt.error("from https to plain http")
        } else {
            attempt.follow()
        }
    })
}
