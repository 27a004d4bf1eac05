// What takes a while on a set: looking for complaints, putting pictures into words. It runs on, whoever watches.
import { el, language, t, toast } from '../canvas/base.js';
import { get, languageNames, post, problemText } from '../projects/api.js';
import { field, sheet } from '../projects/sheets.js';
import { setPath } from './api.js';
import { select } from './choice.js';

const POLL_MS = 400;

export class Works {
  /** @param done() when one of them is over */
  constructor(done) {
    this.done = done;
    this.node = el('div', { class: 'dt-works' });
    this.timers = new Set();
  }

  end() {
    this.ended = true;
    for (const timer of this.timers) clearTimeout(timer);
  }

  take(works) {
    for (const work of works) this.follow(work);
  }

  follow(work) {
    const bar = el('div', { class: 'dq-bar' });
    const words = el('span', {});
    const line = el('div', { class: 'dt-work', 'data-work': work.kind, role: 'status' },
      el('div', { class: 'dq-progress' }, el('div', { class: 'dq-track' }, bar), el('div', { class: 'dq-progress-line' }, words)),
      el('button', { type: 'button', class: 'dq-link', t: 'cancel', onclick: () => post(`training/set-works/${work.id}/cancel`).catch(() => {}) }));
    this.node.append(line);
    const look = async (now) => {
      if (this.ended) return;
      bar.style.transform = `scaleX(${now.total ? now.done / now.total : 0})`;
      words.textContent = t(`tr.work.${now.kind}`, { done: now.done, total: now.total });
      if (now.state === 'running') {
        const timer = setTimeout(() => { this.timers.delete(timer); get(`training/set-works/${work.id}`).then(look).catch(() => line.remove()); }, POLL_MS);
        this.timers.add(timer);
        return;
      }
      line.remove();
      toast(now.state === 'failed' ? problemText(now.error) : t(`tr.work.${now.kind}.${now.state}`));
      this.done();
    };
    look(work);
  }
}

/** Ask how captions are to be made, and begin. @param files null for all @returns the work, or null */
export function autoCaptions(set, files) {
  const names = languageNames();
  const tongue = select('language', Object.entries(names).map(([tag, text]) => [tag, { text }]), language());
  const form = select('form', ['caption', 'tags', 'both'].map((key) => [key, { t: `tr.auto.form.${key}` }]), 'caption');
  const keep = select('keep', ['empty', 'add', 'replace'].map((key) => [key, { t: `tr.auto.keep.${key}` }]), 'empty');
  const out = el('input', { type: 'text', name: 'leave_out', maxlength: '400', spellcheck: 'false' });
  const send = () => post(setPath(set, '/captions/auto'), {
    captions: { language: tongue.value, form: form.value, keep: keep.value, leave_out: out.value.trim() }, ...(files ? { files } : {}),
  });
  return sheet({ title: 'tr.auto.title', ok: 'tr.auto.start', send }, el('p', { class: 'dq-tip', t: 'tr.auto.words' }),
    el('div', { class: 'dp-pair' }, field('tr.auto.language', tongue), field('tr.auto.form', form)), field('tr.auto.keep', keep), field('tr.auto.out', out, { tip: true }));
}

