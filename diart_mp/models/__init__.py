"""Models: references, loaders and the two built-in networks.

What is here: what turns a model reference (one string) into a callable on NumPy arrays. The segmentation and
embedding stages run it. Nothing is imported here, so that ``import diart_mp.models.reference`` stays cheap.
"""
