// Where the fleet's chip-time went: a waterfall from all of it down to the work that counts, and what failed.

// In the order in which they are taken off, from what nobody used to what was used in vain.
const TAKEN = [
  ['idle', 'idle', 'free, and nothing that waited fitted'],
  ['fragmented', 'fragmented', 'free, and of no use to the typical request where it was'],
  ['held', 'held', 'free, and kept for a blocked job'],
  ['out', 'out', 'on nodes under repair'],
  ['restart', 'restart', 'finding failures, starting workers, loading checkpoints'],
  ['rework', 'rework', 'lost and done again, or in vain'],
  ['checkpoints', 'checkpoints', 'standing still while they were written'],
  ['slowness', 'slowness', 'gangs at the speed of their slowest node'],
  ['standby', 'spares', 'nodes that stood by beside their gangs'],
];
const UNUSED = ['idle', 'fragmented', 'held'];

function ofFleet(policy, key) {
  const hours = policy.summary.chip_hours;
  return hours.fleet ? (hours[key] / hours.fleet) * 100 : 0;
}

// A share as short as it can be said: never rounded to nothing, nor to all.
function smallPercent(value) {
  if (value > 0 && value < 0.01) return '<' + THIN + '0.01' + THIN + '%';
  return percent(value, value < 10 ? 2 : 1);
}

function chipHours(hours) {
  const [scale, unit] = hours >= 1e6 ? [1e6, 'M chip-h'] : hours >= 1e4 ? [1e3, 'k chip-h'] : [1, 'chip-h'];
  return measured(hours / scale) + THIN + unit;
}

function goodputTitle(policy) {
  const failed = policy.summary.failures.reduce((sum, f) => sum + f.count, 0);
  const lost = ['restart', 'rework', 'checkpoints', 'slowness'].reduce((sum, key) => sum + ofFleet(policy, key), 0);
  const counts = percent(ofFleet(policy, 'useful')) + ' of the chip-time became work that counts';
  if (!failed && !lost) return counts;
  return counts + '; restarts, rework, checkpoints and slowness took ' + smallPercent(lost);
}

function goodputLead(policy) {
  const s = policy.summary;
  const failed = s.failures.reduce((sum, f) => sum + f.count, 0);
  return 'Goodput, the work that counts of what was allocated, is ' + percent(s.goodput_pct, 2) + '; the effective training time ratio, waits included, is ' + percent(s.ettr_pct)
    + '. ' + (failed ? plural(failed, 'failure') + ' stopped ' + plural(s.restarts, 'attempt') + ' of jobs and took nodes out for ' + smallPercent(ofFleet(policy, 'out')) + ' of the chip-time.' + repairs(s.repairs) + health(s) + advice(s)
      : s.restarts ? plural(s.restarts, 'attempt') + ' of jobs were stopped.' : 'Nothing fails in this scenario.');
}

// What other intervals between checkpoints would gain.
function advice(s) {
  if (!isNumber(s.checkpoint_gain_pct) || s.checkpoint_gain_pct < 0.01) return '';
  return ' Checkpoints at the intervals that Daly (2006) advises would gain ' + percent(s.checkpoint_gain_pct, 2) + '; jobs.csv has them.';
}

// What the health policy did.
function health(s) {
  const done = [];
  if (s.nodes_drained) done.push('drained ' + plural(s.nodes_drained, 'node'));
  if (s.jobs_held) done.push('put ' + plural(s.jobs_held, 'job') + ' on hold');
  return done.length ? ' The health policy ' + done.join(' and ') + '.' : '';
}

// How gangs that lost nodes went on.
function repairs(r) {
  if (!r.swaps) return '';
  const others = r.waits ? ', where those without enough of them waited ' + duration(r.wait_mean_s) + ' in the mean' : '';
  return ' ' + plural(r.swaps, 'attempt') + ' went on at once with ' + plural(r.swapped_nodes, 'spare') + others + '.';
}

function waterfall(policy, width) {
  const parts = TAKEN.filter(([key]) => policy.summary.chip_hours[key] > 0);
  const rows = [['fleet', 'all chip-time', ''], ...parts, ['useful', 'work that counts', 'finished, saved or still going on']];
  const step = 26;
  const wide = width > 560;
  const left = 118;
  const right = width - (wide ? 170 : 70);
  const height = rows.length * step + 4;
  const x = (share) => left + (share / 100) * (right - left);
  const picture = svg('svg', { viewBox: '0 0 ' + width + ' ' + height, width, height, 'aria-hidden': 'true' });
  let level = 100;
  rows.forEach(([key, name], i) => {
    const share = ofFleet(policy, key);
    const total = key === 'fleet' || key === 'useful';
    const from = total ? 0 : level - share;
    const y = i * step + 4;
    const colour = key === 'useful' ? 'var(--offtake)' : key === 'fleet' ? 'var(--peers)' : UNUSED.includes(key) ? 'var(--idle)' : 'var(--limit)';
    picture.append(svg('text', { class: total ? 'ink' : '', x: 0, y: y + 15 }, name));
    picture.append(svg('rect', { x: x(from), y: y + 3, width: Math.max(1, x(from + share) - x(from)), height: step - 10, fill: colour }));
    if (!total) level -= share;
    if (i + 1 < rows.length) picture.append(svg('line', { class: 'grid', x1: x(level), x2: x(level), y1: y + step - 7, y2: y + step + 3 }));
    picture.append(svg('text', { class: key === 'useful' ? 'accent' : 'ink', x: right + 60, y: y + 15, 'text-anchor': 'end' }, smallPercent(share)));
    if (wide) picture.append(svg('text', { x: width, y: y + 15, 'text-anchor': 'end' }, chipHours(policy.summary.chip_hours[key])));
  });
  return picture;
}

function causeBars(policy, width) {
  const struck = policy.summary.failures.filter((f) => f.count > 0).sort((a, b) => b.count - a.count);
  const most = Math.max(1, ...struck.map((f) => f.count));
  const step = 22;
  const left = Math.min(220, Math.round(width * 0.4));
  const right = width - 124;
  const height = struck.length * step + 20;
  const picture = svg('svg', { viewBox: '0 0 ' + width + ' ' + height, width, height, 'aria-hidden': 'true' });
  picture.append(svg('text', { x: right + 52, y: 12, 'text-anchor': 'end' }, 'failures'));
  picture.append(svg('text', { x: width, y: 12, 'text-anchor': 'end' }, 'chip-h lost'));
  struck.forEach((f, i) => {
    const y = i * step + 20;
    picture.append(svg('text', { x: 0, y: y + 13 }, fit(f.cause, left - 8)));
    picture.append(svg('rect', { x: left, y: y + 3, width: Math.max(1, (f.count / most) * (right - left - 4)), height: step - 9, fill: 'var(--limit)' }));
    picture.append(svg('text', { class: 'ink', x: right + 52, y: y + 13, 'text-anchor': 'end' }, number(f.count)));
    picture.append(svg('text', { x: width, y: y + 13, 'text-anchor': 'end' }, number(f.lost_chip_hours)));
  });
  return picture;
}

function causesTitle(policy) {
  const struck = policy.summary.failures.filter((f) => f.count > 0);
  const all = struck.reduce((sum, f) => sum + f.count, 0);
  const worst = struck.reduce((a, b) => (b.lost_chip_hours > a.lost_chip_hours ? b : a));
  return plural(all, 'failure') + '; most chip-hours were lost to: ' + worst.cause;
}

function drawGoodput() {
  const body = byId('goodput-body');
  if (!focus) {
    body.append(html('p', { class: 'empty' }, 'No policy was simulated. Where the chip-time went shows here once one is.'));
    return;
  }
  policyChoice('goodput-choice', 'Policy whose chip-time is shown');
  const lead = html('p', { class: 'lead' });
  const fall = html('div', {});
  const causes = html('div', {});
  body.append(lead, fall, causes);
  const draw = () => {
    const policy = chosen.policy;
    byId('goodput-title').textContent = goodputTitle(policy);
    lead.textContent = goodputLead(policy);
    const width = Math.floor(fall.clientWidth) || PAPER_WIDTH;
    fall.replaceChildren(waterfall(policy, width));
    causes.replaceChildren();
    if (policy.summary.failures.some((f) => f.count > 0)) causes.append(html('h3', {}, causesTitle(policy)), causeBars(policy, width));
  };
  onWidth(fall, draw);
  chosen.watchers.push(draw);
  const keys = [['fleet', 'all chip-time', ''], ...TAKEN, ['useful', 'work that counts', 'finished, saved or still going on']];
  const columns = ['chip-hours', ...policies.map((p) => p.name), 'what it is'];
  const rows = () => keys.map(([key, name, what]) => [name, ...policies.map((p) => number(p.summary.chip_hours[key])), what]);
  body.append(tableBehind('The same as a table', () => table(columns, rows(), 'Chip-hours by what became of them')));
  if (focus.summary.failures.length) {
    const failures = () => focus.summary.failures.map((f) => [f.cause, f.class, number(f.count), number(f.attempts), number(f.lost_chip_hours)]);
    body.append(tableBehind('Failures as a table', () => table(['cause', 'of', 'failures', 'attempts ended', 'chip-hours lost'], failures(), 'Failures by cause under ' + focus.name)));
  }
}
