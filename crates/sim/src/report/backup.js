// Losses of utilities: what UPS and generators carried, and what went dark.

function backupTitle(backup) {
  const { losses } = backup;
  const dark = losses.filter((l) => l.dark_s > 0).length;
  const what = losses.length === 1 ? 'The loss of the utility' : 'All ' + number(losses.length) + ' losses of utilities';
  if (!dark) return what + (losses.length === 1 ? ' was' : ' were') + ' bridged';
  return losses.length === 1 ? 'The loss of the utility left hosts dark' : number(dark) + ' of ' + number(losses.length) + ' losses of utilities left hosts dark';
}

function backupLead(site) {
  const figure = (v) => number(v, digitsFor(v));
  return [
    site.site + ': ' + plural(site.losses, 'loss', 'losses') + ', ' + duration(site.ups_s) + ' on the UPS' + (site.generator_hours ? ', ' + duration(site.generator_hours * 3600) + ' on generators for ' + figure(site.generated_mwh) + THIN + 'MWh and ' + figure(site.kg_co2) + THIN + 'kg of CO2' : '') + '.',
    isNumber(site.permit_hours_left) ? 'They may run for ' + duration(site.permit_hours_left * 3600) + ' more in that year.' : '',
    site.dark_s ? 'Hosts were dark for ' + duration(site.dark_s) + '.' : '',
    site.dropped ? capital(plural(site.dropped, 'attempt')) + ' lost power running.' : '',
    site.lost_chip_hours ? figure(site.lost_chip_hours) + ' chip-hours were lost.' : '',
    site.over_s ? 'More could be drawn than was carried for ' + duration(site.over_s) + '.' : '',
  ].filter(Boolean).join(' ');
}

function drawBackup() {
  if (!focus || !focus.summary.backup || !focus.summary.backup.losses.length) return;
  const body = byId('time-body');
  const hold = html('div', { class: 'panel' });
  body.append(hold);
  const columns = ['site', 'from', 'for', 'on UPS', 'UPS kWh', 'generators', 'MWh', 'kg CO2', 'dark', 'back after', 'throttled', 'paused', 'stopped', 'dropped', 'chip-hours again', 'chip-hours out'];
  const draw = () => {
    const { name, summary } = chosen.policy;
    const { backup } = summary;
    const figure = (v) => number(v, digitsFor(v));
    const time = (s) => (s ? duration(s) : '');
    const rows = () => backup.losses.map((l) => [l.site, moment(l.at_s), duration(l.hold_s), time(l.ups_s), figure(l.ups_kwh), time(l.generator_hours * 3600), figure(l.generated_mwh), figure(l.kg_co2), time(l.dark_s),
      isNumber(l.back_s) ? duration(l.back_s - l.at_s) : '', number(l.throttled), number(l.paused), number(l.stopped), number(l.dropped), figure(l.rework_chip_hours), figure(l.out_chip_hours)]);
    const leads = backup.sites.map((site) => html('p', { class: 'lead' }, backupLead(site)));
    hold.replaceChildren(html('h3', {}, backupTitle(backup)), ...leads, tableBehind('Each loss of a utility', () => table(columns, rows(), 'Losses of utilities under ' + name)));
  };
  chosen.watchers.push(draw);
}
