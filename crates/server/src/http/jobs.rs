//! Jobs.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use offtake_protocol::rest::{
    Cancel, Demand, JobDetail, JobPage, JobQuery, JobView, Problem, Scale, SubmitBatch, Submitted, SubmittedBatch, Why,
    WhyQuery,
};
use offtake_workload::JobFile;

use super::body;
use super::caller::{Asker, Writer};
use super::openapi::{Problems, WriteProblems};
use super::query::{Asked, Named};
use crate::core::{Answer, Caller, Command, limit};
use crate::estimates;
use crate::problem::{Refused, problem};
use crate::server::{App, Server};

/// Jobs in a batch.
const MOST_IN_BATCH: usize = 10_000;

/// Submits a job.
///
/// It is on disk when the answer comes. The same key and the same body give the same answer and no second job.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs", operation_id = "submit",
    params(super::openapi::IdempotencyKey),
    request_body = JobFile,
    responses((status = 201, description = "Accepted, and on disk.", body = Submitted), WriteProblems)
)]
pub(super) async fn submit(
    State(server): App,
    writer: Writer,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Submitted>), Refused> {
    body::says_json(&headers)?;
    let read = body::read(&server, &headers, body, body::SUBMISSION).await?;
    let file: JobFile = body::parse(&read.bytes)?;
    let key = writer.key(method.as_str(), uri.path(), &read.bytes);
    let batch = submitted(&server, writer.caller(), key, vec![file], &read).await?;
    let one = batch.jobs.into_iter().next().ok_or_else(unexpected)?;
    Ok((StatusCode::CREATED, Json(one)))
}

/// Submits many jobs, all or none of them.
#[utoipa::path(
    post, path = "/v1/jobs/batch", tag = "jobs", operation_id = "submit_batch",
    params(super::openapi::IdempotencyKey),
    request_body = SubmitBatch,
    responses((status = 201, description = "All accepted, and on disk.", body = SubmittedBatch), WriteProblems)
)]
pub(super) async fn submit_batch(
    State(server): App,
    writer: Writer,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<SubmittedBatch>), Refused> {
    body::says_json(&headers)?;
    let read = body::read(&server, &headers, body, body::BATCH).await?;
    let batch: SubmitBatch = body::parse(&read.bytes)?;
    if batch.jobs.is_empty() || batch.jobs.len() > MOST_IN_BATCH {
        let detail = format!("a batch has 1 to {MOST_IN_BATCH} jobs, this one has {}", batch.jobs.len());
        let field = Some("jobs".to_owned());
        return Err(Problem { field, ..problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }.into());
    }
    let key = writer.key(method.as_str(), uri.path(), &read.bytes);
    Ok((StatusCode::CREATED, Json(submitted(&server, writer.caller(), key, batch.jobs, &read).await?)))
}

async fn submitted(
    server: &Server,
    caller: Caller,
    key: Option<crate::core::Key>,
    files: Vec<JobFile>,
    read: &body::Read,
) -> Result<SubmittedBatch, Problem> {
    match server.handle.submit(caller, key, files, read.bytes.len()).await? {
        Answer::Submitted(batch) => Ok(batch),
        _ => Err(unexpected()),
    }
}

/// The core gave an answer of another kind than what was asked for.
pub(super) fn unexpected() -> Problem {
    problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server gave no such answer; please report this")
}

/// Lists jobs, the youngest first.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", operation_id = "jobs",
    params(JobQuery),
    responses((status = 200, description = "A page of jobs.", body = JobPage), Problems)
)]
pub(super) async fn list(
    State(server): App,
    asker: Asker,
    Asked(query): Asked<JobQuery>,
) -> Result<Json<JobPage>, Refused> {
    let limit = limit(&query)?;
    let (caller, asked) = (asker.caller(), query.clone());
    let mut live = server.handle.ask(move |core| core.live_jobs(&caller, &asked)).await??;
    estimates::fill(&server, live.iter_mut()).await;
    let past = server.shared.history.page(asker.0.only_tenant(), &query, limit).await?;
    Ok(Json(page(live, past, limit)))
}

/// Jobs in memory and those on disk as one page. What is in both is told from memory.
fn page(live: Vec<JobView>, past: Vec<JobView>, limit: usize) -> JobPage {
    let mut jobs = live;
    jobs.extend(past);
    // Stable: of two with one identity the one from memory stays first.
    jobs.sort_by_key(|job| std::cmp::Reverse(job.id));
    jobs.dedup_by_key(|job| job.id);
    jobs.truncate(limit);
    let next = (jobs.len() == limit).then(|| jobs.last().map(|job| job.id)).flatten().filter(|id| *id > 1);
    JobPage { jobs, next }
}

/// Shows a job with its attempts and its receipt.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs", operation_id = "job",
    params(("id" = u64, Path, description = "The job.")),
    responses((status = 200, description = "The job.", body = JobDetail), Problems)
)]
pub(super) async fn get(State(server): App, asker: Asker, Named(id): Named<u64>) -> Result<Json<JobDetail>, Refused> {
    let caller = asker.caller();
    let live = server.handle.ask(move |core| core.job(&caller, id)).await?;
    match live {
        Some(mut detail) => {
            estimates::fill(&server, std::iter::once(&mut detail.job)).await;
            Ok(Json(detail))
        }
        None => Ok(Json(ended(&server, &asker, id).await?)),
    }
}

/// A job that is no longer in memory.
async fn ended(server: &Server, asker: &Asker, id: u64) -> Result<JobDetail, Problem> {
    let found = server.shared.history.job(id).await?;
    found.filter(|detail| asker.0.sees(&detail.job.tenant)).ok_or_else(|| unknown_job(id))
}

/// The same for a job that is not there and for one of another tenant.
fn unknown_job(id: u64) -> Problem {
    problem(StatusCode::NOT_FOUND, "unknown_job", format!("there is no job {id}"))
}

/// Says why a job waits, or why it is where it is.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/why", tag = "jobs", operation_id = "why",
    params(("id" = u64, Path, description = "The job."), WhyQuery),
    responses((status = 200, description = "The answer.", body = Why), Problems)
)]
pub(super) async fn why(
    State(server): App,
    asker: Asker,
    Named(id): Named<u64>,
    Asked(query): Asked<WhyQuery>,
) -> Result<Json<Why>, Refused> {
    let caller = asker.caller();
    let risk = query.risk.unwrap_or(false);
    let told = server.handle.ask(move |core| core.why(&caller, id, risk)).await?;
    if told.as_ref().is_err_and(|problem| problem.status == StatusCode::NOT_FOUND)
        && let Ok(detail) = ended(&server, &asker, id).await
    {
        return Ok(Json(why_over(&detail.job)));
    }
    let mut told = told?;
    estimates::fill_why(&server, &mut told).await;
    Ok(Json(told))
}

/// Of a job that is over there is only to say how it ended.
fn why_over(job: &JobView) -> Why {
    let reason = job.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Why {
        id: job.id,
        state: job.state,
        summary: format!("it has {}{reason}", job.state.word()),
        asks: String::new(),
        missing: Vec::new(),
        nearest: None,
        blockers: Vec::new(),
        earliest_start_ms: None,
        start_estimate: None,
        planned: None,
        deadline: None,
        jobs_before: None,
        levels: None,
        placed: Vec::new(),
        risk: None,
        policy: None,
    }
}

/// Withdraws a job, or sends it a signal.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", tag = "jobs", operation_id = "cancel",
    params(("id" = u64, Path, description = "The job."), super::openapi::IdempotencyKey),
    request_body(content = Option<Cancel>, description = "How; in good order when left out."),
    responses((status = 200, description = "The job as it stands now.", body = JobView), WriteProblems)
)]
pub(super) async fn cancel(
    State(server): App,
    writer: Writer,
    Named(id): Named<u64>,
    request: axum::extract::Request,
) -> Result<Json<JobView>, Refused> {
    change(&server, &writer, id, request, |bytes| {
        let cancel: Cancel = body::parse_or_default(bytes)?;
        let signal = cancel.signal.as_deref().map(signal).transpose()?;
        Ok(Command::Cancel { job: id, signal, now: cancel.now })
    })
    .await
}

/// Puts a job on hold. One that runs saves its work, ends and waits.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/hold", tag = "jobs", operation_id = "hold",
    params(("id" = u64, Path, description = "The job."), super::openapi::IdempotencyKey),
    responses((status = 200, description = "The job as it stands now.", body = JobView), WriteProblems)
)]
pub(super) async fn hold(
    State(server): App,
    writer: Writer,
    Named(id): Named<u64>,
    request: axum::extract::Request,
) -> Result<Json<JobView>, Refused> {
    change(&server, &writer, id, request, |_| Ok(Command::Hold(id))).await
}

/// Releases a job that is on hold.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/release", tag = "jobs", operation_id = "release",
    params(("id" = u64, Path, description = "The job."), super::openapi::IdempotencyKey),
    responses((status = 200, description = "The job as it stands now.", body = JobView), WriteProblems)
)]
pub(super) async fn release(
    State(server): App,
    writer: Writer,
    Named(id): Named<u64>,
    request: axum::extract::Request,
) -> Result<Json<JobView>, Refused> {
    change(&server, &writer, id, request, |_| Ok(Command::Release(id))).await
}

/// Has a running job start again.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/requeue", tag = "jobs", operation_id = "requeue",
    params(("id" = u64, Path, description = "The job."), super::openapi::IdempotencyKey),
    responses((status = 200, description = "The job as it stands now.", body = JobView), WriteProblems)
)]
pub(super) async fn requeue(
    State(server): App,
    writer: Writer,
    Named(id): Named<u64>,
    request: axum::extract::Request,
) -> Result<Json<JobView>, Refused> {
    change(&server, &writer, id, request, |_| Ok(Command::Requeue(id))).await
}

/// Sets how many replicas a service has.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/scale", tag = "jobs", operation_id = "scale",
    params(("id" = u64, Path, description = "The service."), super::openapi::IdempotencyKey),
    request_body = Scale,
    responses((status = 200, description = "The service as it stands now.", body = JobView), WriteProblems)
)]
pub(super) async fn scale(
    State(server): App,
    writer: Writer,
    Named(id): Named<u64>,
    request: axum::extract::Request,
) -> Result<Json<JobView>, Refused> {
    change(&server, &writer, id, request, |bytes| Ok(Command::Scale { job: id, scale: body::parse(bytes)? })).await
}

/// Tells how many replicas the load of a service needs now; its curve, if it has one, counts again from the next full hour.
#[utoipa::path(
    put, path = "/v1/jobs/{id}/demand", tag = "jobs", operation_id = "demand",
    params(("id" = u64, Path, description = "The service."), super::openapi::IdempotencyKey),
    request_body = Demand,
    responses((status = 200, description = "The service as it stands now.", body = JobView), WriteProblems)
)]
pub(super) async fn demand(
    State(server): App,
    writer: Writer,
    Named(id): Named<u64>,
    request: axum::extract::Request,
) -> Result<Json<JobView>, Refused> {
    change(&server, &writer, id, request, |bytes| {
        let demand: Demand = body::parse(bytes)?;
        Ok(Command::Demand { job: id, replicas: demand.replicas })
    })
    .await
}

async fn change(
    server: &Server,
    writer: &Writer,
    id: u64,
    request: axum::extract::Request,
    command: impl FnOnce(&[u8]) -> Result<Command, Problem>,
) -> Result<Json<JobView>, Refused> {
    let (parts, body) = request.into_parts();
    let read = body::read(server, &parts.headers, body, body::OTHER).await?;
    if !read.bytes.is_empty() {
        body::says_json(&parts.headers)?;
    }
    let command = command(&read.bytes)?;
    let key = writer.key(parts.method.as_str(), parts.uri.path(), &read.bytes);
    let answer = server.handle.command(writer.caller(), key, command).await;
    match answer {
        Ok(Answer::Job(view)) => Ok(Json(*view)),
        Ok(_) => Err(unexpected().into()),
        Err(problem) => Err(over(server, writer, id, problem).await.into()),
    }
}

/// A job that ended long ago is known, if not to the core.
async fn over(server: &Server, writer: &Writer, id: u64, refused: Problem) -> Problem {
    if refused.status != StatusCode::NOT_FOUND {
        return refused;
    }
    match server.shared.history.job(id).await {
        Ok(Some(detail)) if writer.sees(&detail.job.tenant) => {
            let detail = format!("job {id} has {} already", detail.job.state.word());
            problem(StatusCode::CONFLICT, "job_is_over", detail)
        }
        _ => refused,
    }
}

/// A signal by its name, with or without `SIG`, or its number.
fn signal(text: &str) -> Result<i32, Problem> {
    offtake_workload::signal::parse(text).ok_or_else(|| {
        let detail = format!("`{text}` is no signal; give its name, such as `USR1`, or its number");
        Problem {
            field: Some("signal".to_owned()),
            ..problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_signal", detail)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(id: u64, name: &str) -> JobView {
        serde_json::from_value(serde_json::json!({
            "id": id, "name": name, "state": "finished", "tenant": "t", "user": "", "tier": "standard", "workers": 1,
            "chip_milli": 0, "cpu_milli": 1000, "submitted_ms": 0, "attempts": 1, "command": "true",
        }))
        .expect("a job")
    }

    #[test]
    fn a_page_is_made_of_memory_and_disk_without_a_job_twice_or_left_out() {
        let live = vec![view(9, "memory"), view(7, "memory")];
        let past = vec![view(8, "disk"), view(7, "disk"), view(3, "disk"), view(1, "disk")];
        let first = page(live.clone(), past.clone(), 3);
        let told: Vec<_> = first.jobs.iter().map(|job| (job.id, job.name.as_str())).collect();
        assert_eq!(told, [(9, "memory"), (8, "disk"), (7, "memory")]);
        assert_eq!(first.next, Some(7));
        let last = page(Vec::new(), vec![view(3, "disk"), view(1, "disk")], 3);
        assert_eq!((last.jobs.len(), last.next), (2, None));
        assert_eq!(page(live, past, 5).next, None, "nothing comes before job 1");
    }
}
