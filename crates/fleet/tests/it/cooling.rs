//! What a site with a cooling curve draws and allows, before any work.

use offtake_fleet::{CapKind, LevelIx, account};
use offtake_units::{Duration, Ppm};

/// Sixteen nodes of 900 W idle, 2,500 W at work and 2,900 W at most.
const FLEET: &str = r#"name = "cooled"
levels = ["site", "rack"]
[accelerators.chip]
idle_watts = 100
operating_watts = 500
peak_watts = 600
[node_kinds.node]
accelerator = "chip"
chips = 4
cpu_cores = 64
memory_gib = 256
base_watts = 500
[templates.rack]
level = "rack"
nodes = { node = 4 }
[sites.here]
domains = { rack = 4 }
ride_through = { rack = "20s", site = "3m" }
[sites.here.cooling]
full_load_megawatts = 0.04
follows = "5m"
curve = [{ it = 0, overhead = 0.05 }, { it = 0.5, overhead = 0.1 }, { it = 1, overhead = 0.3 }]
heat = [{ wet_bulb_c = 10, factor = 1 }, { wet_bulb_c = 20, factor = 2 }]
[caps.grid]
on = "here"
watts = 38_560
meter = "facility"
kind = "contract"
[caps.rack]
on = "here/rack-0"
watts = 10_000
meter = "facility"
kind = "breaker"
"#;

#[test]
fn the_account_of_a_site_is_that_of_the_greatest_heat() {
    let fleet = super::parse(FLEET).expect("it is valid");
    let account = account(&fleet);
    let watts =
        |draw: offtake_fleet::account::Draw| [draw.idle, draw.operating, draw.nameplate].map(|watts| watts.get());
    // Twice 3,440 W beside idle servers, 12,000 W beside all at work, and 14,560 W beyond that by the last slope.
    let site = &account.sites[0];
    assert_eq!(watts(site.facility), [14_400 + 6_880, 40_000 + 24_000, 46_400 + 29_120]);
    assert_eq!((site.pue_ppm, watts(account.facility)), (Ppm::new(1_600_000), watts(site.facility)));
    let [grid, rack] = account.caps.as_slice() else { unreachable!("there are two caps") };
    assert_eq!(watts(grid.draw), watts(site.facility));
    // It leaves the servers 25,866 W: 28 chips of 400 W above what is idle.
    assert_eq!((grid.binds, grid.chips_at_work), (true, 28));
    // A rack's watts count at the steepest: 1.8 W each.
    assert_eq!((rack.kind, watts(rack.draw)), (CapKind::Breaker, [6_480, 18_000, 20_880]));
    assert_eq!((rack.binds, rack.chips_at_work), (true, 3), "of 900 W each in 3,520 W");
    let rides = [(LevelIx(0), Duration::from_secs(180)), (LevelIx(1), Duration::from_secs(20))];
    assert_eq!(fleet.sites[0].ride_through, rides);
}

#[test]
fn a_cap_that_idle_nodes_exceed_in_heat_is_refused() {
    let error = super::parse(&FLEET.replace("38_560", "21_000")).expect_err("it cannot be kept");
    let said = "cap `grid` of 21.0 kW can never be kept: its nodes draw 21.3 kW idle; raise it or feed fewer nodes";
    assert!(error.to_string().ends_with(said), "{error}");
}
