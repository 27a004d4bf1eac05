// What the trainer and the sets say in plain English, in the page's language where the page knows the sentence.
import { el, language, t } from '../canvas/base.js';
import { teach } from '../projects/api.js';
import { size } from './api.js';

const GIB = 2 ** 30;
/** Sentences as they are written in training/own, studio/training* and sets; a named part that is itself known is said likewise. */
const KNOWN = [
  [/^(?<count>\S+) of (?<all>\S+) pictures have no caption/, 'tr.told.captions'],
  [/^so few pictures that none are held out/, 'tr.told.few'],
  [/^step (?<step>\S+) measured better than the last one: it is kept as (?<name>.+)$/, 'tr.told.best'],
  [/^the sheet by strength could not be painted/, 'tr.told.sheet'],
  [/^(?<count>\S+) pictures of the class \((?<words>.*)\) are painted first$/, 'tr.told.prior'],
  [/^round (?<round>\S+), pair (?<pair>\S+) of (?<all>\S+) \((?<brief>.*)\) (?<verdict>is kept|is dropped|\S+): (?<gain>.+)$/, 'tr.told.pair'],
  [/^round (?<round>\S+), group (?<group>\S+) of (?<all>\S+) \((?<brief>.*)\) (?<verdict>is kept|is dropped|\S+): (?<gain>.+)$/, 'tr.told.group'],
  [/^is kept$/, 'tr.told.kept'],
  [/^is dropped$/, 'tr.told.dropped'],
  [/^prompt (?<prompt>\S+), aesthetic (?<aesthetic>\S+)$/, 'tr.told.gain'],
  [/^round (?<round>\S+): no LoRA made the judge's score rise/, 'tr.told.round.none'],
  [/^round (?<round>\S+): (?<kept>\S+) of (?<all>\S+) LoRAs averaged, (?<said>[^:]+): held-back briefs (?<gain>.+)$/, 'tr.told.round'],
  [/^fused (?<strength>\S+)-fold$/, 'tr.told.fused'],
  [/^not fused$/, 'tr.told.unfused'],
  [/^the trainer (?<end>.+); it goes on from its last checkpoint$/, 'tr.told.again'],
  [/^the trainer (?<end>.+), (?<count>\S+) times without getting on$/, 'tr.told.stuck'],
  [/^was killed \((?<signal>.+)\)$/, 'tr.told.killed'],
  [/^ended with code (?<code>\S+)$/, 'tr.told.code'],
  [/^the run was started (?<count>\S+) times and each time the program around it died/, 'tr.told.died'],
  [/^somebody told the trainer to stop$/, 'tr.told.stopped'],
  [/^what was made is in the run's folder, but could not be copied/, 'tr.told.uncopied'],
  [/^the trainer does not answer/, 'tr.told.silent'],
  [/^the trainer cannot begin: (?<error>[\s\S]+)$/, 'tr.told.begin'],
  [/^the trainer gave no reason$/, 'tr.told.reasonless'],
  [/^this cannot be trained: (?<why>[^·;]+)/, 'tr.told.refused'],
  [/^only (?<free>\S+) MiB are free where runs are kept$/, 'tr.told.room'],
  [/^no file can have this name$/, 'tr.told.filename'],
  [/^there is no (?:such training set|training set here|training set of this name)$/, 'tr.told.noset'],
  [/^the training set (?:has no pictures|is empty)$/, 'tr.told.emptyset'],
  [/^there are no (?:such )?pairs(?: here)?$/, 'tr.told.nopairs'],
  [/^no pair was accepted yet$/, 'tr.told.nopair'],
  [/^this is no list of pairs$/, 'tr.told.pairlist'],
  [/^the pairs are named by their training set here$/, 'tr.told.pairname'],
  [/^only LoRAs can be averaged$/, 'tr.told.loraonly'],
  [/^(?:ArtAug|distillation) changes the denoiser alone$/, 'tr.told.denoiser'],
  [/^each pair begins anew/, 'tr.told.pairema'],
  [/^the checkpoint was made with another request/, 'tr.told.checkpoint'],
  [/^the checkpoint cannot be read/, 'tr.told.badcheckpoint'],
  [/^the run's request cannot be read/, 'tr.told.badrequest'],
  [/^models from nothing are not trained in float16$/, 'tr.told.nothing16'],
  [/^float16 needs a GPU$/, 'tr.told.gpu16'],
  [/^too few pictures to learn from$/, 'tr.told.toofew'],
  [/^no built-in drawing has this group, style or label$/, 'tr.told.nodrawing'],
  [/^two networks against each other cannot accumulate batches$/, 'tr.told.ganbatches'],
  [/^this method cannot be trained yet$/, 'tr.told.nomethod'],
  [/^(?<name>.+) needs weights of its own; trainers take annotators that need none$/, 'tr.told.annotator.weights'],
  [/^(?<count>\S+) pictures of the set have no control map, for example (?<name>.+)$/, 'tr.told.nomaps'],
  [/^(?<name>.+) cannot be trained further: it is an? (?<kind>.+)$/, 'tr.told.furthernet'],
  [/^(?<name>.+) cannot draw a map of (?<file>[^:]+): (?<error>.+)$/, 'tr.told.nomap'],
  [/^distillation walks down all noise levels$/, 'tr.told.alllevels'],
  [/^no noise level is left to train with$/, 'tr.told.nolevels'],
  [/^guidance is drawn between two numbers$/, 'tr.told.guidance'],
  [/^a hypernetwork's layers begin and end with the width itself$/, 'tr.told.layers'],
  [/^a slider leads from one text to another$/, 'tr.told.ends'],
  [/^no layer of the model has such a name$/, 'tr.told.blocks'],
  [/^(?<name>.+) cannot be trained: (?<why>.+)$/, 'tr.told.untrainable'],
  [/^a pipeline of its own paints it$/, 'tr.told.why.pipeline'],
  [/^its weights are quantised$/, 'tr.told.why.quantised'],
  [/^models of the family (?<family>.+) are not trained here$/, 'tr.told.why.family'],
  [/^it is a variant \((?<variant>.+)\), whose denoiser reads more than noisy latents$/, 'tr.told.why.variant'],
  [/^it predicts (?<prediction>\S+)$/, 'tr.told.why.prediction'],
  [/^the model (?<name>.+) cannot be loaded/, 'tr.told.unloaded'],
  [/^the optimiser (?<name>.+) needs the package (?<package>.+), which cannot be loaded/, 'tr.told.optimizer'],
  [/^prior preservation needs to know what the subject is an instance of$/, 'tr.told.noclass'],
  [/^the graphics card's memory is full$/, 'tr.told.gpufull'],
  [/^(?:the initial words have|this name has) no token$/, 'tr.told.notoken'],
  [/^there are no buckets of this size$/, 'tr.told.nobuckets'],
  [/^the caption template has (?:an unknown|no) place$/, 'tr.told.template'],
  [/^(?:a caption becomes|the caption is) too long$/, 'tr.told.longcaption'],
  [/^the list of the set is (?:wrong|not JSON|too large)/, 'tr.told.setlist'],
  [/^the training set cannot be read/, 'tr.told.setread'],
  [/^(?:the training set|the pictures) cannot be written/, 'tr.told.setwrite'],
  [/^(?:a folder|a file) of the set is a link to another place$|^the set names a (?:file outside of its folder|picture twice)$|^this names no file of the set$|^the crop of a picture reaches beyond it$|^a picture has too many pixels$/, 'tr.told.setfiles'],
  [/^there is nothing to undo in this set$/, 'tr.told.noundo'],
  [/^the set would hold too many pictures$/, 'tr.told.fullset'],
  [/^the same picture is there already: (?<name>.+)$/, 'tr.told.samepicture'],
  [/^a list beside the pictures is not JSON/, 'tr.told.badlist'],
  [/^a training set cannot have this name$/, 'tr.told.setname'],
  [/^there is a (?:training )?set of this name (?:already|again)$/, 'tr.told.setthere'],
  [/^the picture has too many pixels$/, 'tr.told.toobig'],
  [/^(?:the picture cannot be read|it cannot be read)/, 'tr.told.unreadable'],
  [/^the file is no picture, or a damaged one$/, 'tr.told.nopicture'],
  [/^there are too many files$/, 'tr.told.manyfiles'],
  [/^a name in the ZIP leads out of it$/, 'tr.told.zipnames'],
  [/^the file is too large$/, 'tr.told.largefile'],
  [/^there is no such folder(?: or file)?$/, 'tr.told.nofolder'],
  [/^the ZIP is too large when it is unpacked$/, 'tr.told.largezip'],
  [/^this is no ZIP file, or a damaged one$|^it is damaged in the ZIP/, 'tr.told.nozip'],
  [/^the ZIP asks for a password$/, 'tr.told.lockedzip'],
  [/^the text cannot be read$/, 'tr.told.notext'],
  [/^its caption was cut to (?<count>\S+) characters$/, 'tr.told.cut'],
  [/^there are no pictures in it$/, 'tr.told.nothingin'],
  [/^several subjects: the trigger is (?<trigger>.+); the others stay in their captions: (?<others>.+)$/, 'tr.told.several'],
  [/^the (?:generator|DDPM) cannot be opened|^this run has made nothing that paints/, 'tr.told.deadfile'],
  [/^this number is out of bounds$/, 'tr.told.bounds'],
  [/^the grid cannot be written/, 'tr.told.gridfile'],
  [/^nothing was published, because/, 'tr.told.unpublished'],
  [/^no round gained anything/, 'tr.told.nogain'],
  [/^this kind of model stays in the run's folder$/, 'tr.told.staysthere'],
  [/^only what was learnt to the end is published$/, 'tr.told.unended'],
  [/^the run's folder (?:cannot be made|is gone)|^the run has (?:made nothing|made no such file|no such picture)/, 'tr.told.runfolder'],
  [/^the set has no picture of this name$|^this picture has no file in /, 'tr.told.nofile'],
  [/^a picture gets one crop$/, 'tr.told.onecrop'],
  [/^the crop reaches beyond the picture$/, 'tr.told.cropout'],
  [/^something is being done with a set already$/, 'tr.told.setbusy'],
  [/^it has ended$|^there is no such work$/, 'tr.told.workended'],
  [/^the set's folder cannot be moved/, 'tr.told.setmove'],
  [/^no set of this name was removed$/, 'tr.told.setgone'],
  [/^the edit names no tag$/, 'tr.told.notag'],
];
const NEEDS = /^it needs ([\d.]+) GiB of memory, ([\d.]+) GiB are free/;
const NO_ROOM = /^one step does not fit into memory/;
/** Which field a trainer's reason is about, by the words that it uses, where it does not name it. */
const ABOUT = [[/memory/, 'batch'], [/precision|float16|bfloat16/, 'precision'], [/optimi[sz]er|bitsandbytes/, 'optimizer'], [/annotator|control map/, 'annotator'], [/model|U-?Net|checkpoint/i, 'model'], [/set\b|picture|caption/, 'dataset'], [/word/, 'initial_words']];

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? '' : '.'}` : '');

/** A sentence in the page's language, or null where the page does not know it. @param allowed what would be possible */
export function toldWords(words, allowed = '') {
  for (const [pattern, key] of KNOWN) {
    const found = pattern.exec(words);
    if (!found) continue;
    const named = Object.entries(found.groups ?? {}).map(([name, part]) => [name, (part && toldWords(part, allowed)) ?? part ?? '']);
    return t(key, { allowed, ...Object.fromEntries(named) });
  }
  return null;
}

/** A sentence as an element; one that the page does not know stays in English and says so to a screen reader. */
function told(tag, words, css) {
  const known = language() === 'en' ? null : toldWords(words);
  return known === null ? el(tag, { class: css, lang: 'en', text: sentence(words) }) : el(tag, { class: css, text: known });
}

/** A note or warning as a paragraph. */
export const toldLine = (words, css) => told('p', words, css);

/** A reason within a line. */
export const toldSpan = (words) => told('span', words, null);

/** A trainer's reason ("what · field: … · allowed: … · next: …") in the page's language, with the field that it is about. */
export function readReason(reason) {
  const parts = reason.split(' · ');
  const of = (name) => parts.find((part) => part.startsWith(`${name}: `))?.slice(name.length + 2) ?? '';
  const field = (/^[a-z_.]+$/.test(of('field')) && of('field')) || (ABOUT.find(([words]) => words.test(parts[0]))?.[1] ?? null);
  const needs = NEEDS.exec(reason);
  if (needs) return { field, text: t('tr.reason.memory', { needs: size(needs[1] * GIB), free: size(needs[2] * GIB) }) };
  if (NO_ROOM.test(reason)) return { field, text: t('tr.reason.step') };
  const sentences = [parts[0], of('next')].filter(Boolean).map(sentence).join(' ');
  if (language() === 'en') return { field, text: sentences };
  return { field, text: toldWords(parts[0], of('allowed')) ?? t('tr.reason.other', { reason: sentences }) };
}

teach(toldWords);
