// Words, addresses and small DOM helpers that every module shares.
import { el, relabel, setWords, t } from './dom.js';

export { el, known, relabel, t } from './dom.js';

export const url = (path) => new URL(path, document.baseURI).href;

const listeners = new Set();
let current = 'en';
let wished = current;

export const language = () => current;

/** Load a language and put its words on everything that carries data-t…; then tell the listeners. False where another one was asked for meanwhile. */
export async function setLanguage(tag) {
  wished = tag;
  const answer = await fetch(url(`web/i18n/${tag}.json`));
  const found = answer.ok ? await answer.json() : null;
  if (wished !== tag) return false;
  if (found === null) return true;
  setWords(found);
  current = tag;
  document.documentElement.lang = tag;
  document.title = t('app.page');
  relabel(document);
  for (const listener of listeners) listener(tag);
  return true;
}

export const show = () => document.documentElement.classList.add('dq-ready');

const unsettled = new Set(['words', 'folds']);
/** One part of the page's start is done; with the last one the page shows itself and takes the class dq-settled. */
export function settle(part) {
  unsettled.delete(part);
  if (unsettled.size) return;
  show();
  document.documentElement.classList.add('dq-settled');
}

export function onLanguage(listener) {
  listeners.add(listener);
}

/** One of ICONS as an element. */
export function icon(name) {
  const node = el('span', { class: 'dq-picto', 'aria-hidden': 'true' });
  node.innerHTML = ICONS[name];
  return node;
}

/** A button whose name is its tooltip and aria-label. */
export function iconButton(icon, key, onclick, properties = {}) {
  const button = el('button', { type: 'button', class: 'dq-icon', tAria: key, tTitle: key, onclick, ...properties });
  button.innerHTML = ICONS[icon];
  return button;
}

const svg = (path) =>
  `<svg viewBox="0 0 20 20" width="18" height="18" fill="none" stroke="currentColor" stroke-width="1.6" ` +
  `stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">${path}</svg>`;
export const ICONS = {
  view: svg('<path d="M2 10s3-5.5 8-5.5S18 10 18 10s-3 5.5-8 5.5S2 10 2 10Z"/><circle cx="10" cy="10" r="2.3"/>'),
  brush: svg('<path d="M16.5 3.5 9 11M8.6 10.8c-2.2-.6-3.6.6-4 2.4-.3 1.4-1 2.3-2.1 2.8 2.7 1 6.6.8 7.6-2 .4-1.2 0-2.4-1.5-3.2Z"/>'),
  erase: svg('<path d="m7.5 16.5-4-4a1.4 1.4 0 0 1 0-2l6.5-6.5a1.4 1.4 0 0 1 2 0l4 4a1.4 1.4 0 0 1 0 2l-6.5 6.5ZM7 7l6 6M7.5 16.5H17"/>'),
  undo: svg('<path d="M7 4 3.5 7.5 7 11M4 7.5h7.5a4.5 4.5 0 0 1 0 9H8"/>'),
  redo: svg('<path d="m13 4 3.5 3.5L13 11M16 7.5H8.5a4.5 4.5 0 0 0 0 9H12"/>'),
  clear: svg('<path d="M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6"/>'),
  invert: svg('<circle cx="10" cy="10" r="6.5"/><path d="M10 3.5a6.5 6.5 0 0 1 0 13Z" fill="currentColor"/>'),
  mirror: svg('<path d="M10 3v14M7.5 6 3 14.5h4.5ZM12.5 6l4.5 8.5h-4.5Z"/>'),
  grow: svg('<path d="M11.5 8.5 16.5 3.5M12.5 3.5h4v4M8.5 11.5l-5 5M3.5 12.5v4h4"/>'),
  shrink: svg('<path d="M16.5 3.5l-5 5M11.5 4.5v4h4M3.5 16.5l5-5M8.5 15.5v-4h-4"/>'),
  plus: svg('<circle cx="9" cy="9" r="5.5"/><path d="m13 13 4 4M9 6.8v4.4M6.8 9h4.4"/>'),
  minus: svg('<circle cx="9" cy="9" r="5.5"/><path d="m13 13 4 4M6.8 9h4.4"/>'),
  fit: svg('<path d="M3.5 7V3.5H7M13 3.5h3.5V7M16.5 13v3.5H13M7 16.5H3.5V13"/>'),
  back: svg('<path d="M12 4.5 6.5 10l5.5 5.5"/>'),
  close: svg('<path d="m5 5 10 10M15 5 5 15"/>'),
  info: svg('<circle cx="10" cy="10" r="7"/><path d="M10 9v4.5M10 6.5v.1"/>'),
  download: svg('<path d="M10 3v9M6.5 8.8 10 12.3l3.5-3.5M4 16.5h12"/>'),
  seed: svg('<path d="M10 17V9M10 11c0-4 2.5-6 6.5-6 0 4-2.5 6-6.5 6ZM10 13c0-3-2-4.8-5.5-4.8C4.5 11.2 6.5 13 10 13Z"/>'),
  reuse: svg('<path d="M4 8.5A6.3 6.3 0 0 1 15.5 7M16 11.5A6.3 6.3 0 0 1 4.5 13M15.8 3.5V7h-3.5M4.2 16.5V13h3.5"/>'),
  copy: svg('<rect x="7" y="7" width="9.5" height="9.5" rx="1.5"/><path d="M13 7V5a1.5 1.5 0 0 0-1.5-1.5H5A1.5 1.5 0 0 0 3.5 5v6.5A1.5 1.5 0 0 0 5 13h2"/>'),
  picture: svg('<path d="M11.5 4h-7A1.5 1.5 0 0 0 3 5.5v9A1.5 1.5 0 0 0 4.5 16h11a1.5 1.5 0 0 0 1.5-1.5V10M3.5 14l3.7-3.7 3 3 2.3-2.3 4 4M15.5 3v5M13 5.5h5"/>'),
  select: svg('<path d="M5 3.5 15.5 9l-4.6 1.4L9 15Z"/>'),
  box: svg('<rect x="3.5" y="5" width="13" height="10" rx="1" stroke-dasharray="3 2.2"/>'),
  lasso: svg('<path d="M10 4c4 0 7 1.8 7 4.2s-3 4.3-7 4.3-7-1.9-7-4.3S6 4 10 4ZM6 12c-1.2 1.6-.8 3.6 1 4.5"/>'),
  pull: svg('<circle cx="5" cy="15" r="2.2" fill="currentColor"/><path d="M6.8 13.2 15 5M9.8 4.6H15.4V10.2"/>'),
  bend: svg('<path d="M3 6c4.5-3 7 3 14 0M3 10.3c4.5-3 7 3 14 0M3 14.6c4.5-3 7 3 14 0"/>'),
  up: svg('<path d="m5 12.5 5-5 5 5"/>'),
  down: svg('<path d="m5 7.5 5 5 5-5"/>'),
  check: svg('<path d="m4.5 10.5 4 4 7-8.5"/>'),
  light: svg('<circle cx="10" cy="10" r="3.3"/><path d="M10 2.5v2M10 15.5v2M2.5 10h2M15.5 10h2M4.7 4.7l1.4 1.4M13.9 13.9l1.4 1.4M4.7 15.3l1.4-1.4M13.9 6.1l1.4-1.4"/>'),
  dark: svg('<path d="M16.5 11.8A7 7 0 0 1 8.2 3.5a7 7 0 1 0 8.3 8.3Z"/>'),
};

/** JSON from the page's own routes; throws `{text, field, original}` in the page's language. */
export async function ask(path, options = {}) {
  const mark = path.includes('?') ? '&' : '?';
  let answer;
  try {
    answer = await fetch(url(`web/${path}${mark}lang=${current}`), {
      ...options,
      headers: { 'X-Danqing': 'page', ...(options.headers ?? {}) },
    });
  } catch {
    throw { text: t('e.network'), field: null, original: '' };
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw { text: body.text ?? t('e.code.error'), field: body.field ?? null, original: body.original ?? '' };
  return body;
}

/** Send JSON to one of the page's own routes. */
export const post = (path, body) =>
  ask(path, { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });

/** Write into one of Gradio's text fields as if typed, so that it notices. */
export function type(where, text, { focus = true } = {}) {
  const field = typeof where === 'string' ? document.querySelector(where) : where;
  if (!field) return;
  const prototype = field.tagName === 'TEXTAREA' ? HTMLTextAreaElement.prototype : HTMLInputElement.prototype;
  Object.getOwnPropertyDescriptor(prototype, 'value').set.call(field, text);
  field.dispatchEvent(new Event('input', { bubbles: true }));
  if (focus) field.focus();
}

let toastTimer = 0;
/** A short message at the foot of the page, with at most one action. */
export function toast(text, action = null) {
  document.querySelector('.dq-toast')?.remove();
  clearTimeout(toastTimer);
  const box = el('div', { class: 'dq-toast', role: 'status' }, el('span', { text }));
  if (action) box.append(el('button', { type: 'button', text: action.text, onclick: () => { box.remove(); action.run(); } }));
  document.body.append(box);
  toastTimer = setTimeout(() => box.remove(), action ? 12000 : 4000);
}
