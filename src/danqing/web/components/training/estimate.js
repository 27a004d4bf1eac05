// What a run would cost, asked for while a person fills the form: one question at a time, the newest last.
import { el, t } from '../canvas/base.js';
import { post } from '../projects/api.js';
import { number, size, span } from './api.js';
import { readReason, toldLine } from './told.js';

const PAUSE_MS = 700;

export class Estimates {
  /** @param judged({reasons} or {field, text}) */
  constructor(judged) {
    this.judged = judged;
    this.asked = 0;
    this.busy = false;
    this.next = null;
    this.node = el('div', { class: 'dt-estimate', 'aria-live': 'polite' });
    this.wait(t('tr.cost.wait'));
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
  }

  relabel() {
    if (this.told) this.show(this.told);
  }

  /** Nothing to ask for yet. */
  wait(words) {
    clearTimeout(this.timer);
    this.asked += 1;
    this.told = null;
    this.node.dataset.state = 'waiting';
    this.node.replaceChildren(el('p', { class: 'dq-tip', text: words }));
  }

  starting() {
    this.wait(t('tr.cost.starting'));
  }

  refuse(text) {
    this.node.dataset.state = 'refused';
    this.node.replaceChildren(el('p', { class: 'dq-wrong', role: 'alert', text }));
  }

  want(request) {
    clearTimeout(this.timer);
    this.asked += 1;
    this.node.dataset.state = 'asking';
    this.node.replaceChildren(el('p', { class: 'dq-tip', t: 'tr.cost.asking' }));
    this.timer = setTimeout(() => this.ask(request), PAUSE_MS);
  }

  /** The server opens the model for each question: a new one waits for the answer to the last. */
  async ask(request) {
    if (this.busy) { this.next = request; return; }
    this.busy = true;
    const { asked } = this;
    const answer = await post('training/estimate', request).then((told) => ({ told }), (error) => ({ error }));
    this.busy = false;
    if (this.ended) return;
    if (asked === this.asked) this.take(answer);
    if (this.next) {
      const { next } = this;
      this.next = null;
      this.ask(next);
    }
  }

  take({ told, error }) {
    if (error) {
      this.judged({ field: error.field, text: error.text });
      this.refuse(error.text);
      return;
    }
    this.show(told);
    this.judged({ reasons: told.reasons.map(readReason) });
  }

  show(told) {
    this.told = told;
    const refused = told.reasons.length > 0;
    this.node.dataset.state = refused ? 'refused' : 'ready';
    const row = (key, text) => el('div', { class: 'dt-fact' }, el('dt', { t: key }), el('dd', { text }));
    const facts = [
      told.seconds === null ? null : row('tr.cost.time', t('tr.about', { time: span(told.seconds) })),
      told.memory_bytes ? row('tr.cost.memory', told.free_bytes ? t('tr.cost.of', { needs: size(told.memory_bytes), free: size(told.free_bytes) }) : size(told.memory_bytes)) : null,
      told.steps ? row('tr.f.steps', number(told.steps)) : null,
      told.trainable_parameters ? row('tr.cost.parameters', number(told.trainable_parameters)) : null,
    ].filter(Boolean);
    this.node.replaceChildren(...(refused ? [el('p', { class: 'dt-no', t: 'tr.cost.no' }), ...told.reasons.map((reason) => el('p', { class: 'dq-wrong', role: 'alert', text: readReason(reason).text }))] : []),
      el('dl', { class: 'dt-facts' }, ...facts), ...told.warnings.map((warning) => toldLine(warning, 'dq-hint')));
  }
}
