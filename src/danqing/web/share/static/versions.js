// The versions as a strip of small pictures, newest first: number, what was said of each, what is new.

import { el, icon, several, t } from './base.js';

const SIGNS = ['approved', 'picked', 'starred'];
const DRAWN = { approved: 'check', picked: 'pick', starred: 'star' };

export class Versions {
  constructor(model) {
    this.model = model;
    this.items = new Map();
    this.list = el('ul', { class: 'strip' });
    this.node = el('nav', { class: 'versions', tAria: 'versions' }, this.list);
    this.list.addEventListener('keydown', (event) => this.key(event));
  }

  show() {
    const { model } = this;
    const { versions } = model;
    const ids = new Set(versions.map((version) => version.id));
    for (const [id, item] of this.items) {
      if (ids.has(id)) continue;
      item.node.remove();
      this.items.delete(id);
    }
    versions.forEach((version, index) => {
      if (!this.items.has(version.id)) this.items.set(version.id, this.item(version));
      const item = this.items.get(version.id);
      if (this.list.children[index] !== item.node) this.list.insertBefore(item.node, this.list.children[index] ?? null);
      this.update(item, version);
    });
    this.node.hidden = versions.length === 0;
    if (this.last !== model.chosen) this.reveal(this.items.get(model.chosen)?.node);
    this.last = model.chosen;
  }

  /** Bring an item into the strip's window; the page itself stays where it is. */
  reveal(node) {
    if (!node) return;
    const { scrollLeft, clientWidth } = this.list;
    const left = node.offsetLeft - this.list.offsetLeft;
    if (left < scrollLeft + 12) this.list.scrollLeft = left - 24;
    else if (left + node.offsetWidth > scrollLeft + clientWidth - 12) this.list.scrollLeft = left + node.offsetWidth - clientWidth + 24;
  }

  item({ id, thumbnail }) {
    const picture = el('img', { src: thumbnail, alt: '', loading: 'lazy', decoding: 'async', draggable: 'false' });
    const number = el('span', { class: 'nr' });
    const signs = el('span', { class: 'signs' });
    const fresh = el('span', { class: 'fresh', t: 'new' });
    const pen = el('span', { class: 'pen' });
    const button = el('button', { type: 'button', class: 'thumb', onclick: () => this.model.choose(id) }, picture, number, signs, fresh, pen);
    return { node: el('li', {}, button), button, number, signs, fresh, pen };
  }

  update(item, { id, number }) {
    const { model } = this;
    const said = model.verdicts(id);
    const on = { approved: said.approved.length > 0, picked: said.picked || model.flag('picked', id), starred: said.starred || model.flag('starred', id) };
    const names = SIGNS.filter((name) => on[name]);
    const words = [t('version', { number }), ...names.map((name) => t(`sign.${name}`))];
    if (said.remarks) words.push(several('remarks', said.remarks));
    if (model.hasDraft(id)) words.push(t('unsent'));
    if (model.isNew(id)) words.push(t('new'));
    item.number.textContent = String(number);
    if (item.names !== names.join()) item.signs.replaceChildren(...names.map((name) => el('span', { class: name }, icon(DRAWN[name]))));
    item.names = names.join();
    item.fresh.hidden = !model.isNew(id);
    item.pen.hidden = !model.hasDraft(id);
    item.button.setAttribute('aria-label', words.join(', '));
    item.button.title = words.join(', ');
    item.button.setAttribute('aria-current', String(id === model.chosen));
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step) return;
    const ids = this.model.versions.map((version) => version.id);
    const next = ids[ids.indexOf(this.model.chosen) + step];
    event.preventDefault();
    if (!next) return;
    this.model.choose(next);
    this.items.get(next).button.focus();
  }
}
