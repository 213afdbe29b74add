//! Which cores a worker runs on.
//!
//! A job keeps to the cores that its first task on the node was given, so that the steps inside it share them and jobs
//! stay apart. Among equal ones the lowest numbers are taken, which lie together.

use std::collections::BTreeMap;

use offtake_protocol::agent::TaskId;

/// The cores of a node, and who has them.
#[derive(Debug)]
pub(crate) struct Cores {
    all: Vec<u32>,
    given: BTreeMap<TaskId, Vec<Vec<u32>>>,
}

impl Cores {
    pub const fn new(all: Vec<u32>) -> Self {
        Self { all, given: BTreeMap::new() }
    }

    /// Gives cores to each of a task's workers. None where it asks for no processor, or for all that there is.
    pub fn give(&mut self, id: TaskId, workers: usize, cpu_milli: u32) -> Vec<Vec<u32>> {
        let each = cpu_milli.div_ceil(1000) as usize;
        if each == 0 || each >= self.all.len() {
            return vec![Vec::new(); workers];
        }
        let mut load: BTreeMap<u32, (bool, u32)> = self.all.iter().map(|core| (*core, (true, 0))).collect();
        for (other, workers) in &self.given {
            let same_job = (other.job, other.attempt) == (id.job, id.attempt);
            for core in workers.iter().flatten() {
                let Some((foreign, tasks)) = load.get_mut(core) else { continue };
                if same_job {
                    // The job's own: the script that waits for its steps is no load.
                    *foreign = false;
                    *tasks += u32::from(other.step != 0);
                } else {
                    *tasks += 1;
                }
            }
        }
        let job_has_some = load.values().any(|(foreign, _)| !foreign);
        let mut given = Vec::with_capacity(workers);
        for _ in 0..workers {
            let mut order: Vec<(bool, u32, u32)> =
                load.iter().map(|(core, (foreign, tasks))| (job_has_some && *foreign, *tasks, *core)).collect();
            order.sort_unstable();
            let mut own: Vec<u32> = order.into_iter().take(each).map(|(.., core)| core).collect();
            own.sort_unstable();
            for core in &own {
                load.entry(*core).and_modify(|(_, tasks)| *tasks += 1);
            }
            given.push(own);
        }
        self.given.insert(id, given.clone());
        given
    }

    /// What a task of an earlier run of the agent has.
    pub fn adopt(&mut self, id: TaskId, workers: Vec<Vec<u32>>) {
        self.given.insert(id, workers);
    }

    pub fn take_back(&mut self, id: TaskId) {
        self.given.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(job: u64, step: u32) -> TaskId {
        TaskId { job, attempt: 1, step }
    }

    #[test]
    fn jobs_stay_apart_and_steps_share() {
        let mut cores = Cores::new((0..8).collect());
        assert_eq!(cores.give(id(1, 0), 2, 2000), [[0, 1], [2, 3]]);
        assert_eq!(cores.give(id(2, 0), 1, 1500), [[4, 5]]);
        assert_eq!(cores.give(id(1, 1), 1, 2000), [[0, 1]], "a step inside the first job");
        assert_eq!(cores.give(id(1, 2), 1, 2000), [[2, 3]], "another beside it");
        cores.take_back(id(2, 0));
        assert_eq!(cores.give(id(3, 0), 1, 4000), [[4, 5, 6, 7]]);
    }

    #[test]
    fn who_asks_for_nothing_or_everything_may_run_anywhere() {
        let mut cores = Cores::new((0..2).collect());
        assert_eq!(cores.give(id(1, 0), 1, 0), [Vec::<u32>::new()]);
        assert_eq!(cores.give(id(2, 0), 1, 2000), [Vec::<u32>::new()]);
    }
}
