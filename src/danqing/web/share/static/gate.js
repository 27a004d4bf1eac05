// In front of the page: a password, a link that does not open any more, no connection.

import { el, icon, language, t } from './base.js';

export class Gate {
  /** @param {{model, unlock(password): Promise, again()}} parts */
  constructor(parts) {
    Object.assign(this, parts);
    this.node = el('main', { class: 'gate', hidden: true });
    this.shown = '';
  }

  show() {
    const { gate } = this.model;
    this.node.hidden = gate === null || gate === 'loading';
    const now = `${gate} ${language()}`;
    if (this.node.hidden || now === this.shown) {
      if (this.node.hidden) this.shown = '';
      return;
    }
    const typed = this.field?.value ?? '';
    this.shown = now;
    this.node.replaceChildren(this[gate]());
    if (gate !== 'locked') return;
    this.field.value = typed;
    this.field.focus();
  }

  card(...children) {
    return el('div', { class: 'card' }, el('span', { class: 'seal', 'aria-hidden': 'true', text: '丹青' }), ...children);
  }

  locked() {
    this.field = el('input', { type: 'password', id: 'password', autocomplete: 'current-password', required: true, maxlength: '200', 'aria-describedby': 'password-wrong' });
    this.wrong = el('p', { class: 'wrong', id: 'password-wrong', role: 'alert', hidden: true });
    this.button = el('button', { type: 'submit', class: 'primary', t: 'locked.open' });
    const form = el('form', { novalidate: true }, el('label', { for: 'password', t: 'locked.password' }), this.field, this.wrong, this.button);
    form.addEventListener('submit', (event) => { event.preventDefault(); this.open(); });
    return this.card(el('h1', { t: 'locked' }), el('p', { class: 'quiet', t: 'locked.why' }), form);
  }

  async open() {
    const password = this.field.value;
    if (!password) return this.complain(t('locked.empty'));
    this.button.disabled = true;
    this.wrong.hidden = true;
    try {
      await this.unlock(password);
      this.field.value = '';
    } catch (error) {
      if (error.status === 429) this.complain(t('locked.many', { minutes: Math.max(1, Math.ceil(error.wait_s / 60)) }));
      else this.complain(t(error.status === 401 || error.status === 422 ? 'locked.wrong' : 'offline'));
    }
    this.button.disabled = false;
    return undefined;
  }

  complain(text) {
    this.wrong.textContent = text;
    this.wrong.hidden = false;
    this.field.setAttribute('aria-invalid', 'true');
    this.field.focus();
    this.field.select();
  }

  closed() {
    const { drafts, outbox } = this.model.memory;
    const words = [...outbox.map(({ body, marks }) => ({ note: body.note, marks })), ...Object.values(drafts)]
      .flatMap(({ note, marks }) => [...marks.map((mark) => mark.prompt), note]).filter((text) => text.trim());
    const kept = words.length ? [el('label', { for: 'kept', t: 'closed.kept' }), el('textarea', { id: 'kept', readonly: true, rows: '5', text: words.join('\n') })] : [];
    return this.card(el('h1', { t: 'closed' }), el('p', { t: 'closed.why' }), el('p', { class: 'quiet', t: 'closed.next' }), ...kept);
  }

  offline() {
    return this.card(el('h1', { t: 'offline.title' }), el('p', { t: 'offline' }),
      el('button', { type: 'button', class: 'primary', onclick: () => this.again() }, icon('undo'), el('span', { t: 'again' })));
  }
}
