"""Checkpoints on the Hugging Face hub.

What is here: finding a model's file in the hub's cache or downloading it, with ``HF_TOKEN``, ``HF_HOME`` and
``HF_HUB_OFFLINE`` as everybody knows them, and one clear line where that fails. What the file holds is unknown here.
Runs where models are loaded.
"""

from pathlib import Path

from diart_mp.errors import ModelError
from diart_mp.models.reference import CHECKPOINT_NAME, ModelReference


def fetch_checkpoint(reference: ModelReference, token: str | None = None) -> Path:
    """File of the checkpoint that a hub reference names, downloaded first where the hub's cache has none.

    Args:
        reference: a reference of the hub form.
        token: access token; None for ``HF_TOKEN`` or the token that ``hf auth login`` stored.

    Raises:
        ModelError: gated, missing, or not to be reached.

    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
    except ImportError as error:
        msg = f"{reference} is on the hub, for which huggingface_hub is missing; run: pip install 'diart-mp[models]'"
        raise ModelError(msg) from error
    try:
        found = hf_hub_download(reference.name, CHECKPOINT_NAME, revision=reference.revision, token=token)
    except (HfHubHTTPError, EntryNotFoundError, HFValidationError, OSError) as error:
        raise ModelError(_explain(error, reference)) from error
    return Path(found)


def _explain(error: Exception, reference: ModelReference) -> str:
    """One line for the person at the keyboard: what happened, the page to open and what to run or set."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{reference.name}"
    if isinstance(error, errors.GatedRepoError):
        return f"{reference} is gated: accept its conditions at {page}, then set HF_TOKEN or run: hf auth login"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{reference.name} has no revision '{reference.revision}'; see {page}/commits"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the hub shows no model {reference.name} (missing, private or gated): check the name and accept its "
            f"conditions at {page}, then set HF_TOKEN or run: hf auth login"
        )
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return f"{reference} has no file {CHECKPOINT_NAME}, so it is no pyannote.audio model; see {page}"
    reason = " ".join(str(error).split())[:200]
    return (
        f"{reference} is not in the hub's cache (HF_HOME) and cannot be downloaded ({type(error).__name__}: {reason}); "
        f"unset HF_HUB_OFFLINE and check the network, or run once with a connection: hf download {reference.name}"
    )
