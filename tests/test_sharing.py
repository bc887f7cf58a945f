"""How campaigns share trunks: priority, turns among equals, and no promise that the trunks cannot keep."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from random import Random

import pytest

from outdial import pacing
from outdial.dialing import Claimed, NotSent, PacedCampaign, Stop, SwitchUp
from outdial.dialing.schedule import CHANNEL_LOOK, ClaimSchedule
from outdial.dialing.words import ROOM_LOOK, Now
from outdial.model import CampaignState, Disposition, Ended, Room, TimerPacing
from playbook import NOON, Playbook, attempt, claim, paced, place, settled, withdraw

BUSY_TIMER = TimerPacing("main", 50, 10)


def crowd(*priorities: int) -> list[PacedCampaign]:
    return [paced(campaign_id=n, priority=p, pacing=BUSY_TIMER) for n, p in enumerate(priorities, 1)]


class Line:
    """A schedule, a trunk that gives `rate` calls at every look, and campaigns that always want more."""

    def __init__(self, *campaigns: PacedCampaign, claims: int = 2) -> None:
        self.schedule = ClaimSchedule(claims)
        self.now = Now(NOON, 1000.0)
        self.of = {(1, one.campaign.campaign_id): one for one in campaigns}
        self.given: Counter[int] = Counter()

    def look(self, rate: int, *, waiting: set[int] | None = None) -> list[int]:
        """One look: who was given how much. Every claim is filled, and its calls leave."""
        self.now = Now(self.now.wall + timedelta(seconds=ROOM_LOOK), self.now.mono + ROOM_LOOK)
        gone = [key for key in self.of if waiting is not None and key[1] not in waiting]
        paused = {key: paced(campaign_id=key[1], state=CampaignState.SUSPENDED) for key in gone}
        self.schedule.load({**self.of, **paused}.values(), self.now)
        order, left = [], rate

        def room(_: int) -> Room:
            return Room("north", left)

        while claims := self.schedule.claims(self.now, room):
            for wanted in claims:
                key = (1, wanted.campaign_id)
                calls = tuple(attempt(campaign_id=wanted.campaign_id) for _ in range(wanted.limit))
                event = Claimed(key, self.of[key], calls, self.now.mono)
                group = self.schedule.claimed(event, self.now)
                assert group == "north"
                for _ in calls:
                    self.schedule.trunks.placed(group)
                left -= len(calls)
                self.given[wanted.campaign_id] += len(calls)
                order.append(wanted.campaign_id)
        return order


def test_a_smaller_priority_number_takes_what_there_is() -> None:
    """The lower priority gets what the higher leaves: here nothing, and all once the higher wants no more."""
    line = Line(*crowd(3, 1))
    for _ in range(10):
        assert line.look(1) == [2]
    assert line.look(1, waiting={1}) == [1]


def test_what_the_higher_leaves_goes_to_the_lower() -> None:
    high, low = crowd(1, 3)
    few = paced(campaign_id=1, priority=1, pacing=TimerPacing("main", 4, 10))
    line = Line(few, low)
    assert line.look(10)[:2] == [1, 2]
    assert line.given[2] >= 1
    assert high.campaign.priority < low.campaign.priority


@pytest.mark.parametrize("rate", [1, 2, 7])
def test_equals_take_turns(rate: int) -> None:
    """No campaign of one priority is ever more than a look's calls ahead of another: none starves."""
    line = Line(*crowd(3, 3, 3, 3, 3))
    for _ in range(200):
        line.look(rate)
        assert max(line.given.values()) - min(line.given[n] for n in range(1, 6)) <= max(rate, 2)


def test_a_campaign_that_comes_back_does_not_catch_up() -> None:
    """It was away for a hundred calls: it takes its turn like the others, and no more."""
    line = Line(*crowd(3, 3))
    line.look(2)
    for _ in range(100):
        line.look(1, waiting={1})
    before = line.given.copy()
    for _ in range(100):
        line.look(1)
    assert abs((line.given[1] - before[1]) - (line.given[2] - before[2])) <= 1


def test_no_more_is_promised_than_the_trunks_take() -> None:
    """Random lives of three groups: what is promised and not yet placed never passes the room."""
    random = Random(1)
    schedule, now = ClaimSchedule(4), Now(NOON, 0.0)
    campaigns = [paced(vdn_id=v, campaign_id=c, pacing=BUSY_TIMER) for v in (1, 2, 3) for c in (1, 2, 3)]
    rooms = {1: Room("north", 7), 2: Room("north", 7), 3: Room("south", 3)}
    promised: dict[tuple[int, int], int] = {}
    unplaced: Counter[str] = Counter()
    for step in range(2000):
        now = Now(NOON + timedelta(seconds=step / 50), step / 50)
        schedule.load(campaigns, now)
        for one in schedule.claims(now, rooms.__getitem__):
            promised[one.vdn_id, one.campaign_id] = one.limit
        for group, room in (("north", 7), ("south", 3)):
            ours = [n for (vdn, _), n in promised.items() if rooms[vdn].group == group]
            assert sum(ours) + unplaced[group] <= room
        for key in random.sample(list(promised), k=random.randint(0, len(promised))):
            calls = tuple(attempt() for _ in range(random.randint(0, promised.pop(key))))
            of = next(c for c in campaigns if (c.campaign.vdn_id, c.campaign.campaign_id) == key)
            if random.random() < 0.2:
                schedule.failed(key, now)
            else:
                unplaced[schedule.claimed(Claimed(key, of, calls, now.mono), now) or ""] += len(calls)
        for group in list(unplaced.elements()):
            if random.random() < 0.5:
                schedule.trunks.placed(group)
                unplaced[group] -= 1


def test_all_promises_together_can_leave_in_time() -> None:
    """House of the bound: 2,000 calls leave within 0.9 s of the claim's beginning."""
    schedule, now = ClaimSchedule(2), Now(NOON, 0.0)
    schedule.load([paced(campaign_id=n, pacing=TimerPacing("main", 1500, 10)) for n in (1, 2)], now)
    found = schedule.claims(now, lambda _: Room("", 10**6))
    assert sum(one.limit for one in found) == pacing.MAX_LAUNCH


@pytest.fixture
def play() -> Playbook:
    return Playbook()


def test_a_launch_without_room_goes_on_when_there_is_some(play: Playbook) -> None:
    """Ten calls every minute, three fit: the rest follows when there is room for it."""
    timer = TimerPacing("main", 10, 60)
    of = paced(pacing=timer)
    play.room = 0
    play >> SwitchUp()
    play.load(of)
    play.room = 3
    play.at(ROOM_LOOK) << claim(of, 3)
    three = [attempt(contact_id=n) for n in range(3)]
    launched = paced(pacing=timer, last_launch_at=play.now.wall, launch_rest=7)
    play >> play.claimed(*three, of=launched)
    for one in three:
        play << place(one)
    play.room = 0
    play.at(5).load(launched)
    play.room = 2
    play.at(5.05) << claim(of, 2, rest=True)


def test_room_that_a_refused_order_did_not_take_is_there_again(play: Playbook) -> None:
    of = paced(pacing=TimerPacing("main", 1, 1))
    play.room = 1
    play >> SwitchUp()
    play.load(of) << claim(of, 1)
    one = attempt()
    play >> play.claimed(one)
    play << place(one)
    play >> NotSent(one.attempt_id)
    play << withdraw(one)
    play.at(1.1) << claim(of, 1)


def test_a_campaign_whose_channels_are_full_looks_again_when_a_call_ends(play: Playbook) -> None:
    """Soon after an end of its own, which must be stored first; else every second."""
    one = attempt()
    timer = TimerPacing("main", 2, 60)
    full = paced(pacing=timer, launch_rest=1, last_launch_at=NOON, max_channels=1)
    play >> SwitchUp()
    play.load(paced(pacing=timer)) << claim(full, 2)
    play >> play.claimed(one, of=full)
    play << place(one) << claim(full, 1, rest=True)
    play >> Claimed((1, 7), full, (), play.now.mono, full=True)
    play.at(0.99)
    play.at(1.0) << claim(full, 1, rest=True)
    play >> Claimed((1, 7), full, (), play.now.mono, full=True)
    play.at(1.5) >> Ended(one.attempt_id, cause=17)
    play << settled(one, Disposition.BUSY)
    play.at(1.5 + CHANNEL_LOOK - 0.01)
    play.at(1.5 + CHANNEL_LOOK) << claim(full, 1, rest=True)


def test_calls_under_max_cps_leave_at_their_moments(play: Playbook) -> None:
    """Not before, and not more than `SLOT` later: a call that missed its moment is taken back."""
    crowd = [attempt(contact_id=n) for n in range(3)]
    of = paced(pacing=TimerPacing("main", 3, 60), max_cps=4.0, last_launch_at=NOON)
    play >> SwitchUp()
    play.load(paced(pacing=TimerPacing("main", 3, 60), max_cps=4.0)) << claim(of, 3)
    play >> play.claimed(*crowd, of=of, send_at=(1000.0, 1000.25, 1000.5))
    play << place(crowd[0])
    play.at(0.24)
    play.at(0.25) << place(crowd[1])
    play.at(0.5 + pacing.SLOT + 0.01) << withdraw(crowd[2])


def test_a_stop_takes_back_calls_whose_moment_has_not_come(play: Playbook) -> None:
    crowd = [attempt(contact_id=n) for n in range(2)]
    of = paced(pacing=TimerPacing("main", 2, 60), max_cps=4.0)
    play >> SwitchUp()
    play.load(of) << claim(of, 2)
    play >> play.claimed(*crowd, of=of, send_at=(1000.2, 1000.4))
    play >> Stop()
    play << withdraw(crowd[0]) << withdraw(crowd[1])
