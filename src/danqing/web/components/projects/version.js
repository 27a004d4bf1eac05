// What a version is: what changed, labels, note, on which links it stands, and what can be done with it.
import { el, iconButton, language, t, toast, url } from '../canvas/base.js';
import { moment, patch, pictureOf, post, remove } from './api.js';
import { changeList, nameOf } from './changes.js';
import { signButton, wordButton } from './icons.js';
import { check, moreButton } from './sheets.js';
import { joinSet } from '../training/joinset.js';

const MOST = { labels: 16, label: 40, note: 4000 };

export class VersionCard {
  /** @param page {id, changed() reads the tree again, find(record), name(version), shares} */
  constructor(page) {
    this.page = page;
    this.version = null;
    this.parts = Object.fromEntries(['acts', 'labels', 'note', 'changes', 'facts', 'links'].map((name) => [name, { key: '', node: el('div', {}) }]));
    this.node = el('section', { class: 'dp-version', tAria: 'p.about' }, ...Object.values(this.parts).map(({ node }) => node));
  }

  /** Show a version. Only what is new is drawn again: a button stays under the finger, and what is being written stays too. */
  show(version) {
    this.version = version;
    const { record, parent, current, starred, labels, note } = version;
    const from = parent && this.page.find(parent)?.number;
    this.fill('acts', [current, starred], () => this.actions());
    this.fill('labels', [labels], () => this.labels());
    this.fill('note', [note], () => this.note());
    this.fill('changes', [from], () => this.changes());
    this.fill('facts', [], () => this.facts());
    this.fill('links', this.page.openShares().map((share) => [share.id, share.name, share.records.includes(record)]), () => this.links());
  }

  fill(name, facts, build) {
    const part = this.parts[name];
    const { record } = this.version;
    const key = JSON.stringify([record, language(), facts]);
    const writing = part.record === record && part.node.contains(document.activeElement) && document.activeElement.matches('textarea, input[type="text"]');
    if (part.key === key || writing) return;
    Object.assign(part, { key, record });
    part.node.replaceChildren(...[build()].flat());
  }

  relabel() {
    if (this.version) this.show(this.version);
  }

  /** Do something and read the tree again; what is wrong is said in a toast. */
  async act(doing) {
    try {
      await doing();
    } catch (error) {
      toast(error.text);
    }
    await this.page.changed();
  }

  change(values) {
    const { record } = this.version;
    return this.act(() => patch(`projects/${this.page.id}/records/${record}`, values));
  }

  actions() {
    const { record, current, starred } = this.version;
    const { id } = this.page;
    const star = signButton(starred ? 'starred' : 'star', 'p.star', () => this.change({ starred: !starred }), { class: 'dq-icon dp-star', 'aria-pressed': String(starred) });
    const make = current ? null : el('button', { type: 'button', class: 'dq-act', t: 'p.make', tTitle: 'p.make.tip', 'data-act': 'current', onclick: () => this.act(() => post(`projects/${id}/current`, { record })) });
    const paint = (to) => `./?${new URLSearchParams({ record, project: id, ...(to ? { to } : {}) })}`;
    const items = () => [
      ...['all', 'img2img', 'inpaint', 'outpaint', 'drag', 'words', 'retouch'].map((to) => ({ t: to === 'all' ? 's.reuse.all' : `p.send.${to}`, href: url(paint(to)) })),
      { t: 'tr.join.more', run: () => joinSet({ records: [record] }, this.version.prompt) },
      { t: 's.download', href: `${pictureOf(record)}?download=true` },
      { t: 'p.take', danger: true, run: () => this.takeOut() },
    ];
    const { asking, refining } = this.page;
    return el('div', { class: 'dp-row dp-version-acts' },
      wordButton('ask', 'p.ask', () => asking.choose(this.version), { tTitle: 'p.ask.tip', 'data-act': 'ask' }),
      wordButton('refine', 'p.refine', () => refining.choose(this.version), { tTitle: 'p.refine.tip', 'data-act': 'refine' }), make,
      el('a', { class: 'dq-act', href: url(paint('')), t: 'p.paint', tTitle: 'p.paint.tip', 'data-act': 'paint' }), star, moreButton('p.more', items, { 'data-act': 'version-more' }));
  }

  async takeOut() {
    const { record, number } = this.version;
    const { id } = this.page;
    await this.act(() => remove(`projects/${id}/records/${record}`));
    toast(t('p.taken', { number }), { text: t('s.restore'), run: () => this.act(() => post(`projects/${id}/records`, { records: [record] })) });
  }

  labels() {
    const { labels } = this.version;
    const chips = labels.map((label) => el('span', { class: 'dp-chip' }, el('span', { text: label }),
      iconButton('close', 'p.label.remove', () => this.change({ labels: labels.filter((each) => each !== label) }))));
    const input = el('input', { type: 'text', class: 'dp-label-new', maxlength: MOST.label, tPlaceholder: 'p.label.add', tAria: 'p.label.add' });
    const add = () => {
      const label = input.value.trim();
      input.value = '';
      if (label && !labels.includes(label) && labels.length < MOST.labels) this.change({ labels: [...labels, label] });
    };
    input.addEventListener('keydown', (event) => { if (event.key === 'Enter') { event.preventDefault(); const kept = input.value; input.blur(); input.value = kept; add(); } });
    return el('div', { class: 'dp-labels' }, ...chips, labels.length < MOST.labels ? input : null);
  }

  note() {
    const area = el('textarea', { rows: '2', maxlength: MOST.note, tPlaceholder: 'p.note.example', tAria: 'p.note', class: 'dp-note' });
    area.value = this.version.note;
    const { record } = this.version;
    area.addEventListener('change', () => this.act(() => patch(`projects/${this.page.id}/records/${record}`, { note: area.value })));
    return area;
  }

  changes() {
    const { parent, changes } = this.version;
    const from = parent && this.page.find(parent);
    if (!from) return [];
    return [el('h3', { text: t('p.changes.from', { name: this.page.name(from) }) }), changes.length ? changeList(changes) : el('p', { class: 'dq-tip', t: 'p.changes.none' })];
  }

  facts() {
    const { prompt, kind, seed, model, width_px: width, height_px: height, created_at: made } = this.version;
    const rows = [[t('p.kind'), t(`p.kind.${kind}`)], [t('s.d.size'), `${width} × ${height}`], [nameOf('seed'), String(seed)], [nameOf('model'), model], [t('s.d.made'), moment(made)]];
    return [el('h3', { t: 'prompt' }), el('p', { class: 'dp-prompt', text: prompt || '—' }),
      el('dl', { class: 'dp-facts' }, ...rows.flatMap(([name, value]) => [el('dt', { text: name }), el('dd', { text: value })]))];
  }

  /** On which open links it stands; a tick puts it there. */
  links() {
    const { record } = this.version;
    const open = this.page.openShares();
    if (!open.length) return [];
    const line = (share) => {
      const { box, node } = check(null, share.records.includes(record), { 'data-share': share.id }, share.name);
      box.addEventListener('change', () => this.act(() => (box.checked ? post(`shares/${share.id}/records`, { records: [record] }) : remove(`shares/${share.id}/records/${record}`))));
      return node;
    };
    return [el('h3', { t: 'p.on' }), el('div', { class: 'dp-ons' }, ...open.map(line))];
  }
}
