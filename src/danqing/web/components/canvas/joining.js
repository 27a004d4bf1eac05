// Projects on the Paint page: new pictures join the one chosen in the header, a finished one can be added to any, and an
// address can open a picture, a project or a brief here: ?record=ID&to=img2img, ?project=ID&brief=1. What was trained
// comes by ?words=<lora:name:1> into the brief, or by ?negative=name.
import { ask, el, relabel, t, toast, type, url } from './base.js';

const KEPT = 'danqing.project'; // for this tab alone: another one may paint for another client
const SENDS = ['all', 'img2img', 'inpaint', 'outpaint', 'drag', 'words', 'retouch', 'hires'];
const ICON = '<svg viewBox="0 0 20 20" width="18" height="18" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false"><path d="M3 6.5A1.5 1.5 0 0 1 4.5 5h3l2 2h6A1.5 1.5 0 0 1 17 8.5v6a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 3 14.5ZM10 9.5v4M8 11.5h4"/></svg>';

const SET_ICON = '<svg viewBox="0 0 20 20" width="18" height="18" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false"><path d="M6.5 3.5h9a1 1 0 0 1 1 1v9M4.5 6.5h8a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1h-8a1 1 0 0 1-1-1v-8a1 1 0 0 1 1-1ZM8.5 9v5M6 11.5h5"/></svg>';

const kept = (value) => {
  try {
    if (value === undefined) return sessionStorage.getItem(KEPT) ?? '';
    sessionStorage.setItem(KEPT, value);
  } catch {
    // a browser that keeps nothing still paints
  }
  return value ?? '';
};

const WORDS = { words: '#f-prompt textarea', negative: '#f-negative_prompt textarea' };

const settled = () => new Promise((done) => {
  const look = () => (document.documentElement.classList.contains('dq-settled') ? done() : setTimeout(look, 50));
  look();
});

export class Joining {
  /** @param app {set(values), openRecord(id), send(source, to)} */
  constructor(app) {
    this.app = app;
    this.projects = [];
    this.sets = [];
    this.asked = 0;
    this.select = el('select', { class: 'dq-joins', tAria: 'p.join.tip', tTitle: 'p.join.tip', hidden: true });
    this.select.addEventListener('change', () => this.choose(this.select.value));
    document.querySelector('.dq-header .dq-queue')?.before(this.select);
    const asked = new URLSearchParams(location.search);
    this.chosen = asked.get('project') ?? kept();
    this.load().then(() => this.obey(asked));
    addEventListener('focus', () => this.load()); // projects come and go on the other page
  }

  async load() {
    this.asked += 1;
    const { asked } = this;
    try {
      const { projects, sets } = await ask('joining');
      if (asked !== this.asked) return; // the list is asked for again
      Object.assign(this, { projects, sets });
    } catch {
      return; // the header says that the studio does not answer
    }
    this.choose(this.projects.some(({ id }) => id === this.chosen) ? this.chosen : '');
  }

  choose(id) {
    this.chosen = id;
    kept(id);
    this.app.set({ project: id });
    this.draw();
  }

  draw() {
    this.select.hidden = this.projects.length === 0;
    this.select.classList.toggle('chosen', this.chosen !== '');
    this.select.replaceChildren(el('option', { value: '', t: 'p.join.none' }), ...this.projects.map(({ id, name }) => el('option', { value: id, text: name })));
    this.select.value = this.chosen;
  }

  relabel() {
    relabel(this.select.parentElement ?? this.select);
    this.draw();
  }

  /** What the address asks for, once; a reload afterwards finds a plain page. */
  async obey(asked) {
    const record = asked.get('record');
    const to = asked.get('to');
    if (![...asked.keys()].some((name) => ['record', 'project', 'brief', ...Object.keys(WORDS)].includes(name))) return;
    history.replaceState(null, '', location.pathname);
    await settled();
    for (const [name, field] of Object.entries(WORDS)) this.join(document.querySelector(field), asked.get(name)?.slice(0, 400));
    if (record) await this.app.openRecord(record);
    if (record && SENDS.includes(to)) this.app.send(`record:${record}`, to);
    if (asked.get('brief') && this.chosen) {
      const { words } = await ask(`joining/${this.chosen}`).catch(() => ({ words: '' }));
      if (words) type('#f-prompt textarea', words);
    }
  }

  /** Put words behind those of a field, unless they stand there. */
  join(field, words) {
    if (!field || !words || field.value.includes(words)) return;
    type(field, [field.value.replace(/[\s,，]+$/, ''), words].filter(Boolean).join(', '), { focus: false });
  }

  /** The choice of a project for one picture, as a button. */
  button(record) {
    const select = el('select', { tAria: 'p.join', tTitle: 'p.join', 'data-act': 'join' },
      el('option', { value: '', t: 'p.join' }), ...this.projects.map(({ id, name }) => el('option', { value: id, text: name })), el('option', { value: 'new', t: 'p.join.new' }));
    select.addEventListener('change', () => { const { value } = select; select.value = ''; if (value) this.add(value, record); });
    const face = el('span', { class: 'dq-icon dq-join' });
    face.innerHTML = ICON;
    face.append(select);
    return face;
  }

  /** The choice of a training set for one picture, as a button. */
  setButton(record) {
    const select = el('select', { tAria: 'tr.join', tTitle: 'tr.join', 'data-act': 'join-set' });
    const fill = () => select.replaceChildren(el('option', { value: '', t: 'tr.join' }), ...this.sets.map((name) => el('option', { value: `=${name}`, text: name })), el('option', { value: 'new', t: 'tr.join.new' }));
    for (const kind of ['pointerdown', 'focus']) select.addEventListener(kind, fill); // sets come and go on the other page
    fill();
    select.addEventListener('change', () => { const { value } = select; select.value = ''; if (value) this.addToSet(value === 'new' ? null : value.slice(1), record); });
    const face = el('span', { class: 'dq-icon dq-join' });
    face.innerHTML = SET_ICON;
    face.append(select);
    return face;
  }

  /** @param name of a set; null for a new one, named after the brief */
  async addToSet(name, record) {
    try {
      const found = await ask(`joining/set/${record}${name === null ? '' : `?${new URLSearchParams({ name })}`}`, { method: 'POST' });
      toast(t(found.added ? 'tr.join.done' : 'tr.join.same', { name: found.name, count: 1 }), { text: t('p.show'), run: () => { location.href = url(`training#set/${encodeURIComponent(found.name)}`); } });
      await this.load();
    } catch (error) {
      toast(error.text);
    }
  }

  async add(project, record) {
    try {
      const { id, name } = await ask(`joining/${project}/${record}`, { method: 'POST' });
      toast(t('p.join.done', { name }), { text: t('p.show'), run: () => { location.href = url(`projects/${id}#${record}`); } });
      if (project === 'new') await this.load();
    } catch (error) {
      toast(error.text);
    }
  }
}
