// What is done to many pictures of a set at once: tags, captions, crops, repeats, class pictures, removing.
import { el, relabel, t } from '../canvas/base.js';
import { patch, post } from '../projects/api.js';
import { askLine, menuButton } from '../projects/sheets.js';
import { select } from './choice.js';

const ACTIONS = ['add', 'remove', 'replace', 'set'];
const SHAPES = [['tr.shape.own', null], ['1:1', 1], ['4:3', 4 / 3], ['3:4', 3 / 4], ['3:2', 1.5], ['2:3', 2 / 3], ['16:9', 16 / 9]];

export class Bulk {
  /** @param grid whose pictures @param does {send(path, body, way): one edit, auto(): captions by looking} */
  constructor(grid, does) {
    Object.assign(this, { grid, does });
    this.who = el('strong', { class: 'dt-who', role: 'status' });
    this.action = select('action', ACTIONS.map((each) => [each, { t: `tr.edit.${each}` }]), 'add', () => this.draw());
    this.action.setAttribute('aria-label', t('tr.edit'));
    this.text = el('input', { type: 'text', name: 'tags', maxlength: '400', spellcheck: 'false', tPlaceholder: 'tr.edit.tags', tAria: 'tr.edit.tags' });
    this.by = el('input', { type: 'text', name: 'by', maxlength: '400', spellcheck: 'false', tPlaceholder: 'tr.edit.by', tAria: 'tr.edit.by' });
    this.where = select('where', [['end', { t: 'tr.edit.end' }], ['start', { t: 'tr.edit.start' }]], 'end');
    this.where.setAttribute('aria-label', t('tr.edit.where'));
    this.form = el('form', { class: 'dp-row' }, this.action, this.text, this.by, this.where, el('button', { type: 'submit', class: 'dp-second', t: 'tr.edit.apply', 'data-act': 'apply' }));
    this.form.addEventListener('submit', (event) => { event.preventDefault(); this.apply(); });
    this.node = el('div', { class: 'dt-bulk' }, this.who, this.form,
      el('button', { type: 'button', class: 'dq-act', t: 'tr.auto', tTitle: 'tr.auto.tip', 'data-act': 'auto', onclick: () => does.auto() }),
      menuButton('tr.crop', () => this.crops()), menuButton('tr.more', () => this.others()));
  }

  draw() {
    this.node.hidden = this.grid.rows.length === 0;
    relabel(this.node);
    this.who.textContent = this.grid.chosenWords();
    const { value } = this.action;
    this.by.hidden = value !== 'replace';
    this.where.hidden = value !== 'add';
    this.text.setAttribute('placeholder', t(value === 'set' ? 'tr.edit.caption' : 'tr.edit.tags'));
  }

  about(body) {
    const files = this.grid.chosenFiles();
    return files === null ? body : { ...body, files };
  }

  async apply() {
    const action = this.action.value;
    const [text, by] = [this.text.value.trim(), this.by.value.trim()];
    if (!text && action !== 'set') return this.text.focus();
    const edit = { action, text, ...(action === 'replace' ? { by } : {}), ...(action === 'add' ? { where: this.where.value } : {}) };
    if (await this.does.send('/captions', this.about({ edit }))) { this.text.value = ''; this.by.value = ''; }
    return undefined;
  }

  pictures(changes) {
    return this.does.send('/pictures', this.about({ changes }), patch);
  }

  crops() {
    const shape = ([name, aspect]) => ({ ...(aspect === null ? { t: name } : { text: t('tr.crop.subject', { shape: name }) }), name, run: () => this.pictures({ crop_way: 'subject', ...(aspect === null ? {} : { aspect }) }) });
    return [...SHAPES.map(shape), { t: 'tr.crop.tight', run: () => this.pictures({ crop_way: 'tight' }) }, { t: 'tr.crop.centre', run: () => this.pictures({ crop_way: 'centre', aspect: 1 }) },
      { t: 'tr.crop.whole', run: () => this.pictures({ whole: true }) }];
  }

  others() {
    const files = () => this.grid.chosenFiles() ?? this.grid.rows.map(({ picture }) => picture.file);
    return [{ t: 'tr.repeats.set', run: () => this.repeats() }, { t: 'tr.regularisation.on', run: () => this.pictures({ regularisation: true }) },
      { t: 'tr.regularisation.off', run: () => this.pictures({ regularisation: false }) },
      { t: 'tr.remove', danger: true, run: () => this.does.send('/pictures/remove', { files: files() }, post) }];
  }

  repeats() {
    return askLine({ title: 'tr.repeats.set', label: 'tr.repeats', value: '2', max: 5, send: async (said) => {
      const count = Number(said);
      if (!Number.isInteger(count) || count < 0 || count > 10000) throw { text: t('tr.repeats.wrong') };
      await this.pictures({ repeats: count });
      return true;
    } });
  }
}
