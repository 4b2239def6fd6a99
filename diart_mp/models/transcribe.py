"""Speech to words: any endpoint with OpenAI's interface, faster-whisper, or the user's own callable.

What is here: three ways from a piece of audio to words with times. Speakers, streams and chunks are unknown here. The transcribe
stage runs it.
"""

import io
import json
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from diart_mp.errors import ModelError
from diart_mp.models.base import FloatArray


@dataclass(frozen=True, slots=True)
class Word:
    """A word (or a phrase, where a model gives no words) and when it is said, in seconds of the piece."""

    start: float
    end: float
    text: str


Transcriber: TypeAlias = Callable[[FloatArray, int], Sequence[Word]]
"""Called with samples (n,), mono, and their rate in Hz. Raises ModelError, one line, where it cannot."""


class OpenAiTranscriber:
    """``POST URL/audio/transcriptions`` (multipart, ``verbose_json`` with words), as OpenAI, vLLM, speaches and others offer it.

    The key comes from the environment (OPENAI_API_KEY), never from a file. Plain text answers count as one phrase.
    """

    def __init__(self, url: str, model: str, language: str = "", timeout_s: float = 30.0) -> None:
        if not url.startswith(("http://", "https://")):
            msg = f"transcribe.url must begin with http:// or https://, not '{url}'"
            raise ModelError(msg)
        self._url, self._timeout_s = url.rstrip("/") + "/audio/transcriptions", timeout_s
        self._fields = {"model": model, "response_format": "verbose_json", "timestamp_granularities[]": "word"}
        self._fields |= {"temperature": "0"} | ({"language": language} if language else {})

    def __call__(self, samples: FloatArray, rate: int) -> Sequence[Word]:
        """Words of a piece."""
        boundary = uuid.uuid4().hex
        request = urllib.request.Request(  # noqa: S310  # the scheme was checked
            self._url, data=_multipart(self._fields, _wav(samples, rate), boundary), method="POST"
        )
        request.add_header("Content-Type", f"multipart/form-data; boundary={boundary}")
        if key := os.environ.get("OPENAI_API_KEY"):
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                values = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            said = " ".join(error.read(300).decode(errors="replace").split())
            msg = f"{self._url} answered {error.code}: {said}"
            raise ModelError(msg) from error
        except (OSError, ValueError) as error:
            msg = f"{self._url} does not answer as expected: {error}; does the server run there?"
            raise ModelError(msg) from error
        return _words(values, len(samples) / rate, self._url)


class WhisperTranscriber:
    """faster-whisper on this machine; ``model`` is a size ("small") or a folder."""

    def __init__(self, model: str, device: str = "cpu", language: str = "", threads: int = 1) -> None:
        try:
            from faster_whisper import WhisperModel  # type: ignore[import-not-found,unused-ignore]
        except ImportError as error:
            msg = (
                "transcribe needs faster-whisper (pip install 'diart-mp[transcribe]'), or an endpoint: "
                "--option transcribe.url=http://127.0.0.1:8000/v1"
            )
            raise ModelError(msg) from error
        kind, _, number = device.partition(":")  # as torch names it; CTranslate2 wants the number by itself
        place = {"device": kind, "device_index": int(number or 0)}
        try:
            self._model: Any = WhisperModel(model, **place, compute_type="default", cpu_threads=threads)
        except Exception as error:  # the hub, the network, the file: any error may come
            msg = f"cannot load the faster-whisper model '{model}': {' '.join(str(error).split())[:200]}"
            raise ModelError(msg) from error
        self._language = language or None

    def __call__(self, samples: FloatArray, rate: int) -> Sequence[Word]:
        """Words of a piece."""
        from diart_mp.audio.resample import resample_windows

        audio = resample_windows(samples[np.newaxis], rate, 16_000)[0]
        segments, _ = self._model.transcribe(audio, language=self._language, word_timestamps=True, temperature=0.0)
        return [Word(word.start, word.end, word.word.strip()) for segment in segments for word in segment.words or ()]


def load_transcriber(
    model: str, *, url: str = "", language: str = "", device: str = "cpu", threads: int = 1
) -> Transcriber:
    """The transcriber that options name: an endpoint if there is a ``url``, the user's ``module:Class``, else faster-whisper.

    Raises ModelError where it cannot be had.
    """
    if url:
        return OpenAiTranscriber(url, model or "whisper-1", language)
    if ":" in model:
        from diart_mp.models.custom import make_callable

        own: Transcriber = make_callable(model, device)
        return own
    return WhisperTranscriber(model or "small", device, language, threads)


def _words(values: Any, seconds: float, url: str) -> list[Word]:
    """The words of an answer; its segments, or its whole text, where there are none."""
    try:
        rows = values.get("words") or values.get("segments") or []
        words = [
            Word(float(row["start"]), float(row["end"]), str(row.get("word") or row["text"]).strip()) for row in rows
        ]
        if not words and str(values.get("text") or "").strip():
            words = [Word(0.0, seconds, str(values["text"]).strip())]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = f"{url} gave an answer that holds no words: {type(error).__name__} {error}"
        raise ModelError(msg) from error
    return words


def _wav(samples: FloatArray, rate: int) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _multipart(fields: dict[str, str], wav: bytes, boundary: str) -> bytes:
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="piece.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    return (head + file).encode() + wav + f"\r\n--{boundary}--\r\n".encode()
