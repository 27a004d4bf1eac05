// Watching jobs on this page: few connections at a time, the others wait for their turn.
import { el, language, t, url } from '../canvas/base.js';

const MOST = 2; // a browser has six connections to one server; pictures and the project's events need some
const waiting = [];
let running = 0;

function next() {
  while (running < MOST && waiting.length) {
    running += 1;
    waiting.shift()();
  }
}

export class JobLine {
  /** The progress of one job. @param ended(state, error) when it is over */
  constructor(id, ended) {
    this.id = id;
    this.ended = ended;
    this.over = false;
    this.preview = el('img', { class: 'dp-preview', alt: '', hidden: true });
    this.bar = el('div', { class: 'dq-bar' });
    this.words = el('span', { text: t('s.queued.next') });
    this.progress = el('div', { class: 'dq-progress', role: 'progressbar', 'aria-valuemin': '0', 'aria-valuemax': '100', tAria: 's.stage.denoise' },
      el('div', { class: 'dq-track' }, this.bar), el('div', { class: 'dq-progress-line' }, this.words));
    this.node = el('div', { class: 'dp-job', 'data-job': id }, this.preview, this.progress);
    waiting.push(() => this.start());
    next();
  }

  start() {
    if (this.over) { this.release(); return; }
    this.source = new EventSource(url(`web/jobs/${this.id}/events?lang=${language()}`));
    this.source.onmessage = (message) => this.take(JSON.parse(message.data));
    this.source.onerror = () => { if (this.source?.readyState === EventSource.CLOSED) this.end('gone', null); };
  }

  take(event) {
    if (event.type === 'preview') {
      this.preview.src = `data:${event.media_type};base64,${event.data_base64}`;
      this.preview.hidden = false;
    } else if (event.type === 'progress') {
      this.bar.style.transform = `scaleX(${event.fraction})`;
      this.progress.setAttribute('aria-valuenow', String(Math.round(event.fraction * 100)));
      this.words.textContent = event.eta_s > 0 ? `${t(`s.stage.${event.stage}`)} · ${t('s.eta', { seconds: Math.max(1, Math.round(event.eta_s)) })}` : t(`s.stage.${event.stage}`);
    } else if (event.type === 'state') {
      if (event.state === 'running') this.words.textContent = t('s.stage.load');
      if (['done', 'failed', 'cancelled'].includes(event.state)) this.end(event.state, event.shown ?? null);
    }
  }

  end(state, error) {
    if (this.over) return;
    this.stop();
    this.ended(state, error);
  }

  /** Look away. */
  stop() {
    if (this.over) return;
    this.over = true;
    if (!this.source) return; // its turn has not come; `start` lets the next one in
    this.source.close();
    this.release();
  }

  release() {
    running -= 1;
    next();
  }
}
