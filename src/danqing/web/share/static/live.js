// News of this link: on any of them the state is read again. A broken stream is opened anew, a dead link is noticed.

const KINDS = ['shown', 'hidden', 'review', 'suggestion', 'changed', 'closed'];
const AGAIN_S = [1, 2, 5, 10, 30];
const GATHER_MS = 60;

export class Live {
  /** @param {{api, read, online}} parts `read()` reads the state and returns whether it could; `online(on)` is told */
  constructor({ api, read, online }) {
    Object.assign(this, { api, read, online });
    this.source = null;
    this.timer = 0;
    this.tries = 0;
    addEventListener('pagehide', () => this.stop());
    addEventListener('online', () => this.again());
    addEventListener('pageshow', (event) => { if (event.persisted) this.again(); });
  }

  start(after) {
    this.stop();
    this.on = true;
    this.source = this.api.events(after);
    for (const kind of KINDS) this.source.addEventListener(kind, () => this.news());
    this.source.addEventListener('open', () => this.opened());
    this.source.addEventListener('error', () => this.broken());
  }

  stop() {
    this.on = false;
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  news(wait_ms = GATHER_MS) {
    clearTimeout(this.timer); // several at once are one reading
    this.timer = setTimeout(async () => {
      if ((await this.read()) === null && this.on) this.news(AGAIN_S[1] * 1000);
    }, wait_ms);
  }

  opened() {
    this.tries = 0;
    this.online(true);
    if (this.missed) this.news();
    this.missed = false;
  }

  broken() {
    this.missed = true;
    this.online(false);
    if (this.source?.readyState === EventSource.CLOSED) this.later();
  }

  later() {
    clearTimeout(this.timer);
    const wait_s = AGAIN_S[Math.min(this.tries, AGAIN_S.length - 1)];
    this.tries += 1;
    this.timer = setTimeout(() => this.again(), wait_s * 1000);
  }

  /** Read the state; where the link still opens, follow it from there. */
  async again() {
    if (!this.on && this.source) return;
    const state = await this.read();
    if (state && !state.locked) this.start(state.last_event);
    else if (state === null) this.later();
  }
}
