import type { ServerConnection } from '@jupyterlab/services';
import { EventManager } from '@jupyterlab/services';

const CHANGE = 'https://schema.jupyter.org/jupyter_jobs/change/v1';

/**
 * Call `onHint` with the sequence number of each change that the server announces, and `onOpen` whenever the stream (re)opens: what
 * happened while it was closed was not announced. Returns a function that ends it.
 *
 * An event manager of our own, because the application's does not tell when its socket opens again.
 */
export function listenForHints(
  settings: ServerConnection.ISettings,
  onHint: (seq: number) => void,
  onOpen: () => void
): () => void {
  class ObservedWebSocket extends settings.WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener('open', onOpen);
    }
  }
  const manager = new EventManager({ serverSettings: { ...settings, WebSocket: ObservedWebSocket } });
  manager.stream.connect((_, event) => {
    const { schema_id, seq } = event as unknown as { schema_id: string; seq?: unknown };
    if (schema_id === CHANGE) {
      onHint(typeof seq === 'number' ? seq : 0);
    }
  });
  return () => manager.dispose();
}
