// One refinement: from which version to which, its rounds with their verdicts, what it does now or why it stopped.
import { el, language, t } from '../canvas/base.js';
import { moment, problemText, since, thumbOf } from './api.js';
import { sign } from './icons.js';
import { JobLine } from './jobs.js';
import { told } from './told.js';

const GOES_ON = ['interrupted', 'cancelled', 'failed', 'rounds'];
const score = (value) => value.toFixed(2);

export class RefinementCard {
  /** @param panel {page, act(path)} */
  constructor(panel) {
    this.panel = panel;
    this.job = null;
    this.node = el('article', { class: 'dp-refinement' });
  }

  show(refinement) {
    this.refinement = refinement;
    const { id, state, step, job } = refinement;
    this.node.dataset.refinement = id;
    this.node.dataset.state = state;
    const wanted = state === 'running' && step === 'painting' ? job : null;
    if (this.job?.id !== wanted) {
      this.stop();
      if (wanted) this.job = new JobLine(wanted, () => {});
    }
    this.draw();
  }

  stop() {
    this.job?.stop();
    this.job = null;
  }

  draw() {
    if (!this.refinement) return;
    const { page } = this.panel;
    const { first, best, record, rounds } = this.refinement;
    const names = [first, best, record, ...rounds.map(({ after }) => after)].map((id) => page.find(id)?.number);
    const key = JSON.stringify([this.refinement, names, this.job?.id, language()]);
    if (key === this.key) return;
    this.key = key;
    this.node.replaceChildren(this.head(), ...this.scores(), this.rounds(), this.now(), this.acts());
  }

  picture(record) {
    const { page } = this.panel;
    const version = page.find(record);
    const name = version ? page.name(version) : t('p.gone');
    return el('button', { type: 'button', class: 'dp-review-picture', 'data-record': record, 'aria-label': name, title: name, disabled: !version, onclick: () => page.choose(record) }, el('img', { src: thumbOf(record), alt: '', loading: 'lazy' }));
  }

  head() {
    const { first, best, record, reviewer, created_at: at, state } = this.refinement;
    const start = first ?? record;
    const kind = { running: ' current', failed: ' bad', done: ' good' }[state] ?? '';
    return el('div', { class: 'dp-review-head' }, start ? this.picture(start) : null,
      best && best !== start ? el('span', { class: 'dp-arrow', text: '→', 'aria-hidden': 'true' }) : null, best && best !== start ? this.picture(best) : null,
      el('div', { class: 'dp-review-who' }, el('strong', { text: t(`p.rev.${reviewer}`) }), el('span', { class: `dp-chip${kind}`, text: t(`p.refine.is.${state}`) }),
        el('span', { class: 'dq-tip', title: moment(at), text: since(at) })));
  }

  /** How the judge saw the first version and sees the best one. */
  scores() {
    const { rounds, options, scores_first: before, scores_best: after } = this.refinement;
    const accepted = rounds.filter((round) => round.accepted).length;
    const tally = el('p', { class: 'dp-tally', text: t('p.refine.tally', { accepted, tried: rounds.length, most: options.rounds }) });
    if (!before || !after) return [tally];
    const row = (name) => [el('dt', { text: t(`p.score.${name}`) }), el('dd', { text: before[name] === after[name] ? score(before[name]) : `${score(before[name])} → ${score(after[name])}` })];
    return [tally, el('dl', { class: 'dp-numbers dp-scores', title: after.judge || null }, ...row('prompt'), ...row('aesthetic'))];
  }

  rounds() {
    const { page } = this.panel;
    const line = ({ number, way, suggestion, accepted, after, outcome, scores_before: old, scores_after: now, verdict }) => {
      const version = after && page.find(after);
      const what = accepted && version
        ? el('button', { type: 'button', class: 'dq-link', text: page.name(version), onclick: () => page.choose(after) })
        : el('span', { class: 'dp-outcome', text: t(`p.outcome.${outcome ?? (accepted ? 'gain' : 'no_gain')}`) });
      return el('li', { class: `dp-round ${accepted ? 'yes' : 'no'}`, 'data-round': number, title: verdict },
        el('span', { class: 'dp-round-sign', text: accepted ? '✓' : '✗', role: 'img', 'aria-label': t(accepted ? 'p.round.yes' : 'p.round.no') }),
        el('div', { class: 'dp-round-body' },
          el('p', { class: 'dp-words' }, el('span', { class: 'dp-way', text: t(`p.way.${way}`) }), ' ', el('span', { text: suggestion.prompt })),
          el('p', { class: 'dp-told' }, now ? el('span', { text: `${['prompt', 'aesthetic'].map((name) => `${t(`p.score.${name}`)} ${score(old[name])} → ${score(now[name])}`).join(' · ')} · ` }) : null, what)));
    };
    return el('ol', { class: 'dp-rounds', hidden: this.refinement.rounds.length === 0 }, ...this.refinement.rounds.map(line));
  }

  /** What it does now, or why it stopped. */
  now() {
    const { state, step, stopping, end, note, error } = this.refinement;
    if (state === 'running') {
      const words = t(stopping ? 'p.refine.stopping' : `p.step.${step ?? 'painting'}`);
      if (this.job && !stopping) return el('div', { class: 'dp-now' }, this.job.node);
      return el('div', { class: 'dp-now dp-thinking', role: 'progressbar', 'aria-label': words }, el('div', { class: 'dq-track' }, el('div', { class: 'dp-runs' })), el('span', { class: 'dq-tip', text: words }));
    }
    if (state === 'failed') return el('p', { class: 'dq-wrong', text: problemText(error), title: error?.message ?? '' });
    const said = end === 'content' && note && note !== 'nothing to change' ? told(note.replace(/^nothing to change; /, '')) : '';
    return el('p', { class: 'dp-end' }, sign('stop'), el('span', { text: [t(`p.end.${end ?? state}`), said].filter(Boolean).join(' ') }));
  }

  acts() {
    const { id, state, end, stopping, first, best, continued_by: next } = this.refinement;
    const { page } = this.panel;
    const button = (key, name, run) => el('button', { type: 'button', class: 'dq-act', t: key, 'data-act': name, onclick: (event) => { event.currentTarget.disabled = true; run(); } });
    if (state === 'running') return stopping ? '' : el('div', { class: 'dp-row' }, button('cancel', 'cancel-refining', () => this.panel.act(`refinements/${id}/cancel`)));
    const both = first && best && first !== best && page.find(first) && page.find(best);
    return el('div', { class: 'dp-row' },
      !next && (GOES_ON.includes(state) || GOES_ON.includes(end)) ? button('p.refine.on', 'go-on', () => this.panel.act(`refinements/${id}/continue`)) : null,
      both ? el('button', { type: 'button', class: 'dq-link', t: 'v.compare', 'data-act': 'refined-compare', onclick: () => page.compare(best, first) }) : null);
  }
}
