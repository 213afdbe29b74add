//! Jobs that have ended, on disk. They are written beside the loop; the core keeps the last of them in memory meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use axum::http::StatusCode;
use offtake_journal::{Filter, Row};
use offtake_protocol::rest::{JobDetail, JobQuery, JobState, JobView, Problem};

use crate::core::{HistoryRow, states};
use crate::problem::problem;

/// Batches that may wait to be written; then the journal waits too.
const MOST_WAITING: usize = 64;

/// Rows that are kept while they cannot be written.
const MOST_KEPT: usize = 50_000;

/// Between two tries to write.
const AGAIN: Duration = Duration::from_secs(1);

/// Jobs that have ended.
#[derive(Debug)]
pub(crate) struct History {
    store: Arc<offtake_journal::History>,
    work: SyncSender<Work>,
}

enum Work {
    Ended { applied: u64, rows: Vec<HistoryRow> },
    Flush(SyncSender<bool>),
}

impl History {
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(store: Arc<offtake_journal::History>) -> std::io::Result<Self> {
        let (work, waiting) = sync_channel(MOST_WAITING);
        let keeper = Keeper { store: Arc::clone(&store), rows: Vec::new(), applied: 0, behind: false, gave_up: false };
        std::thread::Builder::new().name("history".to_owned()).spawn(move || keeper.run(&waiting))?;
        Ok(Self { store, work })
    }

    /// All facts up to `applied` are on disk; with those after the last call these jobs have ended.
    pub(crate) fn ended(&self, applied: u64, rows: Vec<HistoryRow>) {
        // Its thread ends with the server.
        let _ = self.work.send(Work::Ended { applied, rows });
    }

    /// Waits until all that was said is written; whether it could be.
    pub(crate) fn flush(&self) -> bool {
        let (done, written) = sync_channel(1);
        self.work.send(Work::Flush(done)).is_ok() && written.recv().unwrap_or(false)
    }

    /// A job that has ended.
    ///
    /// # Errors
    /// The history cannot be read.
    pub(crate) async fn job(&self, id: u64) -> Result<Option<JobDetail>, Problem> {
        let row = self.read(move |store| store.get(id)).await?;
        row.map(|row| document(&row)).transpose()
    }

    /// A page of the jobs that have ended, of one tenant or of all, the youngest first.
    ///
    /// # Errors
    /// The query cannot be meant, or the history cannot be read.
    pub(crate) async fn page(
        &self,
        only_tenant: Option<&str>,
        query: &JobQuery,
        limit: usize,
    ) -> Result<Vec<JobView>, Problem> {
        let Some(filter) = filter(only_tenant, query, limit)? else { return Ok(Vec::new()) };
        let rows = self.read(move |store| store.list(&filter)).await?;
        rows.iter().map(|row| Ok(document(row)?.job)).collect()
    }

    async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(&offtake_journal::History) -> Result<R, offtake_journal::Error> + Send + 'static,
    ) -> Result<R, Problem> {
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || look(&store)).await;
        read.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))
    }
}

/// What of the history a query asks for; none when nothing in it can match.
fn filter(only_tenant: Option<&str>, query: &JobQuery, limit: usize) -> Result<Option<Filter>, Problem> {
    let over: Vec<String> =
        states(query)?.into_iter().filter(|state| state.is_over()).map(|state| state.word().to_owned()).collect();
    let of_another = only_tenant.is_some_and(|only| query.tenant.as_ref().is_some_and(|asked| asked != only));
    if over.is_empty() || of_another {
        return Ok(None);
    }
    Ok(Some(Filter {
        tenant: only_tenant.map(str::to_owned).or_else(|| query.tenant.clone()),
        name: query.name.clone(),
        user: query.user.clone(),
        states: over,
        array: query.array,
        before: query.before,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
    }))
}

fn document(row: &Row) -> Result<JobDetail, Problem> {
    serde_json::from_slice(&row.document).map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "the history of jobs cannot be read");
    let detail = "the history of jobs that have ended cannot be read; the server's log says why";
    problem(StatusCode::INTERNAL_SERVER_ERROR, "history_unreadable", detail)
}

/// As the history keeps it.
pub(crate) fn row(ended: HistoryRow) -> Row {
    Row {
        id: ended.id,
        tenant: ended.tenant,
        name: ended.name,
        user: ended.user,
        state: JobState::word(ended.state).to_owned(),
        array: ended.array,
        ended_ms: ended.ended_ms,
        document: serde_json::to_vec(&ended.document).expect("a job is texts and numbers"),
    }
}

/// Writes what has ended.
struct Keeper {
    store: Arc<offtake_journal::History>,
    /// Rows that are not written yet.
    rows: Vec<Row>,
    applied: u64,
    /// Whether something waits to be written.
    behind: bool,
    /// Rows were dropped: the next start folds them again, if nothing later is written now.
    gave_up: bool,
}

impl Keeper {
    fn run(mut self, waiting: &Receiver<Work>) {
        loop {
            let mut work = match waiting.recv_timeout(if self.behind { AGAIN } else { Duration::MAX }) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut flushes = Vec::new();
            while let Some(next) = work {
                match next {
                    Work::Ended { applied, rows } => self.note(applied, rows),
                    Work::Flush(done) => flushes.push(done),
                }
                work = waiting.try_recv().ok();
            }
            self.write();
            for done in flushes {
                // Whoever waits may be gone.
                let _ = done.send(!self.behind && !self.gave_up);
            }
        }
        self.write();
    }

    fn note(&mut self, applied: u64, rows: Vec<HistoryRow>) {
        if self.gave_up {
            return;
        }
        self.rows.extend(rows.into_iter().map(row));
        (self.applied, self.behind) = (applied, true);
    }

    fn write(&mut self) {
        if !self.behind {
            return;
        }
        match self.store.upsert(&self.rows, self.applied) {
            Ok(()) => {
                self.rows.clear();
                self.behind = false;
            }
            Err(error) if self.rows.len() <= MOST_KEPT => {
                tracing::warn!(%error, "the history of jobs cannot be written; it is tried again");
            }
            Err(error) => {
                tracing::error!(%error, "the history of jobs cannot be written; the next start catches up");
                self.rows = Vec::new();
                (self.behind, self.gave_up) = (false, true);
            }
        }
    }
}
