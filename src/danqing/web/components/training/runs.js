// All training runs: those at work and waiting first, with how far they are.
import { el, language, relabel, t, toast, url } from '../canvas/base.js';
import { get, post, problemText, remove, since } from '../projects/api.js';
import { moreButton } from '../projects/sheets.js';
import { placeOf, span } from './api.js';
import { cardOf } from './methods.js';

const POLL_MS = 2000;
export const FINAL = ['done', 'failed', 'cancelled'];

/** What a run does now, in words. */
export function stateWords(run) {
  if (run.asked) return t(`tr.asked.${run.asked}`);
  if (run.state === 'running' && run.stage) return t(`tr.stage.${run.stage}`);
  return t(`tr.state.${run.state}`);
}

/** How far a run is: steps, and how long it will go on. */
export function progressWords(run) {
  const parts = run.steps ? [t('tr.step.of', { step: run.step, steps: run.steps })] : [];
  if (run.eta_s !== null && ['running', 'queued'].includes(run.state)) parts.push(t('tr.eta', { time: span(run.eta_s) }));
  return parts.join(' · ');
}

/** Ask for something that can be done to a run: pause, resume, cancel, publish. */
export async function runAct(id, act) {
  try {
    const run = await post(`training/runs/${id}/${act}`);
    document.dispatchEvent(new Event('dt:runs'));
    return run;
  } catch (error) {
    toast(error.text);
    return null;
  }
}

export async function deleteRun(run, done) {
  try {
    await remove(`training/runs/${run.id}`);
    toast(t('p.deleted', { name: run.request.name }), { text: t('s.restore'), run: async () => { await runAct(run.id, 'restore'); done(); } });
    document.dispatchEvent(new Event('dt:runs'));
    done();
  } catch (error) {
    toast(error.text);
  }
}

export class RunList {
  constructor(root, go) {
    Object.assign(this, { go, found: null, shown: 50 });
    this.rows = el('div', { class: 'dt-runs', role: 'list' });
    this.note = el('div', { class: 'dp-empty', hidden: true });
    this.older = el('button', { type: 'button', class: 'dq-link dp-older', t: 's.history.more', hidden: true, onclick: () => { this.shown += 50; this.load(); } });
    this.node = el('section', { class: 'dp-list' },
      el('div', { class: 'dp-bar' }, el('h2', { t: 'tr.tab.runs' }), el('span', { class: 'dq-spring' }), el('a', { class: 'dp-primary', t: 'tr.run.new', href: placeOf('train') })),
      this.note, this.rows, this.older);
    root.replaceChildren(this.node);
    this.load();
    this.timer = setInterval(() => document.hidden || this.load(), POLL_MS);
  }

  end() {
    this.ended = true;
    clearInterval(this.timer);
  }

  relabel() {
    relabel(this.node);
    if (this.found) this.draw();
  }

  async load() {
    try {
      const found = await get(`training/runs?limit=${Math.min(500, this.shown)}`);
      if (this.ended) return;
      this.found = found;
      this.draw();
    } catch (error) {
      if (!this.ended && !this.found) toast(error.text);
    }
  }

  draw() {
    const { runs, waiting } = this.found;
    const rank = ({ state, id }) => (state === 'running' ? -1 : state === 'queued' ? waiting.indexOf(id) : 1e6);
    const before = new Map([...this.rows.children].map((row) => [row.dataset.key, row]));
    const nodes = [...runs].sort((a, b) => rank(a) - rank(b)).map((run) => {
      const key = JSON.stringify([language(), since(run.created_at), run]);
      return before.get(key) ?? this.row(run, waiting.indexOf(run.id), key);
    });
    if (nodes.length !== this.rows.children.length || nodes.some((node, i) => node !== this.rows.children[i])) this.rows.replaceChildren(...nodes);
    this.note.hidden = runs.length > 0;
    if (!runs.length) this.note.replaceChildren(el('img', { class: 'dq-hills', src: url('web/static/hills.svg'), alt: '' }), el('h3', { t: 'tr.run.none' }), el('p', { t: 'tr.run.none.text' }), el('a', { class: 'dp-primary', t: 'tr.run.new', href: placeOf('train') }));
    this.older.hidden = this.found.next === null;
    this.node.classList.add('ready');
  }

  row(run, place, key) {
    const bar = el('div', { class: 'dq-bar' });
    bar.style.transform = `scaleX(${run.steps ? run.step / run.steps : 0})`;
    const facts = [t(`tr.m.${cardOf(run.request)}`), run.request.dataset, since(run.created_at)].filter(Boolean).join(' · ');
    const told = run.unpublished ? t('tr.nothing') : run.state === 'queued' && place > 0 ? t('tr.place', { place: place + 1 }) : progressWords(run);
    const face = el('a', { class: 'dt-run-face', href: placeOf('run', run.id) },
      el('span', { class: 'dt-run-name' }, el('strong', { text: run.request.name }), el('span', { class: 'dp-card-facts', text: facts })),
      el('span', { class: `dp-chip dt-state ${run.state}`, text: stateWords(run) }),
      FINAL.includes(run.state) ? el('span', { class: 'dt-run-way dq-tip', text: run.state === 'failed' ? problemText(run.error) : told })
        : el('span', { class: 'dt-run-way' }, el('span', { class: 'dq-track' }, bar), el('span', { class: 'dq-tip', text: told })));
    return el('article', { class: 'dt-run', role: 'listitem', 'data-run': run.id, 'data-state': run.state, 'data-key': key }, face, moreButton('p.more', () => this.menu(run)));
  }

  menu(run) {
    const act = (name, key) => ({ t: key, run: () => runAct(run.id, name).then(() => this.load()) });
    if (run.state === 'running' || run.state === 'queued') return [act('pause', 'tr.pause'), { ...act('cancel', 'cancel'), danger: true }];
    return [run.state === 'done' ? null : act('resume', 'tr.resume'), { t: 'p.delete', danger: true, run: () => deleteRun(run, () => this.load()) }];
  }
}
