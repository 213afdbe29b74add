// Grid events: what was asked, what was drawn, who gave way.

function gridTitle(grid) {
  if (grid.met === grid.events) return grid.events === 1 ? 'The grid event was met' : 'All ' + number(grid.events) + ' grid events were met';
  return number(grid.met) + ' of ' + plural(grid.events, 'grid event') + ' were met';
}

function drawGrid() {
  if (!focus || !focus.summary.grid || !focus.summary.grid.events) return;
  const body = byId('time-body');
  const hold = html('div', {});
  body.append(hold);
  const power = (mw) => (mw < 1 ? number(mw * 1000, digitsFor(mw * 1000)) + THIN + 'kW' : number(mw, digitsFor(mw)) + THIN + 'MW');
  const draw = () => {
    const { name, summary } = chosen.policy;
    const { grid } = summary;
    const slowest = Math.max(0, ...grid.lines.map((l) => l.met_after_s || 0));
    const lead = (grid.met ? 'The slowest took ' + duration(slowest) + '. ' : '')
      + (grid.declared_infeasible ? plural(grid.declared_infeasible, 'event') + ' asked for less than is drawn without any work. ' : '');
    const rows = () => grid.lines.map((l) => [l.name, moment(l.at_s), duration(l.hold_s), power(l.before_mw), power(l.target_mw), power(l.response_mw),
      isNumber(l.met_after_s) ? duration(l.met_after_s) : 'not met', number(l.stopped)]);
    const columns = ['event', 'from', 'for', 'drawn before', 'allowed', 'drawn then', 'met after', 'gave way'];
    hold.replaceChildren(html('h3', {}, gridTitle(grid)), html('p', { class: 'lead' }, lead), tableBehind('Each event', () => table(columns, rows(), 'Grid events under ' + name)));
  };
  chosen.watchers.push(draw);
}
