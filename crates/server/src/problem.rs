//! What is wrong with a request, or with the server, as its answer says it.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use offtake_protocol::rest::Problem;

/// A problem of a status with a word for programs, and what is wrong and how to mend it.
pub(crate) fn problem(status: StatusCode, code: &str, detail: impl Into<String>) -> Problem {
    Problem { status: status.as_u16(), code: code.to_owned(), detail: detail.into(), field: None, index: None }
}

/// More requests wait than may.
pub(crate) fn busy() -> Problem {
    problem(StatusCode::TOO_MANY_REQUESTS, "busy", "more requests wait than the server takes; try again in a second")
}

/// The server ends.
pub(crate) fn stopping() -> Problem {
    problem(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping; try again once it runs")
}

/// The code of [`journal_unavailable`].
pub(crate) const JOURNAL_UNAVAILABLE: &str = "journal_unavailable";

/// The journal takes nothing.
pub(crate) fn journal_unavailable(reason: &str) -> Problem {
    problem(
        StatusCode::SERVICE_UNAVAILABLE,
        JOURNAL_UNAVAILABLE,
        format!("nothing was recorded; repeat with the same idempotency key ({reason})"),
    )
}

/// A problem on its way to whoever asked.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

/// Seconds after which something that cannot be done now is worth another try.
const RETRY_AFTER: &str = "1";

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).expect("a problem is texts and numbers");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"offtake\""));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
            }
            _ => {}
        }
        response
    }
}
