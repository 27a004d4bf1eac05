// Icons that only the Projects page needs, in the manner of base.js.
import { el } from '../canvas/base.js';

const svg = (path) =>
  `<svg viewBox="0 0 20 20" width="18" height="18" fill="none" stroke="currentColor" stroke-width="1.6" ` +
  `stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">${path}</svg>`;
export const ICONS = {
  more: svg('<circle cx="4.5" cy="10" r=".9" fill="currentColor"/><circle cx="10" cy="10" r=".9" fill="currentColor"/><circle cx="15.5" cy="10" r=".9" fill="currentColor"/>'),
  add: svg('<path d="M10 4v12M4 10h12"/>'),
  star: svg('<path d="m10 3 2.1 4.5 4.9.6-3.6 3.4.9 4.9L10 14l-4.3 2.4.9-4.9L3 8.1l4.9-.6Z"/>'),
  starred: svg('<path fill="currentColor" d="m10 3 2.1 4.5 4.9.6-3.6 3.4.9 4.9L10 14l-4.3 2.4.9-4.9L3 8.1l4.9-.6Z"/>'),
  lock: svg('<rect x="4.5" y="9" width="11" height="7.5" rx="1.5"/><path d="M7 9V6.5a3 3 0 0 1 6 0V9"/>'),
  pick: svg('<path d="M10 16.3S3.5 12.6 3.5 8.2A3.4 3.4 0 0 1 10 6.6a3.4 3.4 0 0 1 6.5 1.6c0 4.4-6.5 8.1-6.5 8.1Z"/>'),
  share: svg('<path d="M8.5 11.5 11.5 8.5M9 5.5l1.6-1.6a3.2 3.2 0 0 1 4.5 4.5L13.5 10M11 14.5l-1.6 1.6a3.2 3.2 0 0 1-4.5-4.5L6.5 10"/>'),
  ask: svg('<path d="M4 4.5h12A1.5 1.5 0 0 1 17.5 6v6.5A1.5 1.5 0 0 1 16 14H9.5L6 17v-3H4a1.5 1.5 0 0 1-1.5-1.5V6A1.5 1.5 0 0 1 4 4.5Z"/><path d="M6 9.2s1.5-2.4 4-2.4 4 2.4 4 2.4-1.5 2.4-4 2.4-4-2.4-4-2.4Z"/>'),
  refine: svg('<path d="M4 12.5a6.3 6.3 0 0 0 11.6 1.3M16 7.5A6.3 6.3 0 0 0 4.4 6.2M16.2 3.6v4h-4M3.8 16.4v-4h4"/><path d="m10 7.2.8 2 2 .8-2 .8-.8 2-.8-2-2-.8 2-.8Z"/>'),
  model: svg('<path d="M2 10s3-5 8-5 8 5 8 5-3 5-8 5-8-5-8-5Z"/><rect x="8" y="8" width="4" height="4" rx=".8"/>'),
  stop: svg('<rect x="5.5" y="5.5" width="9" height="9" rx="1.5"/>'),
  current: svg('<path d="M5 17V3.5h9.5L12.5 7l2 3.5H5"/>'),
};

/** One of ICONS as an element; with a `key` it says what it means. */
export function sign(name, key = null) {
  const node = key ? el('span', { class: 'dq-picto', role: 'img', tAria: key, tTitle: key }) : el('span', { class: 'dq-picto', 'aria-hidden': 'true' });
  node.innerHTML = ICONS[name];
  return node;
}

/** A button with one of ICONS before its words. */
export const wordButton = (name, key, onclick, properties = {}) =>
  el('button', { type: 'button', class: 'dq-act dp-worded', onclick, ...properties }, sign(name), el('span', { t: key }));

/** A button with one of ICONS; its name is its tooltip and aria-label. */
export function signButton(name, key, onclick, properties = {}) {
  const button = el('button', { type: 'button', class: 'dq-icon', tAria: key, tTitle: key, onclick, ...properties });
  button.innerHTML = ICONS[name];
  return button;
}
