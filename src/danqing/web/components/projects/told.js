// What reviewers say in fixed English sentences, in the page's language; a model's own words stay as they are.
import { known, language, t } from '../canvas/base.js';

const colours = (list) => list.split(/, | and /).map((name) => (known(`m.c.${name}`) ? t(`m.c.${name}`) : name)).join(language() === 'en' ? ', ' : '、');
const SENTENCES = [
  [/^nothing to change$/, () => t('m.content')],
  [/^the brief fits the picture with a chance of ([\d.]+)$/, ([, chance]) => t('m.chance', { chance })],
  [/^there are no words to check$/, () => t('m.nowords')],
  [/^“(.+)” is hardly to be seen: without it the brief fits better \(by ([\d.]+) logits\)$/s, ([, words, gain]) => t('m.missing', { words, gain })],
  [/^the picture as a whole hardly shows the brief \(chance ([\d.]+)\)$/, ([, chance]) => t('m.poor', { chance })],
  [/^(.+) is asked for; measured: (.+)$/, ([, asked, found]) => t('m.colour', { asked: colours(asked), found: colours(found) })],
  [/^(banding|clipping|blur|seam|low contrast): .+ \(([\d.]+), limit ([\d.]+)\)$/, ([, fault, amount, limit]) => `${t(`m.fault.${fault.replace(' ', '_')}`)} (${amount} / ${limit})`],
  [/^the answer was longer than (\d+) characters and was cut$/, ([, most]) => t('m.cut', { most })],
  [/^(\d+) suggestions without words or with an empty box were left out$/, ([, count]) => t('m.dropped', { count })],
  [/^only the first (\d+) of (\d+) suggestions were taken$/, ([, most, count]) => t('m.most', { most, count })],
  [/^the answer holds neither boxes nor JSON: it is empty$/, () => t('m.empty')],
  [/^the answer holds neither boxes nor JSON: (.*)$/s, ([, words]) => t('m.unread', { words })],
];

function sentence(text) {
  for (const [pattern, say] of SENTENCES) {
    const found = pattern.exec(text);
    if (found) return say(found);
  }
  return null;
}

/** The words of a reviewer's note or reason. */
export function told(text) {
  const whole = sentence(text);
  if (whole !== null) return whole;
  const parts = text.split('; ');
  const said = parts.map(sentence);
  return said.every((part) => part !== null) ? said.join(' ') : text;
}
