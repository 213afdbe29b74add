// The fleet at its moment of most use: nested rectangles, area by chips, filled from the left by tier.

function usedOf(area) {
  return area.t ? area.t[0] + area.t[1] + area.t[2] + area.t[3] : 0;
}

function idleOf(area) {
  return Math.max(0, area.c - usedOf(area) - (area.d || 0));
}

function partsOf(area) {
  return (area.a || []).filter((part) => part.c > 0);
}

function areaText(area) {
  const parts = [];
  TIERS.forEach((tier, k) => {
    if (area.t && area.t[k] > 0) parts.push(tier + ' ' + chipsText(area.t[k]));
  });
  if (idleOf(area) > 1e-9) parts.push('idle ' + chipsText(idleOf(area)));
  if (area.d) parts.push('down or drained ' + chipsText(area.d));
  return chipsText(area.c) + (area.c === 1 ? ' chip' : ' chips') + ', ' + percent((100 * usedOf(area)) / area.c, 0) + ' in use: ' + parts.join(', ')
    + (area.b ? '; a cap binds here' : '');
}

function chipsText(value) {
  return number(value, value >= 100 || Math.abs(value - Math.round(value)) < 1e-6 ? 0 : 1);
}

function nameOf(area) {
  const named = area.l && area.n.toLowerCase().includes(area.l.toLowerCase());
  return named || !area.l ? area.n : area.l + ' ' + area.n;
}

// Rectangles for the parts of an area. Parts of one size lie in rows, in their order, like a floor plan;
// parts of many sizes are laid out so that none becomes a sliver.
function layOut(parts, x, y, w, h) {
  if (!parts.length || w <= 0 || h <= 0) return [];
  const sizes = parts.map((p) => p.c);
  if (Math.max(...sizes) <= Math.min(...sizes) * 1.02 && parts.length > 2) return layOutRows(parts, x, y, w, h);
  return layOutSquarish(parts, x, y, w, h);
}

function layOutRows(parts, x, y, w, h) {
  const n = parts.length;
  let rows = 1;
  let least = Infinity;
  for (let r = 1; r <= n; r += 1) {
    const columns = Math.ceil(n / r);
    if (Math.ceil(n / columns) !== r) continue;
    const shape = (w / columns) / (h / r);
    const uneven = (columns * r - n) / columns;
    const cost = Math.abs(Math.log(shape / 1.5)) + 1.5 * uneven;
    if (cost < least) {
      least = cost;
      rows = r;
    }
  }
  const columns = Math.ceil(n / rows);
  const out = [];
  let top = y;
  for (let start = 0; start < n; start += columns) {
    const row = parts.slice(start, start + columns);
    const height = (h * row.length) / n;
    row.forEach((part, i) => out.push({ part, x: x + (w * i) / row.length, y: top, w: w / row.length, h: height }));
    top += height;
  }
  return out;
}

function layOutSquarish(parts, x, y, w, h) {
  const total = parts.reduce((sum, p) => sum + p.c, 0);
  const left = parts.map((part, i) => ({ part, i, size: (part.c / total) * w * h })).sort((a, b) => b.size - a.size || a.i - b.i);
  const out = [];
  while (left.length) {
    const side = Math.min(w, h);
    let sum = 0;
    let take = 0;
    let worst = Infinity;
    for (let n = 1; n <= left.length; n += 1) {
      const trial = sum + left[n - 1].size;
      const thick = trial / side;
      const now = Math.max((left[0].size / thick) / thick, thick / (left[n - 1].size / thick));
      if (now > worst) break;
      worst = now;
      sum = trial;
      take = n;
    }
    const thick = sum / side;
    let along = 0;
    for (const item of left.splice(0, take)) {
      const length = item.size / thick;
      out.push(w >= h ? { part: item.part, x, y: y + along, w: thick, h: length } : { part: item.part, x: x + along, y, w: length, h: thick });
      along += length;
    }
    if (w >= h) {
      x += thick;
      w -= thick;
    } else {
      y += thick;
      h -= thick;
    }
  }
  return out;
}

function box(x, y, w, h) {
  return 'M' + x.toFixed(1) + ' ' + y.toFixed(1) + 'h' + w.toFixed(1) + 'v' + h.toFixed(1) + 'h' + (-w).toFixed(1) + 'z';
}

// One path per kind of fill, whatever the number of areas, so that a large fleet stays quick.
function drawAreas(root, width, height) {
  const fills = { reserved: '', guaranteed: '', standard: '', spot: '', idle: '', down: '' };
  const drawn = []; // every rectangle, outer before inner
  const labels = [];
  const caps = [];

  const fill = (area, x, y, w, h) => {
    let at = x;
    const shares = [...(area.t || [0, 0, 0, 0]), idleOf(area), area.d || 0];
    [...TIERS, 'idle', 'down'].forEach((kind, k) => {
      const part = (w * shares[k]) / area.c;
      if (part <= 0) return;
      fills[kind] += box(at, y, part, h);
      at += part;
    });
  };

  const place = (area, outer, depth, top) => {
    const gap = outer.w > 30 && outer.h > 30 ? (depth === 1 ? 1.5 : 1) : Math.min(outer.w, outer.h) > 7 ? 0.5 : 0.2;
    const x = outer.x + gap;
    const y = outer.y + gap;
    const w = Math.max(0.2, outer.w - 2 * gap);
    const h = Math.max(0.2, outer.h - 2 * gap);
    drawn.push({ area, x, y, w, h, top });
    const parts = partsOf(area);
    const inside = parts.length > 0 && depth < 5 && (w * h) / parts.length >= 20;
    const band = w > 46 && h > (inside ? 38 : 30) ? 15 : 0;
    if (band) labels.push({ area, x, y, w });
    if (inside) {
      for (const r of layOut(parts, x, y + band, w, h - band)) place(r.part, r, depth + 1, top || area);
    } else {
      fill(area, x, y + band, w, h - band);
    }
    if (area.b) caps.push({ x, y, w, h });
  };

  const parts = partsOf(root);
  const rects = parts.length ? layOut(parts, 0, 0, width, height) : [{ part: root, x: 0, y: 0, w: width, h: height }];
  for (const r of rects) place(r.part, r, 1, r.part);
  if (root.b) caps.push({ x: 1, y: 1, w: width - 2, h: height - 2 });
  return { fills, drawn, labels, caps };
}

function drawFleet() {
  const body = byId('fleet-body');
  if (!focus || !(focus.picture.root.c > 0)) {
    body.append(html('p', { class: 'empty' }, 'No picture of the fleet. A run that allocates at least one chip fills this with the fleet at its moment of most use.'));
    byId('fleet-choice').hidden = true;
    return;
  }
  policyChoice('fleet-choice', 'Policy shown in the picture of the fleet');
  const lead = html('p', { class: 'lead' });
  const crumbs = html('nav', { class: 'crumbs', 'aria-label': 'Where in the fleet' });
  const key = html('div', { class: 'key', 'aria-hidden': 'true' });
  const map = html('div', { class: 'map', role: 'group' });
  const exact = html('p', { class: 'exact', 'aria-live': 'polite' });
  const tables = html('div', {});
  body.append(lead, html('div', { class: 'fleet-bar' }, crumbs, key), map, exact, tables);

  const hatchMark = svg('svg', { class: 'square', viewBox: '0 0 11 11' }, svg('rect', { x: 0.5, y: 0.5, width: 10, height: 10, class: 'hatch-ground' }), svg('path', { class: 'hatch-line', d: 'M0 11L11 0M0 5.5L5.5 0M5.5 11L11 5.5' }));
  const capMark = svg('svg', { class: 'square', viewBox: '0 0 11 11' }, svg('rect', { x: 1, y: 1, width: 9, height: 9, fill: 'none', stroke: 'var(--limit)', 'stroke-width': 2 }), svg('path', { d: 'M5 1H10V6Z', fill: 'var(--limit)' }));
  key.append(...[...TIERS, 'idle'].map((tier) => html('span', {}, square(tier), tier)), html('span', {}, hatchMark, 'down or drained'), html('span', {}, capMark, 'a cap binds'));

  let trail = []; // names from below the root to the area that is open
  let active = 0;
  let width = 0;

  // The open area, as far as this policy's picture has it.
  function openPath() {
    const path = [chosen.policy.picture.root];
    for (const name of trail) {
      const next = partsOf(path[path.length - 1]).find((part) => part.n === name);
      if (!next || !partsOf(next).length) break;
      path.push(next);
    }
    return path;
  }

  function open(area) {
    if (!partsOf(area).length) return;
    trail = [...openPath().slice(1).map((a) => a.n), area.n];
    active = 0;
    draw();
    focusFirst();
  }

  function close(level) {
    const path = openPath();
    const from = path[level + 1];
    trail = path.slice(1, level + 1).map((a) => a.n);
    const siblings = partsOf(path[level]);
    active = Math.max(0, siblings.indexOf(from));
    draw();
    focusFirst();
  }

  function focusFirst() {
    const spot = map.querySelector('[tabindex="0"]');
    if (spot) spot.focus({ preventScroll: true });
  }

  function draw(now) {
    width = now || width;
    if (!width) return;
    const path = openPath();
    const here = path[path.length - 1];
    const root = path[0];
    const picture = chosen.policy.picture;
    const height = width >= 640 ? Math.round(Math.min(560, width * 0.48)) : Math.round(width * 1.15);
    byId('fleet-title').textContent = 'At its fullest under ' + chosen.policy.name + ' the fleet had ' + percent((100 * usedOf(root)) / root.c) + ' of its chips in use'
      + (root.d ? ' and ' + number(root.d) + ' down' : '');
    lead.textContent = capital(moment(picture.at_s)) + '. Area is chips; each rectangle fills from the left by tier.';
    if (partsOf(here).some((p) => partsOf(p).length)) lead.append(html('span', { class: 'screen' }, ' Select one to open it.'));

    crumbs.replaceChildren(...path.flatMap((area, i) => {
      const last = i === path.length - 1;
      const name = i ? nameOf(area) : area.n;
      return [i ? html('span', { 'aria-hidden': 'true' }, '›') : null, last ? html('b', { 'aria-current': 'location' }, name) : html('button', { type: 'button', on: { click: () => close(i) } }, name)].filter(Boolean);
    }));

    const { fills, drawn, labels, caps } = drawAreas(here, width, height);
    const hatch = svg('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
      svg('rect', { class: 'hatch-ground', width: 6, height: 6 }), svg('line', { class: 'hatch-line', x1: 0, x2: 0, y1: 0, y2: 6 }));
    const image = svg('svg', { viewBox: '0 0 ' + width + ' ' + height, width, height }, svg('defs', {}, hatch));
    for (const kind of ['idle', ...TIERS, 'down']) if (fills[kind]) image.append(svg('path', { class: kind, d: fills[kind] }));
    if (fills.spot) image.append(svg('path', { class: 'spot-edge', d: fills.spot }));
    image.append(svg('path', { class: 'edge', d: drawn.filter((r) => r.w > 12 && r.h > 12).map((r) => box(r.x, r.y, r.w, r.h)).join('') }));
    for (const { area, x, y, w } of labels) {
      const share = percent((100 * usedOf(area)) / area.c, 0);
      const room = w - (area.b ? 18 : 8);
      const needs = (text) => textWidth(text, 400, 11);
      const name = needs(nameOf(area)) <= room ? nameOf(area) : area.n;
      image.append(svg('text', { x: x + 4, y: y + 11.5 }, fit(name, room, 400, 11)));
      if (needs(name) + needs(share) + 6 <= room) image.append(svg('text', { class: 'share', x: x + w - (area.b ? 13 : 4), y: y + 11.5, 'text-anchor': 'end' }, share));
    }
    for (const c of caps) {
      image.append(svg('rect', { class: 'cap', x: c.x + 1, y: c.y + 1, width: Math.max(0, c.w - 2), height: Math.max(0, c.h - 2) }));
      if (c.w > 16 && c.h > 12) image.append(svg('path', { class: 'corner', d: 'M' + (c.x + c.w - 10) + ' ' + c.y + 'h10v10z' }));
    }

    const lit = svg('rect', { class: 'lit', visibility: 'hidden' });
    const litDeep = svg('rect', { class: 'lit deep', visibility: 'hidden' });
    const light = (node, r) => {
      if (!r) return node.setAttribute('visibility', 'hidden');
      node.setAttribute('visibility', 'visible');
      for (const [name, value] of [['x', r.x], ['y', r.y], ['width', r.w], ['height', r.h]]) node.setAttribute(name, value);
      return undefined;
    };
    const say = (area, note) => exact.replaceChildren(html('b', {}, capital(nameOf(area))), ': ' + areaText(area) + (note || '.'));
    const parts = partsOf(here);
    const tops = drawn.filter((r) => r.area === r.top);
    active = Math.min(active, Math.max(0, tops.length - 1));
    const hits = tops.map((r, i) => {
      const opens = partsOf(r.area).length > 0;
      return svg('rect', {
        class: opens ? 'hit opens' : 'hit', x: r.x, y: r.y, width: r.w, height: r.h, tabindex: i === active ? 0 : -1,
        role: opens ? 'button' : 'img', 'aria-label': nameOf(r.area) + ': ' + areaText(r.area) + (opens ? '. Opens.' : ''),
        on: {
          click: () => open(r.area),
          focus: (event) => {
            if (!event.target.matches(':focus-visible')) return; // a click opened this level: nothing is pointed at yet
            light(lit, r);
            say(r.area, opens ? '. Enter opens it.' : '.');
          },
          blur: () => { light(lit, null); say(here); },
          keydown: (event) => steer(event, i),
        },
      });
    });
    const steer = (event, i) => {
      if (event.key === 'Enter' || event.key === ' ') open(tops[i].area);
      else if (event.key === 'Escape' || event.key === 'Backspace') {
        if (path.length > 1) close(path.length - 2);
      } else if (event.key.startsWith('Arrow')) {
        const to = neighbour(tops, i, event.key);
        if (to !== i) {
          hits[i].setAttribute('tabindex', -1);
          hits[to].setAttribute('tabindex', 0);
          active = to;
          hits[to].focus();
        }
      } else return;
      event.preventDefault();
    };
    image.append(...hits, litDeep, lit);
    image.addEventListener('pointermove', (event) => {
      const frame = image.getBoundingClientRect();
      const px = ((event.clientX - frame.left) / frame.width) * width;
      const py = ((event.clientY - frame.top) / frame.height) * height;
      let inner = null;
      for (let k = drawn.length - 1; k >= 0 && !inner; k -= 1) {
        const r = drawn[k];
        if (px >= r.x && px < r.x + r.w && py >= r.y && py < r.y + r.h) inner = r;
      }
      if (!inner) return;
      light(lit, tops.find((r) => r.area === inner.top));
      light(litDeep, inner.area === inner.top ? null : inner);
      say(inner.area, inner.area === inner.top || !inner.top ? '.' : ', in ' + nameOf(inner.top) + '.');
    });
    image.addEventListener('pointerleave', () => {
      light(lit, null);
      light(litDeep, null);
      say(here);
    });
    map.setAttribute('aria-label', nameOf(here) + ', ' + plural(parts.length, 'part') + '. Arrow keys move, Enter opens, Escape goes back.');
    map.replaceChildren(image);
    say(here);

    const columns = ['part', 'chips', 'in use', ...TIERS, 'idle', 'down', 'cap'];
    const rows = () => (parts.length ? parts : [here]).map((a) => [nameOf(a), chipsText(a.c), percent((100 * usedOf(a)) / a.c, 0), ...TIERS.map((_, k) => chipsText(a.t ? a.t[k] : 0)), chipsText(idleOf(a)), chipsText(a.d || 0), a.b ? 'binds' : '']);
    tables.replaceChildren(tableBehind('The same as a table: ' + plural(Math.max(1, parts.length), 'part') + ' of ' + nameOf(here), () => table(columns, rows(), nameOf(here) + ' under ' + chosen.policy.name)));
  }

  chosen.watchers.push(() => draw());
  onWidth(map, draw);
}

// The nearest rectangle in the direction of an arrow key.
function neighbour(rects, from, key) {
  const centre = (r) => [r.x + r.w / 2, r.y + r.h / 2];
  const [x, y] = centre(rects[from]);
  let best = from;
  let least = Infinity;
  rects.forEach((r, i) => {
    const [cx, cy] = centre(r);
    const dx = cx - x;
    const dy = cy - y;
    const [ahead, aside] = { ArrowRight: [dx, dy], ArrowLeft: [-dx, dy], ArrowDown: [dy, dx], ArrowUp: [-dy, dx] }[key];
    if (ahead < 1) return;
    const cost = ahead + 2.5 * Math.abs(aside);
    if (cost < least) {
      least = cost;
      best = i;
    }
  });
  return best;
}
