"""The stages of the pipeline, one file per process; installed as ``diart_mp.stages``."""
