"""The supervisor with real processes: what dies is restarted, nothing outlives it, all ends in order."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outdial.lifeline import LIFELINE_FD, READY_FD, say_ready, watch_lifeline

TOY = Path(__file__).with_name("toy_supervisor.py")
WITHIN = 10.0  # seconds for what should come at once

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or proves what only Linux has")


@dataclass
class Supervised:
    """A running supervisor; `pids` are its children's at the beginning."""

    process: subprocess.Popen[str]
    said: str
    record: Path
    pids: dict[str, int]

    def did(self) -> list[tuple[str, str]]:
        return [(name, what) for name, what, _ in self._lines()]

    def everyone(self) -> set[int]:
        return {pid for _, _, pid in self._lines()} | set(self.pids.values())

    def _lines(self) -> list[tuple[str, str, int]]:
        return [tuple(json.loads(line)) for line in self.record.read_text().splitlines()]

    def pids_now(self) -> dict[str, int]:
        self.process.send_signal(signal.SIGUSR1)
        return dict(json.loads(line_of(self.process)))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=WITHIN)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], WITHIN)[0], "it says nothing"
    return process.stdout.readline().strip()


@contextlib.contextmanager
def supervised(
    folder: Path,
    *children: dict[str, Any],
    before: tuple[str, ...] = (),
    fds: tuple[int, ...] = (),
    **plan: Any,
) -> Iterator[Supervised]:
    record = folder / "record"
    record.touch()
    plan = {"children": children, "stop_within": 5.0, **plan}
    argv = [*before, sys.executable, str(TOY), "supervise", json.dumps(plan), str(record)]
    log = folder / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, text=True, pass_fds=fds) as process,
    ):
        said = ""
        while not said.startswith(("{", "not ready", "refused")) and process.poll() is None:
            said = line_of(process)
        found = Supervised(process, said, record, json.loads(said) if said.startswith("{") else {})
        try:
            yield found
        finally:
            process.kill()
            if not before:
                end_leftovers(found.everyone())


def gone(pid: int) -> bool:
    """Whether the process ended; one that nobody reaped has."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def end_leftovers(pids: set[int]) -> None:
    """Nothing may outlive its supervisor; what does is ended here, and the test fails."""
    try:
        eventually(lambda: all(map(gone, pids)), within=3)
    finally:
        for pid in pids:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)


def eventually(true: Callable[[], bool], within: float = WITHIN) -> float:
    """Seconds until it is true; fails when it takes longer."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within
        time.sleep(0.005)
    return time.monotonic() - began


def until_ready(running: Supervised, name: str, times: int) -> None:
    eventually(lambda: running.did().count((name, "ready")) == times)


def a(name: str, kind: str = "plain", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, **more}


# -- readiness -------------------------------------------------------------------------------------------


def test_all_are_ready_and_known_by_name(tmp_path: Path) -> None:
    with supervised(tmp_path, a("api"), a("engine"), a("silent", "kernel", says_ready=False)) as running:
        assert set(running.pids) == {"api", "engine", "silent"}
        assert running.end() == 0


def test_a_child_inherits_its_sockets_and_its_environment(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        serving = a("api", f"accept:{number}", fds=[number], env={"TOY": "here"})
        with supervised(tmp_path, serving, fds=(number,)) as running:
            with socket.create_connection(listener.getsockname(), timeout=WITHIN) as connection:
                assert connection.recv(100) == b"api here"
            running.end()


def test_a_child_that_dies_three_times_before_it_is_ready_is_named(tmp_path: Path) -> None:
    """`ready` does not wait for its timeout to say what is wrong."""
    began = time.monotonic()
    with supervised(tmp_path, a("api"), a("engine", "failing"), ready_within=60) as running:
        assert running.said == "not ready: engine (exit status 3)"
        assert time.monotonic() - began < 20
        assert running.process.wait(timeout=WITHIN) == 0


def test_a_child_that_never_says_ready_is_named_after_the_timeout(tmp_path: Path) -> None:
    with supervised(tmp_path, a("api"), a("mute", "mute"), ready_within=1.5) as running:
        assert running.said == "not ready: mute (it has not said so)"
        assert running.process.wait(timeout=WITHIN) == 0


def test_a_program_that_cannot_be_started_ends_everything(tmp_path: Path) -> None:
    with supervised(tmp_path, a("api"), a("absent", "/nowhere/outdial")) as running:
        assert running.process.wait(timeout=WITHIN) == 1
        assert "refused: cannot start /nowhere/outdial: " in (tmp_path / "log").read_text()


# -- death of a child ------------------------------------------------------------------------------------


def test_a_killed_child_is_restarted_at_once_and_its_sibling_stays(tmp_path: Path) -> None:
    with supervised(tmp_path, a("api"), a("engine")) as running:
        os.kill(running.pids["api"], signal.SIGKILL)
        eventually(lambda: running.did().count(("api", "ready")) == 2, within=2)
        now = running.pids_now()
        assert now["api"] != running.pids["api"]
        assert now["engine"] == running.pids["engine"]
        assert running.end() == 0
        assert running.did().count(("api", "done")) == 1


def test_a_child_that_dies_again_and_again_is_restarted_with_growing_pauses(tmp_path: Path) -> None:
    """At once, then after 0.25 s, 0.5 s, ...: `kill -9` in a loop must not become a fork in a loop."""
    with supervised(tmp_path, a("api"), a("other")) as running:
        began, pid = time.monotonic(), running.pids["api"]
        for time_dead in range(1, 4):
            os.kill(pid, signal.SIGKILL)
            until_ready(running, "api", 1 + time_dead)
            pid = running.pids_now()["api"]
        assert time.monotonic() - began > 0.75
        assert running.end() == 0
    log = (tmp_path / "log").read_text()
    assert re.findall(r"restart_in=(\S+)", log) == ["0.0", "0.25", "0.5"]


def test_a_death_is_logged_with_its_cause(tmp_path: Path) -> None:
    with supervised(tmp_path, a("api")) as running:
        os.kill(running.pids["api"], signal.SIGKILL)
        until_ready(running, "api", 2)
        running.end()
    log = (tmp_path / "log").read_text()
    (line,) = [line for line in log.splitlines() if "process died" in line]
    assert "api" in line
    assert "signal 9 (SIGKILL)" in line


# -- death of the supervisor -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "lifeline", pytest.param("kernel", marks=linux)])
def test_kill_9_of_the_supervisor_ends_every_child_within_a_second(tmp_path: Path, kind: str) -> None:
    """By the lifeline alone and by the kernel alone, too; a child that ignores SIGTERM is no exception."""
    if kind == "lifeline" and sys.platform != "linux":
        kind = "plain"
    with supervised(tmp_path, a("api", kind), a("engine", kind), a("stubborn", "stubborn")) as running:
        running.process.kill()
        began = time.monotonic()
        eventually(lambda: all(map(gone, running.pids.values())), within=1)
        assert time.monotonic() - began < 1
        assert running.did().count(("api", "asked")) == 0


@linux
def test_only_the_supervisor_holds_the_other_end_of_the_lifeline(tmp_path: Path) -> None:
    """A sibling that held it would keep the others alive; nor does one hold another's ready pipe."""
    with supervised(tmp_path, a("first"), a("second"), a("third")) as running:
        os.kill(running.pids["first"], signal.SIGKILL)  # one that is started later must not inherit more
        until_ready(running, "first", 2)
        pipes = {name: pipe_ends(pid) for name, pid in running.pids_now().items()}
        ours = pipe_ends(running.process.pid)
        lifeline = {inode for inode, _ in pipes["first"] & pipes["second"] & pipes["third"]}
        lifeline -= {inode for inode, _ in pipe_ends(os.getpid())}  # standard output leads to this test
        assert len(lifeline) == 1
        inode = lifeline.pop()
        assert ours >= {(inode, "read"), (inode, "write")}
        for ends in pipes.values():
            assert (inode, "write") not in ends
            private = {end for end in ends if end[0] != inode and end not in pipe_ends_of_test()}
            assert len([end for end in private if end in ours]) == 1  # standard output alone
        running.end()


def pipe_ends_of_test() -> set[tuple[int, str]]:
    return pipe_ends(os.getpid())


def pipe_ends(pid: int) -> set[tuple[int, str]]:
    """Each pipe that a process has open, by inode, and which end."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(entry)
            if target.startswith("pipe:"):
                flags = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().split("flags:\t")[1].split()[0]
                found.add((int(target[6:-1]), "write" if int(flags, 8) & os.O_ACCMODE else "read"))
    return found


# -- the end ---------------------------------------------------------------------------------------------


def test_sigterm_lets_children_finish_group_by_group(tmp_path: Path) -> None:
    """The lowest group first, each only when the one before has ended; PostgreSQL's step is the last."""
    children = [a("carrier", "slow", group=1), a("api", "slow"), a("engine")]
    with supervised(tmp_path, *children) as running:
        assert running.end() == 0
        did = running.did()
    assert "process died" not in (tmp_path / "log").read_text()
    order = [step for step in did if step[1] != "ready"]
    first, rest = order[:4], order[4:]
    assert sorted(first) == [("api", "asked"), ("api", "done"), ("engine", "asked"), ("engine", "done")]
    assert rest == [
        ("carrier", "asked"),
        ("carrier", "done"),
        ("watch", "cancelled"),
        ("finish", "began"),
        ("finish", "done"),
        ("supervisor", "ended"),
    ]


def test_nothing_is_restarted_while_it_ends(tmp_path: Path) -> None:
    with supervised(tmp_path, a("api", "slow"), a("carrier", group=1)) as running:
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: ("api", "asked") in running.did())
        os.kill(running.pids["carrier"], signal.SIGKILL)
        assert running.process.wait(timeout=WITHIN) == 0
        assert running.did().count(("carrier", "ready")) == 1


def test_a_child_that_ignores_sigterm_is_killed_at_the_bound_and_the_others_have_their_turn(
    tmp_path: Path,
) -> None:
    with supervised(tmp_path, a("api", "stubborn"), a("carrier", group=1), stop_within=1.0) as running:
        began = time.monotonic()
        assert running.end() == 0
        assert 0.7 < time.monotonic() - began < 2
        assert gone(running.pids["api"])
        assert ("carrier", "done") in running.did()


def test_the_last_step_has_a_bound_too(tmp_path: Path) -> None:
    with supervised(tmp_path, a("api"), stop_within=1.0, finish_takes=30) as running:
        began = time.monotonic()
        assert running.end() == 0
        assert time.monotonic() - began < 3
        assert running.did()[-1] == ("supervisor", "ended")


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    with supervised(tmp_path, a("api", "stubborn"), a("engine"), stop_within=60.0) as running:
        running.process.send_signal(signal.SIGINT)
        eventually(lambda: ("engine", "done") in running.did())
        assert running.process.poll() is None
        assert running.end(signal.SIGINT) == 0
        assert gone(running.pids["api"])


def test_an_interrupt_of_the_terminal_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    """Ctrl-C goes to a process group: a child is in another one, so that the order is kept."""
    with supervised(tmp_path, a("api")) as running:
        assert os.getpgid(running.pids["api"]) != os.getpgid(running.process.pid)
        assert running.end(signal.SIGINT) == 0
        assert running.did()[1:3] == [("api", "asked"), ("api", "done")]


# -- process 1 -------------------------------------------------------------------------------------------


def unshare() -> tuple[str, ...]:
    """The command that makes a namespace in which the next process is number 1; skips where it may not."""
    program = shutil.which("unshare")
    if program is None or os.geteuid() != 0:
        pytest.skip("needs root and unshare(1)")
    command = (program, "--pid", "--fork", "--mount-proc", "--kill-child")
    if subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("this system does not let root make a process namespace")
    return command


def inside(outer: int) -> int:
    """The process id, seen from here, of the only child of `outer`."""
    (child,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    return int(child)


@linux
def test_process_1_reaps_orphans_and_hands_signals_on(tmp_path: Path) -> None:
    """In a container without an init the supervisor is process 1, to which the kernel gives all orphans."""
    with supervised(tmp_path, a("api", "orphaning"), a("engine"), before=unshare()) as running:
        init = inside(running.process.pid)
        supervisor = inside_of_init(init)
        assert set(running.pids) == {"api", "engine"}
        assert running.pids["api"] < 30  # its number in the namespace
        eventually(lambda: len(children_of(init)) == 1, within=5)
        assert children_of(init) == [supervisor]
        os.kill(init, signal.SIGTERM)
        assert running.process.wait(timeout=WITHIN) == 0
        did = running.did()
        assert ("api", "done") in did
        assert did[-1] == ("supervisor", "ended")


@linux
def test_process_1_ends_with_the_status_of_the_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path, a("api"), before=unshare()) as running:
        os.kill(inside_of_init(inside(running.process.pid)), signal.SIGKILL)
        assert running.process.wait(timeout=WITHIN) == 128 + 9


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def inside_of_init(init: int) -> int:
    """The supervisor: the oldest child of the init."""
    return min(children_of(init))


# -- without a supervisor --------------------------------------------------------------------------------


def test_a_process_without_a_supervisor_needs_no_lifeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIFELINE_FD, raising=False)
    monkeypatch.delenv(READY_FD, raising=False)
    watch_lifeline()
    say_ready()


# -- SIGHUP ----------------------------------------------------------------------------------------------


def _until(true: Callable[[], bool], within: float = WITHIN) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it does not become so"
        time.sleep(0.01)


def test_sighup_is_handed_to_the_children_that_reload(tmp_path: Path) -> None:
    hearing = {"kind": "hearing", "name": "hears", "reloads": True}
    deaf = {"kind": "hearing", "name": "is not told"}
    with supervised(tmp_path, hearing, deaf, reload=True) as running:
        for n in (1, 2):
            running.process.send_signal(signal.SIGHUP)
            _until(lambda n=n: running.did().count(("hears", "hung up")) == n)
        assert ("is not told", "hung up") not in running.did()
        assert running.pids_now() == running.pids
        assert running.end() == 0


def test_a_reload_that_is_refused_reaches_no_child(tmp_path: Path) -> None:
    with supervised(tmp_path, {"kind": "hearing", "name": "hears", "reloads": True}, reload=False) as running:
        running.process.send_signal(signal.SIGHUP)
        _until(lambda: ("supervisor", "reload") in running.did())
        assert running.end() == 0
        assert ("hears", "hung up") not in running.did()


def test_a_child_that_is_not_ready_yet_hears_sighup_when_it_is(tmp_path: Path) -> None:
    """Before it has its handler the signal would end it; and it may have read the old files already."""
    late = {"kind": "late", "name": "late", "reloads": True}
    with supervised(tmp_path, late, reload=True) as running:
        os.kill(running.pids["late"], signal.SIGKILL)
        _until(lambda: running.did().count(("late", "begun")) == 2)
        running.process.send_signal(signal.SIGHUP)
        _until(lambda: ("late", "hung up") in running.did())
        assert running.did().count(("late", "begun")) == 2  # it did not die of it
        assert running.end() == 0


def test_without_anything_to_reload_sighup_is_the_end(tmp_path: Path) -> None:
    with supervised(tmp_path, {"kind": "hearing", "name": "hears", "reloads": True}) as running:
        assert running.end(signal.SIGHUP) == 0


@linux
def test_a_terminal_that_hangs_up_is_the_end(tmp_path: Path) -> None:
    """With something to reload too: nobody is left who could see what the server says."""
    record = tmp_path / "record"
    record.touch()
    plan = {"children": [{"kind": "hearing", "name": "hears"}], "stop_within": 5.0, "reload": True}
    argv = [sys.executable, str(TOY), "supervise", json.dumps(plan), str(record)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, argv)
    try:
        _until(lambda: '"ready"' in record.read_text())
        os.close(terminal)
        ended: list[int] = []
        _until(lambda: bool(ended.append(os.waitpid(pid, os.WNOHANG)[0]) or ended[-1]))
        pid = 0
        assert '["supervisor", "reload"' not in record.read_text()
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
