//! When jobs that wait are expected to start: a look ahead on a copy of the state, beside the loop.
//!
//! It is made when somebody asks, by one at a time, for two seconds at most, and kept for fifty times as long as it took:
//! so it never takes more than a fiftieth of a processor, however often it is asked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use offtake_protocol::rest::{Basis, JobState, JobView, StartEstimate, Why};
use tokio::sync::watch;

use crate::core::Starts;
use crate::server::Server;

/// How long a look ahead may take; jobs that have not started by then have no estimate.
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// How long one is good for at least.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// How long one is good for, in times of what it took.
const TIMES: u32 = 50;

/// How long an answer waits for a look ahead that is not there yet; the last one has to do then.
const PATIENCE: Duration = Duration::from_millis(500);

/// The last look ahead, and whether another is being made.
#[derive(Debug)]
pub(crate) struct Estimates {
    last: Mutex<Option<Last>>,
    is_looking: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
struct Last {
    starts: Arc<Starts>,
    good_until: Instant,
}

impl Default for Estimates {
    fn default() -> Self {
        Self { last: Mutex::default(), is_looking: watch::Sender::new(false) }
    }
}

impl Estimates {
    fn last(&self) -> Option<Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, last: Last) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }
}

/// What is known of starts now, or soon will be.
async fn starts(server: &Arc<Server>) -> Option<Arc<Starts>> {
    let estimates = &server.estimates;
    if let Some(last) = estimates.last().filter(|last| Instant::now() < last.good_until) {
        return Some(last.starts);
    }
    let mut looking = estimates.is_looking.subscribe();
    let is_first = estimates.is_looking.send_if_modified(|looking| !std::mem::replace(looking, true));
    if is_first {
        let server = Arc::clone(server);
        tokio::spawn(async move {
            if let Some(last) = look(&server).await {
                server.estimates.keep(last);
            }
            server.estimates.is_looking.send_replace(false);
        });
    }
    // Where it takes too long the last one has to do.
    let _ = tokio::time::timeout(PATIENCE, looking.wait_for(|looking| !looking)).await;
    estimates.last().map(|last| last.starts)
}

async fn look(server: &Server) -> Option<Last> {
    let begun = Instant::now();
    let fork = server.handle.ask(|core| core.fork()).await.ok()?;
    let until = begun + LONGEST_LOOK;
    let starts = tokio::task::spawn_blocking(move || fork.starts(|| Instant::now() < until)).await.ok()?;
    let good_until = Instant::now() + (begun.elapsed() * TIMES).max(GOOD_FOR);
    Some(Last { starts: Arc::new(starts), good_until })
}

const fn waits(state: JobState) -> bool {
    matches!(state, JobState::Pending | JobState::Held)
}

fn of(starts: &Starts, job: u64) -> Option<StartEstimate> {
    let start_ms = *starts.by_job.get(&job)?;
    Some(StartEstimate { start_ms, basis: Basis::LookAhead, as_of_ms: starts.as_of_ms })
}

/// Tells of jobs that wait when they are expected to start, where nothing is kept for them that says so already.
pub(crate) async fn fill(server: &Arc<Server>, jobs: impl Iterator<Item = &mut JobView>) {
    let mut open: Vec<&mut JobView> = jobs.filter(|job| waits(job.state) && job.start_estimate.is_none()).collect();
    if open.is_empty() {
        return;
    }
    let Some(starts) = starts(server).await else { return };
    open.iter_mut().for_each(|job| job.start_estimate = of(&starts, job.id));
}

/// The same for the answer to why a job waits.
pub(crate) async fn fill_why(server: &Arc<Server>, why: &mut Why) {
    if waits(why.state)
        && why.start_estimate.is_none()
        && let Some(starts) = starts(server).await
    {
        why.start_estimate = of(&starts, why.id);
    }
}
