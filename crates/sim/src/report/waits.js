// Waiting time by size: one small picture per size, one row per policy, all on one logarithmic axis.

function sizeWords(label) {
  const bare = label.replace(/\s*chips?$/i, '').trim();
  if (/share|frac|^<|^0/i.test(bare)) return 'jobs on a share of a chip';
  if (bare === '1') return 'jobs of one chip';
  if (/^[\d\s.,]+([–-][\d\s.,]+|\+)?$/.test(bare)) return 'gangs of ' + bare + ' chips';
  return 'jobs of size ' + label;
}

function sizeTitle(label) {
  const bare = label.replace(/\s*chips?$/i, '').trim();
  if (/share|frac|^<|^0/i.test(bare)) return 'Share of a chip';
  if (bare === '1') return 'One chip';
  return /^\d/.test(bare) ? bare + ' chips' : capital(label);
}

function bucketOf(policy, label) {
  return policy.waits.find((b) => b.label === label && b.jobs > 0);
}

// "3.1× less", "29 % less": what a colleague would say of two mean waits.
function lessText(mine, theirs) {
  const ratio = theirs / mine;
  return ratio >= 2 ? number(ratio, ratio >= 10 ? 0 : 1) + '× less' : percent((1 - 1 / ratio) * 100, 0) + ' less';
}

function waitsTitle(labels) {
  if (!peers.length) return 'Waiting time by size under ' + focus.name;
  const floor = Math.max(20, focus.summary.jobs / 500);
  const claims = [];
  for (const label of labels) {
    const mine = bucketOf(focus, label);
    const others = peers.map((p) => [p, bucketOf(p, label)]).filter(([, b]) => b);
    if (!mine || mine.jobs < floor || others.length < peers.length) continue;
    const [next, best] = others.reduce((a, b) => (b[1].mean_s < a[1].mean_s ? b : a));
    const [fifo, plain] = others.find(([p]) => p.name === 'fifo') || [null, null];
    // Against the best of the others where that is a difference worth a title, else against plain fifo.
    if (best.mean_s > 60 && best.mean_s > mine.mean_s * 1.15) claims.push({ label, mine, theirs: best, name: next.name, rank: 100 + best.mean_s / (mine.mean_s + 1), next: others.length > 1 });
    else if (mine.mean_s <= best.mean_s * 1.05 && plain && plain.mean_s > 60 && plain.mean_s > mine.mean_s * 1.15) claims.push({ label, mine, theirs: plain, name: fifo.name, best: next.name, rank: plain.mean_s / (mine.mean_s + 1) });
  }
  if (!claims.length) return 'Jobs of no size wait clearly less under ' + focus.name + ' than under the other policies';
  const claim = claims.reduce((a, b) => (b.rank > a.rank ? b : a));
  const who = capital(sizeWords(claim.label));
  const tail = claim.next ? claim.name + ', the next best' : claim.name + ', about as long as under ' + claim.best;
  if (claim.mine.mean_s < 1) return who + ' do not wait under ' + focus.name + '; they wait ' + duration(claim.theirs.mean_s) + ' on average under ' + tail;
  return who + ' wait ' + lessText(claim.mine.mean_s, claim.theirs.mean_s) + ' under ' + focus.name + ' than under ' + tail;
}

// What the title leaves out: the sizes for which another policy is better.
function waitsLead(labels) {
  const worse = [];
  for (const label of labels) {
    const mine = bucketOf(focus, label);
    const others = peers.map((p) => [p, bucketOf(p, label)]).filter(([, b]) => b);
    if (!mine || !others.length) continue;
    const [next, best] = others.reduce((a, b) => (b[1].mean_s < a[1].mean_s ? b : a));
    if (mine.mean_s > best.mean_s * 1.05 && mine.mean_s - best.mean_s > 5) worse.push(sizeWords(label) + ' (' + duration(mine.mean_s) + ', against ' + duration(best.mean_s) + ' under ' + next.name + ')');
  }
  const open = peers.length ? policies.map((p) => p.name + ' ' + number(p.summary.waiting_at_end)) : [number(focus.summary.waiting_at_end)];
  return 'From submission to first start; titles compare means. '
    + (worse.length ? 'Another policy has a shorter mean wait for ' + listed(worse) + '. ' : '')
    + 'Jobs still waiting at the end: ' + listed(open) + '.';
}

const WAIT_MARKS = [[1, '1 s'], [10, '10 s'], [60, '1 min'], [600, '10 min'], [3600, '1 h'], [36000, '10 h'], [86400, '1 d'], [864000, '10 d'], [8640000, '100 d']];

function waitPanel(label, width, longest) {
  const rows = policies.map((policy) => ({ policy, bucket: bucketOf(policy, label) }));
  const step = 24;
  const top = 24;
  const left = Math.min(84, Math.max(44, 12 + Math.max(...policies.map((p) => textWidth(p.name, p === focus ? 600 : 400)))));
  const right = width - 62;
  const zero = left + 12; // under a second: no wait
  const start = left + 30;
  const foot = top + rows.length * step;
  const most = Math.log10(longest);
  const x = (s) => (s < 1 ? zero : start + (Math.log10(s) / most) * (right - start));
  const picture = svg('svg', { viewBox: '0 0 ' + width + ' ' + (foot + 20), width, height: foot + 20, 'aria-hidden': 'true' });

  let lastText = zero;
  picture.append(svg('text', { x: zero, y: foot + 15, 'text-anchor': 'middle' }, '0'));
  for (const [s, text] of WAIT_MARKS) {
    if (s > longest * 1.001) break;
    picture.append(svg('line', { class: 'grid', x1: x(s), x2: x(s), y1: top, y2: foot }));
    if (x(s) - lastText < 36 && s !== 60 && s !== 3600 && s !== 86400) continue;
    if (x(s) - lastText < 24) continue;
    const next = WAIT_MARKS.find(([n]) => n > s && n <= longest * 1.001 && [60, 3600, 86400].includes(n));
    if (next && ![60, 3600, 86400].includes(s) && x(next[0]) - x(s) < 36) continue;
    picture.append(svg('text', { x: x(s), y: foot + 15, 'text-anchor': 'middle' }, text));
    lastText = x(s);
  }
  picture.append(svg('line', { class: 'grid', x1: zero, x2: zero, y1: top, y2: foot }));
  picture.append(svg('text', { x: width, y: 13, 'text-anchor': 'end' }, 'p95'));

  const first = rows.find((r) => r.policy === focus && r.bucket) || rows.find((r) => r.bucket);
  const hits = [];
  rows.forEach((row, i) => {
    const y = top + i * step + step / 2;
    const ours = row.policy === focus;
    const colour = ours ? 'var(--offtake)' : 'var(--peers)';
    const hit = svg('rect', { class: 'row-hit', x: 0, y: top + i * step, width, height: step, rx: 3 });
    hits.push(hit);
    picture.prepend(hit);
    picture.append(svg('text', { class: ours ? 'accent' : '', x: 4, y: y + 4 }, fit(row.policy.name, left - 8, ours ? 600 : 400)));
    const b = row.bucket;
    if (!b) {
      picture.append(svg('text', { x: start, y: y + 4 }, 'no jobs'));
      return;
    }
    picture.append(svg('line', { x1: x(b.p50_s), x2: x(b.p99_s), y1: y, y2: y, stroke: colour, 'stroke-width': ours ? 2.5 : 1.75 }));
    picture.append(svg('line', { x1: x(b.p99_s), x2: x(b.p99_s), y1: y - 5, y2: y + 5, stroke: colour, 'stroke-width': ours ? 2.5 : 1.75 }));
    picture.append(svg('circle', { cx: x(b.p50_s), cy: y, r: 4.5, fill: colour }));
    picture.append(svg('circle', { cx: x(b.p95_s), cy: y, r: 4, fill: 'var(--paper)', stroke: colour, 'stroke-width': ours ? 2.5 : 1.75 }));
    picture.append(svg('text', { class: ours ? 'accent' : 'ink', x: width, y: y + 4, 'text-anchor': 'end' }, duration(b.p95_s)));
    if (row === first) {
      // The marks' names stand over the first row, once per picture.
      const at = [['p50', b.p50_s], ['p95', b.p95_s], ['p99', b.p99_s]].map(([text, s]) => ({ text, y: x(s) }));
      row.names = at;
    }
  });
  const topRow = rows.find((r) => r.bucket);
  if (topRow) {
    const b = topRow.bucket;
    const names = [['p50', b.p50_s], ['p95', b.p95_s], ['p99', b.p99_s]].map(([text, s]) => ({ text, y: x(s) }));
    for (const name of spread(names, 28, left, right)) picture.append(svg('text', { x: name.at, y: 13, 'text-anchor': 'middle' }, name.text));
  }

  const exact = html('p', { class: 'exact' });
  const show = (i) => {
    const { policy, bucket: b } = rows[i];
    hits.forEach((hit, k) => hit.setAttribute('class', k === i ? 'row-hit on' : 'row-hit'));
    exact.replaceChildren(html('b', {}, policy.name), b ? ': mean ' + duration(b.mean_s) + ', p50 ' + duration(b.p50_s) + ', p95 ' + duration(b.p95_s) + ', p99 ' + duration(b.p99_s) + ', longest ' + duration(b.max_s) : ': no jobs of this size');
  };
  const home = Math.max(0, policies.indexOf(focus));
  picture.addEventListener('pointermove', (event) => {
    const box = picture.getBoundingClientRect();
    const i = Math.floor(((event.clientY - box.top) * ((foot + 20) / box.height) - top) / step);
    show(Math.min(rows.length - 1, Math.max(0, i)));
  });
  picture.addEventListener('pointerleave', () => show(home));
  show(home);
  return html('div', {}, picture, exact);
}

function drawWaits() {
  const body = byId('waits-body');
  const labels = focus ? focus.waits.map((b) => b.label) : [];
  const used = labels.filter((label) => policies.some((p) => bucketOf(p, label)));
  if (!used.length) {
    body.append(html('p', { class: 'empty' }, 'No job started. Once jobs start, their waits show here by size of gang.'));
    return;
  }
  byId('waits-title').textContent = waitsTitle(used);
  body.append(html('p', { class: 'lead' }, waitsLead(used)));
  const grid = html('div', { class: 'multiples' });
  const longest = Math.max(60, ...policies.flatMap((p) => p.waits.map((b) => (b.jobs ? b.p99_s : 0)))) * 1.15;
  const cells = used.map((label) => {
    const counts = policies.map((p) => (bucketOf(p, label) || { jobs: 0 }).jobs);
    const few = Math.min(...counts);
    const many = Math.max(...counts);
    const hold = html('div', {});
    grid.append(html('div', {}, html('h3', {}, sizeTitle(label), html('span', {}, few === many ? plural(many, 'job') : number(few) + ' to ' + plural(many, 'job'))), hold));
    return { label, hold };
  });
  body.append(grid);
  onWidth(grid, () => {
    for (const { label, hold } of cells) hold.replaceChildren(waitPanel(label, Math.floor(hold.clientWidth), longest));
  });
  const columns = ['size', 'policy', 'jobs', 'mean', 'p50', 'p95', 'p99', 'longest'];
  const rows = () => used.flatMap((label) => policies.map((p) => {
    const b = bucketOf(p, label);
    return [sizeTitle(label), p.name, ...(b ? [number(b.jobs), ...[b.mean_s, b.p50_s, b.p95_s, b.p99_s, b.max_s].map(duration)] : ['0', '–', '–', '–', '–', '–'])];
  }));
  body.append(tableBehind('The same as a table: ' + plural(used.length * policies.length, 'row'), () => table(columns, rows(), 'Waiting time by size and policy')));
}
