// What was simulated, from what, and how to do it again.

function part(title, ...children) {
  return html('div', { class: 'facts-part' }, html('h3', {}, title), ...children);
}

function drawFacts() {
  const body = byId('facts-body');
  const list = html('dl', { class: 'facts' });
  const fact = (name, ...value) => list.append(html('div', {}, html('dt', {}, name), html('dd', {}, ...value)));
  fact('Scenario', scenario.name || '–');
  fact('Fleet', scenario.fleet || '–');
  fact('Size', plural(scenario.chips, 'chip') + ' in ' + plural(scenario.nodes, 'node'));
  fact('Horizon', span(scenario.horizon_s) + ', from ' + dateText(0) + ' to ' + dateText(scenario.horizon_s));
  fact('Time', zoneText());
  const asked = scenario.offered_load_asked;
  fact('Offered load', 'jobs bring ' + percent(100 * scenario.offered_load) + ' of what the fleet can run' + (isNumber(asked) ? '; ' + percent(100 * asked) + ' was asked for' : '') + ' (services not counted)');
  fact('Seed', String(scenario.seed));
  fact('Policies', policies.length ? listed(policies.map((p) => p.name)) + (peers.length ? '; the page is about ' + focus.name : '') : '–');
  body.append(list);

  if (scenario.command) {
    const copy = html('button', { type: 'button', class: 'quiet copy' }, 'Copy');
    copy.addEventListener('click', () => {
      navigator.clipboard?.writeText(scenario.command).then(() => { copy.textContent = 'Copied'; }, () => { copy.textContent = 'Select and copy it by hand'; });
    });
    body.append(part('To do it again', html('div', { class: 'command' }, html('pre', { tabindex: '0' }, html('code', {}, scenario.command.split(/( +)/).map((word) => (word.trim() ? html('span', { class: 'word' }, word) : word)))), navigator.clipboard ? copy : null)));
  }

  if (scenario.sources.length) {
    const rows = scenario.sources.map((s) => html('tr', {}, html('th', { scope: 'row', class: 'text' }, s.what), html('td', { class: 'text' }, s.source), html('td', { class: 'text' }, s.licence)));
    body.append(part('Where the data comes from', html('div', { class: 'scroll' }, html('table', { class: 'sources' },
      html('thead', {}, html('tr', {}, ['what', 'source', 'licence'].map((c) => html('th', { scope: 'col', class: 'text' }, c)))), html('tbody', {}, rows)))));
  } else {
    body.append(part('Where the data comes from', html('p', { class: 'note' }, 'The scenario names no sources. A source, with its licence, given with a trace, fleet or signal shows here.')));
  }

  if (scenario.exchange_rates.length) {
    body.append(part('Exchange rates', html('ul', {}, scenario.exchange_rates.map((r) => html('li', {}, '1' + THIN + r.from + ' = ' + measured(r.rate, 5) + THIN + r.to + ' on ' + r.date + (r.source ? ', ' + r.source : ''))))));
  }
  if (scenario.notes.length) body.append(part('Assumptions and notes', html('ul', {}, scenario.notes.map((note) => html('li', {}, note)))));
}
