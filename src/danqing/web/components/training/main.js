// The Training page: the studio's header, and below it sets, what can be trained, and runs, by the part behind '#'.
import { el, onLanguage, relabel, show, t } from '../canvas/base.js';
import { mount as mountHeader } from '../canvas/header.js';
import { get } from '../projects/api.js';
import { placeOf } from './api.js';
import { MethodCards } from './methods.js';
import { RunPage } from './run.js';
import { RunList } from './runs.js';
import { SetList } from './sets.js';
import { SetPage } from './set.js';
import { TrainForm } from './train.js';

const TABS = ['sets', 'train', 'runs'];
const POLL_MS = 5000;
const root = document.getElementById('dt-main');
const body = el('div', { class: 'dt-body' });
let view = null;

/** Which page an address of this document shows. @param place ['sets'], ['set', NAME], ['train', METHOD], ['run', ID] … */
function viewOf([kind, name], more) {
  if (kind === 'set' && name) return ['sets', () => new SetPage(body, name, go)];
  if (kind === 'train' && name) return ['train', () => new TrainForm(body, name, more, go)];
  if (kind === 'train') return ['train', () => new MethodCards(body, more, go)];
  if (kind === 'run' && name) return ['runs', () => new RunPage(body, name, go)];
  if (kind === 'runs') return ['runs', () => new RunList(body, go)];
  return ['sets', () => new SetList(body, go)];
}

const tabs = el('nav', { class: 'dt-tabs', tAria: 'nav.training' }, ...TABS.map((name) =>
  el('a', { href: placeOf(name), 'data-tab': name }, el('span', { t: `tr.tab.${name}` }), el('span', { class: 'dt-count', hidden: true }))));

function draw() {
  for (const open of [...document.querySelectorAll('dialog[open]')].reverse()) open.dispatchEvent(new Event('cancel', { cancelable: true })); // it belongs to what is left
  view?.end();
  const { place, more } = parsed();
  const [tab, made] = viewOf(place, more);
  for (const link of tabs.children) {
    if (link.dataset.tab === tab) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = t('tr.title');
  view = made();
}

function parsed() {
  const [path, query = ''] = location.hash.slice(1).split('?');
  const place = path.split('/').map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return { place, more: new URLSearchParams(query) };
}

/** Open a part of this page: go('set', 'my pictures'), go('train', 'lora', {set: 'my pictures'}). */
function go(kind, name = null, more = {}) {
  const before = location.href;
  location.href = placeOf(kind, name, more);
  if (location.href === before) draw();
  scrollTo(0, 0);
}

/** How many runs are at work or wait, at their tab. */
async function count() {
  if (document.hidden) return;
  const found = await get('training/runs?state=running&state=queued&limit=100').catch(() => null);
  const mark = tabs.querySelector('[data-tab=runs] .dt-count');
  mark.hidden = !found?.runs.length;
  mark.textContent = String(found?.runs.length ?? '');
}

root.append(tabs, body);
addEventListener('hashchange', draw);
document.addEventListener('dt:runs', count);
setInterval(count, POLL_MS);
count();
onLanguage(() => {
  document.title = t('tr.title');
  relabel(tabs);
  if (view) view.relabel();
  else draw();
  show();
  document.documentElement.classList.add('dq-settled');
});
mountHeader({ element: document.querySelector('.dq-header').parentElement, trigger: () => {} });
