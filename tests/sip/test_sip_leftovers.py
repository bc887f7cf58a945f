"""A call that is over leaves nothing to the garbage collector: its looks would be felt by those that talk."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
from sip_talk import HOP, TCP, Talk

from outdial.sip.words import Credentials


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def hung_up(talk: Talk) -> None:
    talk.connect()
    talk.hang_up()
    talk.answer(talk.sends("BYE"), 200)


def left_by_the_callee(talk: Talk) -> None:
    talk.connect()
    talk.asks("BYE")


def refused(talk: Talk) -> None:
    talk.answer(talk.start(), 486, tag="far")


def cancelled(talk: Talk) -> None:
    invite = talk.start()
    talk.answer(invite, 180, tag="far").cancel()
    talk.answer(talk.sends("CANCEL"), 200, tag="far").answer(invite, 487, tag="far")


def not_answered(talk: Talk) -> None:
    talk.start()


def unreachable(talk: Talk) -> None:
    talk.start()
    talk.take(talk.call.unreachable(talk.call.spec.hop, talk.now))


@pytest.mark.parametrize("credentials", [None, Credentials("us", "secret")])
@pytest.mark.parametrize("hop", [HOP, TCP])
@pytest.mark.parametrize("way", [hung_up, left_by_the_callee, refused, cancelled, not_answered, unreachable])
def test_a_call_that_is_over_is_in_no_cycle(
    way: Callable[[Talk], None], hop: object, credentials: Credentials | None
) -> None:
    talk = Talk(hop=hop, credentials=credentials)
    way(talk)
    talk.run(120)
    assert talk.call.finished
    call = weakref.ref(talk.call)
    del talk
    assert call() is None
