// Sends what lies in the outbox, one after the other, until each has an answer. The key makes a second try harmless.

const WAITS_S = [1, 2, 4, 8, 15, 30];

export class Outbox {
  /** @param {{model, api, told}} parts `told(kind, facts)`: sent, waiting, refused; for gate it answers with
   * the link's state: null without a connection, undefined where it does not open */
  constructor({ model, api, told }) {
    Object.assign(this, { model, api, told });
    this.busy = false;
    this.tries = 0;
    this.timer = 0;
    addEventListener('online', () => this.flush());
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.flush(); });
  }

  get waiting() {
    return this.model.memory.outbox.length;
  }

  async flush() {
    if (this.busy || !this.waiting) return;
    clearTimeout(this.timer);
    this.busy = true;
    this.model.changed();
    let done = 0;
    try {
      while (this.waiting) {
        const { body } = this.model.memory.outbox[0];
        const review = await this.api.send(body);
        this.tries = 0;
        this.model.sent(body.key, review);
        done += 1;
      }
      this.busy = false;
      this.told('sent', { count: done });
    } catch (error) {
      this.busy = false;
      await this.failed(error);
    }
    this.model.changed();
  }

  async failed(error) {
    if (error.lost || error.status === 429) return this.later(error);
    if (error.status === 401 || error.status === 404) {
      const state = await this.told('gate', {}); // is it this review, or the link?
      if (state === null) return this.later(error);
      if (!state || state.locked) return undefined;
      if (error.status === 401) return this.later(error);
    }
    this.model.takeBack(this.model.memory.outbox[0]?.body.key);
    this.told('refused', { detail: error.detail });
    if (this.waiting) this.timer = setTimeout(() => this.flush(), 1000);
    return undefined;
  }

  later(error) {
    const wait_s = error.wait_s || WAITS_S[Math.min(this.tries, WAITS_S.length - 1)];
    this.tries += 1;
    this.timer = setTimeout(() => this.flush(), wait_s * 1000);
    this.told('waiting', { lost: error.status !== 429 });
  }
}
