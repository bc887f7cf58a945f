"""One process that starts the others, restarts what dies, and ends them in order.

A child has two pipes from it (`lifeline.py` is its side). The lifeline, whose other end only the supervisor
holds, ends the child within a moment when the supervisor is gone, even by `kill -9`; on Linux the kernel
does the same (PR_SET_PDEATHSIG). Over the ready pipe the child says that it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from outdial.errors import SettingError
from outdial.lifeline import LIFELINE_FD, ORPHANED, READY_FD

STOP_WITHIN = 30.0
"""Seconds from the first signal until nothing of ours runs."""

_PR_SET_PDEATHSIG = 1
_LIVED_LONG = 10.0  # seconds; who lived longer and dies is restarted at once
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # seconds before the second restart; it doubles up to the longest
_GIVE_UP = 3  # deaths before a first readiness; then `ready` says so
_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running. `env` is added to ours, `fds` keep their numbers in it.

    Children of the lowest `group` are stopped first. One that never calls `say_ready` counts as ready when
    `says_ready` is false. One that `reloads` gets SIGHUP when there is something to reload, never before it
    has said that it is ready.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    fds: tuple[int, ...] = ()
    group: int = 0
    says_ready: bool = True
    reloads: bool = False


class _Place:
    """A child's place, which its processes take one after another."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = asyncio.Event()
        self.hear = -1  # our end of the ready pipe
        self.ready = False
        self.was_ready = False
        self.deaths = 0
        self.reload_due = False
        self.last_end = "it has not said so"

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    def send(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def reload(self) -> None:
        """SIGHUP, now or when it is ready: until then it would end the process."""
        self.reload_due = self.child.reloads and not self.ready
        if self.child.reloads and self.ready:
            self.send(signal.SIGHUP)

    def hang_up(self) -> None:
        if self.hear >= 0:
            asyncio.get_running_loop().remove_reader(self.hear)
            os.close(self.hear)
            self.hear = -1

    def kill(self) -> None:
        """Ends it and what it started: a child has a process group of its own."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


class Supervisor:
    """Keeps `children` running until SIGTERM, SIGINT or `stop`, then ends them group by group.

    `watch` is run beside them and cancelled before the last step, `finish`: PostgreSQL's
    `EmbeddedPostgres.watch` and `.stop`. `at_stop` is called first of all when the end begins: it closes
    what is kept open for restarts, such as a listening socket that nobody will serve any more. `reload` is
    what SIGHUP asks for: when it returns true, the children that reload are told. Without it SIGHUP is the
    end, and so it is when our terminal has gone. Runs in the main thread, in asyncio's own loop (uvloop
    keeps SIGCHLD for itself).
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        watch: Callable[[], Awaitable[None]] | None = None,
        finish: Callable[[], None] | None = None,
        at_stop: Callable[[], None] | None = None,
        reload: Callable[[], bool] | None = None,
        stop_within: float = STOP_WITHIN,
    ) -> None:
        self._places = [_Place(child) for child in children]
        self._watch = watch
        self._finish = finish
        self._at_stop = at_stop
        self._reload = reload
        self._had_terminal = _has_terminal()
        self._stop_within = stop_within
        self._stopping = asyncio.Event()
        self._settled = asyncio.Event()  # all are ready, or one of them will not be
        self._lifeline = -1

    async def run(self) -> None:
        """Starts everything; returns when all has ended.

        Raises SettingError when a child's program cannot be started at all, and what `watch` raises; in
        both cases everything else has been ended.
        """
        with self._signals(), self._lifeline_of_children():
            keepers = {asyncio.create_task(self._keep(place)): place for place in self._places}
            watching = asyncio.ensure_future(self._watch()) if self._watch is not None else None
            stopping = asyncio.create_task(self._stopping.wait())
            vital = {*keepers, stopping, *([watching] if watching else [])}
            try:
                await asyncio.wait(vital, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._stopping.set()
                if self._at_stop is not None:
                    self._at_stop()
                await self._end(keepers, watching)
        for task in (*keepers, *([watching] if watching else [])):
            if not task.cancelled():
                task.result()

    async def ready(self, timeout: float) -> None:
        """Waits until every child is ready, at most `timeout` seconds.

        Raises SettingError that names who is not: after the timeout, when a child died three times before
        it was ever ready, or when we are stopping.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._settled.wait()
        late = [f"{place.child.name} ({place.last_end})" for place in self._places if not place.ready]
        if late:
            raise SettingError(f"not ready: {', '.join(late)}")

    def stop(self) -> None:
        """Begins the end, as SIGTERM does. Twice is fine."""
        self._stopping.set()
        self._settled.set()

    def reload(self) -> None:
        """Judge what is to be reloaded, and have the children reload it."""
        if self._reload is not None and self._reload():
            for place in self._places:
                place.reload()

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the children that run, by name."""
        return {place.child.name: place.pid for place in self._places if place.pid is not None}

    # -- signals and pipes -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        heard = [number for number in _HEARD if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.getsignal(number) for number in heard}
        does = {signal.SIGTERM: self.stop, signal.SIGINT: self._interrupt, signal.SIGHUP: self._hang_up}
        for number in heard:
            loop.add_signal_handler(number, does[number])
        loop.add_signal_handler(signal.SIGCHLD, self._look)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _interrupt(self) -> None:
        """Ctrl-C asks for the end; a second one does not wait for it."""
        if self._stopping.is_set():
            log.warning("interrupted twice: killing")
            for place in self._places:
                place.kill()
        self.stop()

    def _hang_up(self) -> None:
        """SIGHUP, from an operator or from a terminal that has gone."""
        if self._reload is None or (self._had_terminal and not _has_terminal()):
            self.stop()
        else:
            self.reload()

    @contextlib.contextmanager
    def _lifeline_of_children(self) -> Iterator[None]:
        """One pipe for all: they inherit the end to read, and no program inherits the other (PEP 446)."""
        self._lifeline, ours = os.pipe()
        try:
            yield
        finally:
            os.close(self._lifeline)
            os.close(ours)

    def _look(self) -> None:
        """A child of this process ended: one of these, or PostgreSQL, which is reaped by its own class."""
        for place in self._places:
            if place.process is not None and place.process.poll() is not None:
                place.ended.set()

    # -- one child ---------------------------------------------------------------------------------------

    async def _keep(self, place: _Place) -> None:
        pause = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._start(place)
            except OSError as error:
                if place.deaths == 0:
                    raise SettingError(f"cannot start {place.child.argv[0]}: {error}") from error
                place.last_end = str(error)
            else:
                await place.ended.wait()
                self._bury(place)
            if self._stopping.is_set():
                return
            pause = 0.0 if time.monotonic() - began > _LIVED_LONG else pause
            log.error("process died", process=place.child.name, end=place.last_end, restart_in=pause)
            await self._rest(pause)
            pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)

    def _start(self, place: _Place) -> None:
        child = place.child
        place.ended.clear()
        hear, say = os.pipe()
        try:
            place.process = subprocess.Popen(  # noqa: S603
                child.argv,
                env={**os.environ, **child.env, LIFELINE_FD: str(self._lifeline), READY_FD: str(say)},
                stdin=subprocess.DEVNULL,
                pass_fds=(self._lifeline, say, *child.fds),
                process_group=0,  # Ctrl-C is for the supervisor, which keeps the order
                preexec_fn=_tie(),  # noqa: PLW1509  # two system calls
            )
        except BaseException:
            os.close(hear)
            raise
        finally:
            os.close(say)
        place.ready, place.hear = not child.says_ready, hear
        asyncio.get_running_loop().add_reader(hear, self._hear, place)
        self._settle()
        log.info("process started", process=child.name, pid=place.process.pid)

    def _hear(self, place: _Place) -> None:
        """The ready pipe has the word, or its end because the process has."""
        if os.read(place.hear, 64):
            place.ready = place.was_ready = True
            log.info("process ready", process=place.child.name)
            if place.reload_due:
                place.reload()
            self._settle()
        place.hang_up()

    def _bury(self, place: _Place) -> None:
        assert place.process is not None
        place.last_end = _end_of(place.process.returncode)
        place.deaths += 1
        place.ready = False
        place.hang_up()
        self._settle()

    def _settle(self) -> None:
        lost = any(place.deaths >= _GIVE_UP and not place.was_ready for place in self._places)
        if lost or self._stopping.is_set() or all(place.ready for place in self._places):
            self._settled.set()
        else:
            self._settled.clear()

    async def _rest(self, pause: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()

    # -- the end -----------------------------------------------------------------------------------------

    async def _end(
        self, keepers: Mapping[asyncio.Task[None], _Place], watching: asyncio.Future[None] | None
    ) -> None:
        """Group by group, then PostgreSQL; each leaves an eighth of the time to every step after it."""
        began = time.monotonic()
        groups = sorted({place.child.group for place in self._places})
        steps = len(groups) + 1
        share = self._stop_within / max(8, steps)
        for step, group in enumerate(groups, 1):
            left = self._stop_within - share * (steps - step) - (time.monotonic() - began)
            await _end_group({task: one for task, one in keepers.items() if one.child.group == group}, left)
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])
        if self._finish is not None:
            await _within(self._finish, self._stop_within - (time.monotonic() - began))
        log.info("all ended", seconds=round(time.monotonic() - began, 1))


async def _within(finish: Callable[[], None], seconds: float) -> None:
    """Runs `finish` in a thread; what is not done in time ends with this process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def work() -> None:
        try:
            finish()
        except Exception as error:
            loop.call_soon_threadsafe(done.set_exception, error)
        else:
            loop.call_soon_threadsafe(done.set_result, None)

    threading.Thread(target=work, name="finish", daemon=True).start()
    await asyncio.wait([done], timeout=seconds)
    if not done.done():
        log.error("the last step did not end in time")
        return
    done.result()


async def _end_group(group: Mapping[asyncio.Task[None], _Place], within: float) -> None:
    for place in group.values():
        place.send(signal.SIGTERM)
    _, left = await asyncio.wait(group, timeout=max(within, 0.0))
    for task in left:
        log.error("process killed: it did not end in time", process=group[task].child.name)
        group[task].kill()
    if left:
        await asyncio.wait(left)


def _tie() -> Callable[[], None] | None:
    """What the child does before its program: ask the kernel to end it with us (prctl(2)).

    The kernel means the thread that makes the child, so only the main thread may ask for it.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:  # we died between fork and prctl: the kernel will not tell any more
            os._exit(ORPHANED)

    return tie


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal (tty(4)); one that hangs up is taken away."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _end_of(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:  # a real-time signal
        return f"signal {-status}"


# -- for a container without an init ---------------------------------------------------------------------


def as_init() -> None:
    """As process 1, goes on in a child and stays behind as a small init; else does nothing.

    The init hands signals on, reaps the orphans that the kernel gives to process 1, and ends as the child
    does. To be called before any thread or event loop is there.
    """
    if os.getpid() != 1:
        return
    handed_on = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*handed_on, signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        os.setsid()  # a Ctrl-C of the terminal comes once, from the init
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait({*handed_on, signal.SIGCHLD})
        if number == signal.SIGCHLD:
            _reap(child)
        else:
            os.kill(child, number)


def _reap(child: int) -> None:
    """Takes every ended process; ends with `child`, as a shell would say it."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                status = os.waitstatus_to_exitcode(ended[1])
                os._exit(status if status >= 0 else 128 - status)
