// Sheets over the page (modal), menus under a button, and the small questions asked in them.
import { el, iconButton, relabel, t } from '../canvas/base.js';
import { signButton } from './icons.js';

const home = () => document.querySelector('.dq-projects');

/**
 * A sheet over the page. `send` runs on its button (or Enter in a one-line field): what it gives closes the sheet and is
 * its answer, `undefined` leaves it open; an error thrown with `text` stands at its foot.
 * @returns {Promise} the answer, or null where a person closed it
 */
export function sheet({ title, wide = false, ok = 'p.save', danger = false, cancel = 'cancel', send = null }, ...children) {
  return new Promise((answer) => {
    const wrong = el('p', { class: 'dq-wrong', role: 'alert', hidden: true });
    const finish = (value) => { node.close(); node.remove(); answer(value); };
    const okButton = send && el('button', { type: 'submit', class: `dq-act dp-ok${danger ? ' danger' : ''}`, t: ok });
    const form = el('form', { class: 'dp-sheet-form', method: 'dialog' },
      el('div', { class: 'dp-sheet-head' }, el('h2', { t: title, id: 'dp-sheet-title' }), iconButton('close', 's.close', () => finish(null))),
      el('div', { class: 'dp-sheet-body' }, ...children), wrong,
      el('div', { class: 'dp-sheet-foot' }, el('button', { type: 'button', class: 'dq-act', t: send ? cancel : 's.close', onclick: () => finish(null) }), okButton));
    const node = el('dialog', { class: `dp-sheet${wide ? ' wide' : ''}`, 'aria-labelledby': 'dp-sheet-title' }, form);
    node.addEventListener('cancel', (event) => { event.preventDefault(); finish(null); });
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      if (!send) return;
      okButton.disabled = true;
      wrong.hidden = true;
      try {
        const value = await send();
        if (value !== undefined) finish(value);
      } catch (error) {
        if (!error.text) throw error;
        wrong.textContent = error.text;
        wrong.hidden = false;
        wrong.scrollIntoView({ block: 'nearest' });
      } finally {
        okButton.disabled = false;
      }
    });
    home().append(node);
    relabel(node);
    node.showModal();
    (node.querySelector('[autofocus]') ?? node.querySelector('.dp-sheet-body input, .dp-sheet-body textarea, .dp-ok'))?.focus();
  });
}

/** A field with its name above and, if it has one, a tip below the name. */
export function field(key, input, { tip = false } = {}) {
  return el('label', { class: 'dp-field' }, el('span', { class: 'dp-field-name', t: key }), tip ? el('span', { class: 'dq-tip', t: `${key}.tip` }) : null, input);
}

/** A tick box with its words: those of a key, or `text`. */
export function check(key, on, properties = {}, text = '') {
  const box = el('input', { type: 'checkbox', ...properties });
  box.checked = on;
  return { box, node: el('label', { class: 'dq-check' }, box, el('span', key ? { t: key } : { text })) };
}

/** Ask for one line; null where nothing was said. */
export function askLine({ title, label, value = '', max = 120, ok = 'p.save', send }) {
  const input = el('input', { type: 'text', maxlength: max, required: true, autofocus: true });
  input.value = value;
  return sheet({ title, ok, send: () => (input.value.trim() ? send(input.value.trim()) : undefined) }, field(label, input));
}

/** Ask whether something that cannot be undone shall be done. */
export const confirm = ({ title, words, ok }) => sheet({ title, ok, danger: true, send: () => true }, el('p', { t: words }));

const FAR_PX = 24;
let open = null;
const closeMenu = () => { open?.close(); };
document.addEventListener('pointerdown', (event) => { if (open && !open.node.contains(event.target) && !open.button.contains(event.target)) closeMenu(); });

/** Show a menu under a button. @param items [{t or text, lang, run, danger, href}] */
function showMenu(button, items) {
  const again = open?.button === button;
  closeMenu();
  if (again) return;
  const entries = items.filter(Boolean).map(({ t: key, text, lang, run, danger, href, name }) => {
    const what = { role: 'menuitem', tabindex: '-1', class: danger ? 'danger' : '', lang, 'data-menu': name ?? key, ...(key ? { t: key } : { text }) };
    const node = href ? el('a', { href, ...what }) : el('button', { type: 'button', ...what });
    node.addEventListener('click', () => { closeMenu(); button.focus(); run?.(); });
    return node;
  });
  const node = el('div', { class: 'dp-menu', role: 'menu' }, ...entries);
  node.addEventListener('keydown', (event) => {
    const at = entries.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: entries.length - 1 }[event.key];
    if (event.key === 'Escape' || event.key === 'Tab') { closeMenu(); button.focus(); }
    if (to === undefined) return;
    event.preventDefault();
    entries[(to + entries.length) % entries.length].focus();
  });
  (button.closest('dialog') ?? home()).append(node);
  const [box, own] = [button.getBoundingClientRect(), node.getBoundingClientRect()];
  const left = Math.max(8, Math.min(box.right - own.width, innerWidth - own.width - 8));
  const below = box.bottom + 4 + own.height <= innerHeight;
  node.style.left = `${left}px`;
  node.style.top = `${below ? box.bottom + 4 : Math.max(8, box.top - own.height - 4)}px`;
  button.setAttribute('aria-expanded', 'true');
  open = { node, button, top: box.top, close: () => { node.remove(); button.setAttribute('aria-expanded', 'false'); open = null; } };
  entries[0]?.focus();
}
addEventListener('scroll', () => {
  if (open && Math.abs(open.button.getBoundingClientRect().top - open.top) > FAR_PX) closeMenu(); // its button has gone elsewhere
}, { capture: true, passive: true });

/** "⋯" with a menu; `items` is asked each time it opens. */
export const moreButton = (key, items, properties = {}) =>
  signButton('more', key, (event) => showMenu(event.currentTarget, items()), { 'aria-haspopup': 'menu', 'aria-expanded': 'false', ...properties });

/** A button in words with a menu under it. */
export const menuButton = (key, items, properties = {}) =>
  el('button', { type: 'button', class: 'dq-act dp-drop', t: key, 'aria-haspopup': 'menu', 'aria-expanded': 'false', onclick: (event) => showMenu(event.currentTarget, items()), ...properties });

/** Put text into the clipboard; also where the page has no right to it (plain HTTP). */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el('textarea', { class: 'dq-offscreen' });
    area.value = text;
    (document.querySelector('dialog[open]') ?? document.body).append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
}

export const plural = (key, count) => t(count === 1 ? `${key}.one` : key, { count });
