// The history strip: thumbnails of what was painted, newest first; it survives reloads because it lives in the studio.
import { ask, el, t, toast, url } from './base.js';

export class History {
  constructor(app) {
    this.app = app;
    this.more = false;
    this.list = el('div', { class: 'dq-thumbs', role: 'list' });
    this.note = el('p', { class: 'dq-note' });
    this.search = el('input', { type: 'search', class: 'dq-search', tPlaceholder: 's.history.search', tAria: 's.history.search' });
    this.older = el('button', { type: 'button', class: 'dq-older', t: 's.history.more', onclick: () => this.load(true) });
    this.node = el('aside', { class: 'dq-history', tAria: 's.history' },
      el('div', { class: 'dq-history-head' }, el('h2', { t: 's.history' }), this.search), this.list, this.note, this.older);
    let timer = 0;
    this.search.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(() => this.load(), 250); });
  }

  relabel() {
    this.empty();
  }

  empty() {
    const none = this.list.children.length === 0;
    this.note.hidden = !none;
    this.note.textContent = none ? t(this.search.value ? 's.history.none' : 's.history.empty') : '';
    this.older.hidden = !this.more;
    this.node.classList.toggle('none', none && !this.search.value);
  }

  async load(further = false) {
    const before = further ? this.list.lastElementChild?.dataset.id : null;
    const query = new URLSearchParams({ search: this.search.value, ...(before ? { before } : {}) });
    try {
      const answer = await ask(`records?${query}`);
      if (!further) this.list.replaceChildren();
      for (const record of answer.records) this.list.append(this.thumb(record));
      this.more = answer.more;
    } catch (error) {
      toast(error.text);
    }
    this.empty();
  }

  thumb(record) {
    const picture = el('img', { src: url(`web/records/${record.id}/thumbnail`), alt: '', loading: 'lazy', draggable: 'true' });
    picture.addEventListener('dragstart', (event) => event.dataTransfer.setData('text/danqing-record', record.id));
    const button = el('button', { type: 'button', class: 'dq-thumb', title: record.prompt, 'aria-label': t('s.open', { prompt: record.prompt }), onclick: () => this.app.openRecord(record.id) }, picture);
    return el('div', { role: 'listitem', 'data-id': record.id }, button);
  }

  async add(id) {
    if (this.list.querySelector(`[data-id="${id}"]`)) return;
    try {
      const record = await ask(`records/${id}`);
      this.list.prepend(this.thumb(record));
    } catch {
      return;
    }
    this.empty();
  }

  mark(id) {
    for (const item of this.list.children) item.firstChild.setAttribute('aria-current', String(item.dataset.id === id));
  }

  remove(id) {
    this.list.querySelector(`[data-id="${id}"]`)?.remove();
    this.empty();
  }

  get newest() {
    return this.list.firstElementChild?.dataset.id ?? null;
  }

  /** The id of the neighbour of a picture: -1 newer, +1 older. */
  neighbour(id, by) {
    const ids = [...this.list.children].map((item) => item.dataset.id);
    return ids[ids.indexOf(id) + by] ?? null;
  }
}
