// All training sets: covers, a new one (empty, or with what a painter's style needs), deleting with its way back.
import { el, language, relabel, t, toast, url } from '../canvas/base.js';
import { get, post, remove, since } from '../projects/api.js';
import { field, moreButton, plural, sheet } from '../projects/sheets.js';
import { placeOf, setPath } from './api.js';
import { select } from './choice.js';
import { chooser, pictureCount, takesDrops } from './files.js';
import { RecipeChoice } from './recipes.js';
import { fill, reportOf } from './filling.js';

export const KINDS = ['style', 'subject', 'control', 'pairs', 'plain'];

/** Make a set; gives its name, or null where a person closed the sheet. @param files to put in at once */
export async function newSet(files = []) {
  let chosen = [...files];
  const name = el('input', { type: 'text', maxlength: '80', required: true, autofocus: true, name: 'name', tPlaceholder: 'tr.set.name.empty' });
  const kind = select('kind', KINDS.map((each) => [each, { t: `tr.kind.${each}` }]), 'style');
  const recipes = new RecipeChoice((recipe) => {
    if (recipe) kind.value = 'style';
    if (recipe && !name.value.trim()) name.value = recipe.names[language()];
  });
  const told = el('p', { class: 'dq-tip', role: 'status' });
  const say = () => { told.textContent = chosen.length ? plural('tr.files.ready', pictureCount(chosen)) : t('tr.files.tip'); };
  const take = (more) => { chosen = [...chosen, ...more]; say(); };
  const zone = el('div', { class: 'dt-zone' }, chooser(take), told);
  takesDrops(zone, take);
  say();
  const make = async () => {
    if (!name.value.trim()) return undefined;
    const made = await post('training/sets', { name: name.value.trim(), kind: kind.value, ...(recipes.key ? { recipe: recipes.key } : {}) });
    const report = await fill(made.summary.name, chosen, {}, (share) => { told.textContent = t('tr.files.sending', { percent: Math.round(share * 100) }); });
    return { name: made.summary.name, report };
  };
  const answer = await sheet({ title: 'tr.set.new', wide: true, ok: 'p.create', send: make },
    el('div', { class: 'dp-pair' }, field('tr.set.name', name), field('tr.set.kind', kind)),
    el('div', { class: 'dp-field' }, el('span', { class: 'dp-field-name', t: 'tr.files.title' }), zone), recipes.node);
  if (answer) reportOf(answer.report);
  return answer?.name ?? null;
}

export class SetList {
  /** @param go(kind, name) opens a part of the page */
  constructor(root, go) {
    this.go = go;
    this.found = null;
    this.grid = el('div', { class: 'dp-cards', role: 'list' });
    this.gone = el('div', { class: 'dp-row dt-gone' });
    this.note = el('div', { class: 'dp-empty', hidden: true });
    this.node = el('section', { class: 'dp-list dt-sets' },
      el('div', { class: 'dp-bar' }, el('h2', { t: 'tr.tab.sets' }), el('span', { class: 'dq-spring' }), this.newButton()),
      this.note, this.grid, this.gone);
    takesDrops(this.node, (files) => this.create(files));
    root.replaceChildren(this.node);
    this.load();
  }

  newButton() {
    return el('button', { type: 'button', class: 'dp-primary', t: 'tr.set.new', 'data-act': 'new-set', onclick: () => this.create() });
  }

  end() {
    this.ended = true;
  }

  relabel() {
    relabel(this.node);
    if (this.found) this.draw();
  }

  async load() {
    try {
      this.found = await get('training/sets');
    } catch (error) {
      toast(error.text);
      return;
    }
    if (!this.ended) this.draw();
  }

  draw() {
    const { sets, removed } = this.found;
    this.grid.replaceChildren(...sets.map((summary) => this.card(summary)));
    this.note.hidden = sets.length > 0;
    if (!sets.length) this.note.replaceChildren(...this.nothing());
    this.gone.replaceChildren(...(removed.length ? [el('span', { class: 'dq-tip', t: 'tr.set.removed' })] : []), ...removed.map((name) =>
      el('button', { type: 'button', class: 'dq-link', text: name, title: t('p.restore'), onclick: () => this.restore(name) })));
    this.node.classList.add('ready');
  }

  nothing() {
    const step = (number) => el('li', {}, el('strong', { t: `tr.learn.${number}` }), el('span', { t: `tr.learn.${number}.text` }));
    return [el('img', { class: 'dq-hills', src: url('web/static/hills.svg'), alt: '' }), el('h3', { t: 'tr.none.title' }), el('p', { t: 'tr.none.text' }),
      el('ol', { class: 'dt-steps' }, step(1), step(2), step(3)),
      el('div', { class: 'dp-row' }, this.newButton(), el('a', { class: 'dq-act', href: placeOf('train', 'ddpm'), t: 'tr.none.watch' }))];
  }

  card(summary) {
    const { name, cover, pictures, error } = summary;
    const complaints = Object.values(summary.complaints).reduce((sum, count) => sum + count, 0);
    const facts = [error ? t('tr.set.broken') : plural('tr.pictures', pictures), t(`tr.kind.${summary.kind}`), since(summary.changed_at)].join(' · ');
    const picture = cover
      ? el('img', { src: url(`api/v1/${setPath(name, `/pictures/${encodeURIComponent(cover)}/thumbnail`)}`), alt: '', loading: 'lazy' })
      : el('span', { class: 'dp-letter', 'aria-hidden': 'true', text: [...name][0] });
    const face = el('a', { class: 'dp-card-face', href: placeOf('set', name), title: error }, el('span', { class: 'dp-cover' }, picture,
      complaints ? el('span', { class: 'dp-pill', text: plural('tr.complaints', complaints) }) : null),
    el('span', { class: 'dp-card-name', text: name }), el('span', { class: 'dp-card-facts', text: facts }));
    return el('article', { class: 'dp-card', role: 'listitem', 'data-set': name }, face,
      moreButton('p.more', () => [{ t: 'tr.set.train', run: () => this.go('train', null, { set: name }) }, { t: 'p.delete', danger: true, run: () => this.remove(name) }], { class: 'dq-icon dp-card-more' }));
  }

  async create(files = []) {
    const name = await newSet(files);
    if (name) this.go('set', name);
  }

  async remove(name) {
    try {
      await remove(setPath(name));
      toast(t('p.deleted', { name }), { text: t('s.restore'), run: () => this.restore(name) });
    } catch (error) {
      toast(error.text);
    }
    await this.load();
  }

  async restore(name) {
    await post(setPath(name, '/restore')).catch((error) => toast(error.text));
    await this.load();
  }
}
