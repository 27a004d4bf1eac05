// Choosing who reviews: each reviewer with what it is, where the picture goes, or what it lacks.
import { el, known, t, toast } from '../canvas/base.js';
import { get } from './api.js';

/** Why a reviewer cannot be asked now, in plain words. */
function lacking({ key, lacks, missing }) {
  const settings = lacks.filter((name) => name !== 'weights').map((name) => `DANQING_${name.toUpperCase()}`);
  if (settings.length) return t('p.lacks.settings', { names: settings.join(', ') });
  return known(`p.lacks.${key}`) ? t(`p.lacks.${key}`) : missing;
}

function line(reviewer, chosen) {
  const { key, available, model, where } = reviewer;
  const radio = el('input', { type: 'radio', name: 'reviewer', value: key, disabled: !available });
  radio.checked = key === chosen;
  const name = [t(`p.rev.${key}`), model].filter(Boolean).join(' · ');
  return el('label', { class: `dp-reviewer${available ? '' : ' off'}`, 'data-reviewer': key }, radio,
    el('span', { class: 'dp-reviewer-words' }, el('strong', { text: name }), el('span', { class: 'dq-tip', text: t(`p.rev.${key}.tip`) }),
      available && where ? el('span', { class: 'dq-tip', text: t('p.rev.where', { where }) }) : null,
      available ? null : el('span', { class: 'dp-lacks', text: lacking(reviewer) })));
}

/** A group of radio buttons. @returns {Promise<{node, value()}|null>} null where the studio did not answer, which is told */
export async function reviewerChoice() {
  let reviewers;
  try {
    ({ reviewers } = await get('reviewers'));
  } catch (error) {
    toast(error.text);
    return null;
  }
  const first = reviewers.find(({ available }) => available)?.key;
  const node = el('div', { class: 'dp-field', role: 'radiogroup', tAria: 'p.rev' }, el('span', { class: 'dp-field-name', t: 'p.rev' }), ...reviewers.map((reviewer) => line(reviewer, first)));
  return { node, value: () => node.querySelector('input:checked')?.value ?? null };
}

/** The words that the picture is compared with: the brief's, else its own. */
export function comparedWith(page, version) {
  const words = page.project.brief.words.trim() || version.prompt;
  return el('div', { class: 'dp-field' }, el('span', { class: 'dp-field-name', t: 'p.ask.brief' }), words ? el('p', { class: 'dp-brief-words', text: words }) : el('p', { class: 'dq-wrong', t: 'p.ask.brief.none' }));
}
