"""Which windows a stream has: pure arithmetic on sample counts, no audio.

A window is ``duration`` samples; window 0 begins at ``origin`` (0 or negative: what lies before the stream's
first sample is silence) and the following ones ``step`` later each. At the end of a stream windows go on
over ``latency - step`` samples of silence, so that delayed aggregation has answered for all of the audio
(diart: utils.get_padding_left, get_padding_right). Runs in the owner.
"""

from dataclasses import dataclass

from diart_mp.config import Settings


@dataclass(frozen=True, slots=True)
class Window:
    """Samples [start, start + duration) of a stream.

    In live overload ``skipped`` windows before it were left out, and ``uncovered`` samples are in no window at all.
    """

    start: int
    skipped: int = 0
    uncovered: int = 0


class WindowPlan:
    """Gives the windows of one stream in order, as its samples come in.

    With ``start = "exact"`` the first window is the first ``duration`` samples; a stream shorter than that is
    padded at its left. With "early" the first window ends after the first step, and where a stream begins with a step of
    digital silence or more (a device that is not on yet) the windows are counted anew from the first sound on: then they
    are those of the same recording without that silence. Less silence than that is the recording's own, and moves
    nothing. The windows of a stream depend on its samples alone, not on how it was read. Otherwise window ``seq`` of a
    stream without skipping begins at ``origin + seq * step``, also where the step does not divide the
    duration.
    """

    def __init__(self, settings: Settings) -> None:
        self._duration = settings.duration
        self._step = settings.step
        self._right = settings.latency - settings.step
        self._early = settings.start == "early"
        self._length: int | None = None  # samples of the whole stream, once it has ended
        self.samples = 0
        self.origin: int | None = settings.step - settings.duration if self._early else None
        self._next: int | None = self.origin
        self.sound: int | None = None  # the first sample that is a sound

    def begin_at(self, position: int) -> None:
        """The first sound (``audio.sound``) is at ``position``: with an early start a window ends one step later.

        It comes after all windows that end before that sample. To be told before ``advance`` counts that sample.
        """
        self.sound = position if position >= self._step else 0

    def advance(self, samples: int) -> None:
        """``samples`` more samples have arrived."""
        self.samples += samples

    def finish(self) -> None:
        """The stream has ended with the samples that were announced."""
        self._length = self.samples

    @property
    def finished(self) -> bool:
        """Whether every window has been given out."""
        return self._length is not None and self._peek() is None

    @property
    def next(self) -> int | None:
        """First sample of the next window, None while that is not known."""
        return self._next

    @property
    def ready(self) -> bool:
        """Whether there is a window to be given out."""
        return self._peek() is not None

    @property
    def backlog(self) -> int:
        """Samples that have arrived after the end of the next window; negative while it is not complete."""
        return self.samples - (self._start() or 0) - self._duration

    def resume(self, origin: int, start: int) -> None:
        """Go on at the window that begins at ``start`` (a stream that an earlier owner began)."""
        self.origin, self._next = origin, start

    def take(self, *, newest: bool = False, behind: int = 1) -> Window | None:
        """The next window whose samples are all there, None if there is none yet.

        ``newest`` skips to the newest complete window (a live stream whose results come too late), as long as
        that leaves no sample uncovered: consecutive windows never lie more than ``duration`` apart, and the
        first window is never left out. Only when ``behind`` whole windows would still wait behind are samples given up.
        """
        start = self._peek()
        if start is None:
            return None
        skipped = uncovered = 0
        if newest and start != self.origin:
            reach = start - self._step + self._duration  # the previous window's end
            last = self.samples - self._duration
            if last <= reach + behind * self._duration:
                last = min(last, reach)
            skipped = max(0, (last - start) // self._step)
            uncovered = max(0, start + skipped * self._step - reach)
        start += skipped * self._step
        self._next = start + self._step
        return Window(start, skipped, uncovered)

    def _peek(self) -> int | None:
        """Start of the next window if it can be given out."""
        if self._length == 0:
            return None
        if self.origin is None and not self._set_origin():
            return None
        start = self._start()
        if start is None:
            return None
        if self._length is None:
            return start if start + self._duration <= self.samples else None
        covered = start - self._step + self._duration  # end of the previous window
        first = start == self.origin
        return start if first or covered < self._length + self._right else None

    def _start(self) -> int | None:
        """Start of the next window, complete or not: with an early start the first one with sound is where it is wanted."""
        start, sound = self._next, self.sound
        if start is None or sound is None or not self._early or start + self._duration <= sound:
            return start
        return max(start, sound + self._step - self._duration)

    def _set_origin(self) -> bool:
        """Exact start: 0 once a whole window is there, or what a stream shorter than a window needs at its left."""
        if self.samples >= self._duration:
            self.origin = 0
        elif self._length is not None:
            self.origin = min(0, self._length + self._right - self._duration)
        else:
            return False
        self._next = self.origin
        return True
