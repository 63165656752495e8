import { basePlugin } from './plugins/base';
import { panelPlugin } from './plugins/panel';
import { runAsJobPlugin } from './plugins/runasjob';
import { viewsPlugin } from './plugins/views';

export default [basePlugin, viewsPlugin, runAsJobPlugin, panelPlugin];
