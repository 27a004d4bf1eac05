// One training set: its pictures with captions, what is done to many at once, and what the trainer is told of it.
import { el, iconButton, relabel, t, toast } from '../canvas/base.js';
import { get, patch, post, remove } from '../projects/api.js';
import { pick } from '../projects/picker.js';
import { askLine, moreButton, plural } from '../projects/sheets.js';
import { later, placeOf, setPath, size } from './api.js';
import { bucketSheet } from './buckets.js';
import { Bulk } from './bulk.js';
import { chooser, takesDrops } from './files.js';
import { fillShown, reportOf } from './filling.js';
import { Grid } from './grid.js';
import { addRecords } from './joinset.js';
import { guidance, recipes } from './recipes.js';
import { select } from './choice.js';
import { KINDS } from './sets.js';
import { autoCaptions, Works } from './works.js';

const SAVE_MS = 600;
const FIELDS = [['trigger', 80, 'input'], ['class_words', 200, 'input'], ['caption_template', 400, 'input'], ['licence_note', 4000, 'textarea']];

export class SetPage {
  constructor(root, name, go) {
    Object.assign(this, { name, go, set: null });
    this.title = el('button', { type: 'button', class: 'dp-name', text: name, tTitle: 'p.rename', onclick: () => this.rename() });
    this.facts = el('span', { class: 'dq-tip' });
    this.undoButton = el('button', { type: 'button', class: 'dq-act', t: 's.undo', 'data-act': 'undo', onclick: () => this.undo() });
    this.sending = el('p', { class: 'dq-tip', role: 'status', hidden: true });
    this.works = new Works(() => this.reload());
    this.grid = new Grid(name, { changed: () => this.reload(true), chosen: () => this.bulk.draw(), kind: () => this.set?.kind });
    this.bulk = new Bulk(this.grid, { send: (path, body, way) => this.change(path, body, way), auto: () => this.auto() });
    this.side = el('aside', { class: 'dt-side' });
    this.node = el('section', { class: 'dt-set' },
      el('div', { class: 'dp-bar dt-bar' }, iconButton('back', 'tr.tab.sets', () => go('sets')), this.title, this.facts, el('span', { class: 'dq-spring' }),
        el('button', { type: 'button', class: 'dq-act', t: 'tr.check', tTitle: 'tr.check.tip', 'data-act': 'check', onclick: () => this.check() }),
        el('button', { type: 'button', class: 'dq-act', t: 'tr.buckets.open', tTitle: 'tr.buckets.tip', 'data-act': 'buckets', onclick: () => this.buckets() }), this.undoButton,
        el('a', { class: 'dp-primary', t: 'tr.set.train', 'data-act': 'train', href: placeOf('train', null, { set: name }) }),
        moreButton('p.more', () => [{ t: 'p.rename', run: () => this.rename() }, { t: 'p.delete', danger: true, run: () => this.erase() }])),
      el('div', { class: 'dt-columns' },
        el('div', { class: 'dt-main' }, el('div', { class: 'dp-row dt-adding' }, chooser((files) => this.add(files)), el('button', { type: 'button', class: 'dq-act', t: 'p.add.gallery', 'data-act': 'gallery', onclick: () => this.addFromGallery() }), el('span', { class: 'dq-tip', t: 'tr.files.drop' }), this.sending),
          this.works.node, this.grid.tools, this.bulk.node, this.grid.node), this.side));
    takesDrops(this.node, (files) => this.add(files));
    root.replaceChildren(this.node);
    this.reload().then(() => this.set && this.works.take(this.set.works.filter(({ state }) => state === 'running')));
  }

  end() {
    this.ended = true;
    this.works.end();
  }

  relabel() {
    relabel(this.node);
    if (!this.set) return;
    this.drawHead();
    this.drawSide();
    this.grid.draw();
    this.bulk.draw();
  }

  /** Ask anew. @param headOnly the grid already shows what changed */
  async reload(headOnly = false) {
    try {
      const [set] = await Promise.all([get(setPath(this.name)), headOnly ? null : this.grid.load()]);
      if (this.ended) return;
      const first = this.set === null;
      this.set = set;
      if (first) this.grid.draw(); // what a map is called depends on what the set teaches
      this.drawHead();
      if (first || !this.side.contains(document.activeElement)) this.drawSide();
      this.bulk.draw();
      this.node.classList.add('ready');
    } catch (error) {
      if (this.ended) return;
      toast(error.text);
      if (error.status === 404) this.go('sets');
    }
  }

  drawHead() {
    const { pictures, captioned, regularisation, bytes, undo } = this.set.summary;
    this.title.textContent = this.name;
    const parts = [plural('tr.pictures', pictures), t('tr.captioned', { count: captioned }), regularisation ? t('tr.regularisation.count', { count: regularisation }) : null, size(bytes)];
    this.facts.textContent = parts.filter(Boolean).join(' · ');
    this.undoButton.disabled = !undo;
    this.undoButton.title = undo ? t('tr.undo.tip') : '';
  }

  drawSide() {
    const save = later((changes) => this.save(changes), SAVE_MS);
    const entry = ([name, maxlength, tag]) => {
      const input = el(tag, { name, maxlength, rows: tag === 'textarea' ? 3 : null, spellcheck: 'false', tPlaceholder: `tr.set.${name}.empty` });
      input.value = this.set[name];
      input.addEventListener('input', () => save({ [name]: input.value }));
      input.addEventListener('change', () => this.save({ [name]: input.value }));
      return el('label', { class: 'dp-field', 'data-field': name }, el('span', { class: 'dp-field-name', t: `tr.set.${name === 'class_words' ? 'class' : name}` }), el('span', { class: 'dq-tip', t: `tr.set.${name}.tip` }), input,
        el('span', { class: 'dq-wrong', role: 'alert', hidden: true }));
    };
    const kind = select('kind', KINDS.map((each) => [each, { t: `tr.kind.${each}` }]), this.set.kind, (value) => this.save({ kind: value }));
    const mirror = el('input', { type: 'checkbox', name: 'mirror' });
    mirror.checked = this.set.mirror;
    mirror.addEventListener('change', () => this.save({ mirror: mirror.checked }));
    this.guide ??= el('div', {});
    this.side.replaceChildren(el('h2', { t: 'tr.set.words' }), ...FIELDS.slice(0, 3).map(entry), this.example(),
      el('label', { class: 'dp-field' }, el('span', { class: 'dp-field-name', t: 'tr.set.kind' }), kind),
      el('label', { class: 'dq-check' }, mirror, el('span', { t: 'tr.set.mirror' })), entry(FIELDS[3]), this.guide);
    this.drawGuide();
  }

  /** What the trainer reads for the first picture. */
  example() {
    this.reads = el('p', { class: 'dt-reads', 'data-reads': '' });
    this.drawReads();
    return el('div', { class: 'dp-field' }, el('span', { class: 'dp-field-name', t: 'tr.set.reads' }), this.reads);
  }

  drawReads() {
    this.reads.textContent = this.grid.rows[0]?.reads ?? t('tr.set.reads.none');
  }

  async drawGuide() {
    if (!this.set.recipe) return;
    const found = await recipes().catch(() => []);
    const recipe = found.find(({ key }) => key === this.set.recipe);
    if (recipe) this.guide.replaceChildren(el('details', { class: 'dq-more', open: this.set.summary.pictures === 0 }, el('summary', { t: 'tr.recipe.guide' }), guidance(recipe)));
  }

  async save(changes) {
    const [field] = Object.keys(changes);
    if (this.set[field] === changes[field]) return;
    const wrong = this.side.querySelector(`[data-field="${field}"] .dq-wrong`);
    try {
      this.set = await patch(setPath(this.name), changes);
      if (wrong) wrong.hidden = true;
      await this.grid.load();
      this.drawReads();
      this.drawHead();
    } catch (error) {
      if (!wrong) return toast(error.text);
      wrong.textContent = error.text;
      wrong.hidden = false;
    }
  }

  async add(files) {
    if (await fillShown(this.name, files, this.sending)) await this.reload();
    this.drawReads();
  }

  async addFromGallery() {
    const records = await pick({ title: 'p.add.gallery', ok: 'p.add' });
    if (!records) return;
    try {
      reportOf(await addRecords(this.name, { records }));
      await this.reload();
      this.drawReads();
    } catch (error) {
      toast(error.text);
    }
  }

  async buckets() {
    if (await bucketSheet(this.name, this.set.kind)) await this.reload();
  }

  /** One edit of many pictures; a toast offers to take it back. */
  async change(path, body, way = post) {
    try {
      const { changed } = await way(setPath(this.name, path), body);
      await this.reload();
      toast(plural('tr.changed', changed), changed ? { text: t('s.undo'), run: () => this.undo() } : null);
      return true;
    } catch (error) {
      toast(error.text);
      return false;
    }
  }

  async undo() {
    try {
      const { undone, kept } = await post(setPath(this.name, '/undo'));
      await this.reload();
      this.drawReads();
      toast(kept ? t('tr.undone.kept', { count: undone, kept }) : plural('tr.undone', undone));
    } catch (error) {
      toast(error.text);
    }
  }

  async check() {
    await post(setPath(this.name, '/check'), {}).then((work) => this.works.take([work])).catch((error) => toast(error.text));
  }

  async auto() {
    const work = await autoCaptions(this.name, this.grid.chosenFiles());
    if (work) this.works.take([work]);
  }

  async rename() {
    const said = await askLine({ title: 'p.rename', label: 'tr.set.name', value: this.name, max: 80, send: (name) => patch(setPath(this.name), { name }) });
    if (said) this.go('set', said.summary.name);
  }

  async erase() {
    try {
      await remove(setPath(this.name));
      const { name } = this;
      this.go('sets');
      toast(t('p.deleted', { name }), { text: t('s.restore'), run: () => post(setPath(name, '/restore')).then(() => this.go('set', name)).catch((error) => toast(error.text)) });
    } catch (error) {
      toast(error.text);
    }
  }
}
