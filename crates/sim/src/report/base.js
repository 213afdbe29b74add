// Data, words for numbers, and small helpers that every part uses.

const data = JSON.parse(document.getElementById('data').textContent);
const scenario = data.scenario;
const focus = data.policies.find((p) => p.name === data.focus) || data.policies[0];
const peers = data.policies.filter((p) => p !== focus);
const policies = focus ? [focus, ...peers] : [];
const TIERS = ['reserved', 'guaranteed', 'standard', 'spot'];

const THIN = '\u202f';
const MINUS = '\u2212';

// Elements. Text always goes in as text, so a name is never read as markup.

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'on') for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else node.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child);
  }
  return node;
}

function html(tag, attributes, ...children) {
  return put(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return put(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function byId(id) {
  return document.getElementById(id);
}

// Numbers.

function isNumber(value) {
  return typeof value === 'number' && Number.isFinite(value);
}

function number(value, digits = 0) {
  if (!isNumber(value)) return '–';
  const [whole, part] = Math.abs(value).toFixed(digits).split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, THIN) + (part ? '.' + part : '');
  return value < 0 && /[1-9]/.test(grouped) ? MINUS + grouped : grouped;
}

// Three significant digits, and never fewer than the whole part has.
function digitsFor(value, significant = 3) {
  const size = Math.abs(value);
  if (!(size > 0)) return 0;
  return Math.min(6, Math.max(0, significant - 1 - Math.floor(Math.log10(size))));
}

function measured(value, significant = 3) {
  return isNumber(value) ? number(value, digitsFor(value, significant)) : '–';
}

function percent(value, digits = 1) {
  return isNumber(value) ? number(value, digits) + THIN + '%' : '–';
}

function megawatts(value) {
  // The room under a cap may be a few hundred watts: no number of zeros tells that.
  if (isNumber(value) && value !== 0 && Math.abs(value) < 0.001) return measured(value * 1e6) + THIN + 'W';
  return isNumber(value) ? measured(value) + THIN + 'MW' : '–';
}

function plural(count, one, many) {
  return number(count) + ' ' + (count === 1 ? one : many || one + 's');
}

function duration(seconds) {
  if (!isNumber(seconds)) return '–';
  const s = Math.round(seconds);
  if (s < 60) return s + THIN + 's';
  if (s < 600) return Math.floor(s / 60) + THIN + 'min' + THIN + String(s % 60).padStart(2, '0');
  const minutes = Math.round(s / 60);
  if (minutes < 60) return minutes + THIN + 'min';
  if (minutes < 1440) return Math.floor(minutes / 60) + THIN + 'h' + THIN + String(minutes % 60).padStart(2, '0');
  const hours = Math.round(s / 3600);
  return Math.floor(hours / 24) + THIN + 'd' + THIN + (hours % 24) + THIN + 'h';
}

// A span of time as one says it: "14 days", "36 hours".
function span(seconds) {
  const days = seconds / 86400;
  if (days >= 2) return number(days, Number.isInteger(Number(days.toFixed(1))) ? 0 : 1) + ' days';
  if (seconds >= 7200) return plural(Math.round(seconds / 3600), 'hour');
  return plural(Math.round(seconds / 60), 'minute');
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function listed(words) {
  return words.length < 2 ? words.join('') : words.slice(0, -1).join(', ') + ' and ' + words[words.length - 1];
}

// Time: the site's zone, with UTC beside it. A trace without a calendar counts days.

const noCalendar = scenario.start_unix_s === 0;
const zone = (() => {
  try {
    new Intl.DateTimeFormat('en-GB', { timeZone: scenario.time_zone });
    return scenario.time_zone || 'UTC';
  } catch {
    return 'UTC';
  }
})();
const partsInZone = new Intl.DateTimeFormat('en-GB', {
  timeZone: noCalendar ? 'UTC' : zone,
  hourCycle: 'h23', year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit',
});
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

// Seconds that the zone is ahead of UTC at this instant.
function zoneOffset(unix) {
  const part = {};
  for (const { type, value } of partsInZone.formatToParts(unix * 1000)) part[type] = Number(value);
  return Date.UTC(part.year, part.month - 1, part.day, part.hour, part.minute, part.second) / 1000 - unix;
}

function dayText(wall) {
  const d = new Date(wall * 1000);
  return DAYS[d.getUTCDay()] + ' ' + d.getUTCDate() + ' ' + MONTHS[d.getUTCMonth()];
}

function clockText(wall) {
  const d = new Date(wall * 1000);
  return String(d.getUTCHours()).padStart(2, '0') + ':' + String(d.getUTCMinutes()).padStart(2, '0');
}

function moment(t) {
  if (noCalendar) return 'day ' + (Math.floor(t / 86400) + 1) + ', ' + clockText(t);
  const unix = scenario.start_unix_s + t;
  const wall = unix + zoneOffset(unix);
  if (wall === unix) return dayText(unix) + ' ' + clockText(unix) + ' UTC';
  const sameDay = Math.floor(wall / 86400) === Math.floor(unix / 86400);
  return dayText(wall) + ' ' + clockText(wall) + ' (' + (sameDay ? '' : dayText(unix) + ' ') + clockText(unix) + ' UTC)';
}

function dateText(t) {
  if (noCalendar) return 'day ' + (Math.floor(t / 86400) + 1);
  const unix = scenario.start_unix_s + t;
  const wall = unix + zoneOffset(unix);
  return dayText(wall) + ' ' + new Date(wall * 1000).getUTCFullYear();
}

function zoneText() {
  if (noCalendar) return 'time since the start of the trace';
  const ahead = zoneOffset(scenario.start_unix_s) / 60;
  if (!ahead) return zone === 'UTC' ? 'UTC' : zone + ' time, which is UTC';
  const size = Math.abs(ahead);
  return zone + ' time, UTC' + (ahead < 0 ? MINUS : '+') + Math.floor(size / 60) + (size % 60 ? ':' + String(size % 60).padStart(2, '0') : '');
}

// Marks along time: on round local hours or days, at most `most` of them; without weekdays where room is short.
function timeMarks(from, to, most, short) {
  const steps = [300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 345600, 604800, 1209600, 2592000];
  const step = steps.find((s) => (to - from) / s <= most) || 7776000;
  const wallAt = (t) => (noCalendar ? t : scenario.start_unix_s + t + zoneOffset(scenario.start_unix_s + t));
  const marks = [];
  for (let wall = Math.ceil(wallAt(from) / step) * step; ; wall += step) {
    let t = wall;
    if (!noCalendar) {
      const guess = wall - zoneOffset(wall);
      t = wall - zoneOffset(guess) - scenario.start_unix_s;
    }
    if (t > to || marks.length > 200) break;
    const midnight = wall % 86400 === 0;
    let text;
    if (noCalendar) text = midnight ? 'day ' + (wall / 86400 + 1) : clockText(wall);
    else if (!midnight) text = clockText(wall);
    else text = short ? dayText(wall).slice(4) : dayText(wall);
    if (t >= from) marks.push({ t, text, midnight });
  }
  return marks;
}

// Round marks from zero (or below) up to the largest value.
function niceMarks(low, high, most) {
  const range = high - low || 1;
  const raw = range / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (Math.abs(step / power - 2.5) < 1e-9 ? 1 : 0));
  const [scale, suffix] = high >= 1e6 ? [1e6, THIN + 'M'] : high >= 1e5 ? [1e3, THIN + 'k'] : [1, ''];
  const text = (v) => (v && suffix ? measured(v / scale, 3).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '') + suffix : number(v, Math.min(6, digits)));
  const marks = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) {
    const value = Math.abs(v) < step * 1e-6 ? 0 : v;
    marks.push({ v: value, text: text(value) });
  }
  return marks;
}

function maxOf(values) {
  let most = -Infinity;
  for (const v of values) if (isNumber(v) && v > most) most = v;
  return most === -Infinity ? 0 : most;
}

function minOf(values) {
  let least = Infinity;
  for (const v of values) if (isNumber(v) && v < least) least = v;
  return least === Infinity ? 0 : least;
}

// Moves labels apart so that none lies on another; keeps their order and stays within [top, bottom].
function spread(labels, gap, top, bottom) {
  const sorted = [...labels].sort((a, b) => a.y - b.y);
  for (let i = 0; i < sorted.length; i += 1) {
    sorted[i].at = Math.max(sorted[i].y, i ? sorted[i - 1].at + gap : top);
  }
  for (let i = sorted.length - 1, floor = bottom; i >= 0; i -= 1, floor = sorted[i + 1].at - gap) {
    sorted[i].at = Math.min(sorted[i].at, floor);
  }
  return labels;
}

// Widths of text in charts, so that labels are cut and margins set by what is really drawn.
const pen = document.createElement('canvas').getContext('2d');

function textWidth(text, weight = 400, size = 11.5) {
  pen.font = weight + ' ' + size + 'px ' + getComputedStyle(document.body).fontFamily;
  return pen.measureText(text).width;
}

function fit(text, width, weight, size) {
  if (textWidth(text, weight, size) <= width) return text;
  let short = text;
  while (short.length > 1 && textWidth(short + '…', weight, size) > width) short = short.slice(0, -1);
  return short + '…';
}

// Tables behind charts: built when opened, because they can be long.
function tableBehind(title, build) {
  const details = html('details', {}, html('summary', {}, title));
  details.addEventListener('toggle', () => {
    if (details.open && details.childElementCount === 1) details.append(build());
  });
  return details;
}

function table(columns, rows, caption) {
  const head = html('thead', {}, html('tr', {}, columns.map((c) => html('th', { scope: 'col' }, c))));
  const body = html('tbody', {}, rows.map((row) => html('tr', {}, row.map((cell, i) => html(i ? 'td' : 'th', i ? {} : { scope: 'row' }, cell)))));
  return html('div', { class: 'scroll tall', tabindex: '0', role: 'region', 'aria-label': caption }, html('table', {}, html('caption', {}, caption), head, body));
}

// Which policy the pictures show: one choice, shared by all of them.

const chosen = { policy: focus, watchers: [] };

function choose(policy) {
  chosen.policy = policy;
  for (const watcher of chosen.watchers) watcher();
}

function policyChoice(id, legend) {
  const field = byId(id);
  if (policies.length < 2) {
    field.hidden = true;
    return;
  }
  field.append(html('legend', { class: 'vh' }, legend));
  for (const policy of policies) {
    const input = html('input', { type: 'radio', name: id, value: policy.name, on: { change: () => choose(policy) } });
    field.append(html('label', {}, input, policy.name));
    chosen.watchers.push(() => { input.checked = chosen.policy === policy; });
  }
}

// Draws again when the width has changed, and for paper, so that text in charts keeps its size there. An
// A4 page within its margins is 695 CSS pixels wide. Drawing itself never changes the width.
const PAPER_WIDTH = 695;

function onWidth(element, draw) {
  let width = 0;
  const check = () => {
    const now = Math.floor(element.clientWidth);
    if (now && now !== width) {
      width = now;
      draw(now);
    }
  };
  new ResizeObserver(check).observe(element);
  addEventListener('beforeprint', () => draw(PAPER_WIDTH));
  addEventListener('afterprint', () => draw(width));
  check();
}
