// One region's card in the form: its words, what shall not be there, weight and soft edge.
import { el, iconButton, t } from './base.js';
import { slider } from './parts.js';
import { RegionControl } from './regioncontrol.js';
import { RegionLora } from './regionlora.js';

export class RegionCard {
  /** @param home Regions @param region what it is about */
  constructor(home, region) {
    this.home = home;
    this.region = region;
    this.lora = new RegionLora(home, region);
    this.control = new RegionControl(home, region);
  }

  build(index) {
    const { home, region } = this;
    const id = (name) => `f-regions.${index}.${name}`;
    this.words = this.text('r.prompt', { id: id('prompt'), value: region.prompt, set: (value) => home.setWords(region, value) });
    this.negative = this.text('r.negative', { id: id('negative_prompt'), value: region.negative ?? '', set: (value) => home.set(region, { negative: value === '' ? null : value }) });
    this.name = el('button', { type: 'button', class: 'dq-region-name', onclick: () => { home.select(region); home.app.showRegions('region'); } }, el('i', { class: 'dq-dot' }), el('strong', {}));
    this.place = el('p', { class: 'dq-tip' });
    this.more = el('details', { class: 'dq-more' }, el('summary', { t: 'c.more' }), this.negative,
      slider('r.weight', { id: id('weight'), low: 0.1, high: 4, step: 0.1, value: region.weight, set: (weight) => home.set(region, { weight }) }),
      slider('r.feather', { id: id('feather_px'), high: 256, step: 1, digits: 0, value: region.feather, set: (feather) => home.set(region, { feather }) }),
      this.lora.node, this.control.build(index));
    this.more.open = this.open ?? region.control !== null;
    this.more.addEventListener('toggle', () => { this.open = this.more.open; if (this.open) this.lora.load(); });
    if (this.more.open || region.prompt.includes('<')) this.lora.load();
    this.node = el('div', { class: 'dq-card dq-region-card', id: `f-regions.${index}`, role: 'group', style: `--c: rgb(${home.tint(region).join(' ')})` },
      el('div', { class: 'dq-card-head' }, this.name, el('span', { class: 'dq-spring' }), iconButton('close', 'r.delete', () => home.remove(region))),
      this.place, this.words, this.more);
    this.node.addEventListener('focusin', () => { if (home.selected !== region) home.select(region); });
    this.refresh(index);
    return this.node;
  }

  /** A field of words with its name. */
  text(key, { id, value, set }) {
    const area = el('textarea', { rows: '2', maxlength: '20000', tAria: key, tPlaceholder: `${key}.example` });
    area.value = value;
    area.addEventListener('input', () => set(area.value));
    return el('label', { class: 'dq-field', id }, el('span', { t: key }), area);
  }

  relabel(index) {
    if (this.node) this.refresh(index);
  }

  refresh(index) {
    if (!this.node) return;
    const { home, region } = this;
    const name = t('r.name', { number: index + 1 });
    this.node.setAttribute('aria-label', name);
    this.name.lastChild.textContent = name;
    this.node.classList.toggle('selected', home.selected === region);
    this.place.textContent = home.placeWords(region);
    const words = this.words.querySelector('textarea');
    if (words.value !== region.prompt) words.value = region.prompt;
    this.lora.refresh();
  }
}
