import { useCallback, useEffect, useMemo, useRef, useState } from 'react';

import { stringifyJson } from '../../api/json';
import type { CellCandidate, Combinations, ErrorBody, Inspection, Preview } from '../../api/schema';
import { useShared } from '../../components/context';
import type { Fetched } from '../../components/hooks';
import { errorBody } from '../../components/hooks';
import type { FormDraft } from '../../model/form';
import { chosenNumbers, createRequest, fieldOf, localErrors, newDraft, previewRequest, withInspection } from '../../model/form';
import { malformedNames, writeGrid } from '../../model/grid';
import type { Notebooks } from './notebook';

const TYPING = 250;

/** The form's data and what can be done with it. */
export interface Form {
  inspection: Inspection | null;
  draft: FormDraft | null;
  combinations: Fetched<Combinations>;
  preview: Fetched<Preview> & { isLooking: boolean };
  /** Why the notebook cannot be looked into. */
  fatal: ErrorBody | null;
  /** Refusals by the field they belong to (`fieldOf`). */
  errors: ReadonlyMap<string, ErrorBody>;
  /** Combination numbers to run, as `CreateJob.only`; null while there is none. */
  only: number[] | null;
  runs: number;
  /** Whether sending the form as it is would be refused. */
  isBlocked: boolean;
  isDirty: boolean;
  wasSaved: boolean;
  isBusy: boolean;
  /** Look into the notebook again. */
  retry(): void;
  update(patch: Partial<FormDraft>): void;
  tag(candidate: CellCandidate): void;
  submit(): void;
}

/** Ask the server once typing pauses; the answer before stays until the next one, and one that is overtaken is dropped. */
function useAnswer<T>(key: string | null, ask: (signal: AbortSignal) => Promise<T>): Fetched<T> & { isLooking: boolean } {
  const [answer, setAnswer] = useState<Fetched<T> & { isLooking: boolean }>({ value: null, error: null, isLooking: true });
  const isFirst = useRef(true);
  useEffect(() => {
    if (key === null) {
      return;
    }
    const abort = new AbortController();
    const timer = setTimeout(
      () => {
        isFirst.current = false;
        setAnswer(before => ({ ...before, isLooking: true }));
        ask(abort.signal).then(
          value => !abort.signal.aborted && setAnswer({ value, error: null, isLooking: false }),
          (error: unknown) =>
            !abort.signal.aborted && setAnswer(before => ({ ...before, error: errorBody(error), isLooking: false }))
        );
      },
      isFirst.current ? 0 : TYPING
    );
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- `key` is the whole question
  }, [key]);
  return answer;
}

/** The create form of one notebook. `onCreated` gets the id of the job that was made. */
export function useForm(path: string, notebooks: Notebooks, startsSaved: boolean, onCreated: (job: string) => void): Form {
  const { store, trans } = useShared();
  const { client } = store;
  const [inspection, setInspection] = useState<Inspection | null>(null);
  const [draft, setDraft] = useState<FormDraft | null>(null);
  const [fatal, setFatal] = useState<ErrorBody | null>(null);
  const [refusal, setRefusal] = useState<ErrorBody | null>(null);
  const [isDirty, setDirty] = useState(() => notebooks.isDirty(path));
  const [wasSaved, setSaved] = useState(startsSaved);
  const [isBusy, setBusy] = useState(false);
  const [version, setVersion] = useState(0);
  const known = useRef<Inspection | null>(null);

  useEffect(() => {
    const abort = new AbortController();
    client.inspect(path, abort.signal).then(
      after => {
        const before = known.current;
        known.current = after;
        setDraft(old => (old && before ? withInspection(old, before, after) : newDraft(after)));
        setInspection(after);
        setFatal(null);
      },
      (error: unknown) => !abort.signal.aborted && setFatal(errorBody(error))
    );
    return () => abort.abort();
  }, [client, path, version]);

  useEffect(
    () =>
      notebooks.watch(path, isSaved => {
        setDirty(notebooks.isDirty(path));
        if (isSaved) {
          setVersion(before => before + 1);
        }
      }),
    [notebooks, path]
  );

  const gridText = draft ? writeGrid(draft.grid) : '';
  const malformed = useMemo(() => (draft ? malformedNames(draft.grid) : []), [draft]);
  const combinations = useAnswer(draft && malformed.length === 0 ? `${version} ${gridText}` : null, signal =>
    client.combinations({ path, grid_text: gridText }, signal)
  );
  const question = draft ? previewRequest(draft) : null;
  const preview = useAnswer(question && `${version} ${stringifyJson(question)}`, signal =>
    client.preview(question ?? { path }, signal)
  );

  const names = useMemo(
    () => [...(inspection?.parameters ?? []).map(parameter => parameter.name), ...(draft?.grid.values.keys() ?? [])],
    [inspection, draft]
  );
  const errors = useMemo(() => {
    const found = new Map<string, ErrorBody>();
    const add = (error: ErrorBody | null, fallback: string) => error && found.set(fieldOf(error, names) || fallback, error);
    add(refusal, '');
    add(preview.error, 'project');
    if (malformed.length === 0) {
      add(combinations.error, 'grid_text');
    }
    const local = (message: string): ErrorBody => ({ code: 'local', message, mend: '', detail: {} });
    malformed.forEach(name => found.set(`grid:${name}`, local(trans.__('This is not JSON.'))));
    if (draft) {
      localErrors(draft).forEach(field => found.set(field, local(trans.__('Write a duration such as 90, 10m or 1h 30m.'))));
    }
    return found;
  }, [refusal, preview.error, combinations.error, malformed, draft, names, trans]);

  const answer = combinations.value;
  const only = useMemo(() => (draft && answer ? chosenNumbers(draft, answer.total, answer.combinations) : null), [draft, answer]);

  const update = useCallback((patch: Partial<FormDraft>) => {
    setRefusal(null);
    setDraft(before => before && { ...before, ...patch });
  }, []);

  const attempt = (work: () => Promise<void>) => {
    setBusy(true);
    setRefusal(null);
    work().then(
      () => setBusy(false),
      (error: unknown) => {
        setRefusal(errorBody(error));
        setBusy(false);
      }
    );
  };

  return {
    inspection,
    draft,
    combinations,
    preview,
    fatal,
    errors,
    only,
    runs: only === null ? 0 : only.length > 0 ? only.length : (answer?.total ?? 0),
    isBlocked:
      only === null ||
      malformed.length > 0 ||
      combinations.error !== null ||
      (draft !== null && localErrors(draft).size > 0) ||
      (preview.value?.findings ?? []).some(finding => finding.level === 'error'),
    isDirty,
    wasSaved,
    isBusy,
    update,
    retry: () => setVersion(before => before + 1),
    tag: candidate => attempt(() => notebooks.tagCell(path, candidate)),
    submit: () => {
      if (!draft || only === null || isBusy) {
        return;
      }
      attempt(async () => {
        if (await notebooks.save(path)) {
          setSaved(true);
        }
        const job = await store.create(createRequest(draft, only));
        onCreated(job.id);
      });
    }
  };
}
