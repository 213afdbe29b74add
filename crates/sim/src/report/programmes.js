// Grid programmes: what was delivered against which baseline, and what that pays.

function money(amount, currency) {
  if (!isNumber(amount)) return '–';
  const digits = Math.abs(amount) < 100 && amount !== Math.round(amount) ? 2 : 0;
  return currency === 'USD' ? (amount < 0 ? MINUS : '') + '$' + number(Math.abs(amount), digits) : number(amount, digits) + THIN + currency;
}

function programmeTitle(p) {
  const known = p.events.filter((e) => e.figures);
  const short = known.filter((e) => e.figures.short_mwh > 0).length;
  const all = known.length === 1 ? 'what was asked was delivered' : 'all that was asked was delivered';
  if (!known.length) return 'Grid programme ' + p.programme + ': no event to settle';
  return 'Grid programme ' + p.programme + ': ' + (short ? plural(short, 'event') + ' of ' + number(known.length) + (short === 1 ? ' was' : ' were') + ' short' : all);
}

function programmeLead(p) {
  const of = (amount, words) => (amount ? money(amount, p.currency) + ' ' + words : '');
  const paid = [of(p.capacity, 'for capacity'), of(p.energy, 'for energy')].filter(Boolean);
  const lost = [of(p.penalties, 'in penalties'), of(p.forfeited, 'of the capacity forfeited')].filter(Boolean);
  const outside = p.events.filter((e) => e.outside_the_terms.length).length;
  return [
    'It pays ' + money(p.net, p.currency) + ' for this time: ' + (listed(paid) || 'nothing') + (lost.length ? ', less ' + listed(lost) : '') + '.',
    outside ? capital(plural(outside, 'event')) + (outside === 1 ? ' was' : ' were') + ' outside the terms, and cost nothing.' : '',
    p.unsettled ? capital(plural(p.unsettled, 'event')) + ' cannot be settled, and ' + (p.unsettled === 1 ? 'is' : 'are') + ' in no amount.' : '',
    'Terms: ' + p.source + '.',
  ].filter(Boolean).join(' ');
}

// What the meter showed around an event, the baseline, and what it left.
function coursePanel(course, width) {
  const [left, top, height, foot] = [46, 16, 130, 20];
  const right = width - 8;
  const end = course.from_s + course.span_s * course.metered_mw.length;
  const high = Math.max(maxOf(course.metered_mw), maxOf(course.baseline_mw)) * 1.12;
  const x = (t) => left + ((t - course.from_s) / (end - course.from_s || 1)) * (right - left);
  const y = (mw) => top + height - (mw / (high || 1)) * height;
  const picture = svg('svg', { viewBox: '0 0 ' + width + ' ' + (top + height + foot), width, height: top + height + foot, 'aria-hidden': 'true' });
  const [from, until] = [course.parts_s[0], course.parts_s[course.parts_s.length - 1]];
  picture.append(svg('rect', { x: x(from), y: top, width: Math.max(0, x(until) - x(from)), height, fill: 'var(--wash)' }));
  for (const mark of niceMarks(0, high, 4)) {
    picture.append(svg('line', { class: mark.v === 0 ? 'base' : 'grid', x1: left, x2: right, y1: y(mark.v), y2: y(mark.v) }));
    picture.append(svg('text', { x: left - 6, y: y(mark.v) + 4, 'text-anchor': 'end' }, mark.text));
  }
  picture.append(svg('text', { x: left - 6, y: 9, 'text-anchor': 'end' }, 'MW'));
  drawTimes(picture, x, [course.from_s, end], { left, top, height, width });
  const times = course.metered_mw.map((_, i) => course.from_s + i * course.span_s);
  picture.append(svg('path', { class: 'line', d: stepPath(times, course.metered_mw, x, y, end), style: 'stroke: var(--offtake)' }));
  const parts = course.parts_s.slice(0, -1);
  const line = (values, colour, dash) => svg('path', { class: 'line', d: stepPath(parts, values, x, y, until), style: 'stroke: ' + colour + (dash ? '; stroke-dasharray: 5 4' : '') });
  picture.append(line(course.baseline_mw, 'var(--peers)', true), line(course.allowed_mw, 'var(--limit)'));
  const label = (text, mw, below, kind) => svg('text', { class: kind + 'halo', x: x(from) + 4, y: y(mw) + (below ? 14 : -5) }, text);
  picture.append(label('baseline', course.baseline_mw[0], false, ''), label('asked for', course.allowed_mw[0], true, 'limit '));
  return picture;
}

function drawProgrammes() {
  if (!focus || !focus.summary.grid || !(focus.summary.grid.programmes || []).length) return;
  const body = byId('time-body');
  const hold = html('div', { class: 'panel' });
  body.append(hold);
  const columns = ['event', 'from (UTC)', 'baseline MW', 'metered MW', 'asked MW', 'delivered MW', 'MWh', 'MWh short', 'payment', 'penalty', 'forfeited', 'remarks'];
  const draw = () => {
    const { summary, programmes: courses } = chosen.policy;
    const all = [];
    const cells = [];
    summary.grid.programmes.forEach((p, which) => {
      const figure = (v) => number(v, digitsFor(v));
      const row = (e) => {
        const f = e.figures;
        const said = [...e.outside_the_terms.map((words) => 'outside the terms: ' + words), e.unsettled ? 'not settled: ' + e.unsettled : '', f && f.adjustment ? 'mean of ' + plural(f.basis_days.length, 'day') + ', ' + f.adjustment : ''].filter(Boolean).join('; ');
        const figures = f ? [figure(f.baseline_mw), figure(f.metered_mw), figure(f.asked_mw), figure(f.delivered_mw), figure(f.delivered_mwh), figure(f.short_mwh), money(f.payment, p.currency), money(f.penalty, p.currency), money(f.forfeited, p.currency)] : Array(9).fill('–');
        return [e.name, e.at.replace('T', ' ').replace('Z', ''), ...figures, said];
      };
      const pictures = html('div', { class: 'multiples' });
      for (const course of courses.filter((c) => c.programme === which)) {
        const place = html('div', {});
        pictures.append(html('div', {}, html('h3', {}, p.events[course.event].name), place));
        cells.push({ course, place });
      }
      all.push(html('h3', {}, programmeTitle(p)), html('p', { class: 'lead' }, programmeLead(p)));
      if (pictures.children.length) all.push(html('p', { class: 'note' }, 'What the meter at the grid connection counted in each five minutes; shaded is the event.'), pictures);
      if (p.events.length) all.push(tableBehind(p.programme + ': each event', () => table(columns, p.events.map(row), 'Events of ' + p.programme)));
    });
    hold.replaceChildren(...all);
    onWidth(hold, () => {
      for (const { course, place } of cells) if (place.clientWidth) place.replaceChildren(coursePanel(course, Math.floor(place.clientWidth)));
    });
  };
  chosen.watchers.push(draw);
}
