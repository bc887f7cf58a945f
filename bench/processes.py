"""CPU time of process trees, in nanoseconds of user and system time, read from the kernel."""

from __future__ import annotations

from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The process and all below it, those that live now."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(after[1]), []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting.extend(parents.get(one, []))
    return found


def cpu_ns(pids: list[int]) -> dict[int, int]:
    """Per process: time on a CPU of all its threads."""
    used: dict[int, int] = {}
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                used[pid] = used.get(pid, 0) + int(task.read_text().split()[0])
            except OSError:
                continue
    return used


class Meter:
    """CPU seconds that some trees use between `start` and `stop`, less some processes."""

    def __init__(self, roots: list[int], without: frozenset[int] = frozenset()) -> None:
        self._roots = roots
        self._without = without
        self._before: dict[int, int] = {}

    def _read(self) -> dict[int, int]:
        pids = {pid for root in self._roots for pid in children_of(root)}
        return cpu_ns(sorted(pids - self._without))

    def start(self) -> None:
        """Note where every process stands."""
        self._before = self._read()

    def stop(self) -> float:
        """Seconds used since `start`."""
        after = self._read()
        return sum(used - self._before.get(pid, 0) for pid, used in after.items()) / 1e9
