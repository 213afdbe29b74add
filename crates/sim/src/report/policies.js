// The policies side by side: a row per figure, a column per policy.
// A figure is ranked only where less, or more, is better whatever else happened. Energy, its cost and its
// carbon are not: a policy that runs less work uses less. Nor are times to the end while work is left: they are
// of the jobs that finished, and those that a policy leaves waiting do not count.

const asCount = (v) => number(v);

function allEnded() {
  return policies.every((p) => p.summary.waiting_at_end + p.summary.running_at_end === 0);
}

function comparison() {
  const any = (read) => policies.some((p) => isNumber(read(p.summary)));
  const row = (name, unit, read, text, better) => ({ name, unit, read, text, better });
  const one = (v) => number(v, 1);
  const ended = allEnded() ? 'less' : null;
  const three = (v) => measured(v, 4);
  const groups = [
    ['Jobs', [
      row('submitted', '', (s) => s.jobs, asCount),
      row('finished', '', (s) => s.finished, asCount, 'more'),
      row('running at the end', '', (s) => s.running_at_end, asCount),
      row('waiting at the end', '', (s) => s.waiting_at_end, asCount, 'less'),
      row('rejected', '', (s) => s.rejected, asCount, 'less'),
    ]],
    ['Wait, submission to first start', [
      row('mean', '', (s) => s.wait_s.mean, duration, 'less'),
      row('p50', '', (s) => s.wait_s.p50, duration, 'less'),
      row('p95', '', (s) => s.wait_s.p95, duration, 'less'),
      row('p99', '', (s) => s.wait_s.p99, duration, 'less'),
    ]],
    ['Submission to end, of finished jobs', [
      row('mean', '', (s) => s.jct_s.mean, duration, ended),
      row('p95', '', (s) => s.jct_s.p95, duration, ended),
      row('first submission to last end', '', (s) => s.makespan_s, duration, ended),
    ]],
    ['Use of the chips', [
      row('allocated', '% of chip-time', (s) => s.allocation_pct, one, 'more'),
      row('goodput', '% of allocated', (s) => s.goodput_pct, (v) => number(v, 2), 'more'),
      row('effective training time', '% of time since submission', (s) => s.ettr_pct, one, 'more'),
      row('lost to rework', 'chip-h', (s) => s.chip_hours.rework, asCount, 'less'),
      row('lost to restarts', 'chip-h', (s) => s.chip_hours.restart, asCount, 'less'),
      row('lost to checkpoints', 'chip-h', (s) => s.chip_hours.checkpoints, asCount, 'less'),
      row('lost to slow nodes and lower power levels', 'chip-h', (s) => s.chip_hours.slowness, asCount, 'less'),
      row('kept for blocked jobs', 'chip-h', (s) => s.chip_hours.held, asCount),
      row('fragmentation', '% of chip-time', (s) => s.fragmentation_pct, (v) => number(v, 2), 'less'),
    ]],
    ['Tenants and tiers', [
      row('fairness', 'Jain index', (s) => s.jain_index, (v) => number(v, 3), 'more'),
      row('deadlines met', '% of those due', (s) => s.deadlines_met_pct, one, 'more'),
      ...TIERS.flatMap((tier, i) => ['p50', 'p95'].map((at) => row(tier + ' ' + at + ' wait', '', (s) => (s.tier_waits[i] && s.tier_waits[i].jobs ? s.tier_waits[i][at + '_s'] : null), duration, 'less'))),
    ].filter((r) => any(r.read))],
    ['Power and money', [
      row('peak power', 'MW', (s) => s.peak_mw, three),
      row('cap breaches', '', (s) => s.cap_breaches, asCount, 'less'),
      row('energy', 'MWh', (s) => s.energy_mwh, three),
      row('useful chip-hours per MWh', '', (s) => s.useful_chip_hours_per_mwh, three, 'more'),
      row('cost of energy', 'USD', (s) => s.energy_cost_usd, asCount, null),
      row('per useful chip-hour', 'USD', (s) => s.usd_per_useful_chip_hour, three, 'less'),
      row('carbon', 't CO₂e', (s) => s.carbon_t, (v) => measured(v, 4), null),
    ].filter((r) => any(r.read))],
    ['Engine', [row('decisions', '', (s) => s.decisions, asCount)]],
  ];
  return groups;
}

// The policies that are best as printed; none when all print the same.
function bestOf(row) {
  if (!row.better || policies.length < 2) return [];
  const known = policies.filter((p) => isNumber(row.read(p.summary)));
  if (known.length < 2) return [];
  const values = known.map((p) => row.read(p.summary));
  const top = row.better === 'less' ? Math.min(...values) : Math.max(...values);
  const printed = row.text(top);
  const best = known.filter((p) => row.text(row.read(p.summary)) === printed);
  return best.length === known.length ? [] : best;
}

// Ours against the best of the others: "−38 %".
function differenceText(row) {
  if (!row.better || !peers.length) return '';
  const mine = row.read(focus.summary);
  const others = peers.map((p) => row.read(p.summary)).filter(isNumber);
  if (!isNumber(mine) || !others.length) return '';
  const best = row.better === 'less' ? Math.min(...others) : Math.max(...others);
  if (row.text(mine) === row.text(best)) return 'same';
  if (row.unit.startsWith('%')) return (mine > best ? '+' : '') + number(mine - best, 1) + THIN + 'points';
  if (row.text === asCount && Math.min(mine, best) < 10) return (mine > best ? '+' : '') + number(mine - best);
  if (!best) return '';
  const change = (mine / best - 1) * 100;
  if (Math.abs(change) >= 1000) return '×' + THIN + measured(mine / best, 2);
  return (change > 0 ? '+' : '') + number(change, Math.abs(change) < 9.95 ? 1 : 0) + THIN + '%';
}

function policiesTitle(groups) {
  if (policies.length < 2) return focus.name + ' in figures';
  let ranked = 0;
  let won = 0;
  let alone = 0;
  for (const row of groups.flatMap(([, rows]) => rows)) {
    const best = bestOf(row);
    if (!best.length) continue;
    ranked += 1;
    if (best.includes(focus)) won += 1;
    if (best.includes(focus) && best.length === 1) alone += 1;
  }
  if (!ranked) return 'The policies do not differ in any figure that ranks them';
  const shared = won - alone;
  return focus.name + ' is best in ' + (alone || 'none') + ' of the ' + ranked + ' figures that rank the policies' + (shared ? ' and shares the best in ' + shared : '');
}

function drawPolicies() {
  const body = byId('policies-body');
  if (!focus) {
    body.append(html('p', { class: 'empty' }, 'No policy was simulated. Each policy of the scenario becomes a column here.'));
    return;
  }
  const groups = comparison();
  byId('policies-title').textContent = policiesTitle(groups);
  const order = [focus, ...peers];
  const compare = peers.length > 0;
  const head = html('tr', {}, html('td', {}), order.map((p) => html('th', { scope: 'col', class: p === focus ? 'ours' : null }, p.name)),
    compare && html('th', { scope: 'col', class: 'diff' }, focus.name + ' against the best other'));
  const sections = groups.filter(([, rows]) => rows.length).map(([title, rows]) => html('tbody', {},
    html('tr', {}, html('th', { scope: 'rowgroup', colspan: order.length + 1 + (compare ? 1 : 0) }, title)),
    rows.map((row) => {
      const best = bestOf(row);
      return html('tr', {},
        html('th', { scope: 'row' }, row.name, row.unit && html('span', { class: 'unit' }, row.unit)),
        order.map((p) => {
          const value = row.read(p.summary);
          const broken = row.name === 'cap breaches' && value > 0;
          const wins = best.includes(p);
          return html('td', { class: [p === focus && 'ours', wins && 'best', broken && 'bad'].filter(Boolean).join(' ') || null },
            broken && '▲' + THIN, wins && html('span', { class: 'mark' }, html('span', { class: 'vh' }, 'best: ')), isNumber(value) ? row.text(value) : '–');
        }),
        compare && html('td', { class: 'diff' }, differenceText(row)));
    })));
  body.append(html('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'The policies side by side' },
    html('table', { class: compare ? 'compare' : 'compare alone' }, html('caption', { class: 'vh' }, 'Figures of each policy over ' + span(scenario.horizon_s)), html('thead', {}, head), sections)));
  body.append(html('p', { class: 'note' }, (compare ? '◆ marks the best value as printed. Energy, its cost, its carbon and peak power are not ranked: a policy that runs less work uses less.'
    + (allEnded() ? '' : ' Nor are times to the end: jobs that a policy left waiting are not in them.') : '')
    + (policies.some((p) => !isNumber(p.summary.energy_cost_usd)) ? ' Cost shows once the scenario has a price signal.' : '')
    + (policies.some((p) => !isNumber(p.summary.carbon_t)) ? ' Carbon shows once it has a carbon signal.' : '')));
}
