"""The diarization algorithm as plain NumPy functions and small classes.

``weights`` and ``embeddings`` prepare what the embedding model gets and gives; ``clustering``, ``aggregation`` and
``binarize`` turn segmentations and embeddings into speaker turns, and ``diarization`` ties these three together for one
stream. Nothing here knows of processes, models, files or messages.
"""
