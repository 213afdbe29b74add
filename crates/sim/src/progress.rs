//! How far an attempt of a job has come: it starts up, works, and stops working while it saves its work.
//!
//! An attempt consists of stretches of one speed. In a stretch work goes on for an interval, then stands still while a
//! checkpoint is written, and so on; a change of speed begins a new stretch, which goes on with the interval or the
//! checkpoint where the one before was. All in whole milliseconds: what is rounded off work is booked as slowness.

use offtake_engine::ChipTime;
use offtake_units::{Duration, Ppm, Timestamp};

/// How a job saves its work on the storage of its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saving {
    /// Work between two checkpoints.
    pub interval: Duration,
    /// How long work stands still while one is written.
    pub write: Duration,
}

/// What an attempt begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outset {
    /// Since when it has its nodes.
    pub placed: Timestamp,
    /// When its workers begin to work.
    pub begins: Timestamp,
    /// Work of the job that was saved before, in time at full speed.
    pub before: Duration,
    /// Work of the job in all; none where nobody knows.
    pub to_do: Option<Duration>,
    /// How it saves its work.
    pub saving: Option<Saving>,
    /// Its speed.
    pub speed: Ppm,
}

/// An attempt on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    outset: Outset,
    /// Since when it goes at this speed.
    from: Timestamp,
    speed: Ppm,
    /// How long it had worked since the last checkpoint then, and written the next.
    into: i64,
    /// Work done and work saved up to `from`, those of attempts before included, in time at full speed.
    done: i64,
    saved: i64,
    /// Time spent working and time spent on checkpoints up to `from`.
    worked: i64,
    stood: i64,
    /// Since when it does nothing any more, although it still has its nodes.
    broken: Option<Timestamp>,
}

/// What becomes of the work of an attempt that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kept {
    /// All of it counts.
    All,
    /// What was saved counts.
    Saved,
    /// Nothing counts.
    Nothing,
}

/// Milliseconds of an attempt by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Work that counts, in time at full speed.
    pub useful: i64,
    /// Work that has to be done again.
    pub rework: i64,
    /// Start-up, and nodes that were kept although nothing went on any more.
    pub restart: i64,
    /// Standing still for checkpoints.
    pub saving: i64,
    /// What slowness cost.
    pub slowness: i64,
    /// Work of the job that is saved in all, in time at full speed.
    pub saved: i64,
}

/// Chip-time of jobs by what became of it. The sum is what was allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Work that counts.
    pub useful: ChipTime,
    /// Work that was lost and had to be done again, or was in vain.
    pub rework: ChipTime,
    /// Detection of failures, start of workers, loading of checkpoints.
    pub restart: ChipTime,
    /// Standing still while checkpoints were written.
    pub saving: ChipTime,
    /// What slow nodes and lower power levels cost the gangs on them.
    pub slowness: ChipTime,
    /// Spares that stood by.
    pub standby: ChipTime,
}

impl Spent {
    /// All of it.
    pub const fn total(&self) -> ChipTime {
        let working = self.useful.0 + self.rework.0 + self.restart.0 + self.saving.0 + self.slowness.0;
        ChipTime(working + self.standby.0)
    }

    /// Adds an attempt of a job that worked on so many chips, in thousandths, and prefers so many, with others that stood
    /// by: its work is in time at full speed, which is that with the chips it prefers.
    pub(crate) fn add(&mut self, chip_milli: u64, preferred: u64, spares: u64, ended: Ended) {
        let total = ended.useful + ended.rework + ended.restart + ended.saving + ended.slowness;
        let of = |chip_milli: u64, ms: i64| i128::from(chip_milli) * i128::from(ms);
        self.useful.0 += of(preferred, ended.useful);
        self.rework.0 += of(preferred, ended.rework);
        self.restart.0 += of(chip_milli, ended.restart);
        self.saving.0 += of(chip_milli, ended.saving);
        self.standby.0 += of(spares, total);
        // What is left of all that it had: a gang that has grown may do less for each chip, too.
        let work = of(preferred, ended.useful + ended.rework);
        self.slowness.0 += of(chip_milli, total - ended.restart - ended.saving) - work;
    }
}

/// Work of so many milliseconds at a speed, in time at full speed.
fn at_speed(ms: i64, speed: Ppm) -> i64 {
    (i128::from(ms) * i128::from(speed.parts()) / i128::from(Ppm::ONE.parts())) as i64
}

/// A stretch up to an instant.
struct Stretch {
    worked: i64,
    stood: i64,
    /// Of `worked`, what the last checkpoint holds; none without one in this stretch.
    saved: Option<i64>,
    /// How far it is in its interval and the checkpoint after that.
    into: i64,
}

impl Progress {
    pub(crate) fn begin(outset: Outset) -> Self {
        let before = outset.before.as_millis();
        let (from, speed) = (outset.begins, outset.speed);
        Self { outset, from, speed, into: 0, done: before, saved: before, worked: 0, stood: 0, broken: None }
    }

    /// When it ends by itself; never where nobody knows, nothing goes on any more, or it is paused.
    pub(crate) fn ends(&self) -> Timestamp {
        let (None, Some(to_do)) = (self.broken, self.outset.to_do) else { return Timestamp::NEVER };
        if self.speed == Ppm::ZERO {
            return Timestamp::NEVER;
        }
        let left = (to_do.as_millis() - self.done).max(0) as u128;
        let work = (left * u128::from(Ppm::ONE.parts())).div_ceil(u128::from(self.speed.parts()));
        let stands = self.outset.saving.map_or(0, |saving| {
            let (interval, write) = (saving.interval.as_millis().max(1), saving.write.as_millis());
            let (worked, written) = (self.into.min(interval), (self.into - interval).max(0));
            let writes = (work + worked as u128).saturating_sub(1) / interval as u128;
            (writes * write as u128).saturating_sub(written as u128)
        });
        let span = i64::try_from(work + stands).unwrap_or(i64::MAX);
        self.from.saturating_add(Duration::from_millis(span))
    }

    fn stretch(&self, until: Timestamp) -> Stretch {
        let elapsed = (self.broken.unwrap_or(until).min(until) - self.from).as_millis().max(0);
        // Who stands still saves nothing either.
        let saving = self.outset.saving.filter(|_| self.speed > Ppm::ZERO);
        let Some(Saving { interval, write }) = saving else {
            return Stretch { worked: elapsed, stood: 0, saved: None, into: self.into };
        };
        let interval = interval.as_millis().max(1);
        let cycle = interval + write.as_millis();
        let before = self.into.min(interval);
        let (cycles, part) = ((self.into + elapsed) / cycle, (self.into + elapsed) % cycle);
        let worked = cycles * interval + part.min(interval) - before;
        Stretch {
            worked,
            stood: elapsed - worked,
            saved: (cycles > 0).then_some(cycles * interval - before),
            into: part,
        }
    }

    fn done_with(&self, worked: i64) -> i64 {
        let done = self.done + at_speed(worked, self.speed);
        self.outset.to_do.map_or(done, |to_do| done.min(to_do.as_millis().max(self.done)))
    }

    /// It goes on at another speed.
    pub(crate) fn change_speed(&mut self, now: Timestamp, speed: Ppm) {
        if self.broken.is_some() {
            return;
        }
        let stretch = self.stretch(now);
        self.saved = stretch.saved.map_or(self.saved, |worked| self.done_with(worked));
        self.done = self.done_with(stretch.worked);
        self.worked += stretch.worked;
        self.stood += stretch.stood;
        self.from = self.from.max(now);
        (self.speed, self.into) = (speed, stretch.into);
    }

    /// Nothing goes on any more from an instant on, although it keeps its nodes.
    pub(crate) fn fail(&mut self, at: Timestamp) {
        self.broken = self.broken.or(Some(at));
    }

    /// Since when it has its nodes.
    pub(crate) const fn placed(&self) -> Timestamp {
        self.outset.placed
    }

    /// Since when nothing goes on any more, if so.
    pub(crate) const fn broken(&self) -> Option<Timestamp> {
        self.broken
    }

    /// The attempt is over.
    pub(crate) fn end(&self, now: Timestamp, kept: Kept) -> Ended {
        let stretch = self.stretch(now);
        let (worked, stood) = (self.worked + stretch.worked, self.stood + stretch.stood);
        let done = self.done_with(stretch.worked);
        let before = self.outset.before.as_millis();
        let saved = match kept {
            Kept::All => done,
            Kept::Saved => stretch.saved.map_or(self.saved, |worked| self.done_with(worked)),
            Kept::Nothing => before,
        };
        let useful = if kept == Kept::Nothing { 0 } else { saved - before };
        let span = (now - self.outset.placed).as_millis().max(0);
        Ended {
            useful,
            rework: done - before - useful,
            restart: span - worked - stood,
            saving: stood,
            slowness: worked - (done - before),
            saved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offtake_workload::rng::Rng;

    const fn secs(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn attempt(to_do: i64, saving: Option<(i64, i64)>) -> Progress {
        let saving = saving.map(|(interval, write)| Saving {
            interval: Duration::from_secs(interval),
            write: Duration::from_secs(write),
        });
        Progress::begin(Outset {
            placed: secs(0),
            begins: secs(10),
            before: Duration::ZERO,
            to_do: Some(Duration::from_secs(to_do)),
            saving,
            speed: Ppm::ONE,
        })
    }

    #[test]
    fn checkpoints_make_a_job_longer_and_save_its_work() {
        let job = attempt(100, Some((30, 5)));
        assert_eq!(job.ends(), secs(10 + 100 + 3 * 5));
        assert_eq!(attempt(90, Some((30, 5))).ends(), secs(10 + 90 + 2 * 5), "none is written at the very end");
        let mut failed = job;
        // 30 s of work, 5 s of writing, 30 s of work, and 2 s into the second write.
        failed.fail(secs(10 + 67));
        assert_eq!(failed.ends(), Timestamp::NEVER);
        let ended = failed.end(secs(100), Kept::Saved);
        assert_eq!((ended.useful, ended.rework, ended.saving), (30_000, 30_000, 7_000));
        assert_eq!(ended.restart, 10_000 + 23_000, "start-up, and the time until the failure was found");
        assert_eq!(ended.saved, 30_000);
    }

    #[test]
    fn a_change_of_speed_does_not_put_a_checkpoint_off() {
        let mut job = attempt(100, Some((30, 5)));
        // 20 s of work, 10 s more at half of the speed, 3 s of a write, and its other 2 s.
        job.change_speed(secs(10 + 20), Ppm::new(500_000));
        job.change_speed(secs(10 + 33), Ppm::ONE);
        assert_eq!(job.ends(), secs(10 + 33 + 2 + 75 + 2 * 5), "75 s of work are left, with two more writes in them");
        let mut failed = job;
        failed.fail(secs(10 + 36));
        let ended = failed.end(secs(10 + 36), Kept::Saved);
        assert_eq!((ended.useful, ended.rework, ended.saving), (25_000, 1_000, 5_000));
    }

    #[test]
    fn slowness_costs_the_time_that_it_takes() {
        let mut job = attempt(100, None);
        job.change_speed(secs(60), Ppm::new(500_000));
        assert_eq!(job.ends(), secs(60 + 100));
        job.change_speed(secs(100), Ppm::ONE);
        assert_eq!(job.ends(), secs(100 + 30));
        let ended = job.end(job.ends(), Kept::All);
        assert_eq!((ended.useful, ended.slowness, ended.rework), (100_000, 20_000, 0));
    }

    #[test]
    fn every_millisecond_is_booked_once() {
        let mut rng = Rng::new(3);
        for _ in 0..20_000 {
            let mut below = |end: u64| rng.below(end) as i64;
            let saving = (below(2) == 0).then(|| Saving {
                interval: Duration::from_millis(1 + below(500)),
                write: Duration::from_millis(below(200)),
            });
            let before = below(1_000);
            let placed = Timestamp::from_millis(below(1_000));
            let to_do = (below(4) > 0).then(|| Duration::from_millis(before + 1 + below(3_000)));
            let mut job = Progress::begin(Outset {
                placed,
                begins: placed + Duration::from_millis(below(300)),
                before: Duration::from_millis(before),
                to_do,
                saving,
                speed: Ppm::new(1 + below(1_000_000) as u32),
            });
            let mut now = placed;
            for _ in 0..below(4) {
                now = now + Duration::from_millis(below(1_000));
                if now < job.ends() {
                    job.change_speed(now, Ppm::new(1 + below(1_000_000) as u32));
                }
            }
            let (stop, kept) = match below(4) {
                0 if to_do.is_some() => (job.ends(), Kept::All),
                1 => (now.min(job.ends()), Kept::Nothing),
                _ => (now.min(job.ends()), Kept::Saved),
            };
            let ended = job.end(stop, kept);
            let booked = ended.useful + ended.rework + ended.restart + ended.saving + ended.slowness;
            assert_eq!(booked, (stop - placed).as_millis().max(0), "{job:?} {kept:?}");
            let parts = [ended.useful, ended.rework, ended.restart, ended.saving, ended.slowness];
            assert!(parts.iter().all(|part| *part >= 0), "{job:?} {kept:?} {ended:?}");
            if let (Some(to_do), Kept::All) = (to_do, kept) {
                assert_eq!(before + ended.useful, to_do.as_millis(), "{job:?}");
            }
        }
    }
}
