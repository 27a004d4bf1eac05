// The pictures of a set: captions edited in place, complaints as badges, a filter, some or all of them chosen.
import { el, relabel, t, toast } from '../canvas/base.js';
import { get, patch } from '../projects/api.js';
import { plural } from '../projects/sheets.js';
import { addressOf, later, setPath } from './api.js';
import { cropSheet } from './crop.js';
import { select } from './choice.js';

const PAGE = 120;
const SEARCH_MS = 250;
const FILTERS = ['', 'complaint', 'blurred', 'small', 'duplicate', 'no_caption', 'unreadable', 'subject', 'regularisation', 'masked', 'mapped', 'unmapped'];

export class Grid {
  /** @param on {changed(): one picture is another, chosen(): others are chosen, kind(): what the set teaches} */
  constructor(set, on) {
    Object.assign(this, { set, on, rows: [], total: 0, next: null, asked: 0, chosen: new Set() });
    this.filter = select('only', FILTERS.map((key) => [key, { t: `tr.only.${key || 'all'}` }]), '', () => this.load());
    this.filter.setAttribute('aria-label', t('tr.only'));
    this.search = el('input', { type: 'search', class: 'dq-search', maxlength: '200', tPlaceholder: 'tr.search', tAria: 'tr.search' });
    this.search.addEventListener('input', later(() => this.load(), SEARCH_MS));
    this.all = el('button', { type: 'button', class: 'dq-link', 'data-act': 'all', onclick: () => this.chooseAll() });
    this.tools = el('div', { class: 'dt-tools' }, this.filter, this.search, this.all);
    this.tiles = el('div', { class: 'dt-grid', role: 'list' });
    this.note = el('p', { class: 'dp-none dq-tip' });
    this.more = el('button', { type: 'button', class: 'dq-link dp-older', t: 's.history.more', hidden: true, onclick: () => this.load(true) });
    this.node = el('div', {}, this.note, this.tiles, this.more);
  }

  async load(further = false) {
    this.asked += 1;
    const { asked } = this;
    const query = new URLSearchParams({ limit: String(further ? PAGE : Math.max(PAGE, Math.min(500, this.rows.length))), search: this.search.value.trim() });
    if (this.filter.value) query.set('only', this.filter.value);
    if (further) query.set('after', this.next);
    try {
      const page = await get(`${setPath(this.set, '/pictures')}?${query}`);
      if (asked !== this.asked) return;
      this.rows = further ? [...this.rows, ...page.pictures] : page.pictures;
      Object.assign(this, { total: page.total, next: page.next });
      const there = new Set(this.rows.map(({ picture }) => picture.file));
      this.chosen = new Set([...this.chosen].filter((file) => there.has(file)));
      this.draw();
    } catch (error) {
      if (asked === this.asked) toast(error.text);
    }
  }

  draw() {
    const before = new Map([...this.tiles.children].map((tile) => [tile.dataset.key, tile]));
    const nodes = this.rows.map((row) => {
      const key = this.keyOf(row);
      const tile = before.get(key) ?? this.tile(row, key); // one that says the same stays, with what is being typed there
      tile.classList.toggle('chosen', this.chosen.has(row.picture.file));
      tile.querySelector('.dt-pick').checked = this.chosen.has(row.picture.file);
      return tile;
    });
    if (nodes.length !== this.tiles.children.length || nodes.some((node, i) => node !== this.tiles.children[i])) this.tiles.replaceChildren(...nodes);
    this.more.hidden = this.next === null;
    const narrowed = Boolean(this.filter.value || this.search.value.trim());
    this.note.hidden = this.rows.length > 0;
    this.note.textContent = t(narrowed ? 'tr.grid.none' : 'tr.grid.empty');
    this.tools.hidden = !this.rows.length && !narrowed;
    this.mark();
  }

  /** A tile with another key says something else. */
  keyOf(row) {
    return JSON.stringify([document.documentElement.lang, this.on.kind(), row]);
  }

  mark() {
    this.all.textContent = t(this.chosen.size && this.chosen.size === this.rows.length ? 'tr.choose.none' : 'tr.choose.all');
    this.on.chosen();
  }

  tile(row, key) {
    const { picture } = row;
    const { file } = picture;
    const pick = el('input', { type: 'checkbox', class: 'dt-pick', 'aria-label': t('tr.choose', { name: file }) });
    pick.addEventListener('change', () => { if (pick.checked) this.chosen.add(file); else this.chosen.delete(file); tile.classList.toggle('chosen', pick.checked); this.mark(); });
    const face = el('button', { type: 'button', class: 'dt-face', 'aria-label': t('tr.crop.open', { name: file }), title: t('tr.crop.open', { name: file }), onclick: () => this.open(row) },
      el('img', { src: addressOf(row.thumbnail), alt: '', loading: 'lazy', decoding: 'async' }));
    const caption = el('textarea', { rows: '3', maxlength: '4000', spellcheck: 'false', 'aria-label': t('tr.caption.of', { name: file }), tPlaceholder: 'tr.caption.empty' });
    caption.value = picture.caption;
    caption.addEventListener('change', () => this.write(file, caption.value));
    caption.addEventListener('keydown', (event) => { if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); this.nextCaption(caption); } });
    const tile = el('article', { class: 'dt-tile', role: 'listitem', 'data-file': file, 'data-key': key }, el('div', { class: 'dt-picture' }, face, pick, badges(picture, this.on.kind())), caption);
    return tile;
  }

  /** Enter goes on to the next caption, as in a table. */
  nextCaption(caption) {
    const all = [...this.tiles.querySelectorAll('textarea')];
    const next = all[all.indexOf(caption) + 1];
    if (next) next.focus();
    else caption.blur();
  }

  async write(file, words) {
    try {
      await patch(setPath(this.set, '/pictures'), { changes: { caption: words }, files: [file] });
      const row = this.rows.find(({ picture }) => picture.file === file);
      if (row) Object.assign(row, await get(setPath(this.set, `/pictures/${encodeURIComponent(file)}`)));
      const tile = [...this.tiles.children].find((one) => one.dataset.file === file);
      if (tile && row) tile.dataset.key = this.keyOf(row);
      this.on.changed();
    } catch (error) {
      toast(error.text);
    }
  }

  async open(row) {
    const changed = await cropSheet(this.set, row, this.on.kind());
    if (!changed) return;
    await this.load();
    this.on.changed();
  }

  chooseAll() {
    if (this.chosen.size === this.rows.length) this.chosen.clear();
    else this.chosen = new Set(this.rows.map(({ picture }) => picture.file));
    this.draw();
  }

  /** The files that an edit is about: those chosen, else those that the filter shows; null for all of the set. */
  chosenFiles() {
    if (this.chosen.size) return [...this.chosen];
    return this.filter.value || this.search.value.trim() ? this.rows.map(({ picture }) => picture.file) : null;
  }

  /** Whom an edit is about, in words. */
  chosenWords() {
    const files = this.chosenFiles();
    if (files === null) return t('tr.to.all', { count: this.total });
    return plural(this.chosen.size ? 'tr.to.chosen' : 'tr.to.shown', files.length);
  }

  relabel() {
    relabel(this.tools);
    this.draw();
  }
}

/** What is to be said of a picture at a glance. */
function badges(picture, kind) {
  const list = picture.complaints.map((complaint) => el('span', {
    class: 'dt-badge bad', 'data-complaint': complaint, t: `tr.complaint.${complaint}`,
    title: complaint === 'duplicate' && picture.like ? t('tr.complaint.like', { name: picture.like }) : null,
  }));
  if (picture.regularisation) list.push(el('span', { class: 'dt-badge', t: 'tr.regularisation' }));
  if (picture.repeats !== 1) list.push(el('span', { class: 'dt-badge', text: `×${picture.repeats}`, tTitle: 'tr.repeats' }));
  if (picture.crop) list.push(el('span', { class: 'dt-badge', t: 'tr.cropped' }));
  if (picture.mask) list.push(el('span', { class: 'dt-badge', t: 'tr.masked', 'data-badge': 'mask' }));
  if (picture.conditioning) list.push(el('span', { class: 'dt-badge', t: kind === 'pairs' ? 'tr.side.before' : 'tr.mapped', 'data-badge': 'conditioning' }));
  return el('span', { class: 'dt-badges' }, ...list);
}
