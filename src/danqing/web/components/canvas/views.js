// What the board shows in each view: a Record, a loose picture, a running job, the starting picture, regions, or words.
import { el, t, url } from './base.js';
import { emptyPanel, failurePanel, needPanel } from './panels.js';

export class Views {
  /** @param stage Stage */
  constructor(stage) {
    this.stage = stage;
    this.board = stage.board;
  }

  draw() {
    const { stage, board } = this;
    const starts = stage.modeNow !== 'txt2img';
    this.drawSides(starts);
    board.toolbar.classList.toggle('source', this.stage.view === 'source' && stage.value.image !== null);
    if (this.stage.view === 'regions') return this.drawRegions();
    if (this.stage.view === 'record' && this.stage.record) return this.drawRecord();
    if (this.stage.view === 'loose') return this.drawLoose();
    if (this.stage.view === 'result') return this.drawResult();
    if (starts) return this.drawSource();
    return board.showPanel(...emptyPanel());
  }

  /** The ways between starting picture, regions and result. */
  drawSides(starts) {
    const { stage } = this;
    const { sides } = this.board;
    const here = ['source', 'regions'].includes(this.stage.view) ? this.stage.view : 'result';
    const there = { source: starts, regions: stage.takesRegions && (this.stage.view === 'regions' || this.stage.regions.all.length > 0), result: this.stage.hasResult || this.stage.under !== null };
    for (const button of sides.children) {
      button.hidden = !there[button.dataset.view];
      button.setAttribute('aria-pressed', String(button.dataset.view === here));
    }
    sides.hidden = [...sides.children].filter((button) => !button.hidden).length < 2;
  }

  /** The starting picture, or an empty frame with the last result of that shape as a hint, and the regions on it. */
  drawRegions() {
    this.stage.regions.fit();
    const { width, height } = this.stage.regions.frame;
    const { image } = this.stage.value;
    const hint = this.stage.under && Math.abs(this.stage.under.width * height - this.stage.under.height * width) < width + height ? this.stage.under : null;
    const starts = this.stage.modeNow !== 'txt2img' && image;
    const address = (starts && this.stage.addressOf(image.ref)) || (hint && url(`web/records/${hint.id}/picture`)) || null;
    const tool = this.stage.wantedTool;
    this.stage.wantedTool = null;
    return this.board.showPicture(address, { width, height, editing: 'region', tool, faint: !starts });
  }

  drawRecord() {
    const { id, prompt, width_px: width, height_px: height } = this.stage.record;
    this.board.showPicture(url(`web/records/${id}/picture`), { alt: prompt, width, height });
  }

  drawLoose() {
    const { ref, title, width_px: width = 0, height_px: height = 0 } = this.stage.loose.loose;
    this.board.showPicture(this.stage.addressOf(ref), { alt: t(title), width, height });
  }

  drawResult() {
    if (this.stage.failure) return this.board.showPanel(...failurePanel(this.stage.failure));
    if (this.stage.tiles.length > 1) return this.board.showGrid(this.stage.tiles);
    const [tile] = this.stage.tiles;
    if (tile?.address) return this.board.showPicture(tile.address, { alt: tile.alt, width: this.stage.width, height: this.stage.height });
    return this.board.showPanel(el('div', { class: 'dq-wash', 'aria-hidden': 'true' }));
  }

  drawSource() {
    const { stage } = this;
    const { image } = stage.value;
    if (!image) {
      return this.board.showPanel(...needPanel(() => this.stage.drop.start.click(), stage.modeNow === 'words' ? 's.need.words' : 's.need.hint'));
    }
    const { width_px: width, height_px: height } = image;
    const masking = this.stage.modeNow === 'inpaint';
    const margins = this.stage.modeNow === 'outpaint' ? this.stage.margins : null;
    const dragging = this.stage.modeNow === 'drag';
    return this.board.showPicture(this.stage.addressOf(image.ref), { width, height, masking: masking || dragging, margins, editing: dragging ? 'drag' : null });
  }
}
