// Pictures of the gallery into a training set: which set is asked for, a new one can be made at once.
import { el, t, toast } from '../canvas/base.js';
import { get, post } from '../projects/api.js';
import { check, field, plural, sheet } from '../projects/sheets.js';
import { placeOf, setPath } from './api.js';
import { select } from './choice.js';
import { reportOf } from './filling.js';

const NEW = '+';
const KINDS = ['style', 'subject', 'plain'];

/** Tell what joined a set; with nothing left out a toast leads there. */
function tell(name, report) {
  if (report.skipped.length) reportOf(report);
  else toast(t('tr.join.done', { count: report.added.length, name }), { text: t('p.show'), run: () => { location.href = placeOf('set', name); } });
}

/** Put Records into a set of this name. @param about {records} or {project} @returns the API's report */
export const addRecords = (name, about) => post(setPath(name, '/records'), about);

/**
 * Ask for a set and put pictures there.
 * @param about {records: [ids]}, or {project: id} for every version of it @param named what a new set is called
 */
export async function joinSet(about, named = '') {
  let sets;
  try {
    ({ sets } = await get('training/sets'));
  } catch (error) {
    toast(error.text);
    return;
  }
  const whole = sets.filter(({ error }) => !error);
  const name = el('input', { type: 'text', name: 'name', maxlength: '80', tPlaceholder: 'tr.set.name.empty' });
  name.value = named.replace(/[/\\:*?"<>|\u0000-\u001f]+/g, ' ').replace(/\s+/g, ' ').replace(/^[.\s]+/, '').slice(0, 60).trim();
  const kind = select('kind', KINDS.map((each) => [each, { t: `tr.kind.${each}` }]), 'style');
  const fresh = el('div', { class: 'dp-pair' }, field('tr.set.name', name), field('tr.set.kind', kind));
  const choice = select('set', [...whole.map(({ name: one, pictures }) => [one, { text: t('tr.set.option', { name: one, count: pictures }) }]), [NEW, { t: 'tr.set.new' }]], whole[0]?.name ?? NEW, () => show());
  const show = () => { fresh.hidden = choice.value !== NEW; };
  const reg = check('tr.join.class', false, { name: 'regularisation' });
  show();
  let made = null; // a set that was made stays, also where its pictures could not be taken
  const send = async () => {
    let wanted = choice.value;
    if (wanted === NEW) {
      if (!name.value.trim()) { name.focus(); return undefined; }
      made ??= (await post('training/sets', { name: name.value.trim(), kind: kind.value })).summary.name;
      wanted = made;
    }
    return { name: wanted, report: await addRecords(wanted, { ...about, regularisation: reg.box.checked }) };
  };
  const answer = await sheet({ title: 'tr.join', ok: 'p.add', send }, el('p', { class: 'dq-tip', t: 'tr.join.text' }), field('tr.f.dataset', choice), fresh, reg.node);
  if (answer) tell(answer.name, answer.report);
}
