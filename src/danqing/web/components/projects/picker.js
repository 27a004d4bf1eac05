// Choosing pictures from the gallery, in a sheet.
import { ask, el, t } from '../canvas/base.js';
import { thumbOf } from './api.js';
import { plural, sheet } from './sheets.js';

const WAIT_MS = 250;

/**
 * Let a person choose Records.
 * @param title key of the heading @param taken ids that cannot be chosen (again) @param most how many at most
 * @returns their ids in the order of choosing, or null
 */
export function pick({ title, ok, taken = new Set(), most = 500 }) {
  const chosen = new Set();
  const grid = el('div', { class: 'dp-picks', role: 'group', tAria: 's.history' });
  const note = el('p', { class: 'dq-tip', role: 'status' });
  const older = el('button', { type: 'button', class: 'dq-link', t: 's.history.more', hidden: true, onclick: () => load(true) });
  const search = el('input', { type: 'search', class: 'dq-search', maxlength: '200', tPlaceholder: 's.history.search', tAria: 's.history.search', autofocus: true });
  let asked = 0;
  const count = () => { note.textContent = chosen.size ? plural('p.chosen', chosen.size) : t(grid.children.length ? 'p.pick.tip' : 'p.pick.none'); };
  const tile = ({ id, prompt }) => {
    const has = taken.has(id);
    const button = el('button', { type: 'button', class: 'dp-pick', 'data-id': id, disabled: has, title: prompt, 'aria-label': t('s.open', { prompt }), 'aria-pressed': String(chosen.has(id) || has) },
      el('img', { src: thumbOf(id), alt: '', loading: 'lazy' }));
    button.addEventListener('click', () => {
      if (chosen.has(id)) chosen.delete(id);
      else if (chosen.size < most) chosen.add(id);
      button.setAttribute('aria-pressed', String(chosen.has(id)));
      count();
    });
    return button;
  };
  const load = async (further = false) => {
    asked += 1;
    const mine = asked;
    const before = further ? grid.lastElementChild?.dataset.id : null;
    try {
      const answer = await ask(`records?${new URLSearchParams({ search: search.value.trim(), ...(before ? { before } : {}) })}`);
      if (mine !== asked) return;
      if (!further) grid.replaceChildren();
      grid.append(...answer.records.map(tile));
      older.hidden = !answer.more;
      count();
    } catch (error) {
      note.textContent = error.text;
    }
  };
  let timer = 0;
  search.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(load, WAIT_MS); });
  search.addEventListener('keydown', (event) => { if (event.key === 'Enter') { event.preventDefault(); load(); } });
  load();
  return sheet({ title, wide: true, ok, send: () => (chosen.size ? [...chosen] : undefined) }, search, grid, older, note);
}
