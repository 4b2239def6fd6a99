"""Scoring of turns against a reference. Knows nothing of the pipeline that made them; runs in the command."""
