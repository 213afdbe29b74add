//! Bodies of requests: never more of them than may be, never longer waited for than may be.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use offtake_protocol::rest::Problem;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::problem::{busy, problem};
use crate::server::Server;

/// Bytes of a submission.
pub(super) const SUBMISSION: usize = 8 << 20;
/// Bytes of a batch of submissions.
pub(super) const BATCH: usize = 64 << 20;
/// Bytes of an agent's report: a node with very many tasks.
pub(super) const REPORT: usize = 16 << 20;
/// Bytes of everything else.
pub(super) const OTHER: usize = 1 << 20;

/// The longest that a body may take to come.
const IN_TIME: Duration = Duration::from_secs(60);

/// KiB that the bodies of all requests under way may take together.
pub(crate) const ALL_KIB: usize = 256 << 10;

/// A body. Its share of what all bodies may take is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

/// Reads a body.
///
/// # Errors
/// When it is larger than may be, does not come in time, or breaks off, or too much is under way.
pub(super) async fn read(server: &Server, headers: &HeaderMap, body: Body, most: usize) -> Result<Read, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length = match announced {
        Some(length) => usize::try_from(length).ok().filter(|length| *length <= most).ok_or_else(|| too_large(most))?,
        // Nobody knows how much comes.
        None if body.is_end_stream() => 0,
        None => most,
    };
    let kib = u32::try_from(length / 1024 + 1).unwrap_or(u32::MAX);
    let share = Arc::clone(&server.bodies).try_acquire_many_owned(kib).map_err(|_| busy())?;
    let collected = tokio::time::timeout(IN_TIME, Limited::new(body, most).collect()).await;
    let collected = collected.map_err(|_| {
        let detail = format!("the body did not come within {} s", IN_TIME.as_secs());
        problem(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail)
    })?;
    match collected {
        Ok(body) => Ok(Read { bytes: body.to_bytes(), _share: share }),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large(most)),
        Err(error) => Err(problem(StatusCode::BAD_REQUEST, "broken_body", format!("the body broke off: {error}"))),
    }
}

fn too_large(most: usize) -> Problem {
    let detail = format!("the body is larger than {} MiB; send several requests", most >> 20);
    problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}

/// # Errors
/// When the body says that it is something else than JSON.
pub(super) fn says_json(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = given.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = format!("the body is `{kind}`; send JSON, with the header `Content-Type: application/json`");
    Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail))
}

/// What the JSON means.
///
/// # Errors
/// When it is no JSON (400), or says something that cannot be meant (422): with the field and the place.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // A list would be read as the fields in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the body is a list; send a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        fault(error.inner(), Some(path))
    })?;
    reader.end().map_err(|error| fault(&error, None))?;
    Ok(read)
}

/// As [`parse`], and an empty body or `null` means what is meant when nothing is said.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    match body.trim_ascii() {
        b"" | b"null" => Ok(T::default()),
        _ => parse(body),
    }
}

fn fault(error: &serde_json::Error, path: Option<String>) -> Problem {
    let field = path.filter(|path| path != ".");
    match error.classify() {
        serde_json::error::Category::Data => {
            let place = field.as_ref().map(|field| format!("`{field}`: ")).unwrap_or_default();
            let detail = format!("{place}{error}");
            Problem { field, ..problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
        }
        _ => problem(StatusCode::BAD_REQUEST, "malformed_json", format!("the body is no JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use offtake_protocol::rest::{Cancel, SubmitBatch};

    use super::*;

    #[test]
    fn faults_name_the_field_and_the_place() {
        let problem = parse::<SubmitBatch>(br#"{"jobs": [{"name": "a"}, {"name": 7}]}"#).expect_err("a number");
        assert_eq!((problem.status, problem.field.as_deref()), (422, Some("jobs[1].name")));
        assert!(problem.detail.contains("line 1 column"), "{}", problem.detail);

        let problem = parse::<SubmitBatch>(br#"{"jobs": [}"#).expect_err("no JSON");
        assert_eq!((problem.status, problem.code.as_str()), (400, "malformed_json"));
        let problem = parse::<Cancel>(br#"{"now": true} {}"#).expect_err("more than one value");
        assert_eq!(problem.status, 400);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse::<Cancel>(deep.as_bytes()).expect_err("too deep").status / 100, 4);
    }

    #[test]
    fn no_body_means_what_is_meant_when_nothing_is_said() {
        for nothing in [&b""[..], b" ", b"null"] {
            assert!(!parse_or_default::<Cancel>(nothing).expect("nothing is said").now);
        }
        assert!(parse_or_default::<Cancel>(b"0").is_err());
    }
}
