// Beside the picture: what was asked for, star, choice and approval, marks, a note, the name.

import { el, icon, t } from './base.js';
import { History, moment } from './history.js';
import { fill, grow, Marks } from './marks.js';

export class Panel {
  /** @param {{model, pointAt(suggestion), approve()}} parts */
  constructor({ model, pointAt, approve }) {
    this.model = model;
    this.marks = new Marks(model);
    this.history = new History({ model, pointAt });
    this.heading = el('div', { class: 'about' });
    this.brief = el('details', { class: 'brief' }, el('summary', { t: 'brief' }), el('div', {}));
    this.note = el('textarea', { rows: '2', maxlength: '4000', id: 'note', tPlaceholder: 'note.placeholder', autocapitalize: 'sentences' });
    this.note.addEventListener('input', () => { grow(this.note); model.setNote(this.note.value); });
    this.name = el('input', { type: 'text', maxlength: '80', id: 'name', autocomplete: 'name', tPlaceholder: 'name.placeholder', 'aria-describedby': 'name-wrong', enterkeyhint: 'done' });
    this.name.addEventListener('input', () => this.rename());
    this.nameless = el('p', { class: 'wrong', id: 'name-wrong', hidden: true, t: 'name.missing' });
    this.verdict = el('div', { class: 'verdict', role: 'group', tAria: 'verdict' }, ...this.verdictButtons(approve));
    this.approved = el('p', { class: 'approved', hidden: true }, icon('check'), el('span', {}));
    this.form = el('div', { class: 'form' }, this.verdict, this.approved, this.marks.node,
      el('section', { class: 'part' }, el('label', { for: 'note', t: 'note' }), this.note),
      el('section', { class: 'part' }, el('label', { for: 'name', t: 'name' }), this.name, this.nameless));
    this.none = el('p', { class: 'none', t: 'versions.none', hidden: true });
    this.until = el('p', { class: 'until quiet' });
    this.node = el('div', { class: 'panel' }, this.none, this.heading, this.form, this.history.node, this.brief, this.until);
  }

  verdictButtons(approve) {
    const { model } = this;
    this.flags = ['starred', 'picked'].map((name) =>
      el('button', { type: 'button', class: `flag ${name}`, tTitle: `${name}.tip`, 'data-flag': name, onclick: () => model.toggle(name) }, icon(name === 'starred' ? 'star' : 'pick'), el('span', { t: name })));
    this.approve = el('button', { type: 'button', class: 'flag approve', tTitle: 'approve.tip', onclick: approve }, icon('check'), el('span', { t: 'approve' }));
    return [...this.flags, this.approve];
  }

  rename() {
    this.model.memory.name = this.name.value;
    this.model.memory.write();
    this.complain(false);
  }

  complain(on) {
    this.nameless.hidden = !on;
    if (on) this.name.setAttribute('aria-invalid', 'true');
    else this.name.removeAttribute('aria-invalid');
  }

  /** Whether there is a name; where there is none, it is asked for. */
  named() {
    const there = this.model.memory.name.trim() !== '';
    this.complain(!there);
    if (!there) {
      this.name.focus();
      this.name.scrollIntoView({ block: 'center' });
    }
    return there;
  }

  /** @param pending whether an approval of this version is about to be sent */
  show(pending) {
    const { model } = this;
    const { version, state } = model;
    this.none.hidden = state.versions.length > 0;
    this.form.hidden = !version;
    this.heading.hidden = !version;
    this.showBrief(state.brief);
    this.until.textContent = state.expires_at ? t('until', { time: moment(state.expires_at) }) : '';
    if (document.activeElement !== this.name) this.name.value = model.memory.name;
    this.marks.show();
    this.history.show();
    if (!version) return;
    this.about(version);
    for (const button of this.flags) button.setAttribute('aria-pressed', String(model.flag(button.dataset.flag)));
    const { approved } = model.verdicts(version.id);
    this.approve.disabled = pending;
    this.approved.hidden = approved.length === 0;
    this.approved.lastChild.textContent = t('approved.by', { names: [...new Set(approved.map((name) => name || t('said.nameless')))].join(', ') });
    fill(this.note, model.draft().note);
  }

  about(version) {
    const parent = version.parent ? this.model.find(version.parent) : null;
    const facts = [t('size', { width: version.width_px, height: version.height_px }), moment(version.added_at, { dateStyle: 'medium' })];
    if (parent) facts.unshift(t('made.from', { number: parent.number }));
    this.heading.replaceChildren(...[
      el('h1', { text: t('version', { number: version.number }) }),
      el('p', { class: 'quiet', text: facts.filter(Boolean).join(' · ') }),
      version.labels?.length ? el('p', { class: 'labels' }, ...version.labels.map((label) => el('span', { text: label, dir: 'auto' }))) : null,
      version.prompt ? el('p', { class: 'prompt', text: version.prompt, dir: 'auto' }) : null,
    ].filter(Boolean));
  }

  showBrief(brief) {
    const { words = '', palette = [] } = brief ?? {};
    const told = JSON.stringify(brief ?? null);
    this.brief.hidden = !words && !palette.length && !brief?.do?.length && !brief?.dont?.length;
    if (told === this.briefTold) return;
    this.briefTold = told;
    const rules = (key, lines = []) => (lines.length ? el('div', { class: key }, el('h3', { t: `brief.${key}` }), el('ul', {}, ...lines.map((line) => el('li', { text: line, dir: 'auto' })))) : null);
    this.brief.lastChild.replaceChildren(...[
      words ? el('p', { class: 'text', text: words, dir: 'auto' }) : null,
      palette.length ? el('ul', { class: 'palette', tAria: 'brief.palette' }, ...palette.map(colour)) : null,
      rules('do', brief?.do),
      rules('dont', brief?.dont),
    ].filter(Boolean));
  }
}

function colour(code) {
  const sample = el('span', { class: 'sample', 'aria-hidden': 'true' });
  sample.style.backgroundColor = /^#[0-9a-f]{6}$/i.test(code) ? code : 'transparent';
  return el('li', {}, sample, el('span', { text: code }));
}
