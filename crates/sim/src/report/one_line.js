// One-line diagrams: how power comes to a site, what each circuit carries at one minute, and what is out.

// The minute in which a circuit came nearest to its rating.
function tightestMinute(meters) {
  let [most, minute] = [-1, 0];
  for (const meter of meters) {
    meter.drawn.forEach((v, i) => {
      for (const limit of meter.limits) {
        const share = v / (limitAt(limit, i) || 1);
        if (share > most) [most, minute] = [share, i];
      }
    });
  }
  return minute;
}

// What a meter showed in a minute, against the least that it was allowed.
function readingAt(meter, minute) {
  const drawn = meter.drawn[Math.min(minute, meter.drawn.length - 1)];
  const limit = meter.limits.map((l) => ({ name: l.name, allowed: limitAt(l, minute) })).sort((a, b) => a.allowed - b.allowed)[0];
  const [from, until] = [minute * meter.span_s, (minute + 1) * meter.span_s];
  const isOut = meter.out_s.some(([a, b]) => a < until && from < b && !drawn);
  const of = limit ? ' of ' + number(limit.allowed, digitsFor(limit.allowed)) : '';
  const text = isOut ? 'out' : number(drawn, digitsFor(drawn)) + of + THIN + meter.unit;
  return { drawn, limit, isOut, share: limit && limit.allowed ? drawn / limit.allowed : null, text };
}

// A bar on which the limit is the end.
function loadBar(picture, reading, x, y, width) {
  if (reading.share === null) return;
  const isOver = reading.share > 1 + 1e-6;
  picture.append(svg('rect', { x, y, width, height: 6, fill: 'var(--idle)' }));
  picture.append(svg('rect', { x, y, width: width * Math.min(1, reading.share), height: 6, fill: isOver ? 'var(--limit)' : 'var(--offtake)' }));
  picture.append(svg('line', { x1: x + width, x2: x + width, y1: y - 3, y2: y + 9, stroke: 'var(--limit)', 'stroke-width': 1.5 }));
}

// From the left: the grid connection, the bus, a breaker for each circuit, and what it feeds.
function oneLine(site, minute, width) {
  const row = 58;
  const { circuits, grid, domains } = site;
  const rows = Math.max(circuits.length, domains.length, 1);
  const height = rows * row + 14;
  const [left, bus, join] = [2, width * 0.29, width * 0.67];
  const isNarrow = width < 560;
  const middle = height / 2;
  const at = (i, count) => (height / count) * (i + 0.5);
  const picture = svg('svg', { viewBox: '0 0 ' + width + ' ' + height, width, height, 'aria-hidden': 'true' });
  const wire = (d, isDead) => picture.append(svg('path', { d, fill: 'none', stroke: isDead ? 'var(--peers)' : 'var(--ink)', 'stroke-width': 1.4, 'stroke-dasharray': isDead ? '3 4' : null }));
  const words = (text, x, y, room, weight, kind) => picture.append(svg('text', { x, y, class: kind, style: weight === 600 ? 'fill: var(--ink); font-weight: 600' : null }, fit(text, room, weight || 400)));

  // The grid connection.
  wire('M' + (left + 22) + ' ' + middle + 'H' + bus);
  wire('M' + bus + ' ' + at(0, circuits.length) + 'V' + at(circuits.length - 1, circuits.length));
  picture.append(svg('circle', { cx: left + 11, cy: middle, r: 10, fill: 'var(--paper)', stroke: 'var(--ink)', 'stroke-width': 1.4 }));
  picture.append(svg('path', { d: 'M' + (left + 5) + ' ' + middle + 'q3 -7 6 0t6 0', fill: 'none', stroke: 'var(--ink)', 'stroke-width': 1.4 }));
  const room = bus - left - 8;
  words(site.name, left, middle - 32, room, 600);
  if (grid) {
    const reading = readingAt(grid, minute);
    words(reading.text, left, middle - 17, room);
    loadBar(picture, reading, left, middle + 20, Math.min(120, room));
    if (reading.limit) words(reading.limit.name, left, middle + 40, room, 400, 'limit');
  }

  // What circuits feed: as boxes where each is metered, else in words.
  const boxes = new Map(domains.map((meter, i) => [meter.domain, at(i, domains.length)]));
  const boxX = join + (isNarrow ? 14 : 34);
  for (const meter of domains) {
    const [y, reading] = [boxes.get(meter.domain), readingAt(meter, minute)];
    picture.append(svg('rect', { x: boxX, y: y - 24, width: width - boxX - 2, height: 48, fill: 'var(--wash)', stroke: 'var(--peers)' }));
    const inside = width - boxX - 18;
    words(meter.domain.slice(site.name.length + 1) || meter.domain, boxX + 8, y - 9, inside, 600);
    words(reading.text + (reading.limit && !isNarrow ? ', ' + reading.limit.name : ''), boxX + 8, y + 5, inside);
    loadBar(picture, reading, boxX + 8, y + 12, Math.min(120, inside));
  }

  // Each circuit with its breaker.
  circuits.forEach((meter, i) => {
    const y = at(i, circuits.length);
    const reading = readingAt(meter, minute);
    const x = bus + 12;
    wire('M' + bus + ' ' + y + 'H' + x);
    picture.append(svg('rect', { x, y: y - 5, width: 10, height: 10, fill: reading.isOut ? 'var(--paper)' : 'var(--ink)', stroke: reading.isOut ? 'var(--limit)' : 'var(--ink)', 'stroke-width': 1.6 }));
    const fed = meter.feeds.filter(([path]) => boxes.has(path));
    wire('M' + (x + 10) + ' ' + y + 'H' + join, reading.isOut);
    const turn = join + ((boxX - join) * (i + 1)) / (circuits.length + 1);
    for (const [path] of fed) wire('M' + join + ' ' + y + 'H' + turn + 'V' + boxes.get(path) + 'H' + boxX, reading.isOut);
    if (!fed.length) words('feeds ' + (meter.feeds.length === 1 ? meter.feeds[0][0] : plural(meter.feeds.length, 'domain')), join + 6, y + 4, width - join - 6);
    const room = join - x - 22;
    words(meter.name.replace(/^circuit /, ''), x + 18, y - 9, room, 600);
    words(reading.text, x + 18, y + 16, room, 400, reading.isOut ? 'limit' : null);
    if (!reading.isOut) loadBar(picture, reading, x + 18, y + 22, Math.min(120, room));
  });
  return picture;
}

// The sites at which circuits are metered.
function oneLineSites(meters) {
  const names = [...new Set(meters.filter((m) => m.feeds.length).map((m) => m.site))];
  return names.map((name) => {
    const here = meters.filter((m) => m.site === name);
    const circuits = here.filter((m) => m.feeds.length);
    const fed = new Set(circuits.flatMap((m) => m.feeds.map(([path]) => path)));
    return { name, circuits, grid: here.find((m) => m.at_grid && m.domain === name), domains: here.filter((m) => !m.at_grid && fed.has(m.domain)), meters: here };
  });
}

function drawOneLines() {
  const sitesOf = (policy) => oneLineSites(policy.meters);
  const spansOf = (sites) => Math.max(...sites.flatMap((site) => site.meters.map((m) => m.drawn.length)));
  if (!focus || !sitesOf(focus).length || !spansOf(sitesOf(focus))) return;
  let [sites, minute, tight] = [[], null, 0];
  const slider = html('input', { type: 'range', min: 0, step: 1, class: 'scrub', 'aria-label': 'The minute that the one-line diagram shows', on: { input: () => { minute = Number(slider.value); show(); } } });
  const back = html('button', { type: 'button', class: 'quiet', on: { click: () => { minute = tight; show(); } } }, 'tightest minute');
  const [title, pictures, tables] = [html('h3', {}), html('div', {}), html('div', {})];
  const note = 'The one-line diagram of ' + listed(sitesOf(focus).map((site) => site.name)) + ': a filled square is a closed breaker, an open one a circuit that is out. Drag to another minute.';
  byId('time-body').append(html('div', { class: 'panel' }, title, html('p', { class: 'note' }, note), html('div', { class: 'minutes' }, slider, back), pictures, tables));
  const rows = () => sites.flatMap((site) => site.meters.map((m) => {
    const reading = readingAt(m, minute);
    return [m.name, reading.text, reading.limit ? reading.limit.name : '', reading.share === null ? '' : percent(100 * reading.share, 1), m.feeds.map(([path, share]) => path + ' ' + percent(100 * share, 0)).join(', ')];
  }));
  const show = (width) => {
    const at = moment(minute * sites[0].meters[0].span_s);
    title.textContent = 'What each circuit carries, ' + at;
    slider.value = minute;
    slider.setAttribute('aria-valuetext', at);
    pictures.replaceChildren(...sites.map((site) => oneLine(site, minute, width || Math.floor(pictures.clientWidth) || PAPER_WIDTH)));
    tables.replaceChildren(tableBehind('Each meter in this minute', () => table(['meter', 'drawn', 'limit', 'of it', 'feeds'], rows(), 'Meters, ' + at)));
  };
  chosen.watchers.push(() => {
    sites = sitesOf(chosen.policy);
    slider.max = spansOf(sites) - 1;
    tight = tightestMinute(sites.flatMap((site) => site.circuits));
    minute = Math.min(minute === null ? tight : minute, spansOf(sites) - 1);
    show();
  });
  onWidth(pictures, (width) => { if (sites.length) show(width); });
}
