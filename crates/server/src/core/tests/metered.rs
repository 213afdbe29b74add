//! The books of what nodes' sensors show.

use super::*;

#[test]
fn what_sensors_show_is_booked_against_what_is_counted() {
    // Two nodes of four chips, 900 W idle, one with a sensor.
    let mut world = World::declared("nodes = { node = 2 }", "");
    let node = world.core.names[0].to_string();
    let counted = world.core.node(&operator(), &node).expect("a known node").power_w;
    assert_eq!(counted, 900);
    let hour = |world: &mut World| {
        for _ in 0..=360 {
            world.now += 10_000;
            world.exchange(&node);
        }
    };
    hour(&mut world);
    assert_eq!(world.core.fleet().metered, [], "nothing is metered");
    world.sensors_mw.insert(node.clone(), counted * 1030);
    world.exchange(&node);
    hour(&mut world);
    let books = |world: &World| {
        let fleet = world.core.fleet();
        let [site] = fleet.metered.as_slice() else { unreachable!("one site is metered") };
        (site.metered_mj, site.counted_mj)
    };
    let (metered, expected) = books(&world);
    assert!((3_500_000 * counted..=3_620_000 * counted).contains(&expected), "an hour: {expected}");
    assert_eq!(metered * 100, expected * 103);
    // It comes back from a snapshot, and from the journal.
    let restored = Core::restore(world.core.image(), world.core.settings.clone()).expect("an image holds together");
    assert_eq!(restored.fleet().metered, world.core.fleet().metered);
    world.flush();
    let mut folded = Core::new(world.core.settings.clone());
    world.journal.iter().for_each(|fact| folded.apply(fact));
    assert_eq!(folded.fleet().metered, world.core.fleet().metered);
    // A sensor that jumps, and one that falls silent, add nothing.
    world.sensors_mw.insert(node.clone(), counted * 1_000_000);
    world.exchange(&node);
    hour(&mut world);
    world.sensors_mw.clear();
    hour(&mut world);
    let (then, _) = books(&world);
    assert!(then - metered <= 100 * metered / 3500, "what was not booked before: {then}, {metered}");
}
