// Sliders and choices of the cards, with their words.
import { el, known } from './base.js';

/** A slider with its value, its words and its tip; `set` hears every move. */
export function slider(key, { id, low = 0, high = 1, step = 0.05, digits = 2, value, set, tip = true }) {
  const shown = el('output', { text: Number(value).toFixed(digits) });
  const input = el('input', { type: 'range', min: low, max: high, step, tAria: key });
  input.value = value;
  input.addEventListener('input', () => {
    shown.textContent = Number(input.value).toFixed(digits);
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

/** Words of a key, or those of the registry where the page's files have none. */
const said = (key, text) => (known(key) ? { t: key } : { text });

/** A setting of an annotator; `set` hears its value. @param info {key, name, hint, low, high, step, default, choices} */
export function setting(annotator, info, { id, value, set }) {
  const key = `c.param.${annotator}.${info.key}`;
  const name = el('span', said(key, info.name));
  const shown = el('output', {});
  const input = info.choices.length ? el('select', {}) : el('input', { type: 'range', min: info.low, max: info.high, step: info.step });
  for (const word of info.choices) input.append(el('option', { value: word, ...said(`${key}.${word}`, word) }));
  const digits = Math.max(0, -Math.floor(Math.log10(info.step || 1)));
  const show = () => { shown.textContent = info.choices.length ? '' : Number(input.value).toFixed(digits); };
  input.value = value ?? info.default;
  input.addEventListener(info.choices.length ? 'change' : 'input', () => { show(); set(info.choices.length ? input.value : Number(input.value)); });
  show();
  return el('label', { class: 'dq-field', id }, el('span', { class: 'dq-field-head' }, name, shown), el('span', { class: 'dq-tip', ...said(`${key}.tip`, info.hint) }), input);
}
