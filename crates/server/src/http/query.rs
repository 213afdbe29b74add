//! Queries and parts of paths.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::{Refused, problem};
use crate::server::Server;

/// The query of a request.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Server>> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Refused> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, server).await;
        let Query(query) = query.map_err(|rejection| {
            let text = rejection.body_text();
            let reason = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            problem(StatusCode::BAD_REQUEST, "invalid_query", format!("the query cannot be meant: {reason}"))
        })?;
        Ok(Self(query))
    }
}

/// What a path names.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Server>> for Named<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Refused> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, server).await;
        let Path(named) = path.map_err(|_| {
            let detail = "there is no such thing: jobs, steps and requests are named by numbers";
            problem(StatusCode::NOT_FOUND, "unknown_path", detail)
        })?;
        Ok(Self(named))
    }
}
