// Live drafts: what stands in the form, painted small and with few steps; the newest one ends the one before.
import { ask, el, language, t, url } from './base.js';

const PAUSE_MS = 350;

export class Drafts {
  /** @param app {requestDraft(), onDraft: who hears of one} */
  constructor(app) {
    this.app = app;
    this.id = null;
    this.source = null;
    this.timer = 0;
    this.asking = false;
    this.again = false;
    this.image = el('img', { class: 'dq-draft', alt: '', hidden: true });
    this.words = el('p', { class: 'dq-tip', role: 'status', t: 'c.draft.idle' });
    this.wrong = el('p', { class: 'dq-wrong', role: 'alert', hidden: true });
    this.node = el('div', { class: 'dq-drafts', role: 'group', tAria: 'c.draft' }, el('span', { class: 'dq-draft-frame' }, this.image), this.words, this.wrong);
    app.onDraft = (command) => this.take(command);
  }

  /** A stroke was made: soon a draft is painted. */
  want() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.start(), PAUSE_MS);
  }

  start() {
    if (this.asking) {
      this.again = true; // the studio has not yet named the last one
      return;
    }
    this.cancel();
    this.asking = true;
    this.app.requestDraft();
    this.say('c.draft.busy');
  }

  /** The studio's answer: {id} of a job, or {error}. */
  take({ id = null, error = null }) {
    this.asking = false;
    this.id = id;
    if (this.closed || this.again) {
      this.cancel();
      this.again = false;
      if (!this.closed) this.start();
      return;
    }
    this.fail(error?.text);
    if (id) this.follow(id);
  }

  follow(id) {
    this.source = new EventSource(url(`web/jobs/${id}/events?lang=${language()}`));
    this.source.onmessage = (message) => {
      const event = JSON.parse(message.data);
      if (event.type === 'preview') this.show(`data:${event.media_type};base64,${event.data_base64}`);
      else if (event.type === 'record') this.show(url(`web/records/${event.record_id}/picture`), event.record_id);
      else if (event.type === 'state' && ['done', 'failed', 'cancelled'].includes(event.state)) this.ended(event);
    };
    this.source.onerror = () => this.source?.readyState === EventSource.CLOSED && this.ended({ state: 'failed' });
  }

  ended({ state, shown }) {
    this.stop();
    if (state === 'failed') this.fail(shown?.text ?? t('e.network'));
    else if (state === 'done') this.say('c.draft.done');
  }

  show(address, record = '') {
    this.image.src = address;
    this.image.hidden = false;
    this.image.alt = t('c.draft');
    this.image.dataset.record = record;
  }

  say(key) {
    this.words.dataset.t = key;
    this.words.textContent = t(key);
    this.wrong.hidden = true;
  }

  fail(text) {
    if (text) this.say('c.draft.idle');
    this.wrong.textContent = text ?? '';
    this.wrong.hidden = !text;
  }

  stop() {
    this.source?.close();
    this.source = null;
    this.id = null;
  }

  /** End the draft that is being painted; one that is finished stays as it is. */
  cancel() {
    const { id } = this;
    this.stop();
    if (id) ask(`jobs/${id}/cancel`, { method: 'POST' }).catch(() => {}); // it may have ended by itself
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.cancel();
  }
}
