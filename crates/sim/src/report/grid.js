// Grid events: what was asked, what was drawn, who gave way.

function gridTitle(grid) {
  const { events, feasible, met } = grid;
  if (!feasible) return events === 1 ? 'The grid event could not be met' : 'None of ' + number(events) + ' grid events could be met';
  if (met < feasible) return number(met) + ' of ' + plural(feasible, 'grid event') + ' that could be met were';
  if (feasible === events) return events === 1 ? 'The grid event was met in time' : 'All ' + number(events) + ' grid events were met in time';
  return 'All ' + number(feasible) + ' grid events that could be met were, in time';
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
    const lead = [
      grid.held_to_end === grid.feasible && grid.feasible ? 'Each was held to its end.' : '',
      grid.declared_infeasible ? plural(grid.declared_infeasible, 'event') + ' asked for less than idle nodes draw; it was said at once what can be had.' : '',
      plural(grid.lines.reduce((sum, l) => sum + l.stopped, 0), 'attempt') + ' gave way.',
    ].filter(Boolean).join(' ');
    const outcome = (l) => (isNumber(l.achievable_mw) ? 'at best ' + power(l.achievable_mw) : l.breach_s ? 'over for ' + duration(l.breach_s) : 'met');
    const rows = () => grid.lines.map((l) => [l.name, moment(l.at_s), duration(l.at_s - l.announced_s), duration(l.hold_s), power(l.before_mw), power(l.target_mw), power(l.response_mw),
      outcome(l), number(l.stopped)]);
    const columns = ['event', 'from', 'notice', 'for', 'drawn before', 'allowed', 'drawn then', 'outcome', 'gave way'];
    hold.replaceChildren(html('h3', {}, gridTitle(grid)), html('p', { class: 'lead' }, lead), tableBehind('Each event', () => table(columns, rows(), 'Grid events under ' + name)));
  };
  chosen.watchers.push(draw);
}
