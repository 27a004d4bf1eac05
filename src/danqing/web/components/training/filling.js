// Putting files into a set, piece by piece, and saying what came of it.
import { el, t, toast } from '../canvas/base.js';
import { plural, sheet } from '../projects/sheets.js';
import { sendFiles } from './api.js';
import { pieces } from './files.js';
import { toldSpan, toldWords } from './told.js';

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
  if (!report.skipped.length && !report.notes.length) {
    toast(words);
    return;
  }
  const row = ({ file, reason }) => el('li', {}, el('strong', { text: file }), ' ', toldSpan(reason));
  const note = (text) => { const [, file, rest] = /^(\S.*?): (.+)$/.exec(text) ?? [null, '', text]; return toldWords(text) === null && file ? row({ file, reason: rest }) : el('li', {}, toldSpan(text)); };
  sheet({ title: report.skipped.length ? 'tr.skipped' : 'tr.files.title' }, el('p', { text: words }),
    ...(report.skipped.length ? [el('p', { t: 'tr.skipped.text' }), el('ul', { class: 'dt-skipped' }, ...report.skipped.map(row))] : []),
    ...(report.notes.length ? [el('p', { t: 'tr.skipped.notes' }), el('ul', { class: 'dt-skipped' }, ...report.notes.map(note))] : []));
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
