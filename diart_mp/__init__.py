"""diart-mp: online speaker diarization as a pipeline of separate processes.

What is here: the version. Everything else is imported from its own module, so that importing
the package costs nothing (``diart-mp --help`` has to answer at once).
"""

__version__ = "0.1.0"
