// The page's canvas: mounts the stage and listens to Python and to the keys of the whole page.
import { settle } from './base.js';
import { foldSections, nearestRatio, tidyForm } from './fields.js';
import { Stage } from './stage.js';

export function mount({ element, trigger, props, watch }) {
  const stage = new Stage({ element, trigger, props });
  document.body.dataset.mode = 'txt2img';
  foldSections(element.querySelector('.dq-stage-root').dataset.sections.split(' ')).then(() => settle('folds'));
  tidyForm();
  window.danqing = {
    stage,
    mode: (mode) => stage.setMode(mode),
    model: (model) => [stage.controls.load(model ?? ''), stage.networks.setModel(model ?? '')],
    margins: (...sides) => stage.setMargins(...sides),
    cancel: () => stage.watch.cancel(),
    choose: () => stage.drop.start.click(),
    read: () => stage.drop.reader.click(),
    ratio: (width, height) => {
      stage.sized(width, height);
      return nearestRatio(width, height);
    },
    dice: () => stage.setSeed(''),
    reuse: () => stage.reuseSeed(),
  };
  let last = 0;
  const listen = () => {
    const { command } = props;
    if (!command?.number || command.number === last) return;
    last = command.number;
    stage.obey(command);
  };
  watch('command', listen);
  listen(); // the answer to the header's first word may be here already
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    if (document.querySelector('dialog[open]')) return; // what lies under a sheet is not painted by a slip
    document.activeElement?.dispatchEvent(new Event('change', { bubbles: true }));
    setTimeout(() => document.getElementById(document.body.classList.contains('dq-running') ? '' : 'dq-paint')?.click(), 30);
  }, true);
}
