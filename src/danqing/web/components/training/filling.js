// Putting files into a set, piece by piece, and saying what came of it.
import { el, t, toast } from '../canvas/base.js';
import { plural, sheet } from '../projects/sheets.js';
import { sendFiles } from './api.js';
import { pieces } from './files.js';

/** Send files to a set. @param told(share) how much has gone @returns {added, skipped, notes} or null where there were none */
export async function fill(name, files, query = {}, told = () => {}) {
  const parts = pieces(files);
  if (!parts.length) return null;
  const sum = { added: [], skipped: [], notes: [] };
  const whole = files.reduce((bytes, file) => bytes + file.size, 0) || 1;
  let gone = 0;
  for (const part of parts) {
    const bytes = part.reduce((total, file) => total + file.size, 0);
    const report = await sendFiles(name, part, query, (share) => told((gone + share * bytes) / whole));
    for (const key of Object.keys(sum)) sum[key].push(...report[key]);
    gone += bytes;
  }
  return sum;
}

/** Say what joined; what did not, with its reason. */
export function reportOf(report) {
  if (!report) return;
  const words = plural('tr.added', report.added.length);
  if (!report.skipped.length) {
    toast(words);
    return;
  }
  const row = ({ file, reason }) => el('li', {}, el('strong', { text: file }), ' ', el('span', { lang: 'en', text: reason }));
  sheet({ title: 'tr.skipped' }, el('p', { text: words }), el('p', { t: 'tr.skipped.text' }), el('ul', { class: 'dt-skipped' }, ...report.skipped.map(row)));
}

/** Send files to a set that lies on the page, and tell of it. @returns whether anything joined */
export async function fillShown(name, files, line, query = {}) {
  line.hidden = false;
  try {
    const report = await fill(name, files, query, (share) => { line.textContent = t('tr.files.sending', { percent: Math.round(share * 100) }); });
    reportOf(report);
    return Boolean(report?.added.length);
  } catch (error) {
    toast(error.text);
    return false;
  } finally {
    line.hidden = true;
  }
}
