// The answer: one sentence, and the figures that one would say aloud.

function breachesText(policy) {
  const breaches = policy.summary.cap_breaches;
  if (breaches) return '; caps were passed ' + plural(breaches, 'time');
  return policies.some(hasCaps) ? '; no cap was broken' : '';
}

function hasCaps(policy) {
  const binds = (area) => area.b || (area.a || []).some(binds);
  return policy.timeline.caps.length > 0 || policy.summary.cap_breaches > 0 || binds(policy.picture.root);
}

function answerSentence() {
  const s = focus.summary;
  return focus.name + ' kept ' + percent(s.allocation_pct) + ' of ' + plural(scenario.chips, 'chip') + ' busy over ' + span(scenario.horizon_s)
    + '; ' + plural(s.finished, 'job') + ' finished, ' + (s.waiting_at_end ? number(s.waiting_at_end) + ' waiting at the end' : 'none waiting at the end')
    + ', ' + (s.wait_s.p95 < 1 ? '95' + THIN + '% started at once' : 'p95 wait ' + duration(s.wait_s.p95)) + breachesText(focus) + '.';
}

function siteCount() {
  return focus.picture.root.a ? focus.picture.root.a.length : 1;
}

// The peer that does best on a figure, in words.
function bestPeer(value, text, lowerIsBetter) {
  const known = peers.filter((p) => isNumber(value(p)));
  if (!known.length) return '';
  const best = known.reduce((a, b) => ((lowerIsBetter ? value(b) < value(a) : value(b) > value(a)) ? b : a));
  return (known.length > 1 ? 'best other: ' : '') + best.name + ' ' + text(value(best));
}

function withUnit(text) {
  return text.split(THIN).map((word, i) => {
    const space = i ? THIN : '';
    return /^[A-Za-z%]+$/.test(word) ? html('small', {}, space + word) : space + word;
  });
}

function answerFigures() {
  const s = focus.summary;
  const figures = [];
  const add = (name, value, beside) => figures.push({ name, value, beside });
  add('Chips busy', percent(s.allocation_pct), bestPeer((p) => p.summary.allocation_pct, (v) => percent(v), false) || 'of ' + number(scenario.chips));
  add('Jobs finished', number(s.finished), 'of ' + number(s.jobs) + (s.rejected ? '; ' + number(s.rejected) + ' rejected' : '') + '; ' + number(s.waiting_at_end) + ' waiting at the end');
  add('95' + THIN + '% waited at most', duration(s.wait_s.p95), bestPeer((p) => p.summary.wait_s.p95, duration, true));
  const cap = tightestCap(focus.timeline);
  let power = 'at ' + (siteCount() > 1 ? plural(siteCount(), 'facility meter') : 'the facility meter; no site-wide cap');
  if (cap && cap.room < 0) power = html('span', { class: 'over' }, '▲ ' + megawatts(-cap.room) + ' over ' + cap.name);
  else if (cap) power = megawatts(cap.room) + ' under ' + cap.name + ' at its closest';
  add('Peak power', megawatts(s.peak_mw), power);
  if (isNumber(s.usd_per_useful_chip_hour)) {
    const dollars = (v) => '$' + measured(v, 4);
    add('Energy per useful chip-hour', dollars(s.usd_per_useful_chip_hour), bestPeer((p) => p.summary.usd_per_useful_chip_hour, dollars, true));
  } else {
    add('Work that survived', percent(s.goodput_pct), 'useful chip-time of allocated');
  }
  return figures;
}

function drawAnswer() {
  byId('brand-scenario').textContent = 'simulation report' + (scenario.name ? ': ' + scenario.name : '');
  if (!focus) {
    byId('figures').after(html('p', { class: 'empty' }, 'No policy was simulated. Name at least one policy in the scenario and run it again to fill this page.'));
    return;
  }
  byId('answer-title').textContent = answerSentence();
  for (const { name, value, beside } of answerFigures()) {
    byId('figures').append(html('div', {}, html('dt', {}, name), html('dd', { class: 'value' }, withUnit(value)), html('dd', { class: 'beside' }, beside)));
  }
}
