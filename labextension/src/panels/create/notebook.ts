import type { CellCandidate } from '../../api/schema';

/** What the form needs of the notebooks that are open in the application. Paths are contents paths. */
export interface Notebooks {
  /** Whether the notebook is open with changes that are not on disk. */
  isDirty(path: string): boolean;
  /** Save the notebook if it has changes; tells whether it did. Rejects when it cannot be saved. */
  save(path: string): Promise<boolean>;
  /** Give the cell the tag `parameters`, in the open notebook (opened for it if need be), and save. */
  tagCell(path: string, candidate: CellCandidate): Promise<void>;
  /** Call the listener when the notebook is changed (`false`) or was saved (`true`). */
  watch(path: string, listener: (isSaved: boolean) => void): () => void;
  /** Let the person choose a JSON file; null when they do not. */
  chooseGrid(path: string): Promise<{ path: string; text: string } | null>;
}
