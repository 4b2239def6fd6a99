"""Small questions to chunks on their way, and errors as text that travels with them. Runs in every stage but capture."""

from diart_mp.errors import DiartMpError
from diart_mp.messages import AudioRef, Message, Plain

BUNDLES = "bundles"  # plain field of a chunk: its owner takes several results in one multipart
_MAX_REASON = 1000  # characters of an error that travel


def takes_bundles(message: Message) -> bool:
    """Whether a chunk's owner says that it takes several results in one multipart."""
    field = message.fields.get(BUNDLES)
    return isinstance(field, Plain) and field.value is True


def reason_of(error: Exception) -> str:
    """An error as one line that can travel."""
    text = str(error) if isinstance(error, DiartMpError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).encode(errors="backslashreplace").decode()[:_MAX_REASON]


def window_of(message: Message) -> tuple[int, int]:
    """Sample rate and number of samples of a chunk's audio."""
    audio = message.fields.get("audio")
    count = audio.count if isinstance(audio, AudioRef) else getattr(audio, "size", 0)
    return message.rate, count
