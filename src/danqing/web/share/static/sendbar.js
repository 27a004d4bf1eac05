// The one primary action, and what is going on with it; an approval waits here until it can no longer be undone.

import { el, several, t } from './base.js';

const UNDO_S = 6;

export class SendBar {
  /** @param {{model, outbox, check(versions): bool, language(): tag}} parts */
  constructor(parts) {
    Object.assign(this, parts);
    this.approval = null; // {id, left_s}
    this.said = { key: '', values: {} };
    this.text = el('span', { class: 'what' });
    this.detail = el('span', { class: 'detail quiet', hidden: true });
    this.status = el('p', { class: 'status', role: 'status' }, this.text, this.detail);
    this.left = el('span', { class: 'left-s', 'aria-hidden': 'true' });
    this.undo = el('button', { type: 'button', class: 'plain undo', hidden: true, onclick: () => this.stopApproval() }, el('span', { t: 'approve.undo' }), this.left);
    this.now = el('button', { type: 'button', class: 'plain now', t: 'send.now', hidden: true, onclick: () => this.outbox.flush() });
    this.button = el('button', { type: 'button', class: 'primary', t: 'send', onclick: () => this.send() });
    this.node = el('div', { class: 'sendbar' }, this.status, this.undo, this.now, this.button);
    addEventListener('pagehide', () => this.commitApproval()); // who leaves has not taken it back
  }

  send() {
    const { unsent } = this.model;
    if (!this.check(unsent)) return;
    for (const version of unsent) this.model.post(version.id, this.language());
    this.said = { key: '', values: {} };
    this.outbox.flush();
  }

  // approval
  approve() {
    const { model } = this;
    if (this.approval || !this.check([model.version])) return;
    this.approval = { id: model.chosen, left_s: UNDO_S };
    this.timer = setInterval(() => this.tick(), 1000);
    model.changed();
    this.undo.focus({ preventScroll: true });
  }

  tick() {
    this.approval.left_s -= 1;
    if (this.approval.left_s > 0) this.show();
    else this.commitApproval();
  }

  stopApproval() {
    clearInterval(this.timer);
    this.approval = null;
    this.said = { key: 'approve.undone', values: {} };
    this.model.changed();
  }

  commitApproval() {
    if (!this.approval) return;
    clearInterval(this.timer);
    const { id } = this.approval;
    this.approval = null;
    if (this.model.find(id)) this.model.post(id, this.language(), true);
    this.outbox.flush();
  }

  /** News of the outbox. */
  tell(kind, facts) {
    this.said = { key: `send.${kind === 'waiting' && !facts.lost ? 'busy' : kind}`, values: facts };
    this.show();
  }

  show() {
    const { model, outbox, approval } = this;
    const unsent = model.unsent;
    const values = { ...this.said.values, name: model.memory.name.trim() };
    if (approval) this.say(t('approve.pending', { number: model.find(approval.id)?.number ?? '' }));
    else if (outbox.busy && outbox.tries === 0) this.say(t('send.going'));
    else if (outbox.waiting) this.say(t(this.said.key === 'send.busy' ? 'send.busy' : 'send.waiting'));
    else if (this.said.key === 'send.refused') this.say(t('send.refused'), values.detail);
    else if (unsent.length) this.say(this.summary(unsent));
    else if (this.said.key) this.say(t(this.said.key, values));
    else this.say(t('send.nothing'));
    this.undo.hidden = !approval;
    this.left.textContent = approval ? String(approval.left_s) : '';
    this.now.hidden = Boolean(approval) || !outbox.waiting || outbox.busy;
    this.button.disabled = unsent.length === 0 || Boolean(approval);
    this.node.classList.toggle('calm', unsent.length === 0 && !outbox.waiting && !approval);
    this.node.dataset.waiting = String(outbox.waiting);
  }

  summary(unsent) {
    const marks = unsent.reduce((sum, version) => sum + this.model.draft(version.id).marks.length, 0);
    const numbers = unsent.map((version) => version.number).join(', ');
    return marks ? several('send.remarks', marks, { numbers }) : t('send.other', { numbers });
  }

  say(text, detail = '') {
    if (this.text.textContent !== text) this.text.textContent = text; // a live region tells each change
    this.detail.textContent = detail;
    this.detail.hidden = !detail;
  }
}

