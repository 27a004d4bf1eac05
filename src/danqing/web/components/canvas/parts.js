// Sliders and choices of the cards, with their words.
import { el } from './base.js';

/** A slider with its value, its words and its tip; `set` hears every move. */
export function slider(key, { id, low = 0, high = 1, step = 0.05, value, set, tip = true }) {
  const shown = el('output', { text: Number(value).toFixed(2) });
  const input = el('input', { type: 'range', min: low, max: high, step, tAria: key });
  input.value = value;
  input.addEventListener('input', () => {
    shown.textContent = Number(input.value).toFixed(2);
    set(Number(input.value));
  });
  return el('label', { class: 'dq-field', id },
    el('span', { class: 'dq-field-head' }, el('span', { t: key }), shown), tip ? el('span', { class: 'dq-tip', t: `${key}.tip` }) : null, input);
}

/** A list of words to choose from, with its name and tip. */
export function choice(key, { id, options, value, set }) {
  const select = el('select', { tAria: key });
  for (const name of options) select.append(el('option', { value: name, t: `${key}.${name}` }));
  select.value = value;
  select.addEventListener('change', () => set(select.value));
  return el('label', { class: 'dq-field', id }, el('span', { t: key }), el('span', { class: 'dq-tip', t: `${key}.tip` }), select);
}
