// Brings the parts up and keeps the choice between light and dark.

function themeButton() {
  const button = byId('theme');
  const root = document.documentElement;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : dark.matches);
  const label = () => { button.textContent = isDark() ? 'Light' : 'Dark'; button.setAttribute('aria-label', 'Show the page ' + (isDark() ? 'light' : 'dark')); };
  // A page opened from a file may have no storage; the choice then lasts as long as the page.
  const kept = (() => { try { return localStorage.getItem('offtake-theme'); } catch { return null; } })();
  if (kept === 'light' || kept === 'dark') root.dataset.theme = kept;
  button.addEventListener('click', () => {
    const next = isDark() ? 'light' : 'dark';
    if ((next === 'dark') === dark.matches) delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      if (root.dataset.theme) localStorage.setItem('offtake-theme', next);
      else localStorage.removeItem('offtake-theme');
    } catch { /* nothing to keep it in */ }
    label();
  });
  dark.addEventListener('change', label);
  label();
}

themeButton();
drawAnswer();
drawTimeline();
drawGrid();
drawProgrammes();
drawBackup();
drawFeeds();
drawMeters();
drawOneLines();
drawRamps();
drawGoodput();
drawWaits();
drawPolicies();
drawFleet();
drawFacts();
for (const watcher of chosen.watchers) watcher();
