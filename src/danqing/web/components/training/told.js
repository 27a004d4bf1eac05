// What a trainer tells in plain English, in the page's language where the page knows the sentence.
import { el, language, t } from '../canvas/base.js';

const KNOWN = [
  [/^(?<count>\d+) of (?<all>\d+) pictures have no caption/, 'tr.told.captions'],
  [/^so few pictures that none are held out/, 'tr.told.few'],
  [/^step (?<step>\d+) measured better than the last one: it is kept as (?<name>.+)$/, 'tr.told.best'],
  [/^the sheet by strength could not be painted/, 'tr.told.sheet'],
];

/** A note or warning as a paragraph; one that the page does not know stays in English and says so to a screen reader. */
export function toldLine(words, css) {
  for (const [pattern, key] of language() === 'en' ? [] : KNOWN) {
    const found = pattern.exec(words);
    if (found) return el('p', { class: css, text: t(key, found.groups ?? {}) });
  }
  return el('p', { class: css, lang: 'en', text: words ? `${words[0].toUpperCase()}${words.slice(1)}${/[.?!]$/.test(words) ? '' : '.'}` : '' });
}
