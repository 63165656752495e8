"""Freezing: the project, the environment, and the workspace that a run sees."""
