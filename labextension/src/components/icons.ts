import { LabIcon } from '@jupyterlab/ui-components';

import type { ShownState } from '../model/states';

const wrap = (body: string, size = 16): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="${size}" viewBox="0 0 ${size} ${size}">${body}</svg>`;

/** The product's mark: a grid of runs, one of them under way. */
export const jobsIcon = new LabIcon({
  name: 'jupyter-jobs:jobs',
  svgstr: wrap(
    '<g class="jp-icon3" fill="#616161"><rect x="2" y="2" width="5" height="5" rx="1"/><rect x="9" y="2" width="5" height="5" rx="1"/>' +
      '<rect x="2" y="9" width="5" height="5" rx="1"/><path d="M9.5 8.6v5.8a.5.5 0 0 0 .76.43l4.6-2.9a.5.5 0 0 0 0-.86l-4.6-2.9a.5.5 0 0 0-.76.43z"/></g>'
  )
});

/** A notebook that becomes many runs. */
export const runAsJobIcon = new LabIcon({
  name: 'jupyter-jobs:run-as-job',
  svgstr: wrap(
    '<g class="jp-icon3" fill="#616161"><path d="M2 2.9v7.2a.6.6 0 0 0 .92.5l5.7-3.6a.6.6 0 0 0 0-1L2.92 2.4A.6.6 0 0 0 2 2.9z"/>' +
      '<rect x="10.5" y="2" width="3.5" height="3.5" rx=".8"/><rect x="10.5" y="6.5" width="3.5" height="3.5" rx=".8"/>' +
      '<rect x="10.5" y="11" width="3.5" height="3.5" rx=".8"/><rect x="6" y="11" width="3.5" height="3.5" rx=".8"/></g>'
  )
});

const ring = '<circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" stroke-width="1.4"/>';
const disc = '<circle cx="6" cy="6" r="5.2" fill="currentColor"/>';
const paper = 'fill="none" stroke="var(--jp-layout-color1)" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"';

/** One icon per state, drawn in the state's colour; the shapes differ without it. */
const STATE_SVG: Record<ShownState, string> = {
  created: wrap(
    `<circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" stroke-width="1.4" stroke-dasharray="2 1.6"/>`,
    12
  ),
  scheduled: wrap(`${ring}<path d="M6 3.4V6l1.9 1.2" fill="none" stroke="currentColor" stroke-width="1.3"/>`, 12),
  queued: wrap(ring, 12),
  init: wrap(`${ring}<path d="M6 1.5a4.5 4.5 0 0 1 0 9z" fill="currentColor"/>`, 12),
  running: wrap(`${disc}<path d="M4.9 3.8v4.4L8.4 6z" fill="var(--jp-layout-color1)"/>`, 12),
  canceling: wrap(`${ring}<path d="M4.2 6h3.6" stroke="currentColor" stroke-width="1.6"/>`, 12),
  complete: wrap(`${disc}<path d="M3.6 6.2l1.7 1.7 3.2-3.6" ${paper}/>`, 12),
  failed: wrap(`${disc}<path d="M4 4l4 4M8 4l-4 4" ${paper}/>`, 12),
  canceled: wrap(`${ring}<path d="M2.9 9.1l6.2-6.2" stroke="currentColor" stroke-width="1.4"/>`, 12)
};

const STATE_ICONS = Object.fromEntries(
  Object.entries(STATE_SVG).map(([state, svgstr]) => [state, new LabIcon({ name: `jupyter-jobs:state-${state}`, svgstr })])
) as Record<ShownState, LabIcon>;

/** The icon of a state. */
export function stateIcon(state: ShownState): LabIcon {
  return STATE_ICONS[state];
}
