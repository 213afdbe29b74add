// Meters: what was drawn minute by minute, against what could be.

function metersTitle(meters) {
  const over = meters.filter((m) => m.limits.some((limit) => m.drawn.some((v, i) => v > limitAt(limit, i) + 1e-3)));
  if (over.length) return capital(plural(over.length, 'meter')) + ' showed more than a limit allows, minute by minute';
  return 'No limit was exceeded, minute by minute';
}

function limitAt(limit, i) {
  return limit.allowed.length === 1 ? limit.allowed[0] : limit.allowed[Math.min(i, limit.allowed.length - 1)];
}

// The highest share of its tightest limit that a meter ever showed.
function tightest(meter) {
  let most = 0;
  meter.drawn.forEach((v, i) => {
    for (const limit of meter.limits) most = Math.max(most, v / (limitAt(limit, i) || 1));
  });
  return most;
}

function meterPanel(meter, grid, width) {
  const [left, top, height, foot] = [46, 16, 150, 20];
  const right = width - 8;
  const end = meter.span_s * meter.drawn.length;
  const limits = meter.limits.map((limit) => ({ ...limit, most: maxOf(limit.allowed) }));
  const high = Math.max(maxOf(meter.drawn), ...limits.map((limit) => limit.most)) * 1.08;
  const x = (t) => left + (t / (end || 1)) * (right - left);
  const y = (v) => top + height - (v / (high || 1)) * height;
  const picture = svg('svg', { viewBox: '0 0 ' + width + ' ' + (top + height + foot), width, height: top + height + foot, 'aria-hidden': 'true' });
  for (const line of grid ? grid.lines : []) {
    picture.append(svg('rect', { x: x(line.at_s), y: top, width: Math.max(0, x(line.at_s + line.hold_s) - x(line.at_s)), height, fill: 'var(--wash)' }));
  }
  for (const mark of niceMarks(0, high, 5)) {
    picture.append(svg('line', { class: mark.v === 0 ? 'base' : 'grid', x1: left, x2: right, y1: y(mark.v), y2: y(mark.v) }));
    picture.append(svg('text', { x: left - 6, y: y(mark.v) + 4, 'text-anchor': 'end' }, mark.text));
  }
  picture.append(svg('text', { x: left - 6, y: 9, 'text-anchor': 'end' }, meter.unit));
  drawTimes(picture, x, [0, end], { left, top, height, width });
  const times = meter.drawn.map((_, i) => i * meter.span_s);
  for (const limit of limits) {
    const values = meter.drawn.map((_, i) => limitAt(limit, i));
    picture.append(svg('path', { class: 'line', d: stepPath(times, values, x, y, end), style: 'stroke: var(--limit); stroke-width: 1.4' }));
  }
  picture.append(svg('path', { class: 'line', d: stepPath(times, meter.drawn, x, y, end), style: 'stroke: var(--offtake)' }));
  for (const [from, until] of meter.out_s) {
    picture.append(svg('text', { class: 'halo', x: Math.min(x(from) + 4, right - textWidth('out')), y: y(0) - 6 }, 'out'));
    picture.append(svg('line', { x1: x(from), x2: x(Math.min(until, end)), y1: y(0), y2: y(0), stroke: 'var(--limit)', 'stroke-width': 3 }));
  }
  const labels = limits.map((limit) => ({ text: limit.name, y: y(limitAt(limit, 0)) - 5 }));
  for (const label of spread(labels, 13, top + 4, top + height - 4)) {
    picture.append(svg('text', { class: 'limit halo', x: left + 4, y: label.at }, label.text));
  }
  return picture;
}

function drawMeters() {
  if (!focus || !focus.meters.some((meter) => meter.limits.length)) return;
  const body = byId('time-body');
  const hold = html('div', { class: 'panel' });
  body.append(hold);
  const draw = () => {
    const { summary } = chosen.policy;
    const meters = chosen.policy.meters.filter((meter) => meter.limits.length);
    const pictures = html('div', { class: 'multiples wide' });
    const cells = meters.map((meter) => {
      const place = html('div', {});
      pictures.append(html('div', {}, html('h3', {}, meter.name, html('span', {}, 'at most ' + percent(100 * tightest(meter), 1) + ' of what it may carry')), place));
      return { meter, place };
    });
    const shaded = summary.grid && summary.grid.events ? 'Shaded: grid events. ' : '';
    hold.replaceChildren(html('h3', {}, metersTitle(meters)), html('p', { class: 'note' }, shaded + 'Each minute shows the most that was drawn in it, and each line above what was allowed.'), pictures);
    onWidth(pictures, () => {
      for (const { meter, place } of cells) place.replaceChildren(meterPanel(meter, summary.grid, Math.floor(place.clientWidth)));
    });
  };
  chosen.watchers.push(draw);
}

function drawRamps() {
  if (!focus || !focus.summary.ramps) return;
  const hold = html('div', { class: 'panel' });
  byId('time-body').append(hold);
  const columns = ['site', 'largest step up', 'down', 'allowed', 'fastest minute up', 'allowed', 'fastest minute down', 'allowed', 'largest job', 'smoothed', 'swings at most', 'starts that waited'];
  const draw = () => {
    const { name, summary } = chosen.policy;
    // Over a minute a step may come on top of what the rate lets through.
    const inMinute = (r, rate) => megawatts(rate + r.max_step_mw / 60) + '/s';
    const rows = (summary.ramps || []).map((r) => [r.site, megawatts(r.step_up_mw), megawatts(r.step_down_mw), megawatts(r.max_step_mw),
      megawatts(r.minute_up_mw_per_s) + '/s', inMinute(r, r.up_mw_per_s), megawatts(r.minute_down_mw_per_s) + '/s', inMinute(r, r.down_mw_per_s),
      megawatts(r.largest_job_mw), isNumber(r.smoothing_mw) ? megawatts(r.smoothing_mw) : '', megawatts(r.swing_mw), number(r.waited)]);
    const waited = (summary.ramps || []).reduce((sum, r) => sum + r.waited, 0);
    const title = waited ? plural(waited, 'start') + ' waited for the ramp of a site' : 'No start waited for the ramp of a site';
    hold.replaceChildren(html('h3', {}, title), html('p', { class: 'note' }, 'What chips at work can be made to draw beyond idle ones, at the grid connection. What fails or is cancelled stops at once, and is in no plan: the largest job is the largest such step, as far as jobs fail one by one.'),
      table(columns, rows, 'Ramps under ' + name));
  };
  chosen.watchers.push(draw);
}
