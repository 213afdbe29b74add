//! States in Slurm's words.

use offtake_protocol::rest::{JobState, NodeState};

/// A job's state, short and long.
pub const fn of_job(state: JobState) -> (&'static str, &'static str) {
    match state {
        JobState::Pending | JobState::Held => ("PD", "PENDING"),
        JobState::Starting => ("CF", "CONFIGURING"),
        JobState::Running => ("R", "RUNNING"),
        JobState::Stopping => ("CG", "COMPLETING"),
        JobState::Finished => ("CD", "COMPLETED"),
        JobState::Failed => ("F", "FAILED"),
        JobState::Cancelled => ("CA", "CANCELLED"),
    }
}

/// A node's state, short and long; a star where it does not answer.
pub const fn of_node(state: NodeState) -> (&'static str, &'static str) {
    match state {
        NodeState::Idle => ("idle", "idle"),
        NodeState::Mixed => ("mix", "mixed"),
        NodeState::Allocated => ("alloc", "allocated"),
        NodeState::Draining => ("drng", "draining"),
        NodeState::Drained => ("drain", "drained"),
        NodeState::Down => ("down*", "down*"),
        NodeState::Expected => ("unk*", "unknown*"),
    }
}

/// The states that a word of Slurm's means, short or long, in capitals or not.
///
/// # Errors
/// When it is none of Slurm's.
pub fn jobs_of(word: &str) -> Result<Vec<JobState>, String> {
    let word = word.to_ascii_uppercase();
    if word == "ALL" {
        return Ok(JobState::ALL.to_vec());
    }
    let meant = |state: &JobState| of_job(*state).0 == word || of_job(*state).1 == word;
    let states: Vec<JobState> = JobState::ALL.into_iter().filter(meant).collect();
    // States that no job of ours has.
    let others = ["S", "SUSPENDED", "TO", "TIMEOUT", "NF", "NODE_FAIL", "PR", "PREEMPTED", "OOM", "OUT_OF_MEMORY"];
    if states.is_empty() && !others.contains(&word.as_str()) {
        return Err(format!(
            "`{word}` is no state; allowed are PENDING, CONFIGURING, RUNNING, COMPLETING, COMPLETED, FAILED, CANCELLED and all"
        ));
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_they_mean_to_slurm() {
        assert_eq!(jobs_of("pd"), Ok(vec![JobState::Pending, JobState::Held]));
        assert_eq!(jobs_of("RUNNING"), Ok(vec![JobState::Running]));
        assert_eq!(jobs_of("all").map(|states| states.len()), Ok(8));
        assert_eq!(jobs_of("TIMEOUT"), Ok(vec![]));
        assert!(jobs_of("sleeping").is_err());
    }
}
