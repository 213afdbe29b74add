// Grid events: what was asked, what was drawn, who gave way.

function gridTitle(grid) {
  const { events, feasible, met } = grid;
  if (!feasible) return events === 1 ? 'The grid event could not be met' : 'None of ' + number(events) + ' grid events could be met';
  if (met < feasible) return number(met) + ' of ' + plural(feasible, 'grid event') + ' that could be met were';
  if (feasible === events) return events === 1 ? 'The grid event was met in time' : 'All ' + number(events) + ' grid events were met in time';
  return 'All ' + number(feasible) + ' grid events that could be met were, in time';
}

function gridPower(mw) {
  return mw < 1 ? number(mw * 1000, digitsFor(mw * 1000)) + THIN + 'kW' : number(mw, digitsFor(mw)) + THIN + 'MW';
}

// Lines at times, and what time they are below, as far as there is room.
function drawTimes(picture, x, [from, end], { left, top, height, width }) {
  let textEnd = -Infinity;
  for (const mark of timeMarks(from, end, Math.max(2, Math.floor(width / 90)), true)) {
    picture.append(svg('line', { class: 'grid', x1: x(mark.t), x2: x(mark.t), y1: top, y2: top + height }));
    const long = textWidth(mark.text);
    const start = Math.min(Math.max(x(mark.t) - long / 2, left), width - long);
    if (start > textEnd + 8) {
      picture.append(svg('text', { x: start, y: top + height + 15 }, mark.text));
      textEnd = start + long;
    }
  }
}

// What was drawn under the cap of an event, from its announcement until it had been over for a while.
function eventPanel(course, line, width) {
  const [left, top, height, foot] = [6, 16, 120, 20];
  const right = width - 6;
  const from = line.announced_s;
  const end = from + course.span_s * course.mw.length;
  const high = Math.max(line.before_mw, maxOf(course.mw)) * 1.08;
  const x = (t) => left + ((t - from) / (end - from || 1)) * (right - left);
  const y = (mw) => top + height - (mw / (high || 1)) * height;
  const picture = svg('svg', { viewBox: '0 0 ' + width + ' ' + (top + height + foot), width, height: top + height + foot, 'aria-hidden': 'true' });
  picture.append(svg('rect', { x: x(line.announced_s), y: top, width: Math.max(0, x(line.at_s) - x(line.announced_s)), height, fill: 'var(--wash)' }));
  picture.append(svg('line', { class: 'base', x1: left, x2: right, y1: y(0), y2: y(0) }));
  drawTimes(picture, x, [from, end], { left, top, height, width });
  const times = course.mw.map((_, i) => from + i * course.span_s);
  picture.append(svg('path', { class: 'line', d: stepPath(times, course.mw, x, y, end), style: 'stroke: var(--offtake)' }));
  const limit = (mw, dash) => svg('line', { x1: x(line.at_s), x2: x(line.at_s + line.hold_s), y1: y(mw), y2: y(mw), stroke: 'var(--limit)', 'stroke-width': 1.5, 'stroke-dasharray': dash });
  picture.append(limit(line.target_mw, null));
  const allowed = 'allowed ' + gridPower(line.target_mw);
  const anchor = x(line.at_s) + textWidth(allowed) > right ? { x: right, 'text-anchor': 'end' } : { x: x(line.at_s) };
  picture.append(svg('text', { class: 'limit halo', y: y(line.target_mw) + 14, ...anchor }, allowed));
  picture.append(svg('line', { x1: left - 6, x2: left + 3, y1: y(line.before_mw), y2: y(line.before_mw), stroke: 'var(--offtake)', 'stroke-width': 1.5 }));
  picture.append(svg('text', { class: 'halo', x: left, y: Math.max(11, y(line.before_mw) - 5) }, gridPower(line.before_mw)));
  return picture;
}

// Who gave power back, how, and what that cost.
function gaveWay(lines) {
  const sum = (of) => lines.reduce((all, l) => all + of(l), 0);
  const [throttled, paused, stopped] = [sum((l) => l.throttled), sum((l) => l.paused), sum((l) => l.stopped)];
  const ways = [throttled ? plural(throttled, 'time') + ' work was throttled' : '', paused ? plural(paused, 'time') + ' work was paused' : '', stopped ? plural(stopped, 'attempt') + (stopped === 1 ? ' was' : ' were') + ' stopped' : ''].filter(Boolean);
  if (!ways.length) return 'Nobody had to give power back.';
  const [mwh, lost] = [sum((l) => l.given_back_mwh), sum((l) => l.lost_chip_hours)];
  const price = mwh ? ': ' + number(lost / mwh, digitsFor(lost / mwh)) + ' for each megawatt-hour' : '';
  const bounds = (which) => sum((l) => (l.lost_if_assumed_levels_are_off ? l.lost_if_assumed_levels_are_off[which] : l.lost_chip_hours));
  const off = lines.some((l) => l.lost_if_assumed_levels_are_off) ? ' (' + number(bounds(0), 0) + ' to ' + number(bounds(1), 0) + ' were the assumed power levels a tenth faster or slower)' : '';
  return capital(ways.join(', ')) + '. ' + number(mwh, digitsFor(mwh)) + THIN + 'MWh were given back for ' + number(lost, 0) + ' chip-hours' + price + off + '.';
}

// Those that lost most to an event.
function touchedTable(course, line) {
  const columns = ['work', 'tenant', 'tier', 'chips', 'power level', 'paused', 'stopped', 'chip-hours lost'];
  const rows = () => course.touched.map((t) => [t.name, t.tenant, t.tier, t.chips ? number(t.chips, 0) : '', t.level || 'full', t.pauses ? number(t.pauses) : '', t.stops ? number(t.stops) : '', number(t.lost_chip_hours, digitsFor(t.lost_chip_hours))]);
  const more = course.touched_count > course.touched.length ? ', those that lost most of ' + number(course.touched_count) : '';
  return tableBehind(line.name + ': who gave power back' + more, () => table(columns, rows(), 'Work that gave power back to ' + line.name));
}

function drawGrid() {
  if (!focus || !focus.summary.grid || !focus.summary.grid.events) return;
  const body = byId('time-body');
  const hold = html('div', { class: 'panel' });
  body.append(hold);
  const draw = () => {
    const { name, summary } = chosen.policy;
    const { grid } = summary;
    const lead = [
      grid.held_to_end === grid.feasible && grid.feasible ? 'Each was held to its end.' : '',
      grid.declared_infeasible ? plural(grid.declared_infeasible, 'event') + ' asked for less than can be had; it was said at once how much that is.' : '',
      gaveWay(grid.lines),
    ].filter(Boolean).join(' ');
    const outcome = (l) => (isNumber(l.achievable_mw) ? 'at best ' + gridPower(l.achievable_mw) : l.breach_s ? 'over for ' + duration(l.breach_s) : isNumber(l.met_after_s) ? 'met' : 'not met');
    const rows = () => grid.lines.map((l) => [l.name, moment(l.at_s), duration(l.at_s - l.announced_s), duration(l.hold_s), gridPower(l.before_mw), gridPower(l.target_mw), gridPower(l.response_mw),
      outcome(l), number(l.throttled), number(l.paused), number(l.stopped), number(l.given_back_mwh, digitsFor(l.given_back_mwh)), number(l.lost_chip_hours, 0)]);
    const columns = ['event', 'from', 'notice', 'for', 'drawn before', 'allowed', 'drawn then', 'outcome', 'throttled', 'paused', 'stopped', 'MWh given back', 'chip-hours lost'];
    const pictures = html('div', { class: 'multiples' });
    const cells = chosen.policy.grid.map((course) => {
      const line = grid.lines[course.line];
      const place = html('div', {});
      const notice = line.at_s - line.announced_s;
      const told = duration(line.hold_s) + (notice > 10 ? ', ' + duration(notice) + ' of notice' : ', without notice');
      pictures.append(html('div', {}, html('h3', {}, line.name, html('span', {}, told)), place));
      return { course, line, place };
    });
    const which = cells.length < grid.lines.length ? 'The ' + plural(cells.length, 'event') + ' that asked for most, each from its announcement on; shaded is its notice.' : 'From the announcement on; shaded is the notice.';
    const touched = cells.filter((cell) => cell.course.touched.length).map((cell) => touchedTable(cell.course, cell.line));
    hold.replaceChildren(html('h3', {}, gridTitle(grid)), html('p', { class: 'lead' }, lead), html('p', { class: 'note' }, which), pictures, tableBehind('Each event', () => table(columns, rows(), 'Grid events under ' + name)), ...touched);
    onWidth(pictures, () => {
      for (const { course, line, place } of cells) place.replaceChildren(eventPanel(course, line, Math.floor(place.clientWidth)));
    });
  };
  chosen.watchers.push(draw);
}
