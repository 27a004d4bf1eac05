// Painting a picture's mask on a sheet over the page: what is painted counts, the rest is not learnt.
import { t } from '../canvas/base.js';
import { Pad } from '../canvas/pads.js';

const WORDS = ['tr.side.mask.title', 'tr.side.mask.hint'];
const MOST_PX = 2048; // a trainer shrinks a mask to a few dozen pixels anyway

/** The size of a mask for a picture: its own, or of its shape where it is very large. */
export function maskFrame({ width_px: width, height_px: height }) {
  const scale = Math.min(1, MOST_PX / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** The page's policy lets nothing be fetched from a data URI: it is read here. */
function blobOf(uri) {
  const bytes = Uint8Array.from(atob(uri.slice(uri.indexOf(',') + 1)), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: 'image/png' });
}

export class MaskPad extends Pad {
  /** @param options {frame, under: address of the picture, load: address of its mask or null, done(blob)} */
  constructor(options) {
    super({ ...options, kind: 'area', words: WORDS });
  }

  async finish() {
    if (!this.uri) return t('tr.side.mask.empty');
    await this.options.done(blobOf(this.uri));
    return null;
  }
}
