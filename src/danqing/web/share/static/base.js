// Words and small DOM helpers that every module of the page shares. The studio's compare.js takes this file for its base;
// dom.js is the studio's own.
import { el, relabel, setWords, t } from './dom.js';

export { el, relabel, t } from './dom.js';

export const LANGUAGES = { en: 'English', 'zh-Hans': '简体中文', 'zh-Hant': '繁體中文' };
const SVG = 'http://www.w3.org/2000/svg';
const loaded = new Map();
let current = 'en';
let wished = current;

/** The string of a key for so many things: `key.one` for one, else `key.many`. */
export const several = (key, count, values = {}) => t(`${key}.${count === 1 ? 'one' : 'many'}`, { ...values, count });

export const language = () => current;

/** Load a language and write its words on everything that names a key. False where they could not be had, null where
 * another one was asked for meanwhile. */
export async function setLanguage(tag) {
  wished = tag;
  if (!loaded.has(tag)) {
    try {
      const answer = await fetch(new URL(`i18n/${tag}.json`, import.meta.url));
      if (!answer.ok) return false;
      loaded.set(tag, await answer.json());
    } catch {
      return false;
    }
  }
  if (wished !== tag) return null;
  setWords(loaded.get(tag));
  current = tag;
  document.documentElement.lang = tag;
  relabel(document);
  return true;
}

/** The best of our languages for a list as `navigator.languages`; English if none fits. */
export function negotiate(tags) {
  for (const tag of tags) {
    const parts = tag.toLowerCase().split('-');
    if (parts[0] === 'en') return 'en';
    if (parts[0] === 'zh') return !parts.includes('hans') && parts.some((part) => ['hant', 'tw', 'hk', 'mo'].includes(part)) ? 'zh-Hant' : 'zh-Hans';
  }
  return 'en';
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** One of the page's drawings, for the eye only. */
export function icon(name) {
  const node = svg('svg', { viewBox: '0 0 20 20', class: 'icon', 'aria-hidden': 'true', focusable: 'false' });
  node.append(svg('path', { d: ICONS[name] }));
  return node;
}

/** A button whose name is its tooltip and label. */
export function iconButton(name, key, onclick, properties = {}) {
  return el('button', { type: 'button', class: 'tool', tAria: key, tTitle: key, onclick, ...properties }, icon(name));
}

const ICONS = {
  look: 'M10 2.5v15M2.5 10h15M10 2.5 8 4.5M10 2.5l2 2M10 17.5l-2-2M10 17.5l2-2M2.5 10l2-2M2.5 10l2 2M17.5 10l-2-2M17.5 10l-2 2',
  box: 'M4 4.5h2.2M8.9 4.5h2.2M13.8 4.5H16M4 15.5h2.2M8.9 15.5h2.2M13.8 15.5H16M4 4.5v2M4 9v2M4 13.5v2M16 4.5v2M16 9v2M16 13.5v2',
  lasso: 'M6.8 12.3C4.5 11.7 3 10.4 3 8.6 3 6 6.1 4 10 4s7 2 7 4.6-3.1 4.6-7 4.6c-.8 0-1.5-.1-2.2-.2M7.7 13c.8-1.1-.4-2.3-1.4-1.5-1 .9.2 2 1.4 1.5ZM7.2 13.2c-.1 1.6-.9 2.7-2.4 3.3',
  undo: 'M7 4 3.5 7.5 7 11M4 7.5h7.5a4.5 4.5 0 0 1 0 9H8',
  bin: 'M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6',
  plus: 'M10 4.5v11M4.5 10h11',
  minus: 'M4.5 10h11',
  fit: 'M3.5 7V3.5H7M13 3.5h3.5V7M16.5 13v3.5H13M7 16.5H3.5V13',
  compare: 'M3 4.5h14v11H3ZM10 2.5v15M6.6 8 4.8 10l1.8 2M13.4 8l1.8 2-1.8 2',
  save: 'M10 3v9M6.5 8.8 10 12.3l3.5-3.5M4 16.5h12',
  star: 'm10 2.8 2.2 4.6 5 .7-3.6 3.5.9 5L10 14.2l-4.5 2.4.9-5L2.8 8.1l5-.7Z',
  pick: 'M6.5 17H4V9h2.5M6.5 9l3-6c1.3 0 2 .9 2 2.2V8h3.6c1 0 1.7.9 1.5 1.9l-1 5.6c-.2.9-.9 1.5-1.8 1.5H6.5Z',
  check: 'm4.5 10.5 4 4 7-8.5',
  close: 'm5 5 10 10M15 5 5 15',
  theme: 'M10 3.5a6.5 6.5 0 1 0 0 13ZM10 3.5a6.5 6.5 0 0 1 0 13',
  target: 'M10 5.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9ZM10 2.5v4M10 13.5v4M2.5 10h4M13.5 10h4',
};
