// Lost feeds: what the other circuits carried, against their ratings and curves.

function feedsTitle(losses) {
  const loads = losses.flatMap((l) => l.others);
  const beyond = loads.filter((l) => l.beyond_s > 0).length;
  if (beyond) return plural(beyond, 'circuit') + ' carried more than ' + (beyond === 1 ? 'its curve allows' : 'their curves allow');
  const over = Math.max(0, ...loads.map((l) => l.over_s));
  const lost = losses.length === 1 ? 'With a feed lost' : 'With feeds lost';
  return lost + (over ? ', circuits were over their ratings for ' + duration(over) + ' at most, as their curves allow' : ', every circuit kept its rating');
}

function drawFeeds() {
  if (!focus || !(focus.summary.feed_losses || []).length) return;
  const body = byId('time-body');
  const hold = html('div', { class: 'panel' });
  body.append(hold);
  const columns = ['lost', 'from', 'for', 'throttled', 'paused', 'stopped', 'circuit', 'rating kVA', 'most kVA', 'over its rating', 'beyond its curve'];
  const draw = () => {
    const { name, summary } = chosen.policy;
    const figure = (v) => number(v, digitsFor(v));
    const rows = () => summary.feed_losses.flatMap((l) => l.others.map((o, i) => [...(i ? ['', '', '', '', '', ''] : [l.circuit, moment(l.at_s), duration(l.hold_s), number(l.throttled), number(l.paused), number(l.stopped)]),
      o.circuit, figure(o.rating_kva), figure(o.most_kva), o.over_s ? duration(o.over_s) : '', o.beyond_s ? duration(o.beyond_s) : '']));
    hold.replaceChildren(html('h3', {}, feedsTitle(summary.feed_losses)), html('p', { class: 'note' }, 'Counted as breakers do: chips at work at the most that they can draw.'), tableBehind('Each lost feed', () => table(columns, rows(), 'Lost feeds under ' + name)));
  };
  chosen.watchers.push(draw);
}
