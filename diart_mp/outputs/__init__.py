"""What comes out of a stream: files, lines for a pipe, live pictures; and reading such files back.

Knows turns and updates (``diart_mp.turns``) and nothing of stages, models or audio. Runs in the owner
of a stream (files) and in the command that shows it (views).
"""
