"""An answered call: its flow is told what happens and does what it wants, on the call's audio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

from outdial import flow
from outdial.amd import AmdThresholds, BeepDetector, Detector
from outdial.flow import FlowAction, FlowEvent, FlowRun

_PLAYED_OUT: Final = 0.2
"""Seconds between the last audio that we sent and our BYE: it still stands in the far end's jitter buffer."""

_VERDICT_SLACK: Final = 0.5
"""Seconds more than the detector's own time: a far end that sends no audio is judged too."""


class Audio(Protocol):
    """What a talk needs of the call's media session."""

    def play(self, audio: bytes, on_done: Callable[[], None]) -> None:
        """Play µ-law audio."""
        ...

    def stop(self) -> None:
        """Stop what is played."""
        ...

    def listen(self, on_frame: Callable[[bytes], None] | None) -> None:
        """Hear what comes in, µ-law, 20 ms a frame."""
        ...


class Sounds(Protocol):
    """Where prompts and voices come from, for one VDN."""

    def prompt(self, name: str) -> bytes | None:
        """A prompt's µ-law audio; None when there is none of this name."""
        ...

    def say(self, text: str) -> Awaitable[bytes]:
        """Spoken text. Raises `VoiceError`."""
        ...


class VoiceError(Exception):
    """A text could not be spoken."""


class Talk:
    """One answered call. `hang_up` is asked once, with a Q.850 cause; `hand_over` for every transfer."""

    def __init__(
        self,
        run: FlowRun,
        audio: Audio,
        sounds: Sounds,
        *,
        hang_up: Callable[[int], None],
        hand_over: Callable[[flow.Transfer], None],
        thresholds: AmdThresholds,
    ) -> None:
        self._run = run
        self._audio = audio
        self._sounds = sounds
        self._hang_up = hang_up
        self._hand_over = hand_over
        self._thresholds = thresholds
        self._timers: dict[object, asyncio.TimerHandle] = {}
        self._saying: asyncio.Task[None] | None = None
        self._sounded = self._judging = False
        self._loop = asyncio.get_running_loop()
        self.verdict: str | None = None
        """Who answered, as the detector heard it."""

    @property
    def keys(self) -> str:
        """The keys that were pressed."""
        return self._run.keys

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of the flow that were taken."""
        return tuple(self._run.visited)

    @property
    def machine(self) -> bool:
        """A machine answered, and nobody pressed a key."""
        return self._run.machine

    def begin(self) -> None:
        """The call was answered, and its audio is connected."""
        self._do(self._run.start())

    def tell(self, event: FlowEvent) -> None:
        """Something happened in the call."""
        if not self._run.ended:
            self._do(self._run.receive(event))

    def over(self) -> None:
        """The call has ended."""
        self.tell(flow.HungUp())
        self._end()

    def _end(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._saying is not None:
            self._saying.cancel()
        self._audio.stop()
        self._audio.listen(None)

    def _do(self, actions: Iterable[FlowAction]) -> None:
        for action in actions:
            match action:
                case flow.PlayPrompt(names, _, token):
                    self._play(names, token)
                case flow.SayText(text, _, token):
                    self._saying = self._loop.create_task(self._say(text, token))
                case flow.StopAudio():
                    self._stop_audio()
                case flow.StartTimer(seconds, token):
                    self._after(seconds, flow.TimerDone(token))
                case flow.ListenForMachine():
                    self._judge()
                case flow.WaitForBeep():
                    self._wait_for_beep()
                case flow.Transfer():
                    self._judging = False  # whoever pressed a key was heard before the detector was sure
                    self._audio.listen(None)
                    self._hand_over(action)
                case flow.HangUp(cause, _):
                    self._end()
                    self._loop.call_later(_PLAYED_OUT if self._sounded else 0.0, self._hang_up, cause)

    def _after(self, seconds: float, event: FlowEvent) -> None:
        self._timers[event] = self._loop.call_later(seconds, self._due, event)

    def _due(self, event: FlowEvent) -> None:
        self._timers.pop(event, None)
        self.tell(event)

    # -- audio -----------------------------------------------------------------------------------------

    def _play(self, names: tuple[str, ...], token: int) -> None:
        sounds = [self._sounds.prompt(name) for name in names]
        found = [sound for sound in sounds if sound is not None]
        if len(found) < len(sounds):
            self._loop.call_soon(self.tell, flow.AudioDone(token, played=False))
        else:
            self._sound(b"".join(found), token)

    async def _say(self, text: str, token: int) -> None:
        try:
            spoken = await self._sounds.say(text)
        except VoiceError:
            self.tell(flow.AudioDone(token, played=False))
        else:
            self._sound(spoken, token)

    def _sound(self, audio: bytes, token: int) -> None:
        self._sounded = True
        self._audio.play(audio, lambda: self.tell(flow.AudioDone(token)))

    def _stop_audio(self) -> None:
        if self._saying is not None:
            self._saying.cancel()
        self._audio.stop()

    # -- who answered ----------------------------------------------------------------------------------

    def _judge(self) -> None:
        detector = Detector(self._thresholds)
        self._judging = True

        def hear(frame: bytes) -> None:
            verdict = detector.hear(frame)
            if verdict is not None:
                self._judged(verdict.answered_by.value)

        self._audio.listen(hear)
        longest = self._thresholds.total / 1000 + _VERDICT_SLACK
        self._timers["judge"] = self._loop.call_later(longest, self._judged, "unsure")

    def _judged(self, who: str) -> None:
        if self._judging:
            self._judging = False
            self.verdict = who
            self._audio.listen(None)
            self.tell(flow.MachineVerdict(flow.Verdict(who)))

    def _wait_for_beep(self) -> None:
        detector = BeepDetector()

        def hear(frame: bytes) -> None:
            if detector.hear(frame):
                self._audio.listen(None)
                self.tell(flow.BeepHeard())

        self._audio.listen(hear)
