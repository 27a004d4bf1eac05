// What the board says when there is no picture: where to begin, what is missing, what went wrong.
import { el, t, type, url } from './base.js';

const BRIEFS = [1, 2, 3, 4, 5, 6];

/** Briefs to begin with. */
export function emptyPanel() {
  const briefs = BRIEFS.map((number) =>
    el('button', { type: 'button', class: 'dq-brief', t: `s.brief.${number}`, onclick: () => type('#f-prompt textarea', t(`s.brief.${number}`)) }));
  return [el('img', { class: 'dq-hills', src: url('web/static/hills.svg'), alt: '', width: '240', height: '92' }), el('h2', { t: 's.empty.title' }), el('p', { t: 's.empty.text' }), el('div', { class: 'dq-briefs' }, ...briefs), el('p', { class: 'dq-note', t: 's.empty.drop' })];
}

/** A starting picture is missing. @param choose opens the file dialog @param hint key of what else is said */
export function needPanel(choose, hint) {
  return [el('h2', { t: 's.need' }), el('p', { t: hint }), el('button', { type: 'button', class: 'dq-act', t: 'choose', onclick: choose })];
}

/** @param failure {text, original} */
export function failurePanel({ text, original }) {
  const more = original && original !== text ? el('details', {}, el('summary', { t: 's.original' }), el('p', { lang: 'en', text: original })) : null;
  return [el('h2', { t: 's.failed' }), el('p', { role: 'alert', text }), ...(more ? [more] : []),
    el('button', { type: 'button', class: 'dq-act', t: 's.again', onclick: () => document.getElementById('dq-paint').click() })];
}
