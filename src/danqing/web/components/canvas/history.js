// The history strip: thumbnails of what was painted, newest first; it survives reloads because it lives in the studio.
// Its search looks for words in the briefs, or at the pictures themselves.
import { ask, el, iconButton, t, toast, url } from './base.js';

const WAIT_MS = { words: 250, look: 700 }; // looking costs more than reading

export class History {
  constructor(app) {
    this.app = app;
    this.more = false;
    this.by = 'words';
    this.asked = 0;
    this.loading = Promise.resolve(); // the list that is on its way
    this.adding = Promise.resolve(); // pictures on their way into it, one after the other
    this.state = '';
    this.list = el('div', { class: 'dq-thumbs', role: 'list' });
    this.note = el('div', { class: 'dq-note', role: 'status' });
    this.search = el('input', { type: 'search', class: 'dq-search', maxlength: '200', tPlaceholder: 's.history.search', tAria: 's.history.search' });
    this.clear = iconButton('close', 's.history.clear', () => this.forget(), { class: 'dq-icon dq-search-clear' });
    this.ways = el('div', { class: 'dq-sides dq-ways', role: 'group', tAria: 's.history.by' },
      ...['words', 'look'].map((by) => el('button', { type: 'button', t: `s.history.by.${by}`, tTitle: `s.history.by.${by}.tip`, 'data-by': by, onclick: () => this.choose(by) })));
    this.older = el('button', { type: 'button', class: 'dq-older', t: 's.history.more', onclick: () => this.load(true) });
    this.node = el('aside', { class: 'dq-history', tAria: 's.history' },
      el('div', { class: 'dq-history-head' }, el('h2', { t: 's.history' }), el('div', { class: 'dq-search-box' }, this.search, this.clear), this.ways),
      this.list, this.note, this.older);
    this.search.addEventListener('input', () => this.soon(WAIT_MS[this.by]));
    this.search.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') this.soon(0);
      if (event.key === 'Escape' && this.search.value) this.forget();
    });
  }

  soon(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), wait);
    this.empty();
  }

  choose(by) {
    this.by = by;
    if (this.search.value.trim()) this.soon(0);
    else this.search.focus();
    this.empty();
  }

  forget() {
    this.search.value = '';
    this.search.focus();
    this.soon(0);
  }

  relabel() {
    this.empty();
  }

  /** Say what is there where no pictures are, and how to find some. */
  empty() {
    const none = this.list.children.length === 0;
    const wanted = this.search.value.trim();
    this.clear.hidden = this.search.value === '';
    for (const button of this.ways.children) button.setAttribute('aria-pressed', String(button.dataset.by === this.by));
    this.older.hidden = !this.more;
    this.node.classList.toggle('none', none && !this.search.value && this.state === '');
    this.note.replaceChildren(...this.words(none, wanted));
    this.note.hidden = !this.note.hasChildNodes();
  }

  words(none, wanted) {
    if (this.state === 'looking') return [el('p', { t: 's.history.looking' })];
    if (this.failed) return [el('p', { class: 'dq-wrong', text: this.failed })];
    if (!none) return [];
    if (!wanted) return [el('p', { t: 's.history.empty' })];
    const other = this.by === 'words' ? [el('button', { type: 'button', class: 'dq-link', t: 's.history.try', onclick: () => this.choose('look') })] : [];
    return [el('p', { text: t('s.history.none', { text: wanted }) }), el('p', { t: `s.history.none.${this.by}` }), ...other];
  }

  query(further) {
    const wanted = this.search.value.trim();
    if (this.by === 'look' && wanted) return `looks?${new URLSearchParams({ search: wanted })}`;
    const before = further ? this.list.lastElementChild?.dataset.id : null;
    return `records?${new URLSearchParams({ search: wanted, ...(before ? { before } : {}) })}`;
  }

  load(further = false) {
    this.loading = this.read(further);
    return this.loading;
  }

  async read(further) {
    this.asked += 1;
    const { asked } = this;
    const query = this.query(further);
    const looks = query.startsWith('looks');
    this.failed = '';
    this.state = looks ? 'looking' : '';
    if (looks) {
      this.list.replaceChildren();
      this.more = false;
      this.empty();
    }
    let answer = null;
    let failed = '';
    try {
      answer = await ask(query);
    } catch (error) {
      failed = error.text;
    }
    if (asked !== this.asked) return;
    this.state = '';
    if (looks) this.failed = failed;
    else if (failed) toast(failed);
    if (answer) {
      if (!further) this.list.replaceChildren();
      for (const record of answer.records) this.list.append(this.thumb(record));
      this.more = answer.more;
      this.mark(this.app.record?.id ?? null);
    }
    this.empty();
  }

  thumb(record) {
    const picture = el('img', { src: url(`web/records/${record.id}/thumbnail`), alt: '', loading: 'lazy', draggable: 'true' });
    picture.addEventListener('dragstart', (event) => event.dataTransfer.setData('text/danqing-record', record.id));
    const button = el('button', { type: 'button', class: 'dq-thumb', title: record.prompt, 'aria-label': t('s.open', { prompt: record.prompt }), onclick: () => this.app.openRecord(record.id) }, picture);
    return el('div', { role: 'listitem', 'data-id': record.id }, button);
  }

  /** A new picture: on top, unless a search shows something else. */
  add(id) {
    this.adding = this.adding.then(() => this.put(id));
    return this.adding;
  }

  async put(id) {
    for (let list = null; list !== this.loading;) { // a list that was asked for before may not have it
      list = this.loading;
      await list;
    }
    if (this.search.value.trim()) return;
    if (this.list.querySelector(`[data-id="${id}"]`)) return;
    try {
      const record = await ask(`records/${id}`);
      if (this.search.value.trim() || this.list.querySelector(`[data-id="${id}"]`)) return;
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
