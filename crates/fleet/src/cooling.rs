//! Cooling: what a site draws beside its servers, as that follows their load and the weather.
//!
//! The curve is data of the site's own: shares of its full IT load, measured or from its plant's design. Its shape has
//! physical reasons. Fans and pumps draw with the cube of their flow, and flow follows the heat (the affinity laws: ASHRAE
//! Handbook, HVAC Systems and Equipment, chapters on fans and on centrifugal pumps). A chiller draws its load times a
//! polynomial of the part load times one of the temperatures (DOE-2's electric chiller; EnergyPlus, Engineering Reference,
//! `Chiller:Electric:EIR`), which rises with the lift up to the wet-bulb temperature. Both are convex.

use offtake_units::{Duration, Ppm, Watts};
use serde::{Deserialize, Serialize};

use crate::interpolated;

/// Millionths.
const PARTS: i128 = 1_000_000;

/// What a site draws beside its servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooling {
    /// The IT load of which the curve's shares are.
    pub full_load: Watts,
    /// How long it goes on as before when IT load falls; it rises at once.
    pub follows: Duration,
    /// From no load to full load, rising ever faster; the last slope holds beyond.
    pub curve: Vec<LoadPoint>,
    /// What the curve is multiplied by, the coolest first.
    pub heat: Vec<HeatPoint>,
}

/// What is drawn beside the servers at a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPoint {
    /// IT load, as a share of full load.
    pub it: Ppm,
    /// What is drawn beside it, as a share of full IT load.
    pub overhead: Ppm,
}

/// What heat makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeatPoint {
    /// Wet-bulb temperature, in thousandths of a degree Celsius.
    pub wet_bulb_mc: i32,
    /// What the curve is multiplied by.
    pub factor: Ppm,
}

impl Cooling {
    /// What the curve is multiplied by at a wet-bulb temperature in thousandths of a degree Celsius: between two points in
    /// proportion, rounded up, and before the first and after the last what those say. Where nobody knows how hot it is, as in
    /// the greatest heat.
    pub fn factor(&self, wet_bulb_mc: Option<i32>) -> Ppm {
        let at = |point: &HeatPoint| (point.wet_bulb_mc, point.factor.parts().into());
        let found = interpolated(self.heat.iter().map(at), wet_bulb_mc.unwrap_or(i32::MAX));
        let parts =
            found.map_or(PARTS, |(share, span)| share.div_euclid(span) + i128::from(share.rem_euclid(span) != 0));
        Ppm::new(u32::try_from(parts).unwrap_or(u32::MAX))
    }

    /// What is drawn beside the servers, rounded up to a watt.
    pub fn overhead(&self, it: Watts, factor: Ppm) -> Watts {
        let full = i128::from(self.full_load.get());
        let micro = i128::from(it.get()) * PARTS;
        let after = self.curve.partition_point(|point| full * i128::from(point.it.parts()) <= micro);
        let Some((from, to)) = self.segment(after.saturating_sub(1)) else { return Watts::ZERO };
        let (wide, high) = rise(from, to);
        let along = micro - full * i128::from(from.it.parts());
        let drawn = (full * i128::from(from.overhead.parts()) * wide + high * along) * i128::from(factor.parts());
        let unit = wide * PARTS * PARTS;
        Watts::new((drawn.div_euclid(unit) + i128::from(drawn.rem_euclid(unit) != 0)) as i64)
    }

    /// What is drawn at the grid connection for so much at the servers, cooling having followed.
    pub fn facility(&self, it: Watts, factor: Ppm) -> Watts {
        it + self.overhead(it, factor)
    }

    /// The most that servers may draw so that no more than this is drawn at the grid connection, to the watt; nothing where
    /// that is less than what is drawn without them.
    pub fn it_under(&self, watts: Watts, factor: Ppm) -> Watts {
        // Each watt at the servers is one at least at the connection.
        let (mut least, mut most) = (0, watts.get().max(0));
        while least < most {
            let middle = least + (most - least + 1) / 2;
            match self.facility(Watts::new(middle), factor) <= watts {
                true => least = middle,
                false => most = middle - 1,
            }
        }
        Watts::new(least)
    }

    /// What a watt more at the servers adds at the grid connection at the most: at the steepest, in the greatest heat;
    /// rounded up.
    pub fn steepest(&self) -> Ppm {
        let last = self.curve.len().saturating_sub(2);
        let slope = self.segment(last).map_or(0, |(from, to)| {
            let ((wide, high), factor) = (rise(from, to), i128::from(self.factor(None).parts()));
            (high * factor + wide - 1).div_euclid(wide)
        });
        Ppm::new(u32::try_from(PARTS + slope).unwrap_or(u32::MAX))
    }

    /// The factor in the coolest weather.
    pub fn coolest(&self) -> Ppm {
        self.factor(Some(i32::MIN))
    }

    /// PUE at full load in the greatest heat, rounded up.
    pub fn pue(&self) -> Ppm {
        let (full, drawn) = (self.full_load.get().max(1), self.facility(self.full_load, self.factor(None)).get());
        let parts = (i128::from(drawn) * PARTS + i128::from(full) - 1) / i128::from(full);
        Ppm::new(u32::try_from(parts).unwrap_or(u32::MAX))
    }

    /// The part of the curve from a point on; the last, where none begins there.
    fn segment(&self, from: usize) -> Option<(LoadPoint, LoadPoint)> {
        let from = from.min(self.curve.len().checked_sub(2)?);
        Some((self.curve[from], self.curve[from + 1]))
    }
}

/// How wide and how high a part of the curve is, in millionths of full load.
fn rise(from: LoadPoint, to: LoadPoint) -> (i128, i128) {
    let across = |of: fn(LoadPoint) -> Ppm| i128::from(of(to).parts()) - i128::from(of(from).parts());
    (across(|point| point.it).max(1), across(|point| point.overhead))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(it: u32, overhead: u32) -> LoadPoint {
        LoadPoint { it: Ppm::new(it), overhead: Ppm::new(overhead) }
    }

    fn heat(wet_bulb_mc: i32, factor: u32) -> HeatPoint {
        HeatPoint { wet_bulb_mc, factor: Ppm::new(factor) }
    }

    /// Ten megawatts that need 0.3 MW without load, 0.8 MW at half of it and 2 MW at all of it, and half as much again in heat.
    fn hall() -> Cooling {
        Cooling {
            full_load: Watts::new(10_000_000),
            follows: Duration::from_secs(300),
            curve: vec![point(0, 30_000), point(500_000, 80_000), point(1_000_000, 200_000)],
            heat: vec![heat(10_000, 1_000_000), heat(28_000, 1_500_000)],
        }
    }

    #[test]
    fn overhead_follows_load_and_heat() {
        let hall = hall();
        let at = |it, celsius: i32| hall.overhead(Watts::new(it), hall.factor(Some(celsius * 1000))).get();
        assert_eq!([0, 5_000_000, 7_500_000, 10_000_000].map(|it| at(it, 0)), [300_000, 800_000, 1_400_000, 2_000_000]);
        assert_eq!([10, 19, 28, 40].map(|celsius| at(5_000_000, celsius)), [800_000, 1_000_000, 1_200_000, 1_200_000]);
        assert_eq!(at(11_000_000, 0), 2_240_000, "the last slope holds beyond full load");
        assert_eq!(at(1, 0), 300_001, "nothing is rounded down");
        assert_eq!(hall.factor(None), Ppm::new(1_500_000), "nobody knows: as in the greatest heat");
        assert_eq!((hall.steepest(), hall.pue()), (Ppm::new(1_360_000), Ppm::new(1_300_000)));
        assert_eq!(hall.it_under(Watts::new(7_000_000), Ppm::ONE), Watts::new(5_967_741));
        assert_eq!(hall.it_under(Watts::new(299_999), Ppm::ONE), Watts::ZERO);
    }

    fn curves() -> impl Strategy<Value = Cooling> {
        let steps = prop::collection::vec((1..400_000_u32, 0..900_000_u32), 1..5);
        (1..40_000_000_i64, 0..200_000_u32, steps, 1..4_000_000_u32).prop_map(|(full, base, steps, factor)| {
            let (mut curve, mut slopes) = (vec![point(0, base)], steps.iter().map(|step| step.1).collect::<Vec<_>>());
            slopes.sort_unstable();
            for ((wide, _), slope) in steps.iter().zip(slopes) {
                let last = curve[curve.len() - 1];
                let high = u64::from(*wide) * u64::from(slope) / 1_000_000;
                curve.push(point(last.it.parts() + wide, last.overhead.parts() + high as u32));
            }
            Cooling { full_load: Watts::new(full), curve, heat: vec![heat(0, factor)], follows: Duration::ZERO }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_servers_may_draw_is_never_too_much_and_right_to_the_watt(cooling in curves(), watts in 0..80_000_000_i64) {
            let (factor, watts) = (cooling.factor(None), Watts::new(watts));
            let it = cooling.it_under(watts, factor);
            prop_assert!(cooling.facility(it, factor) <= watts || it == Watts::ZERO);
            prop_assert!(cooling.facility(it + Watts::new(1), factor) > watts);
        }

        #[test]
        fn no_part_adds_more_than_the_steepest_slope(cooling in curves(), it in 0..40_000_000_i64, part in 0..40_000_000_i64) {
            let (factor, of) = (cooling.factor(None), |watts| Watts::new(watts));
            let added = cooling.facility(of(it + part), factor) - cooling.facility(of(it), factor);
            // Both are rounded up to a watt; slopes of curves as written are whole millionths only by chance.
            let last = cooling.curve.windows(2).map(|pair| rise(pair[0], pair[1])).map(|(wide, high)| high as f64 / wide as f64);
            let steepest = 1.0 + last.fold(0.0, f64::max) * factor.as_f64();
            prop_assert!(added.get() as f64 <= part as f64 * steepest + 1.0, "{added} for {part}");
        }
    }
}
