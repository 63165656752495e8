import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IThemeManager } from '@jupyterlab/apputils';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { createClient } from '../api/client';
import { listenForHints } from '../api/hints';
import { createStore } from '../model/store';
import type { Base } from '../tokens';
import { IJobsBase } from '../tokens';

function activate(app: JupyterFrontEnd, translator: ITranslator | null, themes: IThemeManager | null): Base {
  const settings = app.serviceManager.serverSettings;
  const store = createStore(createClient(settings));
  let isConnected = false;
  return {
    store,
    trans: (translator ?? nullTranslator).load('jupyter_jobs'),
    connect: () => {
      if (!isConnected) {
        isConnected = true;
        void store.load();
        listenForHints(
          settings,
          seq => store.hint(seq),
          () => store.hint(0)
        );
      }
    },
    isLight: () => !themes?.theme || themes.isLight(themes.theme),
    onThemeChange: listener => {
      themes?.themeChanged.connect(listener);
      return () => themes?.themeChanged.disconnect(listener);
    }
  };
}

/** The store of jobs, which all other plugins share. */
export const basePlugin: JupyterFrontEndPlugin<Base> = {
  id: 'jupyter-jobs:base',
  description: 'Keeps what the server knows about jobs.',
  autoStart: true,
  provides: IJobsBase,
  optional: [ITranslator, IThemeManager],
  activate
};
