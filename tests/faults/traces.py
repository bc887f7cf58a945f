"""Looking for what must not stand somewhere: secrets in any spelling, numbers beyond their last digits."""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

WINDOW = 8
"""Digits in a row of a number that count as a trace: twice of what may be shown, so not found by chance."""


def spellings(secret: bytes) -> Iterator[bytes]:
    """A secret as it is, in hex, in base64 at any place of a longer text, in UTF-16."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for before in range(3):
        longer = bytes(before) + secret
        text = base64.b64encode(longer).rstrip(b"=")
        text = text[(0, 2, 3)[before] : -1 if len(longer) % 3 else None]
        yield text
        yield text.translate(bytes.maketrans(b"+/", b"-_"))
    if secret.isascii():
        yield secret.decode().encode("utf-16-le")


def windows(number: str) -> Iterator[bytes]:
    """The pieces of a number that must not stand anywhere."""
    for at in range(len(number) - WINDOW + 1):
        yield number[at : at + WINDOW].encode()


def by_spelling(secrets: Iterable[bytes]) -> dict[bytes, bytes]:
    """What to look for, and the secret that it gives away. A line break cannot be looked for: pieces are."""
    found: dict[bytes, bytes] = {}
    for secret in secrets:
        for text in spellings(secret):
            found |= {piece: secret for piece in text.split(b"\n") if len(piece) >= WINDOW}
    return found


def by_window(numbers: Iterable[str]) -> dict[bytes, bytes]:
    """What to look for, and the number that it is of."""
    return {piece: number.encode() for number in numbers for piece in windows(number)}


def traces(wanted: Mapping[bytes, bytes], places: Sequence[Path]) -> set[tuple[str, bytes]]:
    """Files under these places, and what of `wanted` they hold. Every byte is read, by grep."""
    with tempfile.NamedTemporaryFile() as patterns:
        patterns.write(b"\n".join(wanted))
        patterns.flush()
        done = subprocess.run(
            ["grep", "-raoFZ", "--devices=skip", "-f", patterns.name, "--", *map(str, places)],
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            check=False,
        )
    assert done.returncode in (0, 1), done.stderr
    found = set()
    for line in done.stdout.split(b"\n"):
        if line:
            file, _, match = line.partition(b"\0")
            found.add((file.decode(), wanted[match]))
    return found


def bytes_under(places: Sequence[Path]) -> int:
    """How much there was to read."""
    files = (file for place in places for file in ([place] if place.is_file() else place.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file())
