// What came of a run: the sheet by strength, how to use it, the file, the model card, its figures in plain words.
import { el, language, t, toast, url } from '../canvas/base.js';
import { get } from '../projects/api.js';
import { figure, fileOf, number, sampleOf, setPath } from './api.js';
import { cardName } from './cardwords.js';
import { CARDS, cardOf } from './methods.js';
import { runAct } from './runs.js';
import { toldLine } from './told.js';

const WEIGHTS = /\.(safetensors|pt|ckpt|bin|pth)$/i;
const PLACES = { embedding: 'embeddings', hypernetwork: 'models/hypernetworks', controlnet: 'models/ControlNet', finetune: 'models/Stable-diffusion' };

/** What is written into a brief to use a product: {words, negative}; null where it is chosen elsewhere. */
export function callOf({ request, product }, trigger) {
  if (!product) return null;
  if (request.method === 'embedding') return request.negative ? { negative: product } : { words: product };
  if (request.method === 'hypernetwork') return { words: [trigger, `<hypernet:${product}:1>`].filter(Boolean).join(', ') };
  if (request.method === 'controlnet' || request.method === 'finetune' || (request.method === 'dreambooth' && request.network === null)) return null;
  return { words: [trigger, `<lora:${product}:1>`].filter(Boolean).join(', ') };
}

export class Result {
  constructor() {
    this.node = el('section', { class: 'dt-result', hidden: true });
  }

  /** @param end the last event @param compare the file of the sheet by strength, or null */
  async show(run, end, compare) {
    this.turn = (this.turn ?? 0) + 1;
    const { turn } = this;
    const dataset = run.request.dataset;
    const trigger = dataset ? await get(setPath(dataset)).then((set) => set.trigger, () => '') : '';
    if (turn !== this.turn) return;
    const call = callOf(run, trigger);
    const files = (end?.files ?? []).filter((file) => WEIGHTS.test(file));
    const cards = (end?.files ?? []).filter((file) => /card\.md$/.test(file));
    const pictures = (end?.files ?? []).filter((file) => /\.(png|webp|jpe?g)$/i.test(file));
    this.node.hidden = false;
    this.node.replaceChildren(...[
      el('h2', { t: run.unpublished ? 'tr.nothing' : 'tr.done' }),
      el('div', { class: 'dp-row' }, ...(call ? [el('a', { class: 'dp-primary', 'data-act': 'use', t: 'tr.use', href: url(`?${new URLSearchParams(call)}`) })] : []),
        ...files.map((file) => el('a', { class: 'dq-act', 'data-act': 'download', href: fileOf(run.id, file), download: '', text: t('tr.download', { name: file.split('/').at(-1) }) })),
        run.published.length || !files.length || CARDS[cardOf(run.request)].watch ? null : el('button', { type: 'button', class: 'dq-act', t: 'tr.publish', onclick: () => runAct(run.id, 'publish') })),
      el('p', { class: 'dq-tip', text: this.placeWords(run, call) }),
      compare ? el('figure', { class: 'dt-compare' }, el('figcaption', {}, el('strong', { t: 'tr.compare' }), el('span', { class: 'dq-tip', t: 'tr.compare.text' })), el('a', { href: sampleOf(run.id, compare), target: '_blank', rel: 'noopener' }, el('img', { src: sampleOf(run.id, compare), alt: t('tr.compare') }))) : null,
      this.beside(run, pictures), this.figures(end?.figures ?? {}), this.why(run, end?.figures ?? {}), ...cards.map((file) => this.card(run, file)),
    ].filter(Boolean));
  }

  placeWords(run, call) {
    if (run.unpublished) return t('tr.nothing.text');
    if (call) return t(call.negative ? 'tr.use.negative' : 'tr.use.text', { words: call.negative ?? call.words });
    if (run.product) return t('tr.use.model', { name: run.product, place: PLACES[run.request.method] ?? 'models/Stable-diffusion' });
    return t(run.published.length ? 'tr.use.published' : 'tr.use.folder');
  }

  /** Painted and real pictures of a model from nothing, side by side. */
  beside(run, pictures) {
    const shown = ['samples.png', 'real.png'].map((name) => pictures.find((file) => file.endsWith(`/${name}`))).filter(Boolean);
    if (shown.length < 2) return null;
    return el('div', { class: 'dt-beside' }, ...shown.map((file, i) => el('figure', {}, el('figcaption', { class: 'dq-tip', t: i ? 'tr.beside.real' : 'tr.beside.painted' }), el('img', { src: fileOf(run.id, file), alt: '' }))));
  }

  /** Why nothing was published, as the trainer says it, where its figures do not say so in this page's language. */
  why(run, figures) {
    return run.unpublished && !('round_1_kept' in figures) ? toldLine(run.unpublished, 'dq-tip') : null;
  }

  figures(found) {
    const said = sentences(found);
    if (!said.length) return null;
    return el('div', { class: 'dt-figures' }, el('h3', { t: 'tr.figures' }), el('ul', {}, ...said.map((text) => el('li', { text }))));
  }

  card(run, file) {
    const body = el('div', { class: 'dt-card', lang: 'en' });
    const fold = el('details', { class: 'dq-more' }, el('summary', { t: 'tr.card' }), body);
    fold.addEventListener('toggle', async () => {
      if (!fold.open || body.children.length) return;
      const answer = await fetch(fileOf(run.id, file)).catch(() => null);
      if (answer?.ok) body.append(...markdown(await answer.text()));
      else toast(t('e.network'));
    });
    return fold;
  }
}

/** The figures of a run's end in sentences a person can judge by. */
export function sentences(found) {
  const said = [];
  const has = (...names) => names.every((name) => typeof found[name] === 'number');
  if (has('loss')) said.push(t('tr.figure.loss', { value: figure(found.loss) }));
  if (has('best_step')) said.push(t('tr.figure.best', { step: number(found.best_step) }));
  if (has('frechet', 'frechet_real')) said.push(t('tr.figure.frechet', { value: figure(found.frechet), real: figure(found.frechet_real) }));
  if (has('mean_pairwise', 'mean_pairwise_real') && found.mean_pairwise_real > 0) {
    const share = found.mean_pairwise / found.mean_pairwise_real;
    said.push(t(share < 0.35 ? 'tr.figure.collapsed' : share < 0.7 ? 'tr.figure.alike' : 'tr.figure.varied', { percent: number(share * 100) }));
  }
  if (has('clusters_covered', 'clusters')) said.push(t('tr.figure.kinds', { found: number(found.clusters_covered), all: number(found.clusters) }));
  if (has('nearest_distinct_share')) said.push(t('tr.figure.distinct', { percent: number(found.nearest_distinct_share * 100) }));
  return [...said, ...rounds(found)];
}

/** What the judge said of every round of ArtAug. */
function rounds(found) {
  const said = [];
  for (let round = 1; typeof found[`round_${round}_kept`] === 'number'; round += 1) {
    const of = (name) => found[`round_${round}_${name}`];
    const how = !of('kept') ? 'tr.figure.round.none' : of('strength') ? 'tr.figure.round.fused' : 'tr.figure.round.lost';
    said.push(t(how, { round: number(round), kept: number(of('kept')), pairs: number(found.groups ?? found.pairs ?? 0), prompt: gain(of('prompt_gain')), aesthetic: gain(of('aesthetic_gain')), strength: number(of('strength'), 1) }));
  }
  return said;
}

const gain = (value) => new Intl.NumberFormat(language(), { signDisplay: 'exceptZero', minimumFractionDigits: 3, maximumFractionDigits: 3 }).format(value);

/** The little Markdown that a model card is written in: headings, tables of two columns, paragraphs, code. */
export function markdown(text) {
  const nodes = [];
  const named = (tag, words) => {
    const name = cardName(words);
    const one = el(tag, { lang: name === null ? null : language() });
    one.append(...(name === null ? inline(words) : [name]));
    return one;
  };
  const inline = (words) => words.split(/`([^`]+)`/).map((part, i) => (i % 2 ? el('code', { text: part }) : part));
  for (const block of text.split(/\n{2,}/)) {
    const lines = block.trim().split('\n');
    if (!lines[0]) continue;
    const heading = /^(#+) (.*)$/.exec(lines[0]);
    if (heading) {
      nodes.push(named('h3', heading[2]));
      lines.shift();
    }
    if (lines[0]?.startsWith('|')) {
      const rows = lines.filter((line) => !/^[|\s-]+$/.test(line)).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));
      nodes.push(el('table', {}, ...rows.map((cells) => el('tr', {}, ...cells.map((cell, i) => { if (i === 0 && cells.length === 2) return named('td', cell); const one = el('td'); one.append(...inline(cell)); return one; })))));
    } else if (lines.length) {
      const one = el('p');
      one.append(...inline(lines.join(' ')));
      nodes.push(one);
    }
  }
  return nodes;
}
