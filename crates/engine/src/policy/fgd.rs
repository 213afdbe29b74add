//! `fgd`: fragmentation gradient descent, of Weng et al. (USENIX ATC 2023, sections 4 and 5).
//!
//! A node's fragmentation is the free chip time that a request drawn from the typical ones could not use: all that is
//! free where the request does not fit, the chips too small for it where it does. The node is taken on which the request
//! raises this the least. As published, the change goes through a logistic curve to whole points of 100, so that large
//! changes count alike; memory is left out.

use offtake_units::ChipMilli;

use super::Scored;
use super::mix::Demand;
use super::room::{Need, Room, WHOLE};

/// The typical requests: the most frequent that make up 95 % of all, the published cut.
#[derive(Clone, Debug, Default)]
pub struct Typical {
    demand: Vec<(super::mix::Item, i64)>,
    total: i64,
}

/// Share of all requests that the typical ones make up, in percent.
const POPULAR: i64 = 95;

impl Typical {
    /// The most frequent of a demand.
    pub fn of(demand: &Demand) -> Self {
        let mut merged = Demand::default();
        for (item, count) in demand.iter() {
            let mut item = item.clone();
            item.need.memory = 0;
            merged.add(item, *count);
        }
        let mut demand: Vec<_> = merged.into_iter().collect();
        demand.sort_by(|(a, many), (b, few)| few.cmp(many).then_with(|| b.cmp(a)));
        let all: i64 = demand.iter().map(|(_, count)| count).sum();
        let (mut total, mut length) = (0, 0);
        while length < demand.len() && total * 100 < POPULAR * all {
            total += demand[length].1;
            length += 1;
        }
        demand.truncate(length);
        Self { demand, total }
    }

    /// Fragmentation of a node in thousandths of a chip, times [`Typical::total`].
    pub fn fragmented(&self, room: &Room) -> i64 {
        let left = room.left();
        if left == 0 {
            return 0;
        }
        let most = if room.whole > 0 { WHOLE } else { room.shared().iter().copied().max().map_or(0, i64::from) };
        let lost = |(item, weight): &(super::mix::Item, i64)| {
            let need = &item.need;
            let usable = !need.is_host_only()
                && need.cpu <= room.cpu
                && need.whole <= room.whole
                && need.share <= most
                && item.kinds.contains(room.kind);
            if !usable {
                return weight * left;
            }
            let floor = if need.share > 0 { need.share } else { WHOLE };
            let small = room.shared().iter().map(|free| i64::from(*free)).filter(|free| *free < floor);
            weight * small.sum::<i64>()
        };
        self.demand.iter().map(lost).sum()
    }

    /// How many requests they stand for.
    pub const fn total(&self) -> i64 {
        self.total
    }
}

/// The least drops in fragmentation, in billionths of a chip, that are worth 51, 52, … 99 points: the logistic curve
/// inverted, `1e9 · ln(points / (100 - points))` rounded up. Rises are worth the rest of 100.
const DROPS: [i64; 49] = [
    40005335, 80042708, 120144312, 160342651, 200670696, 241162057, 281851153, 322773393, 363965378, 405465109,
    447312219, 489548226, 532216814, 575364145, 619039209, 663294218, 708185058, 753771803, 800119301, 847297861,
    895384048, 944461609, 994622576, 1045968556, 1098612289, 1152679510, 1208311206, 1265666374, 1324925415,
    1386294362, 1450010176, 1516347490, 1585627264, 1658228077, 1734601056, 1815289967, 1900958762, 1992430165,
    2090741097, 2197224578, 2313634930, 2442347036, 2586689345, 2751535314, 2944438980, 3178053831, 3476098690,
    3891820299, 4595119851,
];

/// The points of a drop in fragmentation that is scaled by `total`.
fn points(drop: i64, total: i64) -> i64 {
    let scaled = i128::from(drop) * 1_000_000;
    let reaches = |drop: &i64| scaled >= i128::from(*drop) * i128::from(total);
    let above = DROPS.partition_point(reaches);
    if above > 0 || scaled >= 0 {
        return 50 + above as i64;
    }
    // Below the middle: the curve is symmetric, and its values there are rounded up too.
    let still = DROPS.partition_point(|rise| scaled < i128::from(1 - *rise) * i128::from(total));
    49 - still as i64
}

/// The chip on which fragmentation rises the least, the tightest of equals; `value` is the fragmentation before.
pub fn score(typical: &Typical, value: i64, room: &Room, need: &Need) -> Scored {
    let mut best = Scored { score: i64::MAX, level: ChipMilli::WHOLE };
    for level in room.choices(need) {
        let drop = value - typical.fragmented(&room.after(need, level));
        let score = -points(drop, typical.total());
        if score < best.score {
            best = Scored { score, level: ChipMilli::new(level) };
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::points;

    #[test]
    fn points_follow_the_logistic_curve() {
        for milli in -6000..6000_i64 {
            let exact = 100.0 / (1.0 + (-(milli as f64) / 1000.0).exp());
            let points = points(milli * 7, 7);
            assert!((points as f64 - exact.floor()).abs() < 1e-9, "{milli}: {points}, exactly {exact}");
        }
    }
}
