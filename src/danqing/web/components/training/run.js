// One training run, live: how far it is, what it has learnt by now, why it ended, and what came of it.
import { el, iconButton, known, language, relabel, t, toast, url } from '../canvas/base.js';
import { get, problemText, since } from '../projects/api.js';
import { moreButton } from '../projects/sheets.js';
import { figure, number, placeOf } from './api.js';
import { Chart } from './chart.js';
import { CARDS, cardOf } from './methods.js';
import { Result } from './result.js';
import { deleteRun, FINAL, progressWords, runAct, stateWords } from './runs.js';
import { Samples } from './samples.js';
import { toldLine } from './told.js';

const EVENTS = ['run', 'start', 'step', 'sample', 'checkpoint', 'note', 'end'];

export class RunPage {
  constructor(root, id, go) {
    Object.assign(this, { id, go, run: null, last: null, notes: [], compare: null, finish: null });
    this.title = el('h2', {});
    this.state = el('span', { class: 'dp-chip dt-state' });
    this.acts = el('span', { class: 'dp-row' });
    this.bar = el('div', { class: 'dq-bar' });
    this.words = el('span', {});
    this.pace = el('span', {});
    this.progress = el('div', { class: 'dq-progress', role: 'progressbar', 'aria-valuemin': '0', 'aria-valuemax': '100', tAria: 'tr.progress' },
      el('div', { class: 'dq-track' }, this.bar), el('div', { class: 'dq-progress-line' }, this.words, this.pace));
    this.told = el('div', { class: 'dt-told' });
    this.samples = new Samples(id);
    this.chart = new Chart();
    this.result = new Result();
    this.facts = el('dl', { class: 'dt-facts' });
    this.explained = el('div', { class: 'dt-explained' });
    this.log = el('div', { class: 'dt-log' });
    this.node = el('section', { class: 'dt-run-page' },
      el('div', { class: 'dp-bar dt-bar' }, iconButton('back', 'tr.tab.runs', () => go('runs')), this.title, this.state, el('span', { class: 'dq-spring' }), this.acts),
      this.progress, this.told, this.result.node,
      el('div', { class: 'dt-columns' }, el('div', { class: 'dt-main' }, this.samples.node), el('aside', { class: 'dt-side' }, el('h2', { t: 'tr.curves' }), this.chart.node, this.facts, this.explained, this.log)));
    root.replaceChildren(this.node);
    this.begin();
  }

  async begin() {
    try {
      await get(`training/runs/${this.id}`).then((run) => this.take('run', run));
    } catch (error) {
      if (this.ended) return;
      toast(error.text);
      this.go('runs');
      return;
    }
    if (!this.ended) this.listen();
  }

  listen() {
    this.source?.close();
    this.seen = 0;
    const source = new EventSource(url(`api/v1/training/runs/${this.id}/events`));
    this.source = source;
    for (const kind of EVENTS) {
      source.addEventListener(kind, (message) => {
        const number = Number(message.lastEventId);
        if (kind !== 'run' && number && number <= this.seen) return; // sent again after a lost connection
        if (kind !== 'run' && number) this.seen = number;
        this.take(kind, JSON.parse(message.data));
        if (kind === 'run' && FINAL.includes(this.run.state)) source.close();
      });
    }
  }

  end() {
    this.ended = true;
    this.source?.close();
    this.samples.end();
  }

  relabel() {
    relabel(this.node);
    if (!this.run) return;
    this.samples.image.dataset.files = '';
    this.samples.draw();
    this.chart.draw();
    this.draw();
    if (this.run.state === 'done') this.showResult();
  }

  take(kind, event) {
    if (this.ended) return;
    if (kind === 'step') this.step(event);
    else if (kind === 'sample') this.sample(event);
    else if (kind === 'note') this.note(event.words);
    else if (kind === 'start') this.began = event;
    else if (kind === 'end') this.finish = event;
    else if (kind === 'run') this.takeRun(event);
  }

  step(event) {
    this.last = event;
    this.chart.add(event);
    if (this.run?.state === 'running') this.drawProgress({ ...this.run, step: Math.max(event.step, 0), eta_s: event.eta_s ?? this.run.eta_s });
  }

  sample(event) {
    if (event.what === 'compare') {
      this.compare = event.file;
      if (this.run?.state === 'done') this.showResult();
    } else this.samples.add(event);
  }

  note(words) {
    if (this.notes.includes(words)) return;
    this.notes.push(words);
    this.draw();
  }

  takeRun(run) {
    const before = this.run?.state;
    this.run = run;
    this.samples.steps = this.chart.steps = run.steps;
    this.samples.method = run.request.method;
    this.draw();
    if (before !== undefined && before !== run.state) document.dispatchEvent(new Event('dt:runs'));
    if (run.state === 'done') this.showResult();
    else this.result.node.hidden = true;
  }

  showResult() {
    if (this.finish) this.result.show(this.run, this.finish, this.compare);
  }

  draw() {
    const { run } = this;
    this.title.textContent = run.request.name;
    this.state.className = `dp-chip dt-state ${run.state}`;
    this.state.textContent = stateWords(run);
    this.node.dataset.state = run.state;
    this.drawProgress(run);
    this.drawActs();
    this.drawFacts();
    this.told.replaceChildren(...this.tellings());
    this.log.replaceChildren(...this.notes.map((words) => toldLine(words, 'dq-tip')));
    this.samples.draw();
    this.node.classList.add('ready');
  }

  drawProgress(run) {
    const share = run.state === 'done' ? 1 : run.steps ? run.step / run.steps : 0;
    this.bar.style.transform = `scaleX(${share})`;
    this.progress.setAttribute('aria-valuenow', String(Math.round(share * 100)));
    this.words.textContent = progressWords(run);
    this.pace.textContent = run.state === 'running' && this.last?.samples_per_s ? t('tr.pace', { count: number(this.last.samples_per_s, 1) }) : '';
    this.progress.classList.toggle('still', run.state !== 'running');
  }

  drawActs() {
    const { run } = this;
    const key = `${run.state}${run.asked}${language()}`;
    if (this.acts.dataset.key === key) return; // a button that is pressed just now stays
    this.acts.dataset.key = key;
    const act = (name, words, css = 'dq-act') => el('button', { type: 'button', class: css, t: words, 'data-act': name, disabled: run.asked !== null, onclick: (event) => this.act(name, event.currentTarget) });
    const found = { queued: [act('pause', 'tr.pause'), act('cancel', 'cancel')], running: [act('pause', 'tr.pause'), act('cancel', 'cancel')], paused: [act('resume', 'tr.resume', 'dp-second'), act('cancel', 'cancel')] }[run.state];
    const again = run.state === 'done' ? [] : [act('resume', 'tr.resume', 'dp-second')];
    this.acts.replaceChildren(...(found ?? again), moreButton('p.more', () => this.menu()));
  }

  menu() {
    const again = { t: 'tr.again', run: () => { const { request } = this.run; location.href = placeOf('train', cardOf(request), request.dataset ? { set: request.dataset } : {}); } };
    if (['running', 'queued'].includes(this.run.state)) return [again];
    return [this.run.request.dataset ? { t: 'tr.run.set', run: () => this.go('set', this.run.request.dataset) } : null, again, { t: 'p.delete', danger: true, run: () => deleteRun(this.run, () => this.go('runs')) }];
  }

  async act(name, button) {
    button.disabled = true;
    const run = await runAct(this.id, name);
    button.disabled = false;
    if (!run) return;
    this.takeRun(run);
    if (name === 'resume') this.listen(); // the stream ended with the run
  }

  /** What a person should know now: that it waits, that it failed and why. */
  tellings() {
    const { run } = this;
    const said = [];
    if (run.state === 'failed' && run.error) {
      said.push(el('div', { class: 'dq-wrong', role: 'alert' }, el('strong', { t: 'tr.failed' }), el('p', { text: problemText(run.error) }),
        language() === 'en' ? null : el('details', {}, el('summary', { t: 'tr.original' }), el('p', { lang: 'en', text: [run.error.message, run.error.next_step].filter(Boolean).join('. ') }))));
    }
    const tip = run.asked ? null : { queued: 'tr.tip.queued', paused: 'tr.tip.paused', cancelled: 'tr.tip.cancelled', failed: 'tr.tip.failed' }[run.state] ?? (run.stage === 'held' ? 'tr.tip.held' : null);
    if (tip) said.push(el('p', { class: 'dq-hint', t: tip }));
    if (run.note && run.stage !== 'held') said.push(toldLine(run.note, 'dq-hint'));
    for (const warning of run.estimate?.warnings ?? []) if (!FINAL.includes(run.state)) said.push(toldLine(warning, 'dq-tip'));
    return said;
  }

  drawFacts() {
    const { run } = this;
    const { request } = run;
    const rows = [['tr.fact.method', t(`tr.m.${cardOf(request)}`)], ['tr.f.model', request.model], ['tr.f.dataset', request.dataset], ['tr.fact.begun', run.started_at ? since(run.started_at) : null],
      ['tr.f.learning_rate', this.last?.learning_rate ? figure(this.last.learning_rate) : null], ['tr.fact.parameters', this.began?.parameters ? number(this.began.parameters) : null], ['tr.fact.device', this.began?.device || run.device]];
    this.facts.replaceChildren(...rows.filter(([, text]) => text).map(([key, text]) => el('div', { class: 'dt-fact' }, el('dt', { t: key }), el('dd', { text }))));
    const card = cardOf(request);
    this.explained.replaceChildren(...(CARDS[card].watch ? [el('h3', { t: 'tr.explain' }), el('p', { t: `tr.explain.${card}` }), el('p', { t: `tr.explain.${card}.curves` })] : known('tr.explain.loss') ? [el('p', { class: 'dq-tip', t: 'tr.explain.loss' })] : []));
  }
}
