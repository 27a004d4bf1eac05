// One project: its tree, the version looked at, its reviews, its links and its brief, all live.
import { ask, el, iconButton, relabel, t, toast, url } from '../canvas/base.js';
import { all, get, languageNames, listen, patch, post } from './api.js';
import { Asking } from './asking.js';
import { BriefForm } from './brief.js';
import { projectMenu, rename } from './list.js';
import { pick } from './picker.js';
import { Picture } from './picture.js';
import { Refining } from './refining.js';
import { Reviews } from './reviews.js';
import { isOpen, Shares } from './shares.js';
import { menuButton, moreButton, plural } from './sheets.js';
import { Tree } from './tree.js';
import { VersionCard } from './version.js';

const SETTLE_MS = 120; // events come in bunches: what they tell of is read once
const NARROW = '(max-width: 760px)';
const TABS = ['reviews', 'refine', 'shares', 'brief'];

export class ProjectPage {
  /** @param go(path) opens an address of this page */
  constructor(root, id, go) {
    Object.assign(this, { id, go, project: null, tree: { versions: [], roots: [] }, reviews: [], shares: [], chosen: null, asked: 0, wanted: 0 });
    this.root = root;
    this.map = new Tree((record) => this.choose(record), matchMedia(NARROW));
    this.picture = new Picture(this);
    this.asking = new Asking(this);
    this.refining = new Refining(this);
    this.card = new VersionCard(this);
    this.talk = new Reviews(this);
    this.links = new Shares(this);
    this.brief = new BriefForm(() => this.briefChanged());
    this.build();
    this.unlisten = listen(id, {
      opened: () => { this.live(true); this.changed(); this.refining.changed(); },
      happened: (kind, event) => this.happened(kind, event),
      lost: () => this.live(false),
    });
    this.changed();
    this.refining.changed();
  }

  build() {
    this.title = el('button', { type: 'button', class: 'dp-name', tTitle: 'p.rename', onclick: () => rename(this.project, () => this.changed()) });
    this.state = el('span', { class: 'dp-chip', hidden: true });
    this.liveMark = el('span', { class: 'dp-live', role: 'status' });
    const exports = () => Object.entries(languageNames()).map(([tag, text]) => ({ text, lang: tag, name: tag, href: url(`api/v1/projects/${this.id}/export?language=${tag}`) }));
    this.bar = el('div', { class: 'dp-bar' }, iconButton('back', 'p.all', () => this.go('projects'), { 'data-act': 'all' }), this.title, this.state, this.liveMark, el('span', { class: 'dq-spring' }),
      menuButton('p.export', exports, { 'data-act': 'export' }),
      el('button', { type: 'button', class: 'dp-second', t: 'p.share.new', 'data-act': 'share', onclick: () => { this.open('shares'); this.links.create(); } }),
      moreButton('p.more', () => projectMenu(this.project, { done: () => this.changed(), gone: () => this.go('projects') }), { 'data-act': 'project-more' }));
    this.count = el('h2', {});
    const add = () => [
      { t: 'p.add.gallery', run: () => this.addFromGallery() }, { t: 'p.add.newest', run: () => this.addNewest() },
      { t: 'p.add.paint', href: url(`./?${new URLSearchParams({ project: this.id, brief: '1' })}`) },
    ];
    this.versions = el('section', { class: 'dp-versions', tAria: 'p.tree' }, el('div', { class: 'dp-versions-head' }, this.count, menuButton('p.add', add, { 'data-act': 'add' })), this.map.node);
    this.nothing = el('div', { class: 'dp-empty', hidden: true }, el('img', { class: 'dq-hills', src: url('web/static/hills.svg'), alt: '' }), el('h3', { t: 'p.empty.title' }), el('p', { t: 'p.empty.text' }),
      el('div', { class: 'dp-row' }, el('a', { class: 'dp-primary', href: url(`./?${new URLSearchParams({ project: this.id, brief: '1' })}`), t: 'p.add.paint' }), el('button', { type: 'button', class: 'dq-act', t: 'p.add.gallery', onclick: () => this.addFromGallery() })));
    this.middle = el('div', { class: 'dp-middle' }, this.nothing, this.picture.node, this.card.node);
    this.saved = el('span', { class: 'dq-tip', role: 'status' });
    this.save = el('button', { type: 'button', class: 'dp-second', t: 'p.brief.save', 'data-act': 'save-brief', onclick: () => this.saveBrief() });
    const briefPanel = el('div', {}, this.brief.node, el('div', { class: 'dp-row dp-brief-foot' }, this.save, this.saved));
    const panels = { reviews: this.talk.node, refine: this.refining.node, shares: this.links.node, brief: briefPanel };
    this.tabs = el('div', { class: 'dq-tabs', role: 'tablist' }, ...TABS.map((name) => el('button', { type: 'button', role: 'tab', id: `dp-tab-${name}`, 'aria-controls': `dp-panel-${name}`, 'data-tab': name, onclick: () => this.open(name) }, el('span', { t: `p.tab.${name}` }), el('span', { class: 'dq-count' }))));
    this.tabs.addEventListener('keydown', (event) => this.tabKey(event));
    this.panels = TABS.map((name) => { const panel = el('div', { class: 'dp-panel', role: 'tabpanel', id: `dp-panel-${name}`, 'aria-labelledby': `dp-tab-${name}` }); panel.append(panels[name]); return panel; });
    this.side = el('aside', { class: 'dp-side' }, this.tabs, ...this.panels);
    this.node = el('div', { class: 'dp-project' }, this.bar, el('div', { class: 'dp-columns' }, this.versions, this.middle, this.side));
    this.root.replaceChildren(this.node);
    this.open('reviews');
  }

  end() {
    this.ended = true;
    this.unlisten();
    this.map.end();
    this.talk.end();
    this.asking.end();
    this.refining.end();
    clearTimeout(this.timer);
  }

  relabel() {
    relabel(this.node);
    if (!this.project) return;
    this.draw();
    for (const part of [this.picture, this.card, this.talk, this.links, this.refining]) part.relabel();
    this.asking.draw();
    this.brief.drawColours();
    this.brief.drawReferences();
  }

  // what is there ---------------------------------------------------------------------------------------------------
  /** Read everything again; calls that come together read once. Resolves when it is shown. */
  changed() {
    clearTimeout(this.timer);
    return new Promise((done) => {
      this.waiting = [...(this.waiting ?? []), done];
      this.timer = setTimeout(() => this.load(), SETTLE_MS);
    });
  }

  async load() {
    const waiting = this.waiting ?? [];
    this.waiting = [];
    this.asked += 1;
    const { asked, id } = this;
    try {
      const [summary, tree, reviews, { shares }] = await Promise.all([get(`projects/${id}`), get(`projects/${id}/tree`), all(`projects/${id}/reviews?limit=100`, 'reviews'), get(`projects/${id}/shares`)]);
      if (asked === this.asked && !this.ended) this.take(summary.project, tree, reviews, shares);
    } catch (error) {
      if (!this.ended) this.refused(error);
    }
    for (const done of waiting) done();
  }

  refused(error) {
    if (this.project || error.status !== 404) { toast(error.text); return; }
    this.root.replaceChildren(el('div', { class: 'dp-empty' }, el('h3', { text: error.text }), el('button', { type: 'button', class: 'dq-act', t: 'p.all', onclick: () => this.go('projects') })));
    this.end();
  }

  take(project, tree, reviews, shares) {
    const first = this.project === null;
    Object.assign(this, { project, reviews, shares });
    const order = [...tree.versions].sort((a, b) => a.created_at.localeCompare(b.created_at) || a.record.localeCompare(b.record));
    order.forEach((version, i) => { version.number = i + 1; });
    this.tree = tree;
    this.numbers = this.numbered();
    if (first || !this.briefDirty) this.brief.fill(project.brief);
    if (first) this.chosen = decodeURIComponent(location.hash.slice(1));
    if (!this.find(this.chosen)) this.chosen = (this.find(tree.current) ?? order.at(-1))?.record ?? null;
    this.talk.show(reviews);
    this.links.show(shares);
    this.draw();
  }

  draw() {
    const { project, tree } = this;
    document.title = `${project.name} · ${t('p.title')}`;
    this.title.textContent = project.name;
    const state = project.deleted_at ? 'deleted' : project.archived_at ? 'archived' : null;
    this.state.hidden = state === null;
    if (state) this.state.textContent = t(`p.state.${state}`);
    this.count.textContent = tree.versions.length ? plural('p.versions', tree.versions.length) : t('p.versions.none');
    const none = tree.versions.length === 0;
    this.nothing.hidden = !none;
    this.picture.node.hidden = this.card.node.hidden = none;
    this.node.classList.toggle('none', none);
    this.map.show(tree, this.chosen);
    this.asking.draw();
    this.refining.redraw();
    this.counted();
    if (!none) this.showChosen();
    this.node.classList.add('ready');
  }

  /** The numbers on the tabs. */
  counted() {
    const { reviews, shares } = this;
    const open = reviews.flatMap(({ suggestions }) => suggestions).filter((suggestion) => suggestion.state === 'open').length;
    const counts = { reviews: open || '', refine: this.refining.running || '', shares: shares.filter(isOpen).length || '', brief: '' };
    for (const tab of this.tabs.children) tab.lastChild.textContent = counts[tab.dataset.tab];
  }

  showChosen() {
    const version = this.find(this.chosen);
    this.picture.show(version, this.marksOf(version.record));
    this.card.show(version);
    this.talk.filter();
  }

  live(on) {
    this.liveMark.classList.toggle('on', on);
    this.liveMark.title = this.liveMark.ariaLabel = t(on ? 'p.live' : 'p.live.off');
  }

  happened(kind, event) {
    if (kind === 'review') {
      const before = new Set(this.reviews.map(({ id }) => id));
      this.changed().then(() => this.greet(event.review, before));
    } else if (kind === 'refinement') this.refining.changed();
    else this.changed();
  }

  /** A word on a review that has just come by a link. */
  greet(id, before) {
    const review = this.reviews.find((each) => each.id === id);
    if (!review || before.has(id) || !review.share) return;
    toast(t('p.came', { name: review.reviewer || t('p.nobody') }), { text: t('p.show'), run: () => { this.open('reviews'); this.choose(review.record_id); } });
  }

  // what the parts ask ----------------------------------------------------------------------------------------------
  find(record) {
    return this.tree.versions.find((version) => version.record === record) ?? null;
  }

  name(version) {
    return t('p.version', { number: version.number });
  }

  /** The other versions, the nearest kin first. */
  others(record) {
    const { parent } = this.find(record);
    const rest = this.tree.versions.filter((version) => version.record !== record);
    return rest.sort((a, b) => Number(b.record === parent) - Number(a.record === parent) || Number(b.current) - Number(a.current) || a.number - b.number);
  }

  openShares() {
    return this.shares.filter(isOpen);
  }

  /** Numbers of the suggestions, from 1 for each version, oldest review first. */
  numbered() {
    const counts = {};
    const numbers = new Map();
    for (const review of [...this.reviews].reverse()) {
      for (const { id } of review.suggestions) {
        counts[review.record_id] = (counts[review.record_id] ?? 0) + 1;
        numbers.set(id, counts[review.record_id]);
      }
    }
    return numbers;
  }

  numberOf(suggestion) {
    return this.numbers.get(suggestion);
  }

  marksOf(record) {
    const own = this.reviews.filter((review) => review.record_id === record).flatMap(({ suggestions, source }) => suggestions.map((suggestion) => ({ suggestion, number: this.numberOf(suggestion.id), source })));
    return own.filter(({ suggestion }) => suggestion.state !== 'dismissed');
  }

  choose(record) {
    if (!this.find(record)) return;
    this.chosen = record;
    history.replaceState(null, '', `${location.pathname}${location.search}#${record}`);
    this.map.mark(record);
    this.showChosen();
  }

  compare(record, before) {
    this.choose(record);
    this.picture.compare(before);
  }

  /** A suggestion is looked at in the list: its mark stands out. */
  pointing(suggestion, record) {
    if (record === this.chosen) this.picture.point(suggestion);
  }

  /** A mark on the picture was pressed. */
  pointed(suggestion) {
    this.open('reviews');
    this.talk.reveal(suggestion);
    this.picture.point(suggestion);
  }

  // tabs ------------------------------------------------------------------------------------------------------------
  open(name) {
    TABS.forEach((each, i) => {
      this.panels[i].hidden = each !== name;
      this.tabs.children[i].setAttribute('aria-selected', String(each === name));
      this.tabs.children[i].tabIndex = each === name ? 0 : -1;
    });
  }

  tabKey(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const at = TABS.indexOf(document.activeElement.dataset.tab);
    const next = (at + by + TABS.length) % TABS.length;
    this.open(TABS[next]);
    this.tabs.children[next].focus();
  }

  // brief and new versions ------------------------------------------------------------------------------------------
  briefChanged() {
    this.briefDirty = true;
    this.saved.textContent = t('p.brief.unsaved');
  }

  async saveBrief() {
    try {
      await patch(`projects/${this.id}`, { brief: this.brief.value() });
      this.briefDirty = false;
      this.saved.textContent = t('p.brief.saved');
    } catch (error) {
      this.saved.textContent = error.text;
    }
    await this.changed();
  }

  async add(records) {
    try {
      await post(`projects/${this.id}/records`, { records });
      await this.changed();
      this.choose(records.at(-1));
    } catch (error) {
      toast(error.text);
    }
  }

  async addFromGallery() {
    const records = await pick({ title: 'p.add.gallery', ok: 'p.add', taken: new Set(this.tree.versions.map(({ record }) => record)) });
    if (records) await this.add(records);
  }

  async addNewest() {
    try {
      const [newest] = (await ask('records?search=')).records;
      if (newest) await this.add([newest.id]);
      else toast(t('p.pick.none'));
    } catch (error) {
      toast(error.text);
    }
  }
}
