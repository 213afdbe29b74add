//! Tori: chips that are wired as a grid, and the slices of it that may be asked for.
//!
//! The shapes are those that Google publishes and no others: "TPU v5p", "TPU v5e" and "TPU v6e"
//! (docs.cloud.google.com/tpu/docs/v5p, …/v5e, …/v6e), and "TPU configurations" for boxes of whole cubes. In three
//! dimensions optical switches join any free grids of one pod, there called cubes, into a box; a slice smaller than a
//! cube lies inside one, its chips side by side. In two dimensions a slice is a box of chips side by side in a pod.

use serde::{Deserialize, Serialize};

use crate::{AcceleratorKindIx, LevelIx};

/// The sides of a box of chips, x, y and z; in two dimensions z is 1.
pub type Sides = [u16; 3];

/// How the chips of a kind are wired.
///
/// Nodes lie in the grid of their domain by their place there, x first, then y, then z; the chips of a node lie in it
/// in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Torus {
    /// The kind of chip.
    pub accelerator: AcceleratorKindIx,
    /// The level of which each domain with such chips is one grid.
    pub level: LevelIx,
    /// The chips of a grid.
    pub grid: Sides,
    /// The chips of a node.
    pub host: Sides,
    /// The level in whose domains switches join whole grids.
    pub joined: Option<LevelIx>,
    /// The most chips of a slice.
    pub most_chips: u32,
}

/// Slices of one grid, each a part of the next: in two dimensions, and in three.
const PLANE: [Sides; 8] = [[1, 1, 1], [2, 2, 1], [2, 4, 1], [4, 4, 1], [4, 8, 1], [8, 8, 1], [8, 16, 1], [16, 16, 1]];
const SPACE: [Sides; 5] = [[2, 2, 1], [2, 2, 2], [2, 2, 4], [2, 4, 4], [4, 4, 4]];

impl Torus {
    /// The most chips of a grid.
    pub const MAX_CHIPS: u32 = 256;

    /// The chips of a box.
    pub fn chips(sides: Sides) -> u32 {
        sides.into_iter().map(u32::from).product()
    }

    /// The nodes of a grid.
    pub fn hosts(&self) -> u32 {
        Self::chips(self.grid) / Self::chips(self.host).max(1)
    }

    /// The slices of one grid, the smallest first; each is a part of the next.
    pub fn slices(&self) -> Vec<Sides> {
        let published = if self.grid[2] > 1 { &SPACE[..] } else { &PLANE[..] };
        published.iter().copied().filter(|sides| !self.turned(*sides).is_empty()).collect()
    }

    /// The ways in which a box lies in a grid: along each axis as many chips as a multiple of a node has, or all in one
    /// node.
    pub fn turned(&self, sides: Sides) -> Vec<Sides> {
        let [x, y, z] = sides;
        let mut ways = vec![[x, y, z], [y, x, z], [x, z, y], [y, z, x], [z, x, y], [z, y, x]];
        if self.grid[2] == 1 {
            ways.truncate(2);
        }
        let every = |way: &Sides, holds: fn((u16, u16)) -> bool, of: Sides| way.iter().copied().zip(of).all(holds);
        ways.retain(|way| every(way, |(side, grid)| (1..=grid).contains(&side), self.grid));
        ways.retain(|way| {
            every(way, |(side, host)| side % host == 0, self.host)
                || every(way, |(side, host)| host % side == 0, self.host)
        });
        ways.sort_unstable();
        ways.dedup();
        ways
    }

    /// Of how many whole grids a slice is made; none where it is no such slice.
    pub fn grids(&self, sides: Sides) -> Option<u32> {
        self.joined?;
        let whole = sides.into_iter().zip(self.grid).all(|(side, grid)| side > 0 && side % grid == 0);
        let allowed = whole && sides.is_sorted() && Self::chips_of(sides) <= u64::from(self.most_chips);
        allowed.then(|| Self::chips(sides) / Self::chips(self.grid))
    }

    /// Whether a slice may be asked for.
    pub fn allows(&self, sides: Sides) -> bool {
        self.slices().contains(&sides) || self.grids(sides).is_some()
    }

    /// What may be asked for, in words.
    pub fn allowed(&self) -> String {
        let mut all: Vec<String> = self.slices().into_iter().map(|sides| self.write(sides)).collect();
        if self.joined.is_some() {
            let (grid, most) = (self.write(self.grid), self.most_chips);
            all.push(format!("boxes of whole {grid} with ascending sides and at most {most} chips"));
        }
        all.join(", ")
    }

    fn write(&self, sides: Sides) -> String {
        let [x, y, z] = sides;
        if self.grid[2] > 1 { format!("{x}x{y}x{z}") } else { format!("{x}x{y}") }
    }

    fn chips_of(sides: Sides) -> u64 {
        sides.into_iter().map(u64::from).product()
    }

    /// The place in its grid, from 0, of a chip of the node at a place of its domain.
    pub fn place(&self, node: u32, chip: u32) -> u32 {
        let [x, y, z] = self.grid.map(u32::from);
        let [host_x, host_y, host_z] = self.host.map(u32::from);
        let at = |place: u32, wide: u32, high: u32| [place % wide, place / wide % high, place / wide / high];
        let [node_x, node_y, node_z] = at(node, x / host_x, y / host_y);
        let [chip_x, chip_y, chip_z] = at(chip, host_x, host_y);
        debug_assert!(node_z < z / host_z, "a domain has no more nodes than its grid");
        (node_x * host_x + chip_x) + x * ((node_y * host_y + chip_y) + y * (node_z * host_z + chip_z))
    }
}
