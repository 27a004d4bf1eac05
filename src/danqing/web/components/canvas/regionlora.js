// A LoRA of one region alone: chosen from those that fit, it stands as a tag in the region's words.
import { el, t } from './base.js';
import { find, put, take, weigh, written } from './promptwords.js';

const SPAN = { min: -5, max: 5, step: 0.05 };

export class RegionLora {
  /** @param regions Regions @param region what it is about */
  constructor(regions, region) {
    this.regions = regions;
    this.region = region;
    this.cards = [];
    this.select = el('select', { tAria: 'r.lora' });
    this.select.addEventListener('change', () => this.choose(this.select.value));
    this.select.addEventListener('focus', () => this.load());
    this.weight = el('input', { type: 'number', ...SPAN, inputmode: 'decimal', tAria: 'r.lora.weight' });
    this.weight.addEventListener('change', () => this.reweigh(Number(this.weight.value)));
    this.heavy = el('label', { class: 'dq-region-lora-weight' }, el('span', { t: 'r.lora.weight' }), this.weight);
    this.note = el('p', { class: 'dq-hint', t: 'r.lora.note', role: 'status' });
    this.node = el('div', { class: 'dq-field dq-region-lora', role: 'group', tAria: 'r.lora' },
      el('span', { t: 'r.lora' }), el('span', { class: 'dq-tip', t: 'r.lora.tip' }), el('div', { class: 'dq-row' }, this.select, this.heavy), this.note);
  }

  /** Ask what fits the model at hand; asked again only when the model is another one. */
  async load() {
    const cards = await this.regions.app.networks.known();
    this.cards = cards.filter(({ kind, misfit }) => kind === 'lora' && !misfit);
    this.refresh();
  }

  get chosen() {
    return this.cards.find((card) => find(this.region.prompt, card)) ?? null;
  }

  /** Another LoRA in the place of the one that stands there; '' for none. */
  choose(name) {
    const { region, regions, chosen } = this;
    const next = this.cards.find((card) => card.name === name) ?? null;
    const bare = chosen ? take(region.prompt, chosen) : region.prompt;
    const end = { start: bare.length, end: bare.length };
    if (next && regions.engine === 'attention') regions.setEngine('');
    regions.setWords(region, next ? put(bare, next, next.preferred_weight ?? 1, end).text : bare);
  }

  reweigh(weight) {
    const { chosen, region } = this;
    if (!chosen || !Number.isFinite(weight)) return this.refresh();
    return this.regions.setWords(region, weigh(region.prompt, chosen, Math.min(SPAN.max, Math.max(SPAN.min, weight))));
  }

  refresh() {
    const { chosen, region } = this;
    const tagged = /<\s*(?:lora|lyco|locon|hypernet)\s*:/iu.test(region.prompt);
    const none = t(this.cards.length ? 'r.lora.none' : 'r.lora.missing');
    const other = tagged && !chosen ? [el('option', { value: '?', t: 'r.lora.written' })] : [];
    if (document.activeElement !== this.select || this.select.options.length !== this.cards.length + 1 + other.length) {
      this.select.replaceChildren(el('option', { value: '', text: none }), ...other, ...this.cards.map(({ name, title }) => el('option', { value: name, text: title })));
    }
    this.select.value = chosen?.name ?? (other.length ? '?' : '');
    this.heavy.hidden = !chosen;
    if (chosen && document.activeElement !== this.weight) {
      const { weight } = find(region.prompt, chosen);
      this.weight.value = weight === null ? '' : written(weight);
    }
    this.note.hidden = !tagged;
  }
}
