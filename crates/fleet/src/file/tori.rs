//! Tori: which chips are wired as grids, and whether the domains are such grids.

use toml::Spanned;

use crate::file::fault::{Checked, at};
use crate::file::suggest::did_you_mean;
use crate::file::syntax::{FleetFile, in_order};
use crate::file::values::Values;
use crate::{AcceleratorKindIx, Fleet, LevelIx, Sides, Torus};

/// Adds what the accelerators say of their wiring, and checks each grid.
pub(super) fn add(fleet: &mut Fleet, file: &FleetFile, values: &Values) -> Checked<()> {
    for (number, (_, entry)) in in_order(&file.accelerators).into_iter().enumerate() {
        let Some(written) = &entry.torus else { continue };
        let torus = written.get_ref();
        let (grid, host) = (sides(&torus.grid)?, sides(&torus.host)?);
        let chips = grid.into_iter().map(u32::from).try_fold(1, u32::checked_mul);
        let most = chips.filter(|chips| *chips <= Torus::MAX_CHIPS);
        let Some(most) = most else {
            return Err(at(&torus.grid, format!("a grid has at most {} chips", Torus::MAX_CHIPS)));
        };
        if grid.into_iter().zip(host).any(|(grid, host)| grid % host != 0) {
            return Err(at(&torus.host, "along each axis, the chips of a node divide those of the grid"));
        }
        let joined = torus.joined.as_ref().map(|level| level_named(level, fleet)).transpose()?;
        let level = level_named(&torus.level, fleet)?;
        if let Some(written) = torus.joined.as_ref().filter(|_| joined.is_some_and(|joined| joined >= level)) {
            return Err(at(written, format!("names no level around `{}`", torus.level.get_ref())));
        }
        let most_chips = match &torus.most_chips {
            Some(chips) => values.whole(chips, 1..=i64::from(u32::MAX), "the most chips of a slice")?,
            None if joined.is_some() => i64::from(u32::MAX),
            None => i64::from(most),
        };
        let accelerator = AcceleratorKindIx(number as u32);
        let most_chips = u32::try_from(most_chips).unwrap_or(u32::MAX);
        let torus = Torus { accelerator, level, grid, host, joined, most_chips };
        check_grids(fleet, &torus, written)?;
        fleet.tori.push(torus);
    }
    Ok(())
}

/// Each domain of the level that has such chips is one grid, and no node with such chips is outside one.
fn check_grids(fleet: &Fleet, torus: &Torus, written: &Spanned<super::syntax::Torus>) -> Checked<()> {
    let (hosts, chips) = (torus.hosts(), Torus::chips(torus.host));
    let is_such = |kind: &crate::NodeKind| kind.accelerator == Some(torus.accelerator);
    for domain in fleet.domains_at(torus.level).map(crate::DomainIx) {
        let nodes = &fleet.domains[domain.ix()].nodes;
        let kinds = || fleet.nodes[nodes.start as usize..nodes.end as usize].iter().map(|node| fleet.kind(*node));
        if !kinds().any(is_such) {
            continue;
        }
        let is_whole =
            nodes.len() as u32 == hosts && kinds().all(|kind| is_such(kind) && u32::from(kind.chips) == chips);
        if !is_whole {
            let path = fleet.path(domain);
            let message =
                format!("{path} is no such grid: that is {hosts} nodes of {chips} chips each, and nothing else");
            return Err(at(written, message));
        }
    }
    Ok(())
}

fn level_named(level: &Spanned<String>, fleet: &Fleet) -> Checked<LevelIx> {
    fleet.level(level.get_ref()).ok_or_else(|| {
        let hint = did_you_mean(level.get_ref(), fleet.levels.iter().map(String::as_str));
        at(level, format!("`{}` is no level{hint}", level.get_ref()))
    })
}

/// `16x16` or `4x4x4`.
fn sides(written: &Spanned<String>) -> Checked<Sides> {
    let parts: Option<Vec<u16>> = written.get_ref().split('x').map(|side| side.parse().ok()).collect();
    match parts.as_deref() {
        Some([x, y]) if *x > 0 && *y > 0 => Ok([*x, *y, 1]),
        Some([x, y, z]) if *x > 0 && *y > 0 && *z > 0 => Ok([*x, *y, *z]),
        _ => Err(at(written, "chips along two or three axes, such as \"16x16\" or \"4x4x4\"")),
    }
}
