// A choice with words, as every part of this page uses it.
import { el } from '../canvas/base.js';

/** The model that was last chosen to train on, for as long as the page is open. */
export const lastModel = { name: null };

/** @param options [[value, {t: key} or {text}], …] @param onchange(value) */
export function select(name, options, value, onchange = null) {
  const node = el('select', { name }, ...options.map(([key, words]) => el('option', { value: key, ...(words.t ? { t: words.t } : { text: words.text }) })));
  node.value = value;
  if (onchange) node.addEventListener('change', () => onchange(node.value));
  return node;
}
