//! What a job or a service may ask for, wherever it comes from: a file, a description, a call.
//!
//! The limits keep every sum of the engine inside its integers, and the names fit for files, tables and addresses.

use offtake_units::{ChipMilli, Duration, Mebibytes, Ppm, Timestamp};

use crate::human::{self, DURATION_ALLOWED, LARGEST_BYTES, LAST_TIMESTAMP, LONGEST_DURATION, TIMESTAMP_ALLOWED};
use crate::input::excerpt;
use crate::{ChipRequest, Elastic, Gang, Job, Service, Strength};

/// Jobs that may be made up or drawn: ten times the largest scenario in mind.
pub const MOST_JOBS: u64 = 10_000_000;
/// Jobs of a workload that one of its jobs waits for.
pub const MOST_PREDECESSORS: usize = 1000;
/// Gangs of one job.
pub const MOST_GANGS: usize = 256;
/// Workers of one gang, and replicas of one service.
pub const MOST_WORKERS: u32 = 1_000_000;
/// Bytes of a name.
pub const LONGEST_NAME_BYTES: usize = 253;
/// Bytes of a word: an accelerator kind, a level, a key of an attribute.
pub const LONGEST_WORD_BYTES: usize = 63;
/// Points of a speed-up curve.
pub const MOST_SPEEDS: usize = 64;
/// Memory of one worker: 1 PiB.
pub const MOST_MEMORY: Mebibytes = Mebibytes::new(1 << 30);

const NAME_ALLOWED: &str = "1 to 253 bytes, without control characters and without spaces at its ends";
const WORD_ALLOWED: &str = "1 to 63 letters, digits, `-`, `_`, `.` or `/`";
const ATTRIBUTE_ALLOWED: &str = "as a name, and without `|`";

/// A value that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is `{given}`; allowed is {allowed}")]
pub struct Fault {
    /// The field, as our own formats name it: `duration`, `gangs[2].workers`.
    pub field: String,
    /// What it says.
    pub given: String,
    /// What it may say.
    pub allowed: String,
}

impl Fault {
    /// A fault of a field.
    pub fn new(field: impl Into<String>, given: impl ToString, allowed: impl Into<String>) -> Self {
        Self { field: field.into(), given: excerpt(&given.to_string()), allowed: allowed.into() }
    }
}

/// Whether a job can be meant.
///
/// # Errors
/// The first field that cannot.
pub fn job(job: &Job) -> Result<(), Fault> {
    name("name", &job.name)?;
    name("tenant", &job.tenant)?;
    instant("submitted", job.submitted)?;
    if let Some(duration) = job.duration {
        span("duration", duration)?;
    }
    if let Some(deadline) = job.deadline {
        instant("deadline", deadline)?;
        if deadline <= job.submitted {
            return Err(Fault::new(
                "deadline",
                shown(deadline),
                format!("after `submitted`, {}", shown(job.submitted)),
            ));
        }
    }
    job.reservation.iter().try_for_each(|reservation| name("reservation", reservation))?;
    if job.after.len() > MOST_PREDECESSORS {
        let given = format!("{} jobs", job.after.len());
        return Err(Fault::new("after", given, format!("at most {MOST_PREDECESSORS} jobs")));
    }
    for (index, predecessor) in job.after.iter().enumerate() {
        name(&format!("after[{index}].job"), &predecessor.job)?;
    }
    if let Some(checkpoint) = job.checkpoint {
        span("checkpoint_interval", checkpoint.interval)?;
        if checkpoint.bytes > LARGEST_BYTES {
            return Err(Fault::new("checkpoint_size", checkpoint.bytes, human::SIZE_ALLOWED));
        }
    }
    if let Some(pause) = job.pause {
        span("pause", pause)?;
    }
    if job.gangs.is_empty() || job.gangs.len() > MOST_GANGS {
        return Err(Fault::new("gangs", job.gangs.len(), format!("1 to {MOST_GANGS} gangs")));
    }
    job.gangs.iter().enumerate().try_for_each(|(index, each)| gang(&format!("gangs[{index}]."), each))?;
    let mut elastic = (0..).zip(&job.gangs).filter(|(_, gang)| gang.elastic.is_some());
    match (elastic.next(), elastic.next()) {
        (Some(_), Some((index, gang))) => {
            let field = format!("gangs[{index}].workers_min");
            Err(Fault::new(field, gang.workers, "a range of workers for one gang of a job"))
        }
        _ => Ok(()),
    }
}

/// Whether a service can be meant.
///
/// # Errors
/// The first field that cannot.
pub fn service(service: &Service) -> Result<(), Fault> {
    name("name", &service.name)?;
    name("tenant", &service.tenant)?;
    gang("replica.", &service.replica)?;
    if let Some(elastic) = &service.replica.elastic {
        let allowed = "nothing: a service grows and shrinks by replicas";
        return Err(Fault::new("replica.workers_min", elastic.minimum, allowed));
    }
    if !(1..=MOST_WORKERS).contains(&service.maximum) {
        return Err(Fault::new("maximum", service.maximum, format!("1 to {MOST_WORKERS}")));
    }
    if service.minimum > service.maximum {
        return Err(Fault::new("minimum", service.minimum, format!("0 to `maximum`, {}", service.maximum)));
    }
    service.spread.iter().try_for_each(|level| word("spread".to_owned(), level))?;
    if !service.demand.is_empty() && service.demand.len() != 24 {
        let given = format!("{} values", service.demand.len());
        return Err(Fault::new("demand_ppm", given, "24 values, one for each hour of the day in UTC"));
    }
    match service.demand.iter().find(|share| **share > Ppm::ONE) {
        Some(share) => Err(Fault::new("demand_ppm", share.parts(), "0 to 1000000 in each hour")),
        None => Ok(()),
    }
}

/// Whether a gang can be meant; `prefix` stands before its fields in faults.
///
/// # Errors
/// The first field that cannot.
pub fn gang(prefix: &str, gang: &Gang) -> Result<(), Fault> {
    let field = |name: &str| format!("{prefix}{name}");
    if !(1..=MOST_WORKERS).contains(&gang.workers) {
        return Err(Fault::new(field("workers"), gang.workers, format!("1 to {MOST_WORKERS}")));
    }
    match gang.chips {
        ChipRequest::Whole(0) => {
            return Err(Fault::new(field("chips"), 0, "1 or more; leave it out for work that needs no chip"));
        }
        ChipRequest::Share(share) if share == ChipMilli::ZERO || share >= ChipMilli::WHOLE => {
            let allowed = "1 to 999 thousandths of one chip; write whole ones as `chips`";
            return Err(Fault::new(field("chip_milli"), share.get(), allowed));
        }
        _ => {}
    }
    if gang.memory > MOST_MEMORY {
        return Err(Fault::new(field("memory"), gang.memory, "up to 1PiB for one worker"));
    }
    if let Some(per_node) = gang.per_node
        && !(1..=gang.workers).contains(&per_node)
    {
        return Err(Fault::new(field("per_node"), per_node, format!("1 to `workers`, {}", gang.workers)));
    }
    if let Some(groups) = &gang.groups {
        if groups.workers == 0 || !gang.workers.is_multiple_of(groups.workers) {
            let allowed = format!("a divisor of `workers`, {}", gang.workers);
            return Err(Fault::new(field("group_workers"), groups.workers, allowed));
        }
        word(field("group_level"), &groups.level)?;
    }
    if let Some(bounds) = &gang.elastic {
        if gang.groups.is_some() || gang.slice.is_some() || gang.spares > 0 {
            let allowed = "nothing for a gang in groups, in a slice or with spares: its number of workers is fixed";
            return Err(Fault::new(field("workers_min"), bounds.minimum, allowed));
        }
        elastic(&field, gang.workers, bounds)?;
    }
    if let Some(slice) = gang.slice {
        let ChipRequest::Whole(chips) = gang.chips else {
            return Err(Fault::new(field("torus"), slice, "a slice beside `chips`, the chips of one worker"));
        };
        if u64::from(gang.workers) * u64::from(chips) != slice.chips() {
            let allowed =
                format!("a slice of {} chips, `workers` times `chips`", u64::from(gang.workers) * u64::from(chips));
            return Err(Fault::new(field("torus"), slice, allowed));
        }
        if gang.topology.is_some() || gang.groups.is_some() || gang.per_node.is_some() || gang.spares > 0 {
            let allowed =
                "a slice without `topology_level`, `group_level`, `per_node` and `spares`: its shape says where";
            return Err(Fault::new(field("torus"), slice, allowed));
        }
    }
    if gang.spares > 0 {
        if !matches!(gang.chips, ChipRequest::Whole(_)) {
            return Err(Fault::new(field("spares"), gang.spares, "none for workers without whole chips"));
        }
        if gang.spares > MOST_WORKERS || gang.room() > MOST_WORKERS {
            let allowed = format!("what makes no more than {MOST_WORKERS} workers in all");
            return Err(Fault::new(field("spares"), gang.spares, allowed));
        }
    }
    if let Some(swing) = gang.swing {
        if swing.share == Ppm::ZERO || swing.share > Ppm::ONE {
            let allowed = "1 to 1000000, all that its chips draw beyond their idle draw";
            return Err(Fault::new(field("swing_ppm"), swing.share.parts(), allowed));
        }
        span(&field("swing_period"), swing.period)?;
        if gang.chips == ChipRequest::None {
            return Err(Fault::new(field("swing_ppm"), swing.share.parts(), "nothing for work that needs no chip"));
        }
    }
    gang.accelerators.iter().try_for_each(|kind| word(field("accelerators"), kind))?;
    for (key, value) in &gang.attributes {
        word(field("attributes"), key)?;
        if !is_name(value) || value.contains('|') {
            return Err(Fault::new(format!("{prefix}attributes.{key}"), value, ATTRIBUTE_ALLOWED));
        }
    }
    let Some(topology) = &gang.topology else { return Ok(()) };
    word(field("topology_level"), &topology.level)?;
    let allowed = match topology.strength {
        _ if topology.cost == Ppm::ZERO => return Ok(()),
        Strength::Required => "nothing where the level is required: no other will do",
        Strength::Preferred if topology.cost > Ppm::ONE => "0 to 1000000, all the time of the work once more",
        Strength::Preferred => return Ok(()),
    };
    Err(Fault::new(field("topology_cost_ppm"), topology.cost.parts(), allowed))
}

/// The bounds of a number of workers lie around it, and more workers are never slower.
fn elastic(field: &impl Fn(&str) -> String, workers: u32, bounds: &Elastic) -> Result<(), Fault> {
    let Elastic { minimum, maximum, speedup } = bounds;
    if !(1..=workers).contains(minimum) {
        return Err(Fault::new(field("workers_min"), minimum, format!("1 to `workers`, {workers}")));
    }
    if !(workers..=MOST_WORKERS).contains(maximum) {
        return Err(Fault::new(field("workers_max"), maximum, format!("`workers`, {workers}, to {MOST_WORKERS}")));
    }
    if speedup.len() > MOST_SPEEDS {
        return Err(Fault::new(field("speedup"), speedup.len(), format!("up to {MOST_SPEEDS} points")));
    }
    let mut slower = (0, Ppm::new(0));
    for (at, (count, speed)) in speedup.iter().enumerate() {
        let place = |name: &str| field(&format!("speedup[{at}].{name}"));
        if *count <= slower.0 || !(*minimum..=*maximum).contains(count) {
            let allowed = format!("{minimum} to {maximum}, and more than the point before, {}", slower.0);
            return Err(Fault::new(place("workers"), count, allowed));
        }
        let fits = match (*count).cmp(&workers) {
            std::cmp::Ordering::Less => *speed <= Ppm::ONE,
            std::cmp::Ordering::Equal => *speed == Ppm::ONE,
            std::cmp::Ordering::Greater => *speed >= Ppm::ONE,
        };
        if *speed < slower.1 || *speed == Ppm::new(0) || !fits {
            let allowed = "no less than with fewer workers, and 1000000 with as many as `workers`";
            return Err(Fault::new(place("speed_ppm"), speed.parts(), allowed));
        }
        slower = (*count, *speed);
    }
    Ok(())
}

pub(crate) fn name(field: &str, given: &str) -> Result<(), Fault> {
    if is_name(given) { Ok(()) } else { Err(Fault::new(field, given, NAME_ALLOWED)) }
}

pub(crate) fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME_BYTES).contains(&text.len()) && text.trim() == text && !text.chars().any(char::is_control)
}

pub(crate) fn word(field: String, given: &str) -> Result<(), Fault> {
    let is_word = (1..=LONGEST_WORD_BYTES).contains(&given.len())
        && given.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    if is_word { Ok(()) } else { Err(Fault::new(field, given, WORD_ALLOWED)) }
}

pub(crate) fn instant(field: &str, at: Timestamp) -> Result<(), Fault> {
    if (Timestamp::EPOCH..=LAST_TIMESTAMP).contains(&at) {
        return Ok(());
    }
    Err(Fault::new(field, format!("{} ms", at.as_millis()), TIMESTAMP_ALLOWED))
}

pub(crate) fn span(field: &str, span: Duration) -> Result<(), Fault> {
    if span > Duration::ZERO && span <= LONGEST_DURATION {
        return Ok(());
    }
    Err(Fault::new(field, human::write_duration(span), DURATION_ALLOWED))
}

fn shown(at: Timestamp) -> String {
    human::write_timestamp(at).unwrap_or_else(|| format!("{} ms", at.as_millis()))
}
