// What this browser keeps for one link: the name, drawings not sent yet, reviews on their way, versions seen.

const EMPTY = { name: '', language: '', drafts: {}, outbox: [], mine: {}, seen: [] };

export class Memory {
  /** @param token of the link; a part of it names the place, so that the whole is not kept twice */
  constructor(token, changed = () => {}) {
    this.place = `danqing.share.${token.slice(0, 12)}`;
    this.read();
    // another tab of the same link: what it sent must not be sent from here again
    addEventListener('storage', (event) => {
      if (event.key !== this.place) return;
      this.read();
      changed();
    });
  }

  read() {
    let kept = null;
    try {
      kept = JSON.parse(localStorage.getItem(this.place) ?? 'null');
    } catch {
      kept = null; // a private window, or not ours
    }
    Object.assign(this, structuredClone(EMPTY), kept && typeof kept === 'object' ? kept : {});
  }

  write() {
    const kept = Object.fromEntries(Object.keys(EMPTY).map((name) => [name, this[name]]));
    try {
      localStorage.setItem(this.place, JSON.stringify(kept));
    } catch {
      // a private window or a full disk: it is kept as long as the page is open
    }
  }
}

/** What is kept for all links: light or dark. */
export const shared = {
  get(name) {
    try {
      return localStorage.getItem(`danqing.share.${name}`);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`danqing.share.${name}`, value);
    } catch {
      // it holds until the page is left
    }
  },
};
