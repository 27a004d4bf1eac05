// A ControlNet of one region alone: the card of a control unit inside the region's own card.
import { el } from './base.js';
import { Card } from './card.js';
import { freshUnit } from './controls.js';

export class RegionControl {
  /** @param regions Regions @param region what it is about */
  constructor(regions, region) {
    this.regions = regions;
    this.region = region;
    this.card = region.control ? new Card(this, { ...region.control }, { chosen: true }) : null;
    this.addButton = el('button', { type: 'button', class: 'dq-act dq-region-control', t: 'r.control.add', onclick: () => this.add() });
    this.place = el('div', { class: 'dq-cards' });
    this.node = el('div', { class: 'dq-field', role: 'group', tAria: 'r.control' }, el('span', { t: 'r.control' }), el('span', { class: 'dq-tip', t: 'r.control.tip' }), this.place, this.addButton);
  }

  // what a Card asks of its home -----------------------------------------------------------------------------------------
  get app() { return this.regions.app; }

  get offers() { return this.app.controls.offers; }

  get base() { return this.app.controls.base; }

  drawingOf(ref) { return this.app.controls.drawingOf(ref); }

  keepDrawing(ref, drawing) { this.app.controls.keepDrawing(ref, drawing); }

  keep() {
    this.regions.set(this.region, { control: this.card?.asked() ?? null });
  }

  remove() {
    this.drop();
    this.keep();
    this.draw();
    this.addButton.focus();
  }

  // the card -------------------------------------------------------------------------------------------------------------
  add() {
    const unit = freshUnit();
    this.card = new Card(this, unit, { chosen: false });
    unit.model = this.card.fittest();
    this.keep();
    this.draw();
    this.card.node.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
  }

  build(index) {
    this.index = index;
    this.draw();
    return this.node;
  }

  draw() {
    const { card } = this;
    this.place.replaceChildren(...(card ? [card.build(null, `f-regions.${this.index}.control`)] : []));
    if (card) this.app.controls.guests.add(card);
    this.addButton.hidden = card !== null || !this.app.controls.available;
    this.node.hidden = card === null && !this.app.controls.available;
  }

  /** The region goes: its card hears no more of what there is. */
  drop() {
    if (this.card) this.app.controls.guests.delete(this.card);
    this.card = null;
  }
}
