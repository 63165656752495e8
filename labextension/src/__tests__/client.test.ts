import { describe, expect, it } from 'vitest';

import { encodePath, staysBelow } from '../api/client';

describe('paths that a notebook names', () => {
  it('lets none climb to another endpoint', () => {
    for (const path of ['..', '../x', 'a/../../b', './a', 'a/.', 'a/..']) {
      expect(staysBelow(path), path).toBe(false);
    }
  });

  it('keeps what only looks like climbing', () => {
    for (const path of ['a', 'a/b c', '.hidden', 'a/...', '..a/b', '%2e%2e/a', 'a\\..\\b']) {
      expect(staysBelow(path), path).toBe(true);
      const url = new URL(`http://host/files/${encodePath(path)}`);
      expect(url.pathname.startsWith('/files/'), path).toBe(true);
    }
  });
});
