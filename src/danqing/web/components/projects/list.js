// All projects: their covers, a search, a new one; renaming, archiving, deleting, each with its way back.
import { el, language, relabel, t, toast, url } from '../canvas/base.js';
import { get, patch, post, remove, since, thumbOf } from './api.js';
import { BriefForm, EMPTY } from './brief.js';
import { askLine, field, moreButton, plural, sheet } from './sheets.js';
import { joinSet } from '../training/joinset.js';

const WAIT_MS = 250;
const STATES = ['active', 'archived', 'deleted'];

/** Do something to a project that can be taken back from a toast. */
export async function undoable(project, act, { words, back, done }) {
  try {
    await act();
  } catch (error) {
    toast(error.text);
    return;
  }
  await done();
  toast(t(words, { name: project.name }), back && { text: t('s.restore'), run: async () => {
    try {
      await back();
    } catch (error) {
      toast(error.text);
    }
    await done();
  } });
}

/** What can be done with a project as a whole. @param done() afterwards @param gone() when it left the place it was shown at */
export function projectMenu(project, { done, gone = done }) {
  const { id } = project;
  const to = (path) => () => post(`projects/${id}/${path}`);
  const archive = { t: 'p.archive', run: () => undoable(project, to('archive'), { words: 'p.archived', back: to('unarchive'), done: gone }) };
  const unarchive = { t: 'p.unarchive', run: () => undoable(project, to('unarchive'), { words: 'p.unarchived', back: to('archive'), done }) };
  const restore = { t: 'p.restore', run: () => undoable(project, to('restore'), { words: 'p.restored', done }) };
  const erase = { t: 'p.delete', danger: true, run: () => undoable(project, () => remove(`projects/${id}`), { words: 'p.deleted', back: to('restore'), done: gone }) };
  if (project.deleted_at) return [restore];
  return [{ t: 'p.rename', run: () => rename(project, done) }, { t: 'tr.join.all', run: () => joinSet({ project: id }, project.name) }, project.archived_at ? unarchive : archive, erase];
}

/** Ask for another name. */
export async function rename(project, done) {
  const said = await askLine({ title: 'p.rename', label: 'p.name', value: project.name, send: (name) => patch(`projects/${project.id}`, { name }) });
  if (said) await done();
}

export class ProjectList {
  /** @param go(path) opens an address of this page */
  constructor(root, go) {
    this.go = go;
    this.state = 'active';
    this.asked = 0;
    this.found = [];
    this.next = null;
    this.cards = new Map(); // by what they say
    this.search = el('input', { type: 'search', class: 'dq-search', maxlength: '200', tPlaceholder: 'p.search', tAria: 'p.search' });
    this.search.addEventListener('input', () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.load(), WAIT_MS); });
    this.states = el('div', { class: 'dq-sides', role: 'group', tAria: 'p.which' },
      ...STATES.map((state) => el('button', { type: 'button', t: `p.state.${state}`, 'data-state': state, onclick: () => { this.state = state; this.load(); } })));
    this.grid = el('div', { class: 'dp-cards', role: 'list' });
    this.note = el('div', { class: 'dp-empty', hidden: true });
    this.older = el('button', { type: 'button', class: 'dq-link dp-older', t: 's.history.more', hidden: true, onclick: () => this.load(true) });
    this.node = el('section', { class: 'dp-list' },
      el('div', { class: 'dp-bar' }, el('h2', { t: 'nav.projects' }), this.search, this.states, el('span', { class: 'dq-spring' }), this.newButton()),
      this.note, this.grid, this.older);
    root.replaceChildren(this.node);
    this.load();
  }

  newButton() {
    return el('button', { type: 'button', class: 'dp-primary', t: 'p.new', 'data-act': 'new', onclick: () => this.create() });
  }

  end() {
    this.asked += 1;
  }

  relabel() {
    relabel(this.node);
    this.draw();
  }

  async load(further = false) {
    this.asked += 1;
    const { asked } = this;
    const query = new URLSearchParams({ search: this.search.value.trim(), state: this.state, limit: 48, ...(further ? { before: this.next } : {}) });
    try {
      const answer = await get(`projects?${query}`);
      if (asked !== this.asked) return;
      this.found = further ? [...this.found, ...answer.projects] : answer.projects;
      this.next = answer.next;
      this.draw();
    } catch (error) {
      if (asked === this.asked) toast(error.text);
    }
  }

  draw() {
    for (const button of this.states.children) button.setAttribute('aria-pressed', String(button.dataset.state === this.state));
    const before = this.cards;
    this.cards = new Map(this.found.map((summary) => [JSON.stringify([language(), since(summary.project.updated_at), summary]), summary]));
    // a card that says the same stays: one that is pressed just now would lose the press
    for (const [key, summary] of this.cards) this.cards.set(key, before.get(key) ?? this.card(summary));
    const nodes = [...this.cards.values()];
    if (nodes.length !== this.grid.children.length || nodes.some((node, i) => node !== this.grid.children[i])) this.grid.replaceChildren(...nodes);
    this.older.hidden = this.next === null;
    this.note.hidden = this.found.length > 0;
    if (!this.found.length) this.note.replaceChildren(...this.nothing());
    this.node.classList.add('ready');
  }

  nothing() {
    if (this.search.value.trim()) return [el('p', { text: t('s.history.none', { text: this.search.value.trim() }) })];
    if (this.state !== 'active') return [el('p', { t: `p.none.${this.state}` })];
    return [el('img', { class: 'dq-hills', src: url('web/static/hills.svg'), alt: '' }), el('h3', { t: 'p.none.title' }), el('p', { t: 'p.none.text' }), this.newButton()];
  }

  card({ project, versions, open_suggestions: open, shares, cover }) {
    const address = `projects/${project.id}`;
    const facts = [versions ? plural('p.versions', versions) : t('p.versions.none'), shares > 0 && plural('p.links', shares)].filter(Boolean).join(' · ');
    const face = el('a', { class: 'dp-card-face', href: url(address) },
      el('span', { class: 'dp-cover' }, cover ? el('img', { src: thumbOf(cover), alt: '', loading: 'lazy' }) : el('span', { class: 'dp-letter', 'aria-hidden': 'true', text: [...project.name.trim()][0] ?? '' }),
        open > 0 ? el('span', { class: 'dp-pill', text: plural('p.opens', open) }) : null),
      el('span', { class: 'dp-card-name', text: project.name }),
      el('span', { class: 'dp-card-facts', text: `${facts} · ${since(project.updated_at)}` }));
    face.addEventListener('click', (event) => { if (!event.metaKey && !event.ctrlKey && !event.shiftKey) { event.preventDefault(); this.go(address); } });
    if (project.deleted_at) { face.removeAttribute('href'); face.classList.add('gone'); }
    return el('article', { class: 'dp-card', role: 'listitem', 'data-project': project.id }, face,
      moreButton('p.more', () => projectMenu(project, { done: () => this.load() }), { class: 'dq-icon dp-card-more' }));
  }

  async create() {
    const name = el('input', { type: 'text', maxlength: '120', required: true, autofocus: true, name: 'name' });
    const form = new BriefForm();
    form.fill(EMPTY);
    const made = await sheet({ title: 'p.new', wide: true, ok: 'p.create', send: () => (name.value.trim() ? post('projects', { name: name.value.trim(), brief: form.value() }) : undefined) },
      field('p.name', name), form.node);
    if (made) this.go(`projects/${made.id}`);
  }
}
