// What happened over time: chips, megawatts, queue and price, one below the other on one axis of time.
// All panels share a cursor. It rests at the moment of most use; a pointer moves it, and the slider
// above the panels moves it by keyboard or touch and leaves it where it is put.

const DASHES = ['', '6 3', '2 2.5', '8 3 2 3', '1 4', '10 4'];

function dashOf(policy) {
  const at = peers.indexOf(policy);
  return at < 0 ? '' : DASHES[at % DASHES.length];
}

function lineColour(policy) {
  if (policy === focus) return 'var(--offtake)';
  return policy === chosen.policy ? 'var(--ink)' : 'var(--peers)';
}

// The last point at or before t.
function pointAt(timeline, t) {
  const times = timeline.t_s;
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const mid = (low + high + 1) >> 1;
    if (times[mid] <= t) low = mid;
    else high = mid - 1;
  }
  return low;
}

function capAt(cap, t) {
  let mw = cap.mw;
  for (const [since, value] of cap.changes) if (since <= t) mw = value;
  return mw;
}

// As the lines of the meters: long for the facility, short for IT.
function capDash(cap) {
  return cap.meter === 'it' ? '3 2.5' : '8 3';
}

function metered(timeline, cap) {
  return cap.meter === 'it' ? timeline.it_mw : timeline.facility_mw;
}

// The cap that came closest to its meter, with the room that was left (below zero: passed).
function tightestCap(timeline) {
  let tightest = null;
  for (const cap of timeline.caps) {
    metered(timeline, cap).forEach((mw, i) => {
      if (!isNumber(mw)) return;
      const room = capAt(cap, timeline.t_s[i]) - mw;
      if (!tightest || room < tightest.room) tightest = { name: cap.name, meter: cap.meter, room, t: timeline.t_s[i] };
    });
  }
  return tightest;
}

// Where a meter begins to pass a cap, and its value there.
function passings(timeline) {
  const found = [];
  for (const cap of timeline.caps) {
    let over = false;
    metered(timeline, cap).forEach((mw, i) => {
      const now = mw > capAt(cap, timeline.t_s[i]);
      if (now && !over) found.push([timeline.t_s[i], mw]);
      over = now;
    });
  }
  return found;
}

function inUse(timeline, i) {
  return timeline.allocated_chips.reduce((sum, tier) => sum + (tier[i] || 0), 0);
}

// A value holds until the next point, so a line goes in steps. What is not a number is a gap.
function stepPath(times, values, x, y, end) {
  let d = '';
  let pen = false;
  for (let i = 0; i < times.length; i += 1) {
    if (!isNumber(values[i])) {
      pen = false;
      continue;
    }
    const until = i + 1 < times.length ? times[i + 1] : Math.max(end, times[i]);
    d += (pen ? 'V' + y(values[i]).toFixed(1) : 'M' + x(times[i]).toFixed(1) + ' ' + y(values[i]).toFixed(1)) + 'H' + x(until).toFixed(1);
    pen = true;
  }
  return d;
}

function bandPath(times, low, high, x, y, end) {
  let forth = '';
  let back = '';
  for (let i = 0; i < times.length; i += 1) {
    const from = x(times[i]).toFixed(1);
    const to = x(i + 1 < times.length ? times[i + 1] : Math.max(end, times[i])).toFixed(1);
    forth += (i ? 'V' : 'M' + from + ' ') + y(high[i]).toFixed(1) + 'H' + to;
    back = 'V' + y(low[i]).toFixed(1) + 'H' + from + back;
  }
  return forth + back + 'Z';
}

function square(tier) {
  return svg('svg', { class: 'square', viewBox: '0 0 11 11', 'aria-hidden': 'true' },
    svg('rect', { class: tier, x: 0.5, y: 0.5, width: 10, height: 10, stroke: tier === 'spot' || tier === 'idle' ? 'var(--peers)' : 'none', 'stroke-width': 0.75 }));
}

function stroke(colour, dash, width) {
  return svg('svg', { viewBox: '0 0 20 10', 'aria-hidden': 'true' },
    svg('line', { x1: 0, x2: 20, y1: 5, y2: 5, stroke: colour, 'stroke-width': width || 1.5, 'stroke-dasharray': dash || null }));
}

// The panels. Each says its title, its key with values at a point, its scale, and how to draw itself.

function chipsPanel(policy) {
  const line = policy.timeline;
  const capacity = line.capacity_chips;
  const used = line.t_s.map((_, i) => inUse(line, i));
  const stacks = [line.t_s.map(() => 0)];
  for (const tier of line.allocated_chips) stacks.push(stacks[stacks.length - 1].map((v, i) => v + (tier[i] || 0)));
  const top = Math.max(capacity, maxOf(used));
  return {
    tall: [190, 170],
    title: 'Chips in use by tier, of ' + number(capacity),
    unit: 'chips',
    range: [0, top * 1.1],
    key: (i) => [
      ...TIERS.map((tier, k) => [square(tier), tier, number(line.allocated_chips[k][i])]),
      [square('idle'), 'idle', number(Math.max(0, capacity - used[i]))],
    ],
    draw({ plot, x, y, end, wide, right, endLabels, lineLabel }) {
      const full = line.t_s.map(() => capacity);
      plot.append(svg('path', { class: 'idle', d: bandPath(line.t_s, stacks[4].map((v) => Math.min(v, capacity)), full, x, y, end) }));
      TIERS.forEach((tier, k) => plot.append(svg('path', { class: tier, d: bandPath(line.t_s, stacks[k], stacks[k + 1], x, y, end) })));
      plot.append(svg('path', { class: 'line', d: stepPath(line.t_s, used, x, y, end), style: 'stroke: var(--offtake); stroke-width: 1' }));
      plot.append(svg('line', { x1: x(0), x2: right, y1: y(capacity), y2: y(capacity), stroke: 'var(--ink)', 'stroke-width': 1 }));
      lineLabel('capacity ' + number(capacity), y(capacity), 'ink');
      const last = line.t_s.length - 1;
      if (!wide || last < 0) return;
      const bands = [...TIERS, 'idle'].map((tier, k) => {
        const low = stacks[k][last];
        const high = k < 4 ? stacks[k + 1][last] : capacity;
        return { text: tier, y: y((low + high) / 2), thick: y(low) - y(high), cls: 'ink' };
      });
      endLabels(bands.filter((b) => b.thick >= 1.5));
    },
  };
}

function powerPanel(policy) {
  const line = policy.timeline;
  const most = maxOf([...line.facility_mw, ...line.it_mw]);
  const limits = line.caps.flatMap((cap) => [cap.mw, ...cap.changes.map(([, mw]) => mw)]);
  const near = limits.filter((mw) => mw <= most * 2.5);
  const tightest = tightestCap(line);
  let title = 'Megawatts: ' + megawatts(most) + ' at most, ' + (siteCount() > 1 ? 'over ' + siteCount() + ' sites' : 'no cap on the whole site');
  if (tightest && tightest.room < 0) title = '▲ Power passed ' + tightest.name + ' by ' + megawatts(-tightest.room);
  else if (tightest) title = 'Power stayed ' + megawatts(tightest.room) + ' or more under ' + (line.caps.length > 1 ? 'every cap' : tightest.name);
  return {
    tall: [130, 130],
    title,
    unit: 'MW',
    range: [0, Math.max(most, ...near, 1e-6) * 1.14],
    key: (i) => [
      [stroke('var(--ink)', '', 1.75), 'facility', megawatts(line.facility_mw[i])],
      [stroke('var(--ink)', '2 2'), 'IT', megawatts(line.it_mw[i])],
      ...line.caps.map((cap) => [stroke('var(--limit)', capDash(cap)), cap.name + ' (' + (cap.meter === 'it' ? 'IT' : 'facility') + ')', megawatts(capAt(cap, line.t_s[i]))]),
    ],
    draw({ plot, x, y, end, top, endLabels, lineLabels }) {
      plot.append(svg('path', { class: 'line', d: stepPath(line.t_s, line.it_mw, x, y, end), style: 'stroke: var(--ink); stroke-width: 1.25', 'stroke-dasharray': '2 2' }));
      plot.append(svg('path', { class: 'line', d: stepPath(line.t_s, line.facility_mw, x, y, end), style: 'stroke: var(--ink); stroke-width: 1.75' }));
      const last = line.t_s.length - 1;
      if (last < 0) return;
      const ends = [
        { text: 'facility', y: y(line.facility_mw[last] || 0), cls: 'ink' },
        { text: 'IT', y: y(line.it_mw[last] || 0), cls: 'ink' },
      ];
      const above = [];
      for (const cap of line.caps) {
        if (!near.includes(cap.mw) && !cap.changes.some(([, mw]) => near.includes(mw))) {
          above.push({ text: '↑ ' + cap.name + ' ' + megawatts(capAt(cap, end)) + ', above this chart', y: top + 4, cls: 'limit' });
          continue;
        }
        const times = [0, ...cap.changes.map(([t]) => t)];
        const values = [cap.mw, ...cap.changes.map(([, mw]) => mw)].map((mw) => (near.includes(mw) ? mw : NaN));
        plot.append(svg('path', { class: 'line', d: stepPath(times, values, x, y, end), style: 'stroke: var(--limit); stroke-width: 1.5', 'stroke-dasharray': capDash(cap) }));
        const level = capAt(cap, end);
        ends.push({ text: cap.name, y: near.includes(level) ? y(level) : top, cls: 'limit' });
      }
      for (const [t, mw] of passings(line).slice(0, 24)) {
        plot.append(svg('path', { d: 'M' + x(t).toFixed(1) + ' ' + (y(mw) - 12).toFixed(1) + 'l5 9h-10z', fill: 'var(--limit)' }));
      }
      endLabels(ends);
      lineLabels(above);
    },
  };
}

function queuePanel(what, values, title) {
  const shown = chosen.policy;
  const order = [...peers.filter((p) => p !== shown), ...(shown !== focus ? [shown] : []), focus];
  const end = Math.max(...policies.map((p) => p.timeline.t_s[p.timeline.t_s.length - 1] || 0));
  return {
    tall: [88, 92],
    title,
    unit: what,
    name: what + ' waiting',
    range: [0, Math.max(1, maxOf(policies.map((p) => maxOf(values(p))))) * 1.06],
    key: (i, t) => [focus, ...peers].map((p) => {
      const at = t > end ? -1 : pointAt(p.timeline, t);
      return [stroke(lineColour(p), dashOf(p), p === focus ? 2.25 : 1.5), p.name, number(values(p)[at])];
    }),
    draw({ plot, x, y, end: until, endLabels }) {
      const labels = [];
      for (const policy of order) {
        const series = values(policy);
        plot.append(svg('path', {
          class: 'line', d: stepPath(policy.timeline.t_s, series, x, y, until), 'stroke-dasharray': dashOf(policy) || null,
          style: 'stroke: ' + lineColour(policy) + '; stroke-width: ' + (policy === focus ? 2.25 : 1.4),
        }));
        if (series.length) labels.push({ text: policy.name, y: y(series[series.length - 1] || 0), cls: policy === focus ? 'accent' : policy === shown ? 'ink' : '' });
      }
      endLabels(labels);
    },
  };
}

function queueTitle(what, values) {
  const mine = maxOf(values(focus));
  const start = 'At most ' + what(mine) + ' waited at a time under ' + focus.name;
  if (!peers.length) return start;
  const all = peers.map((p) => ({ name: p.name, most: maxOf(values(p)) })).sort((a, b) => a.most - b.most);
  if (all.length === 1) return start + ', ' + number(all[0].most) + ' under ' + all[0].name;
  return start + ', ' + number(all[0].most) + ' to ' + number(all[all.length - 1].most) + ' under the others';
}

function pricePanel(price, timeline) {
  const low = minOf(price.values);
  const high = maxOf(price.values);
  const room = (high - Math.min(0, low)) * 0.08;
  return {
    tall: [64, 64],
    title: capital(price.label) + ', between ' + measured(low) + ' and ' + measured(high) + THIN + price.unit,
    unit: price.unit,
    range: [low < 0 ? low - room : 0, Math.max(high, 1) + room],
    key: (i) => [[stroke('var(--money)', '', 1.75), price.label, measured(price.values[i]) + THIN + price.unit]],
    draw({ plot, x, y, end, endLabels }) {
      plot.append(svg('path', { class: 'line', d: stepPath(timeline.t_s, price.values, x, y, end), style: 'stroke: var(--money)' }));
      if (price.values.length) endLabels([{ text: 'price', y: y(price.values[price.values.length - 1]), cls: 'ink' }]);
    },
  };
}

function timelineTitle(policy) {
  const line = policy.timeline;
  const capacity = line.capacity_chips;
  const end = Math.max(scenario.horizon_s, line.t_s[line.t_s.length - 1] || 0);
  let full = 0;
  let all = 0;
  let most = 0;
  line.t_s.forEach((t, i) => {
    const length = Math.max(0, (i + 1 < line.t_s.length ? line.t_s[i + 1] : end) - t);
    all += length;
    most = Math.max(most, inUse(line, i));
    if (inUse(line, i) >= 0.95 * capacity) full += length;
  });
  if (all && full / all >= 0.5) return 'Under ' + policy.name + ' 95' + THIN + '% of the chips or more were in use for ' + percent((100 * full) / all, 0) + ' of the time';
  return 'Under ' + policy.name + ' ' + percent(policy.summary.allocation_pct) + ' of the chips were in use on average, ' + percent((100 * most) / capacity) + ' at most';
}

// Drawing.

function levels(spec) {
  const [low, high] = spec.range;
  return niceMarks(low, high, Math.max(2, Math.floor(spec.tall[0] / 30)));
}

function drawPanel(spec, width, share) {
  const { wide, left, endSpace, from, end, axis } = share;
  const height = spec.tall[wide ? 0 : 1];
  const top = 15;
  const foot = axis ? 22 : 5;
  const right = width - endSpace;
  const x = (t) => left + ((t - from) / (end - from || 1)) * (right - left);
  const [low, high] = spec.range;
  const y = (v) => top + height - ((v - low) / (high - low || 1)) * height;
  const picture = svg('svg', { viewBox: '0 0 ' + width + ' ' + (top + height + foot), width, height: top + height + foot, 'aria-hidden': 'true' });
  const grid = svg('g', {});
  const plot = svg('g', {});
  const marks = svg('g', {});
  picture.append(grid, plot, marks);

  grid.append(svg('text', { x: left - 6, y: 9, 'text-anchor': 'end' }, spec.unit));
  for (const mark of levels(spec)) {
    grid.append(svg('line', { class: mark.v === 0 ? 'base' : 'grid', x1: left, x2: right, y1: y(mark.v), y2: y(mark.v) }));
    grid.append(svg('text', { x: left - 6, y: y(mark.v) + 4, 'text-anchor': 'end' }, mark.text));
  }
  let textEnd = -Infinity;
  for (const mark of share.marks) {
    grid.append(svg('line', { class: 'grid', x1: x(mark.t), x2: x(mark.t), y1: top, y2: top + height }));
    const long = textWidth(mark.text);
    const start = Math.min(Math.max(x(mark.t) - long / 2, left), width - long);
    if (axis && start > textEnd + 8) {
      grid.append(svg('text', { x: start, y: top + height + 15 }, mark.text));
      textEnd = start + long;
    }
  }
  const lineLabels = (labels) => {
    labels.forEach((l) => { l.y -= 5; });
    for (const label of spread(labels, 13, top + 2, top + height - 2)) {
      marks.append(svg('text', { class: 'halo ' + label.cls, x: right - 4, y: label.at, 'text-anchor': 'end' }, label.text));
    }
  };
  spec.draw({
    plot, x, y, end, wide, right, top, lineLabels,
    lineLabel: (text, at, cls) => lineLabels([{ text, y: at, cls }]),
    endLabels: (labels) => {
      for (const label of spread(labels, 14, top + 1, top + height + 1)) {
        if (Math.abs(label.at - label.y) > 3) marks.append(svg('path', { d: 'M' + (right + 1) + ' ' + label.y.toFixed(1) + 'L' + (right + 7) + ' ' + label.at.toFixed(1), stroke: 'var(--peers)', fill: 'none' }));
        marks.append(svg('text', { class: label.cls, x: right + 9, y: label.at + 4 }, fit(label.text, endSpace - 9, label.cls === 'accent' ? 600 : 400)));
      }
    },
  });
  const cursor = svg('line', { class: 'cursor', y1: top - 4, y2: top + height });
  picture.append(cursor);
  return { picture, cursor, x };
}

function drawTimeline() {
  const body = byId('time-body');
  if (!focus || !focus.timeline.t_s.length) {
    body.append(html('p', { class: 'empty' }, 'No samples over time. A run with a horizon longer than one sample fills this with chips, megawatts and the queue.'));
    byId('time-choice').hidden = true;
    return;
  }
  policyChoice('time-choice', 'Policy shown over time');
  const lead = html('p', { class: 'lead' });
  const when = html('p', { id: 'time-when' });
  const scrub = html('input', { type: 'range', class: 'scrub', min: 0, step: 1, 'aria-label': 'Moment shown in the charts' });
  const plots = html('div', { class: 'plots' });
  const tables = html('div', {});
  body.append(lead, html('div', { class: 'when' }, when, scrub), plots, tables);

  let panels = [];
  let pinned = null; // seconds; null rests at the moment of most use
  let hovered = null;
  let width = 0;

  const line = () => chosen.policy.timeline;
  const rest = () => Math.min(Math.max(chosen.policy.picture.at_s, line().t_s[0]), line().t_s[line().t_s.length - 1]);

  function moveCursor() {
    const resting = hovered === null && pinned === null;
    const at = pointAt(line(), hovered ?? pinned ?? rest());
    const t = resting ? rest() : line().t_s[at];
    when.replaceChildren(html('b', {}, capital(moment(t))), resting ? ', the moment of most use under ' + chosen.policy.name + '.' : ' under ' + chosen.policy.name + '.', resting ? html('span', { class: 'screen' }, ' Point or slide for another.') : '');
    const said = [moment(t)];
    for (const panel of panels) {
      const key = panel.spec.key(at, t);
      panel.key.replaceChildren(...key.map(([mark, name, value]) => html('span', {}, mark, name, ' ', html('b', {}, value))));
      said.push(panel.said + ': ' + key.map(([, name, value]) => name + ' ' + value).join(', '));
      const x = panel.x(t).toFixed(1);
      panel.cursor.setAttribute('x1', x);
      panel.cursor.setAttribute('x2', x);
      panel.cursor.setAttribute('class', resting ? 'cursor rest' : 'cursor');
    }
    if (hovered === null) {
      scrub.value = at;
      scrub.setAttribute('aria-valuetext', said.join('. '));
    }
  }

  function draw(now) {
    width = now || width;
    if (!width) return;
    const policy = chosen.policy;
    const wide = width >= 640;
    const ends = policies.map((p) => p.timeline.t_s[p.timeline.t_s.length - 1] || 0);
    const share = { wide, endSpace: wide ? 104 : 62, from: Math.min(0, line().t_s[0]), end: Math.max(scenario.horizon_s, ...ends) };
    const jobs = (p) => p.timeline.waiting_jobs;
    const chips = (p) => p.timeline.waiting_chips;
    const specs = [
      chipsPanel(policy),
      powerPanel(policy),
      queuePanel('jobs', jobs, queueTitle((n) => plural(n, 'job'), jobs)),
      queuePanel('chips', chips, queueTitle((n) => 'work for ' + plural(n, 'chip'), chips)),
    ];
    if (line().price_per_mwh) specs.push(pricePanel(line().price_per_mwh, line()));
    share.left = Math.ceil(9 + Math.max(...specs.flatMap((spec) => [textWidth(spec.unit), ...levels(spec).map((mark) => textWidth(mark.text))])));
    share.marks = timeMarks(share.from, share.end, (width - share.left - share.endSpace) / (wide ? 74 : 50), !wide);
    byId('time-title').textContent = timelineTitle(policy);
    lead.textContent = capital(zoneText()) + '. Each value holds until the next sample.';
    scrub.style.marginLeft = share.left - 7 + 'px';
    scrub.style.width = width - share.left - share.endSpace + 14 + 'px';
    scrub.max = line().t_s.length - 1;
    panels = specs.map((spec, i) => {
      share.axis = i === 0 || i === specs.length - 1;
      const drawn = drawPanel(spec, width, share);
      const key = html('div', { class: 'key' });
      const unit = html('span', { class: 'vh' }, ' (' + spec.unit + ')');
      return { spec, key, said: spec.name || spec.unit, x: drawn.x, cursor: drawn.cursor, node: html('div', { class: 'panel' }, html('h3', {}, spec.title, unit), key, drawn.picture), from: share.from, end: share.end, left: share.left, right: width - share.endSpace };
    });
    plots.replaceChildren(...panels.map((p) => p.node));
    moveCursor();
  }

  function timeUnder(event) {
    const panel = panels[0];
    const box = plots.getBoundingClientRect();
    const at = (event.clientX - box.left - panel.left) / (panel.right - panel.left);
    return panel.from + Math.min(1, Math.max(0, at)) * (panel.end - panel.from);
  }

  plots.addEventListener('pointermove', (event) => {
    if (event.pointerType === 'touch') pinned = timeUnder(event);
    else hovered = timeUnder(event);
    moveCursor();
  });
  plots.addEventListener('pointerdown', (event) => {
    pinned = timeUnder(event);
    moveCursor();
  });
  plots.addEventListener('pointerleave', () => {
    hovered = null;
    moveCursor();
  });
  scrub.addEventListener('input', () => {
    pinned = line().t_s[Number(scrub.value)];
    moveCursor();
  });
  byId('time').addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    pinned = null;
    moveCursor();
  });

  function behind() {
    const policy = chosen.policy;
    const t = policy.timeline;
    const price = t.price_per_mwh;
    const columns = ['time', ...TIERS, 'idle', 'facility MW', 'IT MW', ...t.caps.map((cap) => cap.name + ' MW'), 'jobs waiting', 'chips waiting'];
    if (price) columns.push(price.unit);
    const rows = () => t.t_s.map((at, i) => {
      const row = [moment(at), ...t.allocated_chips.map((tier) => number(tier[i])), number(Math.max(0, t.capacity_chips - inUse(t, i))),
        measured(t.facility_mw[i], 4), measured(t.it_mw[i], 4), ...t.caps.map((cap) => measured(capAt(cap, at), 4)), number(t.waiting_jobs[i]), number(t.waiting_chips[i])];
      if (price) row.push(measured(price.values[i]));
      return row;
    });
    tables.replaceChildren(tableBehind('The same as a table: ' + policy.name + ', ' + plural(t.t_s.length, 'row'), () => table(columns, rows(), 'Chips, megawatts and queue over time under ' + policy.name)));
  }

  chosen.watchers.push(() => {
    draw();
    behind();
  });
  behind();
  onWidth(plots, draw);
}
