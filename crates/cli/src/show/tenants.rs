//! Tenants, as a tree: their quotas and their shares.

use std::collections::BTreeMap;

use offtake_protocol::rest::TenantView;

use super::figures::milli;
use crate::terminal::{Align, grouped, listing};

const QUOTA: [(&str, Align); 8] = [
    ("tenant", Align::Left),
    ("chips", Align::Left),
    ("in use", Align::Right),
    ("nominal", Align::Right),
    ("borrowed", Align::Right),
    ("lent", Align::Right),
    ("left", Align::Right),
    ("limits", Align::Left),
];

const SHARE: [(&str, Align); 6] = [
    ("tenant", Align::Left),
    ("weight", Align::Right),
    ("share %", Align::Right),
    ("running", Align::Right),
    ("chips", Align::Right),
    ("waiting", Align::Right),
];

/// A table of quotas, one line for each kind of accelerator.
pub fn quotas(tenants: &[TenantView], width: Option<usize>) -> String {
    let levels = levels(tenants);
    let rows = tenants.iter().flat_map(|tenant| {
        let name = named(tenant, &levels);
        let all = milli(tenant.running_chip_milli);
        let none =
            vec![name.clone(), "all".to_owned(), all, String::new(), String::new(), String::new(), String::new()];
        let kinds: Vec<Vec<String>> = tenant
            .quota
            .iter()
            .map(|quota| {
                let shown = |chips: Option<u64>| chips.map_or_else(|| "-".to_owned(), milli);
                vec![
                    name.clone(),
                    quota.accelerator.clone(),
                    milli(quota.in_use_chip_milli),
                    shown(quota.nominal_chip_milli),
                    shown(quota.borrowed_chip_milli),
                    shown(quota.lent_chip_milli),
                    shown(quota.available_chip_milli),
                ]
            })
            .collect();
        let limits = limits(tenant);
        let lines = if kinds.is_empty() { vec![none] } else { kinds };
        lines.into_iter().map(move |mut line| {
            line.push(limits.clone());
            line
        })
    });
    listing(&QUOTA, &rows.collect::<Vec<_>>(), width)
}

/// A table of shares.
pub fn shares(tenants: &[TenantView], width: Option<usize>) -> String {
    let levels = levels(tenants);
    let row = |tenant: &TenantView| {
        vec![
            named(tenant, &levels),
            tenant.weight.to_string(),
            format!("{}.{:02}", tenant.share_ppm / 10_000, tenant.share_ppm % 10_000 / 100),
            grouped(tenant.running_jobs),
            milli(tenant.running_chip_milli),
            grouped(tenant.pending_jobs),
        ]
    };
    // The root has no share: it stands for all.
    let rows: Vec<Vec<String>> = tenants.iter().filter(|tenant| !tenant.name.is_empty()).map(row).collect();
    listing(&SHARE, &rows, width)
}

/// How deep each tenant hangs; each comes before those below it.
fn levels(tenants: &[TenantView]) -> BTreeMap<&str, usize> {
    let mut levels = BTreeMap::new();
    for tenant in tenants {
        let above = tenant.parent.as_deref().filter(|parent| !parent.is_empty()).and_then(|parent| levels.get(parent));
        let level = above.map_or(0, |level| level + 1);
        levels.insert(tenant.name.as_str(), level);
    }
    levels
}

fn named(tenant: &TenantView, levels: &BTreeMap<&str, usize>) -> String {
    if tenant.name.is_empty() {
        return "(all)".to_owned();
    }
    format!("{}{}", "  ".repeat(levels.get(tenant.name.as_str()).copied().unwrap_or(0)), tenant.name)
}

fn limits(tenant: &TenantView) -> String {
    let limits = [
        (tenant.most_running_jobs, "running jobs"),
        (tenant.most_running_chips, "running chips"),
        (tenant.most_pending_jobs, "waiting jobs"),
        (tenant.most_pending_chips, "waiting chips"),
    ];
    let shown =
        limits.into_iter().filter_map(|(most, what)| most.map(|most| format!("{} {what}", grouped(most.into()))));
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use offtake_protocol::rest::QuotaView;

    use super::*;

    #[test]
    fn tenants_hang_below_one_another() {
        let quota = QuotaView {
            accelerator: "h100".to_owned(),
            in_use_chip_milli: 6500,
            nominal_chip_milli: Some(8000),
            subtree_chip_milli: Some(8000),
            borrowed_chip_milli: Some(0),
            lent_chip_milli: Some(1500),
            available_chip_milli: Some(0),
            ..QuotaView::default()
        };
        let of = |name: &str, parent: Option<&str>| TenantView {
            name: name.to_owned(),
            parent: parent.map(str::to_owned),
            weight: 2,
            share_ppm: 123_456,
            running_jobs: 3,
            running_chip_milli: 6500,
            most_running_jobs: Some(100),
            quota: vec![quota.clone()],
            ..TenantView::default()
        };
        let all = [of("", None), of("research", Some("")), of("nlp", Some("research"))];
        let quotas = quotas(&all, None);
        assert!(quotas.lines().nth(1).is_some_and(|line| line.starts_with("(all)")), "{quotas}");
        assert!(quotas.contains("  nlp"), "{quotas}");
        assert!(quotas.contains("h100") && quotas.contains("6.5") && quotas.contains("100 running jobs"), "{quotas}");
        let shares = shares(&all, None);
        assert!(shares.contains("12.34") && !shares.contains("(all)"), "{shares}");
    }
}
