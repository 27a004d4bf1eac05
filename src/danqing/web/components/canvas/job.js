// One running job: its events, its progress bar, its cancel.
import { ask, el, language, t, url } from './base.js';

export class Watch {
  /** @param app {preview(index, address), record(index, id), finished(state, error)} */
  constructor(app) {
    this.app = app;
    this.source = null;
    this.id = null;
    this.count = 1;
    this.last = null;
    this.bar = el('div', { class: 'dq-bar' });
    this.words = el('span', { class: 'dq-progress-words' });
    this.left = el('span', { class: 'dq-progress-left' });
    this.node = el('div', { class: 'dq-progress', role: 'progressbar', 'aria-valuemin': '0', 'aria-valuemax': '100', hidden: true },
      el('div', { class: 'dq-track' }, this.bar), el('div', { class: 'dq-progress-line', 'aria-live': 'off' }, this.words, this.left));
  }

  start(id, count) {
    this.stop();
    this.id = id;
    this.count = count;
    this.last = { type: 'state', state: 'queued', position: 0 };
    document.body.classList.add('dq-running');
    this.node.hidden = false;
    this.show();
    this.source = new EventSource(url(`web/jobs/${id}/events?lang=${language()}`));
    this.source.onmessage = (message) => this.take(JSON.parse(message.data));
    this.source.onerror = () => {
      if (this.source?.readyState === EventSource.CLOSED) this.end('failed', { text: t('e.network'), original: '' });
    };
    document.dispatchEvent(new Event('dq:queue'));
  }

  take(event) {
    if (event.type === 'preview') this.app.preview(event.index, `data:${event.media_type};base64,${event.data_base64}`);
    else if (event.type === 'record') this.app.record(event.index, event.record_id);
    else if (event.type === 'progress') this.last = event;
    else if (event.type === 'state') {
      if (['done', 'failed', 'cancelled'].includes(event.state)) return this.end(event.state, event.shown ?? null);
      if (event.state === 'queued' || this.last.type === 'state') this.last = event;
    }
    return this.show();
  }

  /** The line and the bar in words: stage, step, picture, seconds left. */
  show() {
    const { last } = this;
    let words = '';
    let left = '';
    let fraction = 0;
    if (!last) return;
    if (last.type === 'state') {
      words = last.state === 'queued' && last.position ? t('s.queued', { count: last.position }) : t(last.state === 'queued' ? 's.queued.next' : 's.stage.load');
    } else {
      fraction = last.fraction;
      const parts = [t(`s.stage.${last.stage}`)];
      if (this.count > 1) parts.push(t('s.picture', { index: last.index + 1, count: this.count }));
      if (last.steps > 0 && last.stage === 'denoise') parts.push(t('s.step', { step: last.step, steps: last.steps }));
      words = parts.join(' · ');
      if (last.eta_s !== null && last.eta_s !== undefined) left = t('s.eta', { seconds: Math.max(1, Math.round(last.eta_s)) });
    }
    this.bar.style.transform = `scaleX(${fraction})`;
    this.words.textContent = words;
    this.left.textContent = left;
    this.node.setAttribute('aria-valuenow', String(Math.round(fraction * 100)));
    this.node.setAttribute('aria-valuetext', [words, left].filter(Boolean).join(', '));
  }

  async cancel() {
    if (!this.id) return null;
    try {
      return await ask(`jobs/${this.id}/cancel`, { method: 'POST' });
    } catch (error) {
      return error;
    }
  }

  end(state, error) {
    this.stop();
    this.app.finished(state, error);
  }

  stop() {
    this.source?.close();
    this.source = null;
    this.id = null;
    this.node.hidden = true;
    document.body.classList.remove('dq-running');
    document.dispatchEvent(new Event('dq:queue'));
  }
}
