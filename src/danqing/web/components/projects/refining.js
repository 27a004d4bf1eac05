// Refining a version: the sheet, and all refinements of the project with their rounds, live and after a reload.
import { el, relabel, t, toast, url } from '../canvas/base.js';
import { get, post } from './api.js';
import { RefinementCard } from './refinement.js';
import { comparedWith, reviewerChoice } from './reviewers.js';
import { plural, sheet } from './sheets.js';

const SETTLE_MS = 120;
const USUAL = { rounds: 4, gain: 0.03, similarity: 0.2 };

/** A slider with its name, its value and a plain-words tip. */
function slider(name, { min, max, step, shown }) {
  const input = el('input', { type: 'range', name, min, max, step });
  input.value = String(USUAL[name]);
  const output = el('output', { text: shown(input.value) });
  input.addEventListener('input', () => { output.textContent = shown(input.value); });
  return { input, node: el('label', { class: 'dp-field' }, el('span', { class: 'dp-field-name' }, el('span', { t: `p.refine.${name}` }), ' ', output), el('span', { class: 'dq-tip', t: `p.refine.${name}.tip` }), input) };
}

export class Refining {
  /** @param page {id, project, find(record), name(version), choose, compare, open(tab), counted()} */
  constructor(page) {
    this.page = page;
    this.cards = new Map();
    this.known = [];
    this.list = el('div', { class: 'dp-refinements' });
    this.none = el('p', { class: 'dq-tip dp-none', t: 'p.refine.none' });
    this.pairs = el('div', { class: 'dp-pairs' });
    this.node = el('div', {}, this.none, this.list, this.pairs);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    for (const card of this.cards.values()) card.stop();
  }

  /** Something happened: calls that come together ask once. */
  changed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), SETTLE_MS);
  }

  async load() {
    try {
      const { refinements } = await get(`refinements?project=${this.page.id}&limit=50`);
      if (!this.ended) this.show(refinements);
    } catch (error) {
      if (!this.ended) toast(error.text);
    }
  }

  get running() {
    return this.known.filter(({ state }) => state === 'running').length;
  }

  show(refinements) {
    this.known = refinements;
    const kept = new Map();
    for (const refinement of refinements) {
      const card = this.cards.get(refinement.id) ?? new RefinementCard(this);
      card.show(refinement);
      kept.set(refinement.id, card);
    }
    for (const [id, card] of this.cards) if (!kept.has(id)) { card.stop(); card.node.remove(); }
    this.cards = kept;
    [...kept.values()].forEach(({ node }, i) => { if (this.list.children[i] !== node) this.list.insertBefore(node, this.list.children[i] ?? null); });
    this.none.hidden = refinements.length > 0;
    this.drawPairs();
    this.page.counted();
  }

  /** The versions have changed: names and what can be compared with them. */
  redraw() {
    for (const card of this.cards.values()) card.draw();
  }

  drawPairs() {
    const count = this.known.flatMap(({ rounds }) => rounds).filter(({ accepted }) => accepted).length;
    this.pairs.hidden = count === 0;
    this.pairs.replaceChildren(el('a', { class: 'dq-act', href: url(`api/v1/projects/${this.page.id}/pairs`), download: true, t: 'p.pairs', 'data-act': 'pairs' }),
      el('p', { class: 'dq-tip', text: `${plural('p.pairs.count', count)} ${t('p.pairs.tip')}` }));
  }

  relabel() {
    relabel(this.node);
    this.redraw();
    this.drawPairs();
  }

  async act(path) {
    try {
      await post(path);
    } catch (error) {
      toast(error.text);
    }
    await this.load();
  }

  async send(version, body) {
    const begun = await post('refinements', { record: version.record, project: this.page.id, ...body });
    this.page.open('refine');
    await this.load();
    return begun;
  }

  /** The sheet for a version. */
  async choose(version) {
    const choice = await reviewerChoice();
    if (!choice) return;
    const rounds = slider('rounds', { min: '1', max: '8', step: '1', shown: String });
    const gain = slider('gain', { min: '0', max: '0.3', step: '0.01', shown: (value) => Number(value).toFixed(2) });
    const similarity = slider('similarity', { min: '0', max: '0.95', step: '0.05', shown: (value) => Number(value).toFixed(2) });
    const send = () => {
      const rules = { prompt_gain: Number(gain.input.value), similarity_floor: Number(similarity.input.value) };
      return choice.value() ? this.send(version, { options: { rounds: Number(rounds.input.value), reviewer: choice.value(), rules } }) : undefined;
    };
    await sheet({ title: 'p.tab.refine', ok: 'p.refine.ok', send }, el('p', { class: 'dq-tip', t: 'p.refine.tip' }), rounds.node, choice.node, comparedWith(this.page, version), gain.node, similarity.node);
  }
}
