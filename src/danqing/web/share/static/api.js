// The server behind this link, and nothing else: JSON in, JSON out, and what went wrong in one form.

const TIMEOUT_MS = 30_000;
const KEEPALIVE_BYTES = 60_000; // browsers send at most 64 KiB for a page that is being left

/** `lost`: no answer came, so nobody knows whether it arrived. `wait_s`: when to ask again. */
export class Refusal extends Error {
  constructor({ status = 0, code = 'lost', detail = '', wait_s = 0 } = {}) {
    super(detail || code);
    Object.assign(this, { status, code, detail, wait_s });
  }

  get lost() {
    return this.status === 0 || this.status >= 500;
  }
}

export class Api {
  /** @param path the page's own path, without a slash at its end */
  constructor(path) {
    this.root = `${path}/api`;
  }

  state() {
    return this.ask('state');
  }

  unlock(password) {
    return this.ask('unlock', { password });
  }

  send(body) {
    return this.ask('reviews', body);
  }

  events(after) {
    return new EventSource(`${this.root}/events?after=${after}`);
  }

  async ask(name, body) {
    const text = body && JSON.stringify(body);
    const how = body
      ? { method: 'POST', body: text, headers: { 'Content-Type': 'application/json' }, keepalive: new TextEncoder().encode(text).length < KEEPALIVE_BYTES }
      : { cache: 'no-store' };
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), TIMEOUT_MS);
    try {
      const answer = await fetch(`${this.root}/${name}`, { ...how, signal: patience.signal, credentials: 'same-origin' });
      if (answer.ok) return await answer.json();
      throw await refusalOf(answer);
    } catch (error) {
      throw error instanceof Refusal ? error : new Refusal();
    } finally {
      clearTimeout(timer);
    }
  }
}

async function refusalOf(answer) {
  const said = await answer.json().catch(() => ({}));
  const wait_s = Number(answer.headers.get('Retry-After')) || 0;
  return new Refusal({ status: answer.status, code: said.code ?? 'error', detail: said.detail ?? '', wait_s });
}
