//! Domain templates: a part of the tree described once and counted.

use std::collections::HashSet;

use toml::Spanned;

use crate::file::fault::{Checked, at};
use crate::file::suggest::did_you_mean;
use crate::file::syntax::{self, Named, Number, in_order};
use crate::file::tree::Tree;
use crate::file::values::{Values, check_name, grouped, name_fault};
use crate::file::{MAX_DOMAINS, MAX_NODES};
use crate::{NodeKind, NodeKindIx};

/// What a domain holds directly: domains or nodes, never both.
pub(super) enum Holds {
    /// Templates by number, and how many of each.
    Domains(Vec<(usize, u32)>),
    /// Node kinds, and how many of each.
    Nodes(Vec<(NodeKindIx, u32)>),
}

/// What is in a domain at any depth.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    pub nodes: u64,
    pub domains: u64,
}

pub(super) struct Templates {
    names: Vec<String>,
    list: Vec<Template>,
}

struct Template {
    /// `rack-{n}`; `{n}` is the place among its like in the parent.
    name: String,
    level: usize,
    holds: Holds,
    size: Size,
}

/// What names can refer to while templates and sites are resolved.
pub(super) struct Known<'a> {
    pub levels: &'a [String],
    pub node_kinds: &'a [NodeKind],
    pub values: &'a Values,
}

type Counts = Option<Spanned<Named<Spanned<Number>>>>;

impl Templates {
    pub(super) fn resolve(entries: &Named<syntax::Template>, known: &Known<'_>) -> Checked<Self> {
        let entries = in_order(entries);
        let mut all = Self { names: Vec::new(), list: Vec::new() };
        for (name, entry) in &entries {
            check_name(name)?;
            all.list.push(Template {
                name: own_name(name, entry)?,
                level: level_named(&entry.level, known.levels)?,
                holds: Holds::Nodes(Vec::new()),
                size: Size::default(),
            });
        }
        let names: Vec<&str> = entries.iter().map(|(name, _)| name.get_ref().as_str()).collect();
        // The deepest first: what a template holds is always deeper, so its size is known by then. The level rule
        // also rules out cycles, but a cycle is reported as one.
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|ix| std::cmp::Reverse(all.list[*ix].level));
        for ix in order {
            let (name, entry) = entries[ix];
            check_levels_descend(&entries, &names, ix, &all)?;
            let level = all.list[ix].level;
            let holds = all.holds(name, [&entry.domains, &entry.nodes], &names, known)?;
            all.list[ix].size = all.size(name, &holds, level)?;
            all.list[ix].holds = holds;
        }
        all.names = names.into_iter().map(str::to_owned).collect();
        Ok(all)
    }

    /// What a site holds.
    pub(super) fn of_site(
        &self,
        name: &Spanned<String>,
        site: &syntax::Site,
        known: &Known<'_>,
    ) -> Checked<(Holds, Size)> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        if let Some(domains) = &site.domains {
            for (child, _) in in_order(domains.get_ref()) {
                let level = self.list[template_named(child, &names)?].level;
                if level == 0 {
                    return Err(at(
                        child,
                        format!("template `{}` is at level `site`: give it a lower one", child.get_ref()),
                    ));
                }
            }
        }
        let holds = self.holds(name, [&site.domains, &site.nodes], &names, known)?;
        let size = self.size(name, &holds, 0)?;
        Ok((holds, size))
    }

    fn holds(
        &self,
        owner: &Spanned<String>,
        [domains, nodes]: [&Counts; 2],
        names: &[&str],
        known: &Known<'_>,
    ) -> Checked<Holds> {
        match (domains, nodes) {
            (Some(domains), None) => {
                let mut held = Vec::new();
                for (name, count) in in_order(domains.get_ref()) {
                    held.push((template_named(name, names)?, known.values.count(count)?));
                }
                if held.is_empty() {
                    return Err(at(domains, "is empty: write templates and their counts, such as { rack = 8 }"));
                }
                self.check_siblings(domains, &held)?;
                Ok(Holds::Domains(held))
            }
            (None, Some(nodes)) => {
                let mut held = Vec::new();
                for (name, count) in in_order(nodes.get_ref()) {
                    held.push((node_kind_named(name, known.node_kinds)?, known.values.count(count)?));
                }
                if held.is_empty() {
                    return Err(at(nodes, "is empty: write node kinds and their counts, such as { h100-8 = 4 }"));
                }
                Ok(Holds::Nodes(held))
            }
            (Some(_), Some(nodes)) => {
                Err(at(nodes, "a domain holds domains or nodes, not both: put the nodes into a template"))
            }
            (None, None) => Err(at(owner, "is empty: write `domains = { … }` or `nodes = { … }`")),
        }
    }

    /// No two children of one domain bear one name.
    fn check_siblings(&self, counts: &Spanned<Named<Spanned<Number>>>, held: &[(usize, u32)]) -> Checked<()> {
        let total: u64 = held.iter().map(|(_, count)| u64::from(*count)).sum();
        if total > u64::from(MAX_DOMAINS) {
            return Err(at(counts, too_many(total, MAX_DOMAINS, "domains")));
        }
        let mut seen = HashSet::new();
        for (ix, count) in held {
            let template = &self.list[*ix];
            if held.len() == 1 && template.name.contains("{n}") {
                return Ok(());
            }
            for n in 0..*count {
                let name = template.child_name(n);
                if seen.contains(&name) {
                    let message = format!("two children are named `{name}`: put {{n}} into the template's `name`");
                    return Err(at(counts, message));
                }
                seen.insert(name);
            }
        }
        Ok(())
    }

    fn size(&self, owner: &Spanned<String>, holds: &Holds, level: usize) -> Checked<Size> {
        let mut size = Size::default();
        match holds {
            Holds::Nodes(kinds) => size.nodes = kinds.iter().map(|(_, count)| u64::from(*count)).sum(),
            Holds::Domains(domains) => {
                for (ix, count) in domains {
                    let child = &self.list[*ix];
                    // A child that skips levels brings a domain for each.
                    let own = (child.level - level) as u64;
                    size.nodes += u64::from(*count) * child.size.nodes;
                    size.domains += u64::from(*count) * (own + child.size.domains);
                }
            }
        }
        check_size(owner, size)?;
        Ok(size)
    }

    /// Builds what is held below the open domain.
    pub(super) fn grow(&self, holds: &Holds, tree: &mut Tree) {
        match holds {
            Holds::Nodes(kinds) => kinds.iter().for_each(|(kind, count)| tree.nodes(*kind, *count)),
            Holds::Domains(domains) => {
                for (ix, count) in domains {
                    let template = &self.list[*ix];
                    for n in 0..*count {
                        tree.open(template.level, &template.child_name(n));
                        self.grow(&template.holds, tree);
                        tree.close();
                    }
                }
            }
        }
    }
}

impl Template {
    fn child_name(&self, n: u32) -> String {
        self.name.replace("{n}", &n.to_string())
    }
}

/// Errors when a fleet, or a part of one, is larger than can be.
pub(super) fn check_size(owner: &Spanned<String>, size: Size) -> Checked<()> {
    if size.nodes > u64::from(MAX_NODES) {
        return Err(at(owner, too_many(size.nodes, MAX_NODES, "nodes")));
    }
    if size.domains > u64::from(MAX_DOMAINS) {
        return Err(at(owner, too_many(size.domains, MAX_DOMAINS, "domains")));
    }
    Ok(())
}

fn too_many(given: u64, most: u32, what: &str) -> String {
    format!("makes {} {what}; at most {} are allowed: lower a count", grouped(given), grouped(most))
}

fn own_name(name: &Spanned<String>, entry: &syntax::Template) -> Checked<String> {
    match &entry.name {
        None => Ok(format!("{}-{{n}}", name.get_ref())),
        Some(own) => match name_fault(own.get_ref()) {
            None => Ok(own.get_ref().clone()),
            Some(fault) => Err(at(own, fault)),
        },
    }
}

pub(super) fn level_named(name: &Spanned<String>, levels: &[String]) -> Checked<usize> {
    let given = name.get_ref();
    levels.iter().position(|level| level == given).ok_or_else(|| {
        let hint = did_you_mean(given, levels.iter().map(String::as_str));
        at(name, format!("`{given}` is no level{hint}; the levels are: {}", levels.join(", ")))
    })
}

fn template_named(name: &Spanned<String>, names: &[&str]) -> Checked<usize> {
    let given = name.get_ref();
    names.iter().position(|known| known == given).ok_or_else(|| {
        let hint = did_you_mean(given, names.iter().copied());
        at(name, format!("`{given}` is no template{hint}; declare it as [templates.{given}]"))
    })
}

pub(super) fn node_kind_named(name: &Spanned<String>, kinds: &[NodeKind]) -> Checked<NodeKindIx> {
    let given = name.get_ref();
    match kinds.iter().position(|kind| kind.name == *given) {
        Some(ix) => Ok(NodeKindIx(ix as u32)),
        None => {
            let hint = did_you_mean(given, kinds.iter().map(|kind| kind.name.as_str()));
            Err(at(name, format!("`{given}` is no node kind{hint}; declare it as [node_kinds.{given}]")))
        }
    }
}

type Entries<'a> = [(&'a Spanned<String>, &'a syntax::Template)];

fn check_levels_descend(entries: &Entries<'_>, names: &[&str], ix: usize, all: &Templates) -> Checked<()> {
    let (parent, entry) = entries[ix];
    let Some(domains) = &entry.domains else { return Ok(()) };
    for (child, _) in in_order(domains.get_ref()) {
        let child_ix = template_named(child, names)?;
        if all.list[child_ix].level > all.list[ix].level {
            continue;
        }
        if let Some(cycle) = way_back(entries, names, child_ix, ix) {
            return Err(at(
                child,
                format!("a template cannot hold itself: {} → {}", parent.get_ref(), cycle.join(" → ")),
            ));
        }
        let (level, child_level) = (entry.level.get_ref(), entries[child_ix].1.level.get_ref());
        let message = format!(
            "`{}` is at level `{child_level}`, which is not below `{level}`: `levels` goes from the widest to the narrowest",
            child.get_ref()
        );
        return Err(at(child, message));
    }
    Ok(())
}

/// The templates from one to another, each held by the one before; none where there is no way.
fn way_back<'a>(entries: &Entries<'a>, names: &[&'a str], from: usize, to: usize) -> Option<Vec<&'a str>> {
    let mut came_from: Vec<Option<usize>> = vec![None; entries.len()];
    let mut next = vec![from];
    let mut seen = HashSet::from([from]);
    while let Some(ix) = next.pop() {
        if ix == to {
            let mut way = vec![names[ix]];
            let mut at = ix;
            while let Some(before) = came_from[at] {
                way.push(names[before]);
                at = before;
            }
            way.reverse();
            return Some(way);
        }
        for name in entries[ix].1.domains.iter().flat_map(|domains| domains.get_ref().keys()) {
            if let Some(child) = names.iter().position(|known| known == name.get_ref())
                && seen.insert(child)
            {
                came_from[child] = Some(ix);
                next.push(child);
            }
        }
    }
    None
}
