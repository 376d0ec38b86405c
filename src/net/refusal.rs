//! What a server says when it does not give what was asked for.

use std::time::{Duration, SystemTime};

use reqwest::Response;
use reqwest::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use tokio::time::timeout;

use super::backoff::retry_after;
use super::{Failure, Reason};

/// As much of an error's text is read, in bytes; less of it is shown.
const COMPLAINT_LIMIT: usize = 4 << 10;
const SHOWN_LIMIT: usize = 200;
/// The status has come; its text is not worth a longer wait.
const COMPLAINT_WAIT: Duration = Duration::from_secs(2);

/// The failure that an answer's status stands for. `asked` is the URL as it may be shown.
pub(super) async fn of_status(asked: &str, response: Response) -> Failure {
    let status = response.status();
    let headers = response.headers().clone();
    let reason = match status.as_u16() {
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 | 410 => Reason::NotFound,
        429 => Reason::TooManyRequests,
        408 | 500 | 502 | 503 | 504 => Reason::Unavailable,
        other => Reason::Status(other),
    };
    let texts = |name| headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_string);
    let wait = texts(RETRY_AFTER).next().and_then(|value| retry_after(&value, SystemTime::now()));
    let said = complaint(response).await;
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Failure::new(reason, format!("{asked}: the server answered {status}{said}"))
        .with_challenges(texts(WWW_AUTHENTICATE).collect())
        .with_retry_after(wait)
}

/// What a server says about its refusal, fit for a message: the texts of a registry's error document or the first
/// words of anything else that is not HTML.
pub(super) async fn complaint(mut response: Response) -> String {
    let mut body = Vec::new();
    while body.len() < COMPLAINT_LIMIT {
        match timeout(COMPLAINT_WAIT, response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend(chunk.iter().take(COMPLAINT_LIMIT - body.len())),
            _ => break,
        }
    }
    let text = match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(document) => {
            let errors = document.get("errors").and_then(|errors| errors.as_array());
            let field = |error: &serde_json::Value, name| {
                error.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_string()
            };
            let texts = errors.into_iter().flatten().map(|e| format!("{} {}", field(e, "code"), field(e, "message")));
            texts.collect::<Vec<_>>().join("; ")
        }
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    let text: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_LIMIT).collect();
    if text.starts_with('<') { String::new() } else { text }
}
