// The pointer on regions: it chooses, moves, resizes and draws boxes, draws with a lasso, brushes and erases areas.
import { fill, isPainted, movedArea, stroke } from './areas.js';
import { areaOf, between, contains, edgesOf, handleNear, kept, linesOf, resized, shifted, snapEdges, snapMoved } from './boxes.js';

const REACH = 9; // screen pixels around a handle
const FINGER = 22;
const SNAP = 7;
const SLACK = 3; // a pointer that moved less has only pressed
const CURSORS = { nw: 'nwse', se: 'nwse', ne: 'nesw', sw: 'nesw', n: 'ns', s: 'ns', e: 'ew', w: 'ew' };

export class RegionTools {
  /** @param home {regions, layer, board, viewport, size: of the brush, drawn(region, event): it is there, choose(tool)} */
  constructor(home) {
    this.home = home;
    this.held = null;
  }

  all() {
    const { home } = this;
    const pointer = { move: (p, event) => this.move(p, event), up: () => this.up(), cancel: () => this.cancel(), key: (event) => home.key(event) };
    const brush = (erase) => ({ ...pointer, down: (p, event) => this.brushDown(p, event, erase), hover: (p) => home.layer.brush(p, home.size) });
    return [
      { name: 'region', ...pointer, down: (p, event) => this.down(p, event, false), hover: (p) => this.hover(p, false) },
      { name: 'region-box', ...pointer, down: (p, event) => this.down(p, event, true), hover: (p) => this.hover(p, true) },
      { name: 'region-lasso', ...pointer, down: (p) => { this.held = { kind: 'lasso', places: [p], moved: false }; } },
      { name: 'region-brush', ...brush(false) },
      { name: 'region-erase', ...brush(true) },
    ];
  }

  reach(event, near = REACH) {
    return (event?.pointerType === 'touch' ? FINGER : near) / this.home.viewport.scale;
  }

  /** The region at a place: the chosen one, else the smallest. */
  regionAt(place) {
    const { regions } = this.home;
    const hit = (region) => {
      const box = regions.boxOf(region);
      return box !== null && contains(box, place) && (!region.area || isPainted(region.area, place, regions.frame));
    };
    if (regions.selected && hit(regions.selected)) return regions.selected;
    return regions.all.filter(hit).sort((a, b) => areaOf(regions.boxOf(a)) - areaOf(regions.boxOf(b)))[0] ?? null;
  }

  handleAt(place, event) {
    const { regions } = this.home;
    const box = regions.selected && regions.boxOf(regions.selected);
    return box ? handleNear(box, place, this.reach(event)) : null;
  }

  hover(place, drawing) {
    const handle = this.handleAt(place, null);
    const over = (handle && `${CURSORS[handle]}-resize`) || (!drawing && this.regionAt(place) && 'move') || 'crosshair';
    if (this.home.board.style.cursor !== over) this.home.board.style.cursor = over;
  }

  down(place, event, drawing) {
    const { regions } = this.home;
    const handle = this.handleAt(place, event);
    const region = handle ? regions.selected : (!drawing && this.regionAt(place)) || null;
    const kind = (handle && 'resize') || (region && 'move') || 'draw';
    if (region !== regions.selected) regions.select(region);
    const others = regions.all.filter((each) => each !== region).map((each) => regions.boxOf(each)).filter(Boolean);
    this.held = { kind, handle, region, from: place, at: { x: event.clientX, y: event.clientY }, moved: false,
      start: region && regions.boxOf(region), box: null, lines: linesOf(regions.frame, others), touch: event.pointerType === 'touch' };
  }

  move(place, event) {
    const { held } = this;
    if (!held) return;
    if (held.kind === 'brush') return void this.brushMove(place);
    if (held.kind === 'lasso') return void this.lassoMove(place);
    if (!held.moved && Math.hypot(event.clientX - held.at.x, event.clientY - held.at.y) < SLACK) return;
    held.moved = true;
    const { box, guides } = this.placed(place, event.altKey);
    held.box = box;
    this.home.layer.draw(held.kind === 'draw' ? { rubber: box, guides } : { box, guides });
  }

  /** Where the box in the hand is now; with `free` it does not snap. */
  placed(place, free) {
    const { kind, handle, from, start, lines } = this.held;
    const { frame } = this.home.regions;
    const reach = free ? -1 : SNAP / this.home.viewport.scale;
    const [dx, dy] = [place.x - from.x, place.y - from.y];
    if (kind === 'move') {
      const { box, guides } = snapMoved(kept(shifted(start, dx, dy), frame), lines, reach);
      return { box: kept(box, frame), guides };
    }
    if (kind === 'resize') return snapEdges(resized(start, handle, dx, dy, frame), edgesOf(handle), lines, reach);
    return snapEdges(between(from, place, frame), ['left', 'right', 'top', 'bottom'], lines, reach);
  }

  lassoMove(place) {
    const { width, height } = this.home.regions.frame;
    this.held.places.push({ x: Math.min(width, Math.max(0, place.x)), y: Math.min(height, Math.max(0, place.y)) });
    this.home.layer.lasso(this.held.places);
  }

  // brush -------------------------------------------------------------------------------------------------------------
  brushDown(place, event, erase) {
    const { home } = this;
    const { regions } = home;
    let region = regions.selected?.area ? regions.selected : null;
    if (erase && !region) region = regions.all.find((each) => each.area && isPainted(each.area, place, regions.frame)) ?? null;
    if (erase && !region) return;
    const before = regions.snapshot();
    const fresh = region === null;
    if (fresh) {
      region = regions.add({ area: regions.nextArea() });
      if (!region) return;
      regions.list.append(region.card.build(regions.all.length - 1));
    } else regions.fork(region);
    regions.selected = region;
    this.held = { kind: 'brush', region, before, erase, last: place, fresh, touch: event.pointerType === 'touch' };
    stroke(region.area, place, place, { size: home.size, erase, frame: regions.frame });
    home.layer.draw();
    home.layer.brush(place, home.size);
  }

  brushMove(place) {
    const { home, held } = this;
    stroke(held.region.area, held.last, place, { size: home.size, erase: held.erase, frame: home.regions.frame });
    held.last = place;
    home.layer.brush(place, home.size);
  }

  // the end -----------------------------------------------------------------------------------------------------------
  up() {
    const { held, home } = this;
    if (!held) return;
    this.held = null;
    const { regions, layer } = home;
    if (held.kind === 'brush') {
      regions.remember(held.before);
      regions.painted(held.region);
      regions.tell();
      if (held.fresh) home.drawn(held.region, held.touch);
    } else if (held.kind === 'lasso') this.lassoUp(held.places);
    else if (held.kind === 'draw') this.boxUp(held);
    else if (held.moved) this.place(held.region, held.box);
    layer.draw();
  }

  boxUp({ box, moved, touch }) {
    const { home } = this;
    if (!moved || !box || box.right - box.left < 4 || box.bottom - box.top < 4) return;
    const before = home.regions.snapshot();
    this.made(home.regions.add({ box }), before, touch);
  }

  lassoUp(places) {
    const { home } = this;
    const { regions } = home;
    home.layer.lasso([]);
    if (places.length < 3) return;
    const before = regions.snapshot();
    const area = regions.nextArea();
    fill(area, places, regions.frame);
    const region = regions.add({ area });
    if (!region) return;
    regions.painted(region);
    if (!region.around) regions.all.pop(); // a line has no inside
    else this.made(region, before, false);
  }

  made(region, before, touch) {
    if (!region) return;
    this.home.regions.remember(before);
    this.home.regions.render();
    this.home.drawn(region, touch);
  }

  /** Put a region at a box in pixels of the frame. */
  place(region, box) {
    const { regions } = this.home;
    const before = regions.boxOf(region);
    regions.remember();
    if (region.area) {
      region.area = movedArea(region.area, before, box, regions.frame, regions.tint(region));
      regions.painted(region);
    } else region.box = regions.shares(box);
    regions.tell();
  }

  /** A second finger came, or Escape: what is in the hand is put back. */
  cancel() {
    const { held, home } = this;
    this.held = null;
    home.layer.brush(null);
    if (!held) return false;
    home.layer.lasso([]);
    if (held.kind === 'brush') {
      home.regions.past.push(held.before);
      home.regions.step('back');
      home.regions.past.future.pop();
    }
    home.layer.draw();
    return true;
  }
}
