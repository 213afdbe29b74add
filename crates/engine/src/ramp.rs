//! Ramps: how fast the grid connection of a site stands that its draw changes.
//!
//! A gang stops at one instant: where one worker fails, all do. So what a job would draw at a site is a step that the site
//! has to stand, or the job is not placed there. What its chips draw may also fall away and return with each step of its
//! work; what the site's hardware does not take up of that has to fit the rates.
//!
//! Everything counts what can be enforced, as breakers do, at the grid connection; work on a part of a chip counts as if it
//! used the chip alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use offtake_fleet::{DomainIx, NodeKindIx, Ramp, SiteIx};
use offtake_units::{Duration, Watts};
use offtake_workload::ChipRequest;

use crate::capacity::Capacity;
use crate::fact::Placement;
use crate::request::{Refusal, Request, Shape};
use crate::state::State;

/// Millionths of a watt in a watt.
const MICRO: i64 = 1_000_000;

/// What work adds to the draw of a site, and takes from it when it stops, in millionths of a watt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// All of it.
    pub draw: i64,
    /// Of that, what falls away and returns with each period.
    pub swing: i64,
    /// The shortest of those periods; none where nothing swings.
    period: Option<Duration>,
}

impl Step {
    /// Of workers of a gang that draw so much.
    fn of(gang: &Request, draw: i64) -> Self {
        let Some(swing) = gang.swing else { return Self { draw, ..Self::default() } };
        let share = i128::from(draw) * i128::from(swing.share.parts());
        Self {
            draw,
            swing: i64::try_from((share + 999_999) / 1_000_000).unwrap_or(i64::MAX),
            period: Some(swing.period),
        }
    }

    /// Both at once: their swings may fall together.
    fn and(self, other: Self) -> Self {
        Self {
            draw: self.draw.saturating_add(other.draw),
            swing: self.swing.saturating_add(other.swing),
            period: [self.period, other.period].into_iter().flatten().min(),
        }
    }

    /// In watts, rounded up.
    pub const fn watts(self) -> Watts {
        in_watts(self.draw)
    }
}

/// Why a site does not stand a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unborne {
    /// Its sudden stop is too large a step.
    Step {
        /// What would vanish at one instant.
        step: Watts,
        /// What the site stands, its hardware included.
        most: Watts,
    },
    /// Its draw swings too far in too short a time.
    Swing {
        /// What falls away and returns.
        swing: Watts,
        /// From one fall to the next.
        period: Duration,
        /// What the site stands in that time, its hardware included.
        most: Watts,
    },
}

/// Whether a site stands that a job stops at any instant, and swings until then.
///
/// The hardware takes up a part of either. Of a swing the rest is a rise and a fall with each period: over time no more than
/// the rates let rise and fall.
///
/// # Errors
/// What it does not stand.
pub fn bears(ramp: &Ramp, step: Step) -> Result<(), Unborne> {
    let most = ramp.max_step + ramp.smoothed();
    if step.draw > most.get() * MICRO {
        return Err(Unborne::Step { step: step.watts(), most });
    }
    let Some(period) = step.period else { return Ok(()) };
    let slower = i128::from(ramp.up.min(ramp.down).get());
    let paced = i64::try_from(slower * i128::from(period.as_millis()) / 1000).unwrap_or(i64::MAX);
    let most = Watts::new(paced.saturating_add(ramp.smoothed().get()));
    match step.swing > most.get().saturating_mul(MICRO) {
        true => Err(Unborne::Swing { swing: in_watts(step.swing), period, most }),
        false => Ok(()),
    }
}

/// How long before its end a fall of so much, in millionths of a watt, has to begin so that a site stands it; none where it
/// is one step.
pub fn time_to_fall(ramp: &Ramp, fall: i64) -> Option<Duration> {
    let over = fall.saturating_sub(ramp.max_step.get() * MICRO);
    let each = ramp.down.get().max(1).unsigned_abs() * (MICRO / 1000).unsigned_abs();
    (over > 0).then(|| Duration::from_millis(over.unsigned_abs().div_ceil(each) as i64))
}

const fn in_watts(micro: i64) -> Watts {
    Watts::new(micro.div_euclid(MICRO) + (micro.rem_euclid(MICRO) != 0) as i64)
}

/// What a shape that is placed so adds to the draw of each site that has a ramp.
pub fn steps(capacity: &Capacity, shape: &Shape, placement: &Placement) -> BTreeMap<SiteIx, Step> {
    let fleet = capacity.fleet();
    let mut steps: BTreeMap<SiteIx, Step> = BTreeMap::new();
    for (gang, slots) in shape.gangs.iter().zip(&placement.gangs) {
        for slot in slots {
            // A gang lies in one site.
            let ix = fleet.site_of_node(slot.nodes.first);
            let site = &fleet.sites[ix.ix()];
            if site.ramp.is_none() {
                continue;
            }
            let take = gang.take(slot.workers, slot.chips).at(placement.throttle);
            let draw =
                capacity.enforceable(slot.nodes.numbers(), &take).get() * i64::from(site.most_per_watt().parts());
            let step = steps.entry(ix).or_default();
            *step = step.and(Step::of(gang, draw));
        }
    }
    steps
}

/// Where a site stands a shape.
enum Borne<'a> {
    /// On all of its nodes, or with fewer kinds of them.
    With(Cow<'a, Shape>),
    /// Nowhere.
    Not(Unborne),
}

/// What a gang draws on a kind of node at a site.
fn step_on(capacity: &Capacity, gang: &Request, site: SiteIx, kind: NodeKindIx) -> Step {
    let chips = match gang.chips {
        ChipRequest::None => 0,
        ChipRequest::Share(_) => 1,
        ChipRequest::Whole(chips) => u32::from(chips),
    };
    let factor = capacity.fleet().sites[site.ix()].most_per_watt();
    let each = capacity.chip_draw(kind).times(chips).enforceable.get() * i64::from(factor.parts());
    Step::of(gang, each.saturating_mul(i64::from(gang.workers)))
}

/// With which of its kinds of node a site stands all gangs of a shape at once.
fn borne<'a>(capacity: &Capacity, shape: &'a Shape, site: SiteIx) -> Borne<'a> {
    let Some(ramp) = &capacity.fleet().sites[site.ix()].ramp else { return Borne::With(Cow::Borrowed(shape)) };
    let is_there = |kind: NodeKindIx| capacity.cell_of(DomainIx(site.0), kind).is_some();
    let on = |gang: &Request| {
        let kinds = gang.kinds.iter().filter(|(kind, _)| is_there(*kind));
        kinds.map(|(kind, _)| step_on(capacity, gang, site, *kind)).collect::<Vec<_>>()
    };
    let by_gang: Vec<Vec<Step>> = shape.gangs.iter().map(on).collect();
    let sum = |of: fn(&[Step]) -> Step| by_gang.iter().map(|steps| of(steps)).fold(Step::default(), Step::and);
    let most = |steps: &[Step]| steps.iter().copied().max_by_key(|step| step.draw).unwrap_or_default();
    if bears(ramp, sum(most)).is_ok() {
        return Borne::With(Cow::Borrowed(shape));
    }
    let least = |steps: &[Step]| steps.iter().copied().min_by_key(|step| step.draw).unwrap_or_default();
    if let Err(unborne) = bears(ramp, sum(least)) {
        return Borne::Not(unborne);
    }
    // A single gang may use all kinds that the site stands; of several each the one that draws least.
    let may = |gang: &Request, steps: &[Step], kind: NodeKindIx| {
        let step = step_on(capacity, gang, site, kind);
        if shape.gangs.len() == 1 { bears(ramp, step).is_ok() } else { step.draw <= least(steps).draw }
    };
    let narrowed = |(gang, steps): (&Request, &Vec<Step>)| Request {
        kinds: gang.kinds.iter().copied().filter(|(kind, _)| may(gang, steps, *kind)).collect(),
        ..gang.clone()
    };
    Borne::With(Cow::Owned(Shape { gangs: shape.gangs.iter().zip(&by_gang).map(narrowed).collect() }))
}

/// Where an attempt leads that keeps to sites which stand a shape; in one of them where that is named. Several gangs are
/// tried in one site after the other before it is seen whether they may lie in several.
pub fn where_borne(
    state: &mut State,
    shape: &Shape,
    within: Option<SiteIx>,
    mut attempt: impl FnMut(&mut State, &Shape, Option<SiteIx>) -> Option<Placement>,
) -> Option<Placement> {
    if state.ramps_are_lifted() {
        return attempt(state, shape, within);
    }
    let sites = within.map_or(0..state.fleet().sites.len() as u32, |site| site.0..site.0 + 1).map(SiteIx);
    let standing: Vec<(SiteIx, Borne<'_>)> = sites.map(|site| (site, borne(&state.capacity, shape, site))).collect();
    if standing.iter().all(|(_, borne)| matches!(borne, Borne::With(Cow::Borrowed(_)))) {
        return attempt(state, shape, within);
    }
    let found = standing.into_iter().find_map(|(site, borne)| match borne {
        Borne::With(shape) => attempt(state, &shape, Some(site)),
        Borne::Not(_) => None,
    });
    if found.is_some() || within.is_some() || shape.gangs.len() == 1 {
        return found;
    }
    let apart = attempt(state, shape, None)?;
    if state.unborne(shape, &apart).is_empty() {
        return Some(apart);
    }
    state.vacate_gangs(shape, &apart);
    None
}

/// Refuses gangs that none of the sites which could hold all of them stands.
///
/// # Errors
/// What the first of them does not stand.
pub fn admit(capacity: &Capacity, shape: &Shape, sites: &BTreeSet<SiteIx>) -> Result<(), Refusal> {
    let mut first = None;
    for site in sites {
        match borne(capacity, shape, *site) {
            Borne::With(_) => return Ok(()),
            Borne::Not(unborne) => first = first.or(Some((*site, unborne))),
        }
    }
    let Some((site, unborne)) = first else { return Ok(()) };
    let site = capacity.fleet().sites[site.ix()].name.clone();
    Err(match unborne {
        Unborne::Step { step, most } => Refusal::TooSteep { site, step, most },
        Unborne::Swing { swing, period, most } => Refusal::TooShaky { site, swing, period, most },
    })
}
