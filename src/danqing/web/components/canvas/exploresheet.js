// The pictures of a comparison as a labelled grid in a dialog: columns, rows, one table for each value of the third axis.
import { el, iconButton, relabel, t, url } from './base.js';

const [LEAST, MOST] = [64, 384];
const FULL = 36; // up to so many pictures are shown themselves, more as thumbnails

const WORDS = { queued: 'x.waiting', running: 'x.running', failed: 'x.failed', cancelled: 'x.cancelled', gone: 'x.gone' };
const worded = (state) => WORDS[state] ?? 'x.failed';

/** The names of the axes: "CFG Scale × Prompt S/R". */
export const titled = (keys) => keys.map((key) => t(`ax.${key}`)).reduce((first, second) => t('x.against', { first, second }));

export class Sheet {
  /** @param app {openRecord(id), board}; @param stop() ends what is not painted yet */
  constructor(app, stop) {
    this.app = app;
    this.found = null;
    this.cells = new Map();
    this.title = el('h2', {});
    this.line = el('span', { class: 'dq-tip', role: 'status' });
    this.size = el('input', { type: 'range', min: LEAST, max: MOST, step: 8, tAria: 'x.large', tTitle: 'x.large' });
    this.size.addEventListener('input', () => this.body.style.setProperty('--cell', `${this.size.value}px`));
    this.halt = el('button', { type: 'button', class: 'dq-act', t: 'x.stop', onclick: stop });
    this.save = el('a', { class: 'dq-act dq-save', t: 'x.save', download: '' });
    this.body = el('div', { class: 'dq-sheet-body', tabindex: '0', role: 'region', tAria: 'sec.explore' });
    this.node = el('dialog', { class: 'dq-easel dq-sheet', tAria: 'sec.explore' },
      el('div', { class: 'dq-easel-head' }, this.title, this.line, el('span', { class: 'dq-spring' }), this.size, this.halt, this.save,
        iconButton('close', 'x.close', () => this.close(), { class: 'dq-icon dq-easel-close' })),
      this.body);
    this.node.addEventListener('cancel', (event) => { event.preventDefault(); this.close(); });
  }

  get opened() {
    return this.node.open;
  }

  open(found) {
    if (!this.opened) {
      document.querySelector('.dq-stage-root').append(this.node);
      this.node.showModal();
    }
    this.build(found);
  }

  close() {
    this.node.close();
    this.node.remove();
  }

  relabel() {
    relabel(this.node);
    if (this.found) this.build(this.found);
  }

  /** Lay the tables out anew. */
  build(found) {
    this.found = found;
    this.cells.clear();
    this.title.textContent = titled(found.keys);
    this.title.title = found.prompt;
    this.save.href = url(`web/explore/${found.id}/sheet`);
    const room = (this.body.clientWidth || 900) - (found.rows.length ? 150 : 16);
    const fitting = Math.floor(room / found.columns.length) - 10;
    this.size.value = Math.min(found.rows.length + found.sheets.length ? 208 : 300, Math.max(LEAST + 16, fitting));
    this.body.style.setProperty('--cell', `${this.size.value}px`);
    this.body.replaceChildren(...(found.sheets.length ? found.sheets : [null]).map((label, z) => this.table(found, label, z)));
    this.update(found);
  }

  table(found, label, z) {
    const [across, down, under] = found.keys.map((key) => t(`ax.${key}`));
    const row = (words, y) => el('tr', {}, found.rows.length ? el('th', { scope: 'row', text: words }) : null, ...found.columns.map((_, x) => el('td', {}, this.cell(x, y, z))));
    const rows = found.rows.length ? found.rows : [null];
    return el('table', { class: 'dq-sheet-table' }, label === null ? null : el('caption', { text: `${under}: ${label}` }),
      el('thead', {}, el('tr', {}, found.rows.length ? el('td', { class: 'dq-sheet-corner' }, el('span', { text: `${across} →` }), el('span', { text: `${down} ↓` })) : null,
        ...found.columns.map((words) => el('th', { scope: 'col', text: words })))),
      el('tbody', {}, ...rows.map((words, y) => row(words, y))));
  }

  cell(x, y, z) {
    const button = el('button', { type: 'button', class: 'dq-cell', disabled: true });
    button.addEventListener('click', () => { if (button.dataset.record) this.show(button.dataset.record); });
    this.cells.set(`${x} ${y} ${z}`, button);
    return button;
  }

  show(record) {
    this.close();
    this.app.openRecord(record);
    if (matchMedia('(max-width: 760px)').matches) this.app.board.board.scrollIntoView({ behavior: 'smooth', block: 'center' });
  }

  /** Put in what is painted by now. */
  update(found) {
    if (!this.opened || this.found?.id !== found.id) return;
    this.found = found;
    const small = found.cells.length > FULL;
    for (const { x, y, z, labels, state, record } of found.cells) {
      const button = this.cells.get(`${x} ${y} ${z}`);
      const what = labels.join(', ');
      button.dataset.state = state;
      button.setAttribute('aria-label', record ? t('x.cell', { what }) : `${what}: ${t(worded(state))}`);
      button.disabled = !record;
      if (!record) button.replaceChildren(el('span', { t: worded(state) }));
      else if (button.dataset.record !== record) button.replaceChildren(el('img', { src: url(`web/records/${record}/${small ? 'thumbnail' : 'picture'}`), alt: '', loading: 'lazy', draggable: 'false' }));
      button.dataset.record = record ?? '';
    }
    const done = found.cells.filter(({ record }) => record).length;
    this.line.textContent = t('x.done', { done, count: found.cells.length });
    this.halt.hidden = !found.waiting;
    this.save.hidden = done === 0;
  }
}
