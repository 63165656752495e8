import type { Client } from './client';
import { ApiError } from './client';
import type { RunLine } from './schema';

/** One server-sent event. */
export interface SseEvent {
  event: string;
  data: string;
  id: string;
}

/** A parser of server-sent events: feed it pieces of text as they come, it returns the events that are complete. */
export function createSseParser(): (text: string) => SseEvent[] {
  let rest = '';
  let event = '';
  let id = '';
  let data: string[] = [];
  return text => {
    const lines = (rest + text).split(/\r\n|\n/);
    rest = lines.pop() ?? '';
    const complete: SseEvent[] = [];
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0 || event !== '') {
          complete.push({ event: event || 'message', data: data.join('\n'), id });
        }
        event = '';
        data = [];
        continue;
      }
      const colon = line.indexOf(':');
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'event') {
        event = value;
      } else if (field === 'data') {
        data.push(value);
      } else if (field === 'id') {
        id = value;
      }
    }
    return complete;
  };
}

const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;

function wait(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/**
 * Follow a log (`runs/…/logs` or `jobs/…/logs`) until it ends or `signal` fires. A broken connection is taken up again after the last
 * event that came. Read by `fetch`, which, unlike EventSource, can send a token as a header and `Last-Event-ID` from the start.
 * Throws ApiError when the server refuses.
 */
export async function followLog(
  client: Client,
  path: string,
  onPieces: (pieces: RunLine[]) => void,
  signal: AbortSignal
): Promise<void> {
  let last = '';
  let delay = FIRST_DELAY;
  const isOver = () => signal.aborted;
  while (!isOver()) {
    try {
      const headers: Record<string, string> = { Accept: 'text/event-stream' };
      if (last) {
        headers['Last-Event-ID'] = last;
      }
      const response = await client.open(path, { headers, signal });
      const reader = response.body?.getReader();
      const decoder = new TextDecoder();
      const parse = createSseParser();
      for (;;) {
        const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
        if (done) {
          break;
        }
        delay = FIRST_DELAY;
        const events = parse(decoder.decode(value, { stream: true }));
        const pieces = events.filter(event => event.event === 'line').map(event => JSON.parse(event.data) as RunLine);
        last = events.at(-1)?.id ?? last;
        if (pieces.length > 0) {
          onPieces(pieces);
        }
        if (events.some(event => event.event === 'end')) {
          return;
        }
      }
    } catch (error) {
      if (isOver()) {
        return;
      }
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) {
        throw error;
      }
    }
    await wait(delay, signal);
    delay = Math.min(delay * 2, LONGEST_DELAY);
  }
}
