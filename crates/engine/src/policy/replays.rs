//! Replays: samples of the demand against which a node's room is played out.
//!
//! A replay is 64 requests, one bit each of a word. Per resource, and per distinct need of it, a word tells which
//! requests need no more than that. The requests that still fit are the `and` of one word per resource, the next of
//! them is its lowest bit, and what does not fit is never looked at: playing a replay costs what the node takes.

use offtake_units::ChipMilli;
use offtake_workload::rng::Rng;

use super::mix::{Demand, Item};
use super::room::{MOST, Need, Room, WHOLE, Yardstick};
use super::wide::Wide;

/// Requests of a replay: the bits of a word. It outlasts the largest node but for the smallest shares.
pub const LENGTH: usize = 64;

/// Replays. With fewer the sample's noise costs allocation (8: 0.2 points on the openb lists); with 32 a score costs a
/// third more for 0.05 points on average, and the seed of the draw moves the result as much.
pub const REPLAYS: usize = 24;

/// Part of the demand that has to move before the replays are drawn anew, in millionths: a draw throws away all scores,
/// and a tenth is within the sample's noise.
const REDRAW: i64 = 100_000;

/// Any will do: part of the method, not of the policy, so that equal demand gives equal replays.
const SEED: u64 = 7;

/// The samples, as words.
#[derive(Clone, Debug)]
pub struct Replays {
    /// What they were drawn from: requests by their share of the demand in millionths.
    basis: Demand,
    /// How many in a million jobs say when they end.
    ending: i64,
    /// What those for several chips would find alone.
    wide: Wide,
    /// What the requests need, replay by replay.
    needs: Vec<Sampled>,
    cpu: Axis,
    memory: Axis,
    chips: Axis,
    /// Per node kind and replay, the requests that may run there.
    allowed: Vec<[u64; REPLAYS]>,
}

#[derive(Clone, Copy, Debug)]
struct Sampled {
    cpu: i64,
    memory: i64,
    chips: u16,
    share: u16,
}

impl Replays {
    /// Replays of a demand of which `ending` in a million say when they end; none while it asks for no chips, or when it is
    /// much like that of `before`.
    pub fn draw(demand: &Demand, ending: i64, yardstick: &Yardstick, before: Option<&Self>) -> Option<Self> {
        let weights = weigh(demand, yardstick);
        let total: i128 = weights.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut basis = Demand::default();
        for (item, weight) in &weights {
            basis.add((*item).clone(), (weight * 1_000_000 / total) as i64);
        }
        let moved = |before: &Self| -> i64 {
            let demand: i64 = basis.iter().map(|(item, share)| (share - before.basis.count(item)).max(0)).sum();
            demand.max((ending - before.ending).abs())
        };
        if before.is_some_and(|before| moved(before) < REDRAW) {
            return None;
        }
        let sampled = sample(&weights, total);
        let needs = sampled.iter().map(|item| {
            let need = item.need;
            Sampled { cpu: need.cpu, memory: need.memory, chips: need.whole as u16, share: need.share as u16 }
        });
        let allowed = yardstick.kinds().map(|kind| {
            let may = |item: &&Item| item.kinds.contains(kind);
            std::array::from_fn(|replay| word(&sampled[replay * LENGTH..][..LENGTH], may))
        });
        Some(Self {
            needs: needs.collect(),
            cpu: Axis::new(&sampled, |need| need.cpu),
            memory: Axis::new(&sampled, |need| need.memory),
            chips: Axis::new(&sampled, Need::chip_milli),
            allowed: allowed.collect(),
            wide: Wide::of(&weights, total, ending, yardstick),
            ending,
            basis,
        })
    }

    /// The share of jobs that say when they end, in millionths, as it was when these were drawn.
    pub const fn ending(&self) -> i64 {
        self.ending
    }

    /// The chips that a node with this room would take off the replays, in thousandths, and what it is worth to the
    /// requests for several.
    pub fn value(&self, room: &Room) -> i64 {
        // Most nodes have few chips, and a table of 8 fits one register. A node of many takes more off each replay, so
        // half of them will do: at most 0.2 points less on nodes of 64 chips.
        let taken = match room.whole as usize + room.shared().len() {
            ..=8 => self.played::<8, 1>(room),
            9..=16 => self.played::<16, 1>(room),
            _ => self.played::<MOST, 2>(room),
        };
        taken + self.wide.worth(room)
    }

    /// The chips taken off one in `PART` replays, scaled to all of them.
    fn played<const CHIPS: usize, const PART: usize>(&self, room: &Room) -> i64 {
        // A shared chip is what it has left, and its place in the table in the lowest bits.
        let mut shared = [NO_CHIP; CHIPS];
        let least = self.chips.least_positive();
        let mut shares = 0;
        for free in room.shared().iter().filter(|free| i64::from(**free) >= least) {
            shared[shares] = chip(*free, shares);
            shares += 1;
        }
        let whole = room.whole as u16;
        let room_for_one = widest(whole, &shared);
        if room_for_one == 0 {
            return 0;
        }
        let ranks = (self.cpu.rank(room.cpu), self.memory.rank(room.memory), self.chips.rank(i64::from(room_for_one)));
        let allowed = &self.allowed[room.kind.ix()];
        let mut taken = 0;
        for (replay, allowed) in allowed.iter().enumerate().take(REPLAYS / PART) {
            let words = (self.cpu.words(replay), self.memory.words(replay), self.chips.words(replay));
            let fits = words.0[ranks.0] & words.1[ranks.1] & words.2[ranks.2] & allowed;
            if fits != 0 {
                let mut play = Play { cpu: room.cpu, memory: room.memory, whole, shared, shares, widest: room_for_one };
                taken += self.play(&mut play, fits, &self.needs[replay * LENGTH..][..LENGTH], words);
            }
        }
        taken * PART as i64
    }

    /// Plays one replay; `fits` are the requests that fit at the start.
    fn play<const CHIPS: usize>(
        &self,
        play: &mut Play<CHIPS>,
        mut fits: u64,
        needs: &[Sampled],
        (by_cpu, by_memory, by_chips): (&[u64], &[u64], &[u64]),
    ) -> i64 {
        let mut taken = 0;
        while fits != 0 {
            let place = fits.trailing_zeros();
            let need = needs[place as usize];
            taken += i64::from(need.chips) * WHOLE + i64::from(need.share);
            // What comes before it has been passed over for good.
            fits &= !(2_u64 << place).wrapping_sub(1);
            if fits == 0 {
                break;
            }
            play.take(need);
            let widest = widest(play.whole, &play.shared);
            if widest == 0 {
                break;
            }
            if widest != play.widest {
                play.widest = widest;
                fits &= by_chips[self.chips.rank(i64::from(widest))];
            }
            fits &= by_cpu[self.cpu.rank(play.cpu)] & by_memory[self.memory.rank(play.memory)];
        }
        taken
    }
}

/// A node while a replay is played on it.
struct Play<const CHIPS: usize> {
    cpu: i64,
    memory: i64,
    whole: u16,
    shared: [i16; CHIPS],
    shares: usize,
    widest: u16,
}

impl<const CHIPS: usize> Play<CHIPS> {
    fn take(&mut self, need: Sampled) {
        self.cpu -= need.cpu;
        self.memory -= need.memory;
        self.whole -= need.chips;
        if need.share == 0 {
            return;
        }
        let least = chip(need.share, 0);
        let holding = self.shared.map(|chip| if chip >= least { chip } else { i16::MAX });
        let tightest = holding.iter().fold(i16::MAX, |tightest, chip| tightest.min(*chip));
        if tightest == i16::MAX {
            self.whole -= 1;
            self.shared[self.shares] = chip(ChipMilli::WHOLE.get() - need.share, self.shares);
            self.shares += 1;
        } else {
            let place = (tightest & PLACE_MASK) as usize;
            self.shared[place] = tightest.wrapping_sub((need.share << PLACE_BITS) as i16);
        }
    }
}

/// Bits for the place of a chip: enough for the most chips, and few enough that a whole chip fits above them.
const PLACE_BITS: u32 = 6;
const PLACE_MASK: i16 = (1 << PLACE_BITS) - 1;
const _: () = assert!(MOST == 1 << PLACE_BITS && ChipMilli::WHOLE.get() < u16::MAX >> PLACE_BITS);

/// An empty place. Chips count up from the least signed number: processors of any age find the least of many signed
/// numbers at once, but not of unsigned ones.
const NO_CHIP: i16 = i16::MIN;

const fn chip(free: u16, place: usize) -> i16 {
    (free << PLACE_BITS | place as u16).wrapping_add(1 << 15) as i16
}

const fn free(chip: i16) -> u16 {
    (chip as u16).wrapping_sub(1 << 15) >> PLACE_BITS
}

/// Thousandths of chips of the largest request that fits: of whole chips, or else of one that is shared.
fn widest(whole: u16, shared: &[i16]) -> u16 {
    if whole > 0 {
        return whole * ChipMilli::WHOLE.get();
    }
    free(shared.iter().fold(NO_CHIP, |most, chip| (*chip).max(most)))
}

/// Requests by their weight, the widest first, so that a stratum of them holds similar ones.
///
/// A request weighs as much as the chips that it asks for. One without chips competes only as far as processor is
/// the scarce resource: not at all while the demand has at most 90 % as many cores per chip as the fleet, fully from
/// 110 % on, and then by the chips that the fleet has per core.
fn weigh<'a>(demand: &'a Demand, yardstick: &Yardstick) -> Vec<(&'a Item, i128)> {
    let asked = |part: fn(&Need) -> i64| -> i128 {
        demand.iter().map(|(item, count)| i128::from(part(&item.need)) * i128::from(*count)).sum()
    };
    let (fleet_cpu, fleet_chips) = (i128::from(yardstick.fleet_cpu), i128::from(yardstick.fleet_chips));
    let supply = (fleet_cpu * asked(Need::chip_milli)).max(1);
    let scarcity = (asked(|need| need.cpu) * fleet_chips * 500 / supply - 450).clamp(0, 100);
    let weight = |(item, count): (&'a Item, &i64)| {
        let size = match item.need.chip_milli() {
            0 => i128::from(item.need.cpu) * fleet_chips * scarcity / (fleet_cpu.max(1) * 100),
            chip_milli => i128::from(chip_milli),
        };
        (item, size * i128::from(*count))
    };
    demand.iter().rev().map(weight).filter(|(_, weight)| *weight > 0).collect()
}

/// Draws the replays: for each place in them, one request from each of as many equal parts of the demand as there are
/// replays, dealt at random, so that every place holds a fair sample.
fn sample<'a>(weights: &[(&'a Item, i128)], total: i128) -> Vec<&'a Item> {
    let mut rng = Rng::new(SEED);
    let ends: Vec<i128> = weights
        .iter()
        .scan(0, |sum, (_, weight)| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let mut sampled = vec![weights[0].0; REPLAYS * LENGTH];
    let mut deal: [usize; REPLAYS] = std::array::from_fn(|replay| replay);
    for place in 0..LENGTH {
        for last in (1..REPLAYS).rev() {
            deal.swap(last, rng.below(last as u64 + 1) as usize);
        }
        for (replay, part) in deal.iter().enumerate() {
            let bound = |part: usize| total * part as i128 / REPLAYS as i128;
            let width = (bound(part + 1) - bound(*part)).max(1);
            let drawn = bound(*part) + i128::from(rng.below(u64::try_from(width).unwrap_or(u64::MAX)));
            let item = ends.partition_point(|end| *end <= drawn).min(weights.len() - 1);
            sampled[replay * LENGTH + place] = weights[item].0;
        }
    }
    sampled
}

/// The requests that are in a set, as the bits of a word; 64 at most.
pub fn word<'a>(replay: &[&'a Item], is_in: impl Fn(&&'a Item) -> bool) -> u64 {
    replay.iter().enumerate().filter(|(_, item)| is_in(item)).fold(0, |word, (place, _)| word | 1 << place)
}

/// One resource.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The distinct needs, ascending.
    needs: Vec<i64>,
    /// The last of them.
    most: i64,
    /// How many needs are within a multiple of `1 << shift`: where the search for a rank starts.
    starts: Vec<u16>,
    shift: u32,
    /// Replay by replay and rank by rank: the requests whose need is among the first so many.
    words: Vec<u64>,
}

impl Axis {
    /// The needs of some requests, in words of 64.
    pub fn new(sampled: &[&Item], of: impl Fn(&Need) -> i64) -> Self {
        /// Starts enough that few needs lie between two.
        const STARTS_BITS: u32 = 10;
        let mut needs: Vec<i64> = sampled.iter().map(|item| of(&item.need)).collect();
        needs.sort_unstable();
        needs.dedup();
        let most = needs.last().copied().unwrap_or(0);
        let shift = (i64::BITS - most.leading_zeros()).saturating_sub(STARTS_BITS);
        let starts = (0..=most >> shift).map(|start| needs.partition_point(|need| *need <= start << shift) as u16);
        let mut words = Vec::with_capacity(REPLAYS * (needs.len() + 1));
        for replay in sampled.chunks(LENGTH) {
            words.push(0);
            words.extend(needs.iter().map(|most| word(replay, |item| of(&item.need) <= *most)));
        }
        Self { starts: starts.collect(), needs, most, shift, words }
    }

    /// How many distinct needs are within `free`.
    pub fn rank(&self, free: i64) -> usize {
        if free >= self.most {
            return self.needs.len();
        }
        let start = (free >> self.shift) as usize;
        let mut rank = usize::from(self.starts[start]);
        while self.needs.get(rank).is_some_and(|need| *need <= free) {
            rank += 1;
        }
        rank
    }

    /// A replay's words, by rank.
    pub fn words(&self, replay: usize) -> &[u64] {
        let ranks = self.needs.len() + 1;
        &self.words[replay * ranks..][..ranks]
    }

    fn least_positive(&self) -> i64 {
        self.needs.iter().copied().find(|need| *need > 0).unwrap_or(1)
    }
}
