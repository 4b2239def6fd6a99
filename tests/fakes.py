"""The fast models of ``diart_mp.testing_models``, under the name by which tests give them to pipelines.

Named as ``tests.fakes:ToneSegmentation`` and ``tests.fakes:ToneEmbedding``: the stages of a test run load them from the checkout (their
working folder), so a whole pipeline starts in less than a second.
"""

from diart_mp.runtime.local import Models
from diart_mp.testing_models import PITCHES, RATE, ToneActivity, ToneEmbedding, ToneSegmentation, conversation

TONE_MODELS = Models(segmentation="tests.fakes:ToneSegmentation", embedding="tests.fakes:ToneEmbedding")

__all__ = ["PITCHES", "RATE", "TONE_MODELS", "ToneActivity", "ToneEmbedding", "ToneSegmentation", "conversation"]
