//! Kinds of accelerator and of node.

use offtake_units::{CpuMilli, Mebibytes, Ppm, Watts};
use toml::Spanned;

use crate::file::fault::{Checked, at};
use crate::file::suggest::did_you_mean;
use crate::file::syntax::{self, Named, in_order};
use crate::file::values::{Values, check_name};
use crate::{AcceleratorKind, AcceleratorKindIx, Basis, NodeKind, PowerLevel};

/// A pebibyte: beyond any host.
const MAX_MEMORY_GIB: i64 = 1 << 20;

/// An accelerator kind and what hosts of a node list draw beside it.
pub(super) struct Accelerators {
    pub kinds: Vec<AcceleratorKind>,
    pub base: Vec<Option<Watts>>,
}

pub(super) fn accelerators(entries: &Named<syntax::Accelerator>, values: &Values) -> Checked<Accelerators> {
    let mut all = Accelerators { kinds: Vec::new(), base: Vec::new() };
    for (name, entry) in in_order(entries) {
        check_name(name)?;
        let idle = values.part_watts(&entry.idle_watts)?;
        let operating = values.part_watts(&entry.operating_watts)?;
        let peak = values.part_watts(&entry.peak_watts)?;
        if operating < idle {
            let message = format!("{} at work is below {} idle: idle ≤ operating ≤ peak", operating, idle);
            return Err(at(&entry.operating_watts, message));
        }
        if peak < operating {
            let message = format!("{} at the most is below {} at work: idle ≤ operating ≤ peak", peak, operating);
            return Err(at(&entry.peak_watts, message));
        }
        if peak == Watts::ZERO {
            return Err(at(&entry.peak_watts, "a chip that draws nothing at its peak: write its nameplate in watts"));
        }
        all.kinds.push(AcceleratorKind {
            name: name.get_ref().clone(),
            idle,
            operating,
            peak,
            memory: entry.memory_gib.as_ref().map(|gib| memory(gib, values)).transpose()?,
            power_levels: power_levels(&entry.power_levels, idle, peak, values)?,
        });
        all.base.push(entry.base_watts.as_ref().map(|base| values.part_watts(base)).transpose()?);
    }
    Ok(all)
}

/// The levels as written, with full power before them unless they begin with it.
fn power_levels(entries: &[syntax::PowerLevel], idle: Watts, peak: Watts, values: &Values) -> Checked<Vec<PowerLevel>> {
    let mut levels: Vec<PowerLevel> = vec![PowerLevel {
        name: "full".to_owned(),
        power: Ppm::ONE,
        speed: Ppm::ONE,
        basis: Basis::Measured,
        source: "by definition".to_owned(),
    }];
    for (ix, entry) in entries.iter().enumerate() {
        check_name(&entry.name)?;
        let power = values.share(&entry.power, "a share of peak power")?;
        let speed = values.share(&entry.speed, "a share of full speed")?;
        if ix == 0 && power == Ppm::ONE {
            if speed != Ppm::ONE {
                return Err(at(&entry.speed, "full power gives full speed: write speed = 1.0, or a lower power"));
            }
            levels.clear();
        }
        if let Some(last) = levels.last() {
            if power >= last.power {
                let message = format!("levels go from the highest power to the lowest: `{}` is before it", last.name);
                return Err(at(&entry.power, message));
            }
            if speed > last.speed {
                return Err(at(&entry.speed, format!("less power is not faster: `{}` is before it", last.name)));
            }
        }
        if peak.share_up(power) < idle {
            let message = format!("{} is below the {idle} that the chip draws idle", peak.share_up(power));
            return Err(at(&entry.power, message));
        }
        if levels.iter().any(|level| level.name == *entry.name.get_ref()) {
            return Err(at(&entry.name, format!("a second power level named `{}`", entry.name.get_ref())));
        }
        if entry.source.get_ref().trim().is_empty() {
            return Err(at(&entry.source, "say where the figures come from, or \"assumption\""));
        }
        levels.push(PowerLevel {
            name: entry.name.get_ref().clone(),
            power,
            speed,
            basis: entry.basis,
            source: entry.source.get_ref().clone(),
        });
    }
    Ok(levels)
}

pub(super) fn node_kinds(
    entries: &Named<syntax::NodeKind>,
    accelerators: &Accelerators,
    values: &Values,
) -> Checked<Vec<NodeKind>> {
    let mut kinds = Vec::new();
    for (name, entry) in in_order(entries) {
        check_name(name)?;
        let (accelerator, chips) = match (&entry.accelerator, &entry.chips) {
            (Some(accelerator), Some(chips)) => {
                let chips = values.whole(chips, 1..=i64::from(NodeKind::MAX_CHIPS), "the number of chips of a node")?;
                (Some(accelerator_named(accelerator, accelerators)?), u16::try_from(chips).unwrap_or_default())
            }
            (None, None) => (None, 0),
            (Some(accelerator), None) => return Err(at(accelerator, "how many? Write `chips` beside `accelerator`")),
            (None, Some(chips)) => return Err(at(chips, "of which kind? Write `accelerator` beside `chips`")),
        };
        let cores = values.real(&entry.cpu_cores, 0.001..=1e6, "the number of processor cores")?;
        kinds.push(NodeKind {
            name: name.get_ref().clone(),
            accelerator,
            chips,
            cpu: CpuMilli::new((cores * 1000.0).round() as u32),
            memory: memory(&entry.memory_gib, values)?,
            base: values.part_watts(&entry.base_watts)?,
            attributes: entry.attributes.clone(),
        });
    }
    Ok(kinds)
}

fn memory(gib: &Spanned<syntax::Number>, values: &Values) -> Checked<Mebibytes> {
    let gib = values.whole(gib, 1..=MAX_MEMORY_GIB, "a memory in GiB")?;
    Ok(Mebibytes::new(gib.unsigned_abs() * 1024))
}

fn accelerator_named(name: &Spanned<String>, accelerators: &Accelerators) -> Checked<AcceleratorKindIx> {
    let given = name.get_ref();
    let names = accelerators.kinds.iter().map(|kind| kind.name.as_str());
    match names.clone().position(|known| known == given) {
        Some(ix) => Ok(AcceleratorKindIx(ix as u32)),
        None => {
            let hint = did_you_mean(given, names);
            Err(at(name, format!("`{given}` is no accelerator{hint}; declare it as [accelerators.{given}]")))
        }
    }
}
