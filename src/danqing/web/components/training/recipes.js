// Style projects: what a set for one painter needs, and which painters' works are free.
import { el, language, t, toast } from '../canvas/base.js';
import { get } from '../projects/api.js';
import { number } from './api.js';

let known = null;
/** All style projects; asked for once. */
export async function recipes() {
  known ??= get('training/recipes').then(({ recipes: found }) => found);
  try {
    return await known;
  } catch (error) {
    known = null;
    throw error;
  }
}

/** What to collect for a style project, its trigger, works that suit, and what may be done with them. */
export function guidance(recipe) {
  const tag = language();
  const works = recipe.works.map(({ title, year }) => t('tr.recipe.work', { title: title[tag], year })).join(tag === 'en' ? ', ' : '、');
  const row = (key, text) => el('div', { class: 'dt-guide-row' }, el('dt', { t: key }), el('dd', { text }));
  return el('div', { class: 'dt-guide' }, el('p', { text: recipe.looks[tag] }),
    el('dl', {}, row('tr.recipe.collect', recipe.collect[tag]), row('tr.recipe.works', works), row('tr.set.trigger', recipe.trigger), row('tr.set.class', recipe.class_words)),
    el('p', { class: recipe.free ? 'dq-hint' : 'dq-wrong', text: recipe.rights[tag] }));
}

/** Cards of which at most one is chosen. */
export class RecipeChoice {
  /** @param chosen(recipe or null) */
  constructor(chosen) {
    this.key = '';
    this.chosen = chosen;
    this.cards = el('div', { class: 'dt-recipes', role: 'group', tAria: 'tr.recipe' });
    this.guide = el('div', {});
    this.node = el('div', { class: 'dp-field' }, el('span', { class: 'dp-field-name', t: 'tr.recipe' }), el('span', { class: 'dq-tip', t: 'tr.recipe.tip' }), this.cards, this.guide);
    recipes().then((found) => this.fill(found)).catch((error) => toast(error.text));
  }

  fill(found) {
    this.cards.replaceChildren(...found.map((recipe) => {
      const count = t('tr.recipe.count', { least: number(recipe.least), most: number(recipe.most) });
      const card = el('button', { type: 'button', class: 'dt-recipe', 'data-recipe': recipe.key, 'aria-pressed': 'false', onclick: () => this.choose(recipe) },
        el('strong', { text: recipe.names[language()] }), el('span', { class: 'dq-tip', text: count }),
        el('span', { class: `dp-chip${recipe.free ? ' good' : ''}`, t: recipe.free ? 'tr.recipe.free' : 'tr.recipe.kept' }));
      return card;
    }));
  }

  choose(recipe) {
    const same = this.key === recipe.key;
    this.key = same ? '' : recipe.key;
    for (const card of this.cards.children) card.setAttribute('aria-pressed', String(card.dataset.recipe === this.key));
    this.guide.replaceChildren(...(same ? [] : [guidance(recipe)]));
    this.chosen(same ? null : recipe);
  }
}
