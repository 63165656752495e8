"""The background process: one per store. Starts runs, follows them, tells whoever listens."""
