//! Which of a domain's jobs to stop, so that enough workers fit and the least is lost.
//!
//! Jobs that share no node, not even over others, have nothing to do with each other: the domain falls into *parts*. A
//! part of few jobs is looked at in all its combinations; of a larger one, a chain of ever more jobs, at each step those
//! that win the most workers for what they cost. What a part offers are pairs of cost and workers won; of each part one
//! is taken, so that the sum of workers is enough and that of costs is the least: a knapsack, solved exactly.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Parts of up to so many jobs are looked at in all combinations.
const FEW: usize = 5;

/// Cells of the knapsack's table at most; a domain with more is one part.
const MOST_CELLS: usize = 4_000_000;

/// A domain in which jobs may be stopped, on counts alone.
pub struct Choice<'a, Workers> {
    /// What each job costs.
    costs: &'a [u64],
    /// The jobs on each node, ascending.
    on_node: &'a [Vec<u32>],
    /// How many workers fit on a node without some jobs.
    workers: Workers,
    /// Workers that have to fit.
    need: u32,
    /// How many workers fit on each node as it is.
    fit: Vec<u32>,
}

/// Jobs that go together: what they cost, and how many more workers fit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bundle {
    cost: u64,
    gain: u32,
    jobs: Vec<u32>,
}

/// One part of a domain.
#[derive(Default)]
struct Part {
    nodes: Vec<usize>,
    jobs: Vec<u32>,
}

impl<'a, Workers: Fn(usize, &dyn Fn(u32) -> bool) -> u32> Choice<'a, Workers> {
    /// The choice among jobs of these costs, by node ascending, so that `need` workers fit; `workers` tells how many do
    /// on a node without some jobs.
    pub fn new(costs: &'a [u64], on_node: &'a [Vec<u32>], need: u32, workers: Workers) -> Self {
        let fit = (0..on_node.len()).map(|node| workers(node, &|_| false)).collect();
        Self { costs, on_node, workers, need, fit }
    }

    /// The jobs to stop, ascending, none of them in vain; none where stopping all is not enough.
    pub fn least(&self) -> Option<Vec<u32>> {
        let Some(missing) = self.need.checked_sub(self.fit.iter().sum()).filter(|missing| *missing > 0) else {
            return Some(Vec::new());
        };
        let parts = self.parts();
        let mut menus: Vec<Vec<Bundle>> = parts.iter().map(|part| self.menu(part, missing)).collect();
        let width = missing as usize + 1;
        if menus.iter().map(Vec::len).sum::<usize>().saturating_mul(width) > MOST_CELLS {
            let whole = Part { nodes: (0..self.on_node.len()).collect(), jobs: (0..self.costs.len() as u32).collect() };
            menus = vec![self.chain(&whole, missing)];
        }
        menus.retain(|menu| !menu.is_empty());
        let mut chosen = cheapest(&menus, missing)?;
        chosen.sort_unstable();
        self.spare(&mut chosen);
        Some(chosen)
    }

    /// Jobs and nodes that have to do with each other.
    fn parts(&self) -> Vec<Part> {
        let mut leader: Vec<u32> = (0..self.costs.len() as u32).collect();
        fn find(leader: &mut [u32], mut job: u32) -> u32 {
            while leader[job as usize] != job {
                leader[job as usize] = leader[leader[job as usize] as usize];
                job = leader[job as usize];
            }
            job
        }
        for jobs in self.on_node {
            for pair in jobs.windows(2) {
                let (a, b) = (find(&mut leader, pair[0]), find(&mut leader, pair[1]));
                leader[a.max(b) as usize] = a.min(b);
            }
        }
        let mut parts: BTreeMap<u32, Part> = BTreeMap::new();
        for (node, jobs) in self.on_node.iter().enumerate() {
            if let Some(first) = jobs.first() {
                parts.entry(find(&mut leader, *first)).or_default().nodes.push(node);
            }
        }
        for job in 0..self.costs.len() as u32 {
            if let Some(part) = parts.get_mut(&find(&mut leader, job)) {
                part.jobs.push(job);
            }
        }
        parts.into_values().collect()
    }

    /// What a part offers: the more it costs, the more workers are won.
    fn menu(&self, part: &Part, missing: u32) -> Vec<Bundle> {
        if part.jobs.len() > FEW {
            return self.chain(part, missing);
        }
        let bundles = (1..1_u32 << part.jobs.len()).map(|bits| {
            let chosen = part.jobs.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
            self.bundle(part, chosen.map(|(_, job)| *job).collect())
        });
        front(bundles.collect(), missing)
    }

    fn bundle(&self, part: &Part, jobs: Vec<u32>) -> Bundle {
        let gone = |job: u32| jobs.contains(&job);
        let touched = part.nodes.iter().filter(|node| self.on_node[**node].iter().any(|job| gone(*job)));
        let gain = touched.map(|node| (self.workers)(*node, &gone) - self.fit[*node]).sum();
        Bundle { cost: self.cost_of(&jobs), gain, jobs }
    }

    fn cost_of(&self, jobs: &[u32]) -> u64 {
        jobs.iter().fold(0, |sum, job| sum.saturating_add(self.costs[*job as usize]))
    }

    /// Ever more jobs, at each step those that win the most for what they cost; and what would win anything by itself.
    fn chain(&self, part: &Part, missing: u32) -> Vec<Bundle> {
        let mut gone = vec![false; self.costs.len()];
        let mut nodes_of: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut fits: BTreeMap<usize, u32> = BTreeMap::new();
        for node in &part.nodes {
            fits.insert(*node, self.fit[*node]);
            self.on_node[*node].iter().for_each(|job| nodes_of.entry(*job).or_default().push(*node));
        }
        let step = |node: usize, gone: &[bool], fits: &BTreeMap<usize, u32>| {
            let jobs = self.next_on(node, gone, fits[&node])?;
            let now = |job: u32| gone[job as usize] || jobs.contains(&job);
            let touched: std::collections::BTreeSet<usize> =
                jobs.iter().flat_map(|job| &nodes_of[job]).copied().collect();
            let gain: u32 = touched.iter().map(|node| (self.workers)(*node, &now) - fits[node]).sum();
            Some(Bundle { cost: self.cost_of(&jobs), gain, jobs })
        };
        // Of what wins more than is missing, no more counts.
        let ratio = |bundle: &Bundle| bundle.cost.saturating_mul(1024) / u64::from(bundle.gain.min(missing).max(1));
        let mut offers = Vec::new();
        let mut heap = BinaryHeap::new();
        // Of the nodes that one job has for itself, one on which a worker would fit stands for the others.
        let alone = |node: usize| (self.on_node[node].len() == 1).then(|| self.on_node[node][0]);
        let mut stood_for = vec![false; self.costs.len()];
        for node in &part.nodes {
            let stands_for = alone(*node);
            if stands_for.is_some_and(|job| stood_for[job as usize]) {
                continue;
            }
            if let Some(bundle) = step(*node, &gone, &fits) {
                stands_for.into_iter().for_each(|job| stood_for[job as usize] = true);
                heap.push(Reverse((ratio(&bundle), *node)));
                offers.push(bundle);
            }
        }
        let mut so_far = Bundle { cost: 0, gain: 0, jobs: Vec::new() };
        while let Some(Reverse((told, node))) = heap.pop()
            && so_far.gain < missing
        {
            let Some(bundle) = step(node, &gone, &fits) else { continue };
            if ratio(&bundle) > told {
                heap.push(Reverse((ratio(&bundle), node)));
                continue;
            }
            bundle.jobs.iter().for_each(|job| gone[*job as usize] = true);
            let touched: std::collections::BTreeSet<usize> =
                bundle.jobs.iter().flat_map(|job| &nodes_of[job]).copied().collect();
            for node in touched {
                fits.insert(node, (self.workers)(node, &|job| gone[job as usize]));
                if alone(node).is_none()
                    && let Some(next) = step(node, &gone, &fits)
                {
                    heap.push(Reverse((ratio(&next), node)));
                }
            }
            so_far.cost = so_far.cost.saturating_add(bundle.cost);
            so_far.gain += bundle.gain;
            so_far.jobs.extend(&bundle.jobs);
            offers.push(so_far.clone());
        }
        front(offers, missing)
    }

    /// The cheapest jobs of a node without which one more worker fits there.
    fn next_on(&self, node: usize, gone: &[bool], fits: u32) -> Option<Vec<u32>> {
        let mut left: Vec<u32> = self.on_node[node].iter().copied().filter(|job| !gone[*job as usize]).collect();
        left.sort_unstable_by_key(|job| (self.costs[*job as usize], *job));
        let mut taken = Vec::new();
        let more = |taken: &[u32]| (self.workers)(node, &|job| gone[job as usize] || taken.contains(&job)) > fits;
        for job in left {
            taken.push(job);
            if more(&taken) {
                // The dearest first: what the later ones made superfluous stays.
                for job in taken.clone().into_iter().rev() {
                    let without: Vec<u32> = taken.iter().copied().filter(|other| *other != job).collect();
                    if !without.is_empty() && more(&without) {
                        taken = without;
                    }
                }
                return Some(taken);
            }
        }
        None
    }

    /// Lets go on whoever is stopped in vain, the dearest first.
    fn spare(&self, chosen: &mut Vec<u32>) {
        let mut gone = vec![false; self.costs.len()];
        chosen.iter().for_each(|job| gone[*job as usize] = true);
        let mut nodes_of: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (node, jobs) in self.on_node.iter().enumerate() {
            jobs.iter().filter(|job| gone[**job as usize]).for_each(|job| nodes_of.entry(*job).or_default().push(node));
        }
        let fits = |node: usize, gone: &[bool]| (self.workers)(node, &|job| gone[job as usize]);
        let as_is = |node: usize| {
            if self.on_node[node].iter().any(|job| gone[*job as usize]) { fits(node, &gone) } else { self.fit[node] }
        };
        let mut sum: u32 = (0..self.on_node.len()).map(as_is).sum();
        let mut dearest = chosen.clone();
        dearest.sort_unstable_by_key(|job| Reverse((self.costs[*job as usize], *job)));
        for job in dearest {
            let nodes = nodes_of.get(&job).map_or(&[][..], Vec::as_slice);
            let before: u32 = nodes.iter().map(|node| fits(*node, &gone)).sum();
            gone[job as usize] = false;
            let after: u32 = nodes.iter().map(|node| fits(*node, &gone)).sum();
            if sum - (before - after) >= self.need {
                sum -= before - after;
            } else {
                gone[job as usize] = true;
            }
        }
        chosen.retain(|job| gone[*job as usize]);
    }
}

/// Offers of which none wins as much for less, by what they win; what wins more than is missing wins that.
fn front(mut offers: Vec<Bundle>, missing: u32) -> Vec<Bundle> {
    offers.iter_mut().for_each(|offer| offer.gain = offer.gain.min(missing));
    offers.retain(|offer| offer.gain > 0);
    offers.sort_by(|a, b| (Reverse(a.gain), a.cost, &a.jobs).cmp(&(Reverse(b.gain), b.cost, &b.jobs)));
    let mut kept: Vec<Bundle> = Vec::new();
    for offer in offers {
        // All kept so far win as much or more.
        if kept.last().is_none_or(|cheapest| offer.cost < cheapest.cost) {
            kept.push(offer);
        }
    }
    kept.reverse();
    kept
}

/// Of each menu one offer or none, so that enough is won and the least is paid.
fn cheapest(menus: &[Vec<Bundle>], missing: u32) -> Option<Vec<u32>> {
    const NONE: u16 = u16::MAX;
    let width = missing as usize + 1;
    // The least cost to win at least so many with the menus so far.
    let mut least = vec![u64::MAX; width];
    least[0] = 0;
    let mut taken: Vec<Vec<u16>> = Vec::with_capacity(menus.len());
    for menu in menus {
        let mut choice = vec![NONE; width];
        for won in (1..width).rev() {
            for (place, offer) in menu.iter().enumerate().take(usize::from(NONE)) {
                let before = least[won.saturating_sub(offer.gain as usize)];
                let cost = before.saturating_add(offer.cost);
                if before < u64::MAX && cost < least[won] {
                    least[won] = cost;
                    choice[won] = place as u16;
                }
            }
        }
        taken.push(choice);
    }
    if least[width - 1] == u64::MAX {
        return None;
    }
    let mut left = width - 1;
    let mut jobs = Vec::new();
    for (menu, choice) in menus.iter().zip(&taken).rev() {
        if let Some(offer) = menu.get(usize::from(choice[left])) {
            jobs.extend(&offer.jobs);
            left = left.saturating_sub(offer.gain as usize);
        }
    }
    Some(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_offered_for_any_of_its_nodes_on_which_a_worker_would_fit() {
        // More jobs than are looked at in all combinations, all on one node; the cheapest of them has two more nodes
        // for itself, on the first of which no worker ever fits.
        let costs = [1, 10, 10, 10, 10, 10];
        let on_node = [vec![0, 1, 2, 3, 4, 5], vec![0], vec![0]];
        let workers = |node: usize, gone: &dyn Fn(u32) -> bool| match node {
            0 => u32::from((0..6).all(gone)),
            1 => 0,
            _ => u32::from(gone(0)),
        };
        assert_eq!(Choice::new(&costs, &on_node, 1, workers).least(), Some(vec![0]));
        assert_eq!(Choice::new(&costs, &on_node, 2, workers).least(), Some(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(Choice::new(&costs, &on_node, 3, workers).least(), None);
    }
}
