"""Spoken text, by the program espeak-ng where it is present."""

from __future__ import annotations

import asyncio
import shutil
from collections import OrderedDict
from typing import Final

from outdial.prompts import PromptError, read_prompt
from outdial.switch.talk import VoiceError

PROGRAM: Final = "espeak-ng"

_KEPT: Final = 200
"""Texts whose audio is kept: those without values of a call come again and again."""

_AT_ONCE: Final = 2
_SPEAK_WITHIN: Final = 10.0


def present() -> bool:
    """Whether this machine can speak."""
    return shutil.which(PROGRAM) is not None


class Voice:
    """Speaks. The text goes through a pipe: what is in an argument is in everybody's list of processes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def say(self, text: str) -> bytes:
        """µ-law of a text. Raises `VoiceError`."""
        if text in self._kept:
            self._kept.move_to_end(text)
            return self._kept[text]
        async with self._turns:
            spoken = await self._speak(text)
        self._kept[text] = spoken
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return spoken

    async def _speak(self, text: str) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *(PROGRAM, "--stdin", "--stdout"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise VoiceError(f"{PROGRAM}: {error.strerror}") from error
        try:
            async with asyncio.timeout(_SPEAK_WITHIN):
                wav, _ = await process.communicate(text.encode())
        except TimeoutError as error:
            raise VoiceError(f"{PROGRAM}: not done within {_SPEAK_WITHIN:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
        try:
            return await asyncio.to_thread(lambda: read_prompt(wav).ulaw)
        except PromptError as error:
            raise VoiceError(f"{PROGRAM}: {error}") from error
