"""The board: caps in every window, turns, the breaker, shares, and changes while calls run."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from math import floor

import pytest

from outdial.model import PrefixRule, Trunk
from outdial.routing import Bar, Board, TrunkStanding, allowed, dial_string
from outdial.routing.breaker import FAILURES, FIRST_BACK_OFF, LONGEST_BACK_OFF
from outdial.routing.rate import BURST, Rate

ANY = ("any",)
FAST = Trunk("fast", "192.0.2.1", max_cps=1000, max_channels=1000)


def board(*trunks: Trunk, shares: int = 1) -> Board:
    made = Board(shares=shares)
    made.load(trunks, 0.0)
    return made


def named(name: str, **fields: object) -> Trunk:
    return replace(FAST, name=name, **fields)  # type: ignore[arg-type]


def standing(of: Board, name: str, now: float) -> TrunkStanding:
    return next(found for found in of.standing(now) if found.name == name)


def place(on: Board, now: float, group: str = "default", called: str = "1") -> str | None:
    chosen = on.choose(group, called, ANY, now)
    if chosen is None:
        return None
    on.took(chosen[0].name, now)
    return chosen[0].name


def fail(on: Board, now: float, status: int = 503) -> None:
    """A call that finds room, is refused and released."""
    name = place(on, now)
    assert name is not None
    on.failed(name, status, now)
    on.released(name, now)


# -- calls a second --------------------------------------------------------------------------------------


def crowded(starts: list[float], most: int, span: float) -> list[tuple[float, float]]:
    """The pairs of starts that lie in one half-open window of `span` with too many between them."""
    pairs = zip(starts, starts[most:], strict=False)
    return [(first, last) for first, last in pairs if last - first < span]


@pytest.mark.parametrize("cap", [0.1, 0.5, 0.99, 1, 1.5, 2.5, 3, 7, 10, 33.3, 100, 1000])
@pytest.mark.parametrize("seed", range(6))
def test_never_more_than_the_cap_in_any_second(cap: float, seed: int) -> None:
    """Over random schedules: bursts, quiet, and a caller that takes all the room it is given."""
    chance, rate, starts, now = random.Random(seed), Rate(cap), list[float](), 0.0
    for _ in range(3000):
        now += chance.choice([0, 0.0001, 0.01, 0.1, chance.expovariate(cap), chance.random() * 3])
        for _ in range(chance.randint(0, rate.room(now))):
            rate.start(now)
            starts.append(now)
    assert len(starts) > 100
    assert crowded(starts, max(1, floor(cap)), max(1.0, 1 / cap)) == []


@pytest.mark.parametrize("cap", [0.5, 1, 2, 5, 10, 50, 333, 1000])
def test_the_cap_is_reached_by_one_who_looks_when_there_is_room_again(cap: float) -> None:
    """A cap that nobody can reach would be another cap. Each look comes up to 20 ms late."""
    rate, now, placed, chance = Rate(cap), 0.0, 0, random.Random(1)
    until = max(20.0, 20 / cap)
    while now < until:
        while rate.room(now):
            rate.start(now)
            placed += 1
        now = rate.next_room(now) + chance.random() * 0.02
    assert 0.9 * cap * until <= placed <= cap * until + 1


def test_a_burst_is_a_tenth_of_a_second_and_one_call() -> None:
    for cap, burst in ((1, 1), (9, 1), (10, 2), (100, 11), (1000, 101)):
        assert Rate(cap).room(0.0) == burst == int(1 + BURST * cap + 1e-9)


def test_next_room_is_exact() -> None:
    rate = Rate(10)
    while rate.room(0.0):
        rate.start(0.0)
    due = rate.next_room(0.0)
    assert due > 0
    assert rate.room(due - 0.001) == 0
    assert rate.room(due) == 1
    assert rate.next_room(due) == due


def test_a_lower_cap_counts_what_has_started() -> None:
    on = board(named("a", max_cps=100))
    for _ in range(5):
        assert place(on, 0.0)
    on.load([named("a", max_cps=3)], 0.1)
    assert on.room("default", 0.1) == 0
    assert standing(on, "a", 0.1).bar is Bar.CPS
    assert standing(on, "a", 0.1).until == pytest.approx(1.0)
    assert on.room("default", 1.0) == 1


def test_a_trunk_removed_and_added_again_in_the_same_second_has_no_second_allowance() -> None:
    on = board(named("a", max_cps=1))
    assert place(on, 0.0)
    on.released("a", 0.0)
    on.load([], 0.1)
    on.load([named("a", max_cps=1)], 0.2)
    assert on.room("default", 0.9) == 0
    assert on.room("default", 1.0) == 1


# -- the whole board over random schedules ---------------------------------------------------------------


def _trunks(chance: random.Random) -> list[Trunk]:
    return [
        Trunk(
            f"t{n}",
            "192.0.2.1",
            group=chance.choice(["a", "b"]),
            position=chance.randint(1, 2),
            weight=chance.randint(1, 3),
            max_cps=chance.choice([0.5, 1, 3, 10, 50]),
            max_channels=chance.randint(1, 12),
            prefix_rules=chance.choice([(), (PrefixRule("0", "+49"),), (PrefixRule("", "9"),)]),
            enabled=chance.random() < 0.9,
        )
        for n in range(4)
    ]


@pytest.mark.parametrize("shares", [1, 2, 3])
@pytest.mark.parametrize("seed", [*range(15), pytest.param(range(15, 1500), marks=pytest.mark.long)])
def test_no_cap_is_passed_and_no_other_destination_dialed(seed: int | range, shares: int) -> None:
    """Several engines at once, trunks that come and go: a start is judged by the settings of its moment."""
    for one in [seed] if isinstance(seed, int) else seed:
        _any_schedule(random.Random(one), shares)


def _any_schedule(chance: random.Random, shares: int) -> None:
    trunks = {trunk.name: trunk for trunk in _trunks(chance)}
    engines = [board(*trunks.values(), shares=shares) for _ in range(shares)]
    running: list[tuple[int, str]] = []
    starts: dict[str, list[float]] = {}
    now = 0.0
    for _ in range(300):
        now += chance.choice([0, 0.01, 0.05, 0.3, 1.1])
        turn = chance.random()
        if turn < 0.6:
            at = chance.randrange(shares)
            group, called = chance.choice("ab"), chance.choice(["030", "130", "*1"])
            prefixes = chance.choice([(), ("+49",), ("9", "1")])
            chosen = engines[at].choose(group, called, prefixes, now)
            if chosen is None:
                continue
            trunk, dialed = chosen
            assert trunk == trunks[trunk.name]
            assert trunk.enabled
            assert trunk.group == group
            assert dialed == dial_string(called, trunk)
            assert allowed(dialed, prefixes)
            engines[at].took(trunk.name, now)
            running.append((at, trunk.name))
            starts.setdefault(trunk.name, []).append(now)
            assert Counter(name for _, name in running)[trunk.name] <= trunk.max_channels
        elif turn < 0.9 and running:
            at, name = running.pop(chance.randrange(len(running)))
            if chance.random() < 0.3:
                engines[at].failed(name, 503, now)
            else:
                engines[at].succeeded(name, now)
            engines[at].released(name, now)
        else:
            changed = chance.choice(list(trunks.values()))
            trunks[changed.name] = replace(changed, enabled=not changed.enabled)
            for engine in engines:
                engine.load(trunks.values(), now)
    for name, found in starts.items():
        cap = trunks[name].max_cps
        if cap >= shares:
            assert crowded(found, floor(cap), 1.0) == []


def test_fewer_calls_a_second_than_engines_hold_on_the_average() -> None:
    """With a share below one call a second no second can be promised: engines do not know each other."""
    engines = [board(named("a", max_cps=1), shares=4) for _ in range(4)]
    placed = sum(
        place(engine, now / 10) is not None for now in range(400) for engine in engines for _ in range(3)
    )
    assert 36 <= placed <= 44


def test_room_is_what_can_be_placed() -> None:
    on = board(named("a", max_channels=3), named("b", max_channels=2), named("c", group="other"))
    assert on.room("default", 0.0) == 5
    assert on.room("none", 0.0) == 0
    assert [place(on, 0.0) for _ in range(6)].count(None) == 1
    assert on.room("default", 0.0) == 0
    on.released("a", 0.1)
    assert on.room("default", 0.1) == 1


# -- choice ----------------------------------------------------------------------------------------------


def choices(on: Board, count: int, **more: object) -> list[str]:
    found = [on.choose("default", "1", ANY, 0.0, **more) for _ in range(count)]  # type: ignore[arg-type]
    return [chosen[0].name for chosen in found if chosen is not None]


def test_the_first_position_first_and_the_next_when_it_is_full() -> None:
    on = board(named("b", position=2), named("a", position=1, max_channels=2))
    assert [place(on, 0.0) for _ in range(3)] == ["a", "a", "b"]


def test_one_position_in_turn_by_weight_without_bunching() -> None:
    on = board(named("a", weight=3), named("b", weight=1), named("c", weight=2))
    turns = choices(on, 12)
    assert Counter(turns) == {"a": 6, "b": 2, "c": 4}
    assert "aaa" not in "".join(turns)
    assert turns[:6] == turns[6:]


def test_a_trunk_that_was_tried_is_left_out() -> None:
    on = board(named("a"), named("b", position=2))
    assert choices(on, 1, tried={"a"}) == ["b"]
    assert choices(on, 1, tried={"a", "b"}) == []


def test_a_trunk_that_may_not_dial_the_number_is_left_out() -> None:
    on = board(named("a"), named("b", position=2, prefix_rules=(PrefixRule("", "+49"),)))
    chosen = on.choose("default", "30", ["+49"], 0.0)
    assert chosen is not None
    assert (chosen[0].name, chosen[1]) == ("b", "+4930")
    assert on.choose("default", "30", [], 0.0) is None


# -- breaker ---------------------------------------------------------------------------------------------


def open_it(on: Board, now: float = 0.0) -> None:
    for _ in range(FAILURES):
        fail(on, now)


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    on = board(FAST)
    for _ in range(FAILURES - 1):
        fail(on, 0.0)
    on.succeeded("fast", 0.0)
    for _ in range(FAILURES - 1):
        fail(on, 0.0)
    assert on.room("default", 0.0) > 0
    fail(on, 0.0, status=408)
    assert on.room("default", 0.0) == 0
    found = standing(on, "fast", 0.0)
    assert (found.bar, found.until) == (Bar.BREAKER, FIRST_BACK_OFF)
    assert found.detail == f"{FAILURES} calls in a row failed, the last with 408"


def test_after_the_back_off_one_trial_call_and_its_success_closes_it() -> None:
    on = board(FAST)
    open_it(on)
    assert on.room("default", FIRST_BACK_OFF - 0.001) == 0
    assert on.room("default", FIRST_BACK_OFF) == 1
    assert place(on, FIRST_BACK_OFF) == "fast"
    assert place(on, FIRST_BACK_OFF + 1) is None
    assert standing(on, "fast", FIRST_BACK_OFF + 1).bar is Bar.TRIAL
    on.succeeded("fast", FIRST_BACK_OFF + 2)
    assert on.room("default", FIRST_BACK_OFF + 2) > 1


def test_every_trial_that_fails_doubles_the_back_off_up_to_its_longest() -> None:
    on, now, back_off = board(FAST), 0.0, FIRST_BACK_OFF
    open_it(on)
    for _ in range(8):
        assert standing(on, "fast", now).until == pytest.approx(now + back_off)
        now += back_off
        fail(on, now)
        back_off = min(LONGEST_BACK_OFF, 2 * back_off)
    assert back_off == LONGEST_BACK_OFF
    now += back_off
    assert place(on, now)
    on.succeeded("fast", now)
    on.released("fast", now)
    open_it(on, now)
    assert standing(on, "fast", now).until == pytest.approx(now + FIRST_BACK_OFF)


def test_a_trial_that_ended_without_a_word_gives_way_to_another() -> None:
    on = board(FAST)
    open_it(on)
    assert place(on, FIRST_BACK_OFF)
    on.released("fast", FIRST_BACK_OFF + 1)
    assert on.room("default", FIRST_BACK_OFF + 1) == 1


def test_calls_that_were_under_way_when_it_opened_do_not_prolong_it() -> None:
    on = board(FAST)
    late = [place(on, 0.0) for _ in range(3)]
    open_it(on)
    for name in late:
        assert name
        on.failed(name, 503, 1.0)
        on.released(name, 1.0)
    assert standing(on, "fast", 1.0).until == FIRST_BACK_OFF


@pytest.mark.parametrize(
    ("status", "alive"),
    [
        (200, True),
        (404, True),
        (486, True),
        (501, True),
        (603, True),
        (None, False),
        (408, False),
        (503, False),
    ],
)
def test_a_ping_says_alive_or_dead(status: int | None, alive: bool) -> None:
    on = board(FAST)
    assert standing(on, "fast", 0.0).alive is None
    on.pinged("fast", status, 1.0)
    assert standing(on, "fast", 1.0).alive is alive
    assert (on.room("default", 1.0) > 0) is alive


def test_an_answered_ping_after_a_dead_one_allows_the_trial_call_at_once() -> None:
    on = board(FAST)
    on.pinged("fast", None, 0.0)
    assert on.room("default", 1.0) == 0
    on.pinged("fast", 200, 1.0)
    assert on.room("default", 1.0) == 1


def test_an_answered_ping_does_not_end_what_refused_calls_began() -> None:
    on = board(FAST)
    open_it(on)
    on.pinged("fast", 200, 1.0)
    assert on.room("default", 1.0) == 0


def test_a_far_end_that_takes_calls_and_ignores_pings_is_alive() -> None:
    on = board(FAST)
    on.pinged("fast", None, 0.0)
    assert place(on, FIRST_BACK_OFF)
    on.succeeded("fast", FIRST_BACK_OFF)
    on.pinged("fast", None, 30.0)
    assert on.room("default", 30.0) > 1
    on.pinged("fast", 200, 60.0)  # now it answers them: from here on silence counts
    on.pinged("fast", None, 90.0)
    assert on.room("default", 90.0) == 0


def test_another_far_end_begins_anew_and_another_weight_does_not() -> None:
    on = board(FAST)
    open_it(on)
    on.load([replace(FAST, weight=5)], 1.0)
    assert on.room("default", 1.0) == 0
    on.load([replace(FAST, host="192.0.2.2")], 1.0)
    assert on.room("default", 1.0) > 1


# -- minutes ---------------------------------------------------------------------------------------------


def minutes(on: Board, now: float) -> Bar | None:
    return standing(on, "a", now).bar


def test_used_up_minutes_stop_a_trunk_until_the_store_says_otherwise() -> None:
    on = board(named("a", max_minutes=2))
    assert minutes(on, 0.0) is Bar.MINUTES_UNKNOWN
    on.counted({}, {"a": 60.0})
    assert place(on, 0.0) == "a"
    on.released("a", 59.0, 59.0)
    assert minutes(on, 59.0) is None
    assert place(on, 59.0) == "a"
    on.released("a", 60.0, 1.0)
    assert minutes(on, 60.0) is Bar.MINUTES
    saved = on.unsaved()
    assert saved == {"a": 60.0}
    on.counted(saved, {"a": 120.0})
    assert on.unsaved() == {}
    assert minutes(on, 60.0) is Bar.MINUTES
    on.counted({}, {})  # a new day
    assert minutes(on, 60.0) is None


def test_seconds_that_come_while_the_store_counts_are_kept() -> None:
    on = board(named("a", max_minutes=2))
    on.counted({}, {})
    on.released("a", 1.0, 10.0)
    saved = on.unsaved()
    on.released("a", 2.0, 5.0)
    on.counted(saved, {"a": 10.0})
    assert on.unsaved() == {"a": 5.0}


def test_a_trunk_without_a_limit_needs_no_count() -> None:
    assert minutes(board(named("a")), 0.0) is None


def test_engines_share_the_minutes_that_are_left() -> None:
    engines = [board(named("a", max_minutes=1), shares=2) for _ in range(2)]
    used = 0.0
    for now in range(200):
        for engine in engines:
            engine.counted({}, {"a": used})
            if place(engine, float(now)):
                engine.released("a", float(now), 0.5)
                saved = engine.unsaved()
                used += saved["a"]
                engine.counted(saved, {"a": used})
    assert 59 <= used <= 61


# -- channels, shares, changes ---------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "shares", "each"), [(30, 1, 30), (30, 4, 7), (3, 4, 0), (8, 2, 4)])
def test_shares_of_the_channels_are_never_above_the_cap_in_sum(channels: int, shares: int, each: int) -> None:
    on = board(named("a", max_channels=channels), shares=shares)
    placed = [place(on, 0.0) for _ in range(channels + 1)]
    assert sum(name is not None for name in placed) == each
    assert standing(on, "a", 0.0).channels == each
    on.shares = 1
    assert on.room("default", 5.0) == channels - each


def test_an_adopted_call_holds_a_channel_and_is_no_start() -> None:
    on = board(named("a", max_channels=2, max_cps=1))
    on.adopted("a")
    assert standing(on, "a", 0.0).in_use == 1
    assert on.room("default", 0.0) == 1
    on.adopted("a")
    assert standing(on, "a", 0.0).bar is Bar.CHANNELS
    on.released("a", 1.0)
    assert on.room("default", 1.0) == 1


def test_a_removed_trunk_drains() -> None:
    on = board(named("a"))
    assert place(on, 0.0)
    on.load([], 5.0)
    assert (standing(on, "a", 5.0).bar, standing(on, "a", 5.0).in_use) == (Bar.REMOVED, 1)
    assert on.room("default", 5.0) == 0
    assert on.choose("default", "1", ANY, 5.0) is None
    on.released("a", 6.0, 3.0)
    on.load([], 7.0)
    assert on.standing(7.0) == []
    assert on.unsaved() == {"a": 3.0}


def test_words_about_a_trunk_that_is_gone_are_harmless() -> None:
    on = board()
    on.failed("gone", 503, 0.0)
    on.succeeded("gone", 0.0)
    on.pinged("gone", None, 0.0)
    on.adopted("gone")
    on.released("gone", 0.0, 2.0)
    assert on.unsaved() == {"gone": 2.0}


def test_a_disabled_trunk_takes_nothing_and_says_so() -> None:
    on = board(named("a", enabled=False))
    assert standing(on, "a", 0.0).bar is Bar.DISABLED
    assert on.room("default", 0.0) == 0


@pytest.mark.parametrize(
    ("bar", "why", "detail"),
    [(Bar.UNREACHABLE, "", ""), (Bar.UNREGISTERED, "403 Forbidden", "403 Forbidden"), (None, "", "")],
)
def test_what_bars_a_trunk_from_outside_bars_it_from_every_call(
    bar: Bar | None, why: str, detail: str
) -> None:
    on = board(named("a"))
    on.barred("a", bar, why)
    found = standing(on, "a", 0.0)
    assert (found.bar, found.detail) == (bar, detail)
    assert (on.room("default", 0.0) > 0, place(on, 0.0)) == ((False, None) if bar else (True, "a"))


def bars(on: Board, now: float) -> Iterable[tuple[str, Bar | None]]:
    return [(found.name, found.bar) for found in on.standing(now)]


def test_standing_names_every_trunk_and_what_bars_it() -> None:
    on = board(named("b", max_channels=1), named("a"), named("c", max_cps=1, group="c"))
    on.took("b", 0.0)
    assert place(on, 0.0, "c") == "c"
    assert bars(on, 0.5) == [("a", None), ("b", Bar.CHANNELS), ("c", Bar.CPS)]
