// What the headings and rows of a model card are called in the page's language; what stands in them is the trainer's own.
import { known, language, t } from '../canvas/base.js';

const keyOf = (words) => `tr.card.${words.trim().toLowerCase().replace(/[^a-z0-9]+/g, '_')}`;

/** The name of a heading or a row, or null where it stays as it is: English, or a name of the trainer's own. */
export function cardName(words) {
  if (language() === 'en') return null;
  const round = /^round (\d+)(?: (.+))?$/.exec(words.trim());
  if (round && round[2] && !known(keyOf(round[2]))) return null;
  if (round) return [t('tr.card.round', { round: round[1] }), round[2] ? t(keyOf(round[2])) : ''].filter(Boolean).join(' · ');
  return known(keyOf(words)) ? t(keyOf(words)) : null;
}
