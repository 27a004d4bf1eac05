// What can be trained, as cards in plain words; and what the page knows of each method beyond the API's list of fields.
import { el, relabel, t, toast } from '../canvas/base.js';
import { get } from '../projects/api.js';
import { placeOf } from './api.js';

/**
 * Cards by their key.
 * method: of the API; fixed: what is sent with it; lead: fields that stand before the fold; kinds: of sets that suit, the best first;
 * steps: what the method makes of "normal", on the built-in model and on others.
 */
export const CARDS = {
  style: { method: 'lora', kinds: ['style', 'plain', 'subject'], steps: [400, 1500], lead: [] },
  subject: { method: 'dreambooth', kinds: ['subject', 'plain', 'style'], steps: [400, 1500], lead: ['prior_pictures'] },
  word: { method: 'embedding', kinds: ['subject', 'style', 'plain'], steps: [250, 2000], lead: ['initial_words', 'vectors'], fixed: { negative: false } },
  negword: { method: 'embedding', kinds: ['plain', 'style', 'subject'], steps: [250, 2000], lead: ['initial_words', 'vectors'], fixed: { negative: true } },
  hypernetwork: { method: 'hypernetwork', kinds: ['style', 'plain', 'subject'], steps: [250, 3000], lead: [] },
  control: { method: 'controlnet', kinds: ['control', 'plain', 'style'], steps: [1500, 5000], lead: ['annotator'] },
  whole: { method: 'finetune', kinds: ['style', 'plain', 'subject'], steps: [500, 3000], lead: [] },
  fewer: { method: 'distill', kinds: ['plain', 'style'], steps: [1000, 1500], lead: ['way'] },
  slider: { method: 'slider', kinds: null, steps: [150, 500], lead: ['target', 'positive', 'negative'] },
  artaug: { method: 'artaug', kinds: ['pairs'], setField: 'pairs', steps: [150, 100], lead: ['rounds'] },
  ddpm: { method: 'ddpm', kinds: ['plain', 'style', 'subject'], optional: true, watch: true, steps: [7000, 7000], lead: ['subject', 'size_px'] },
  dcgan: { method: 'dcgan', kinds: ['plain', 'style', 'subject'], optional: true, watch: true, steps: [8000, 8000], lead: ['subject', 'size_px'] },
  wgan: { method: 'wgan', kinds: ['plain', 'style', 'subject'], optional: true, watch: true, steps: [700, 700], lead: ['subject', 'size_px'] },
};

/** The card that a run was begun with. */
export function cardOf(request) {
  if (request.method === 'embedding') return request.negative ? 'negword' : 'word';
  return Object.keys(CARDS).find((key) => CARDS[key].method === request.method) ?? 'style';
}

export const SHARES = { quick: 0.4, thorough: 2 };
/** Steps of a quality; null where the method chooses itself. */
export function stepsOf(card, quality, builtin) {
  const share = SHARES[quality];
  if (!share) return null;
  const whole = CARDS[card].steps[builtin ? 0 : 1] * share;
  return whole < 100 ? Math.round(whole) : Math.round(whole / 10) * 10;
}

let asked = null;
/** The API's list of methods by their name; asked for once. */
export async function methods() {
  asked ??= get('training/methods').then(({ methods: found }) => new Map(found.map((method) => [method.method, method])));
  try {
    return await asked;
  } catch (error) {
    asked = null;
    throw error;
  }
}

export class MethodCards {
  /** @param more what the address says further: the set that is to be learnt from */
  constructor(root, more) {
    const set = more.get('set');
    const card = (key) => el('a', { class: 'dt-method', href: placeOf('train', key, set ? { set } : {}), 'data-method': key },
      el('strong', { t: `tr.m.${key}` }), el('span', { t: `tr.m.${key}.text` }), el('span', { class: 'dp-chip', t: `tr.makes.${key}` }));
    const group = (title, watch) => {
      const keys = Object.keys(CARDS).filter((key) => Boolean(CARDS[key].watch) === watch && !(set && CARDS[key].kinds === null));
      return [el('h2', { t: title }), el('p', { class: 'dq-tip', t: `${title}.tip` }), el('div', { class: 'dt-methods' }, ...keys.map(card))];
    };
    this.node = el('section', { class: 'dp-list ready dt-choice' }, ...(set ? [el('p', { class: 'dq-hint', text: t('tr.for', { name: set }) })] : []), ...group('tr.group.use', false), ...group('tr.group.watch', true));
    root.replaceChildren(this.node);
    methods().catch((error) => toast(error.text));
  }

  end() {}

  relabel() {
    relabel(this.node);
  }
}
