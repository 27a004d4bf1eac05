// In what a version differs from the one before it, in plain words: "Brief: red → green apple".
import { el, known, t } from '../canvas/base.js';
import { referenceOf } from './api.js';

const NAMES = { kind: 'p.kind', 'guidance.scale': 'f.cfg', mode: 'f.drag_mode', finish: 'p.finish' };
const WORDED = new Set(['prompt', 'negative_prompt', 'hires.prompt', 'hires.negative_prompt']);
const MOST_TOKENS = 400;
const TOKENS = /[\u3400-\u9fff]|[^\s\u3400-\u9fff]+|\s+/g;

/** What a field of a Request is called on the page; its own name where it is called nothing. */
export function nameOf(field) {
  const last = field.split('.').at(-1);
  const keys = [NAMES[field], `k.${field}`, `f.${field}`, `f.${field.replaceAll('.', '_')}`, `f.${last}`];
  const key = keys.find((each) => each && known(each));
  return key ? t(key) : field;
}

const isPicture = (value) => typeof value === 'string' && /^(record|sha256):[0-9A-Za-z_-]+$/.test(value);

/** A value in words. */
function words(field, value) {
  if (value === null || value === undefined || value === '') return t('p.unset');
  if (typeof value === 'boolean') return t(value ? 'p.yes' : 'p.no');
  if (typeof value === 'number') return String(Number(value.toPrecision(6)));
  const key = { kind: `p.kind.${value}`, mode: `o.drag_mode.${value}` }[field] ?? `o.${field}.${value}`;
  if (known(key)) return t(key);
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item === 'string')) return value.join(', ') || t('p.unset');
    return value.length ? t('p.many', { count: value.length }) : t('p.unset');
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}

const shown = (field, value) =>
  (isPicture(value) ? el('img', { class: 'dp-tiny', src: referenceOf(value), alt: t('p.picture'), loading: 'lazy' }) : el('span', { class: 'dp-value', text: words(field, value) }));

/** What stands in both texts, what only in the old, what only in the new one: [[' ' | '-' | '+', text], …]. */
export function wordDiff(before, after) {
  const [a, b] = [before, after].map((text) => text.match(TOKENS) ?? []);
  if (a.length > MOST_TOKENS || b.length > MOST_TOKENS) return [['-', before], ['+', after]];
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  }
  const parts = [];
  const put = (sign, text) => { if (parts.at(-1)?.[0] === sign) parts.at(-1)[1] += text; else parts.push([sign, text]); };
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { put(' ', a[i]); i += 1; j += 1; }
    else if (i < a.length && (j === b.length || common[i + 1][j] >= common[i][j + 1])) { put('-', a[i]); i += 1; }
    else { put('+', b[j]); j += 1; }
  }
  return parts;
}

const TAGS = { ' ': 'span', '-': 'del', '+': 'ins' };

/** A list of changes as <dl>. @param changes [{field, old, new}] */
export function changeList(changes) {
  const list = el('dl', { class: 'dp-changes' });
  for (const { field, old, new: now } of changes) {
    const worded = WORDED.has(field) && old && now;
    const value = worded
      ? wordDiff(old, now).map(([sign, text]) => el(TAGS[sign], { text }))
      : [shown(field, old), el('span', { class: 'dp-arrow', text: ' → ' }), shown(field, now)];
    list.append(el('dt', { text: nameOf(field) }), el('dd', { 'data-field': field }, ...value));
  }
  return list;
}
