"""A call against a seeded far end over a network that loses, repeats, reorders and delays.

Each seed is one call, given up, hung up or crashed at random moments. What must hold is judged by the
world's and the far end's own books, never by the call's. A failing seed repeats exactly: `live(SEED)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest
from sip_talk import HOP, TCP, THEIRS, spec

from outdial.sip.call import Call
from outdial.sip.message import Request, Response, parse, response_to
from outdial.sip.words import Accepted, Credentials, Effect, Over, Refused, Transmit

T1, T2, LIMIT = 0.5, 4.0, 32.0
RING_LIMIT = 200.0
LIFE = 900.0
FINISHED_WITHIN = 140.0
MAX_LOSSES = 2  # of the same bytes in a row: so that 11 copies in 32 s are enough

SDP = ("Content-Type", "application/sdp")
CONTACT = ("Contact", "<sip:far@192.0.2.1:5060>")
CHALLENGE = 'Digest realm="far", nonce="%d", qop="auth"'


class World:
    """The time, the network, and the one who placed the call."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.trace: list[str] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.udp = self.chance(0.8)
        self._loss = self.random.choice((0.0, 0.1, 0.3)) if self.udp else 0.0
        self._repeat = self.random.choice((0.0, 0.1)) if self.udp else 0.0
        self._delay = self.random.choice((0.02, 0.3, 3.0))
        self._lost: Counter[bytes] = Counter()
        self._arrival = {"out": 0.0, "in": 0.0}
        self.crashed = self.failed = False
        self.far = FarEnd(self)
        self.spec = spec(
            hop=HOP if self.udp else TCP,
            credentials=Credentials("u", "p") if self.chance(0.8) else None,
            timer_b=self.random.choice((4.0, 32.0)),
            session_expires=self.random.choice((0, 90, 1800)),
        )
        self.call = Call(self.spec, random=Random(seed))
        self.books = Books(self)
        self._polled = -1.0
        self._stored = False
        self._gave_up = False

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heappush(self._events, (self.now + seconds, next(self._order), event))

    def live(self) -> None:
        self.take(self.call.start(self.now))
        if self.chance(0.6):
            self.after(self.random.uniform(0, 60), self.give_up)
        self.after(60, self.give_up)
        if self.chance(0.15):
            self.after(self.random.uniform(0, 30), self.crash)
        if self.chance(0.05):
            self.after(self.random.uniform(0, 10), self.fail)
        self._plan_poll()
        while self._events and self._events[0][0] < LIFE:
            self.now, _, event = heappop(self._events)
            event()
            self._plan_poll()
            self.books.look()
        self.books.close()

    # -- the one who placed the call ---------------------------------------------------------------------

    def give_up(self) -> None:
        if not self._gave_up and (not self.books.accepted or self.chance(0.2)):
            self._gave_up = True
            self.take(self.call.cancel(self.now))

    def crash(self) -> None:
        """The engine dies and another goes on with what was stored."""
        if self.books.ends:
            return  # nobody would bring it back
        self.crashed = True
        self.books.crash()
        self.trace.append(f"{self.now:.3f} crash")
        dialog = self.call.dialog
        if self._stored and dialog is not None:
            self.call = Call.restored(self.spec, dialog, random=Random(9))
            self.after(self.random.uniform(0, 40), lambda: self.take(self.call.hang_up(self.now, 41)))
        else:
            self.books.accepted.clear()  # nobody knows of it
            self.call = Call.abandoned(self.spec, random=Random(9))
            self.take(self.call.start(self.now))

    def fail(self) -> None:
        self.failed = True
        self.take(self.call.unreachable(self.spec.hop, self.now))

    def _store(self, call: Call) -> None:
        if self.call is call:
            self._stored = True
            self.take(call.acknowledge(self.now))

    def take(self, effects: Iterable[Effect], heard: Request | Response | None = None) -> None:
        for effect in effects:
            self.books.note(effect, heard)
            if isinstance(effect, Transmit):
                self.carry("out", effect.data)
            elif isinstance(effect, Accepted):
                call = self.call
                self.after(self.random.uniform(0, 2), lambda call=call: self._store(call))
                self.after(self.random.uniform(0, 120), lambda: self.take(self.call.hang_up(self.now, 16)))

    def _plan_poll(self) -> None:
        wake = self.call.wake_at()
        if wake is not None and wake != self._polled:
            self._polled = wake
            self.after(max(0.0, wake - self.now) + self.random.choice((0.0, 0.03)), self._poll)

    def _poll(self) -> None:
        self._polled = -1.0
        self.take(self.call.poll(self.now))
        wake = self.call.wake_at()
        assert wake is None or wake > self.now, "it wants to be polled again at once"

    # -- the network -------------------------------------------------------------------------------------

    def carry(self, direction: str, data: bytes) -> None:
        message = parse(data)
        what = message.method if isinstance(message, Request) else str(message.status)
        label = f"{self.now:.3f} {direction} {what} {message.cseq[0]} {message.cseq[1]} {message.to.tag}"
        if self._lost[data] < MAX_LOSSES and self.chance(self._loss):
            self._lost[data] += 1
            self.trace.append(label + " lost")
            return
        self._lost[data] = 0
        self.trace.append(label)
        deliver = self.far.receive if direction == "out" else self.arrive
        for _ in range(2 if self.chance(self._repeat) else 1):
            delay = self.random.uniform(0.001, self._delay)
            if not self.udp:
                self._arrival[direction] = max(self._arrival[direction], self.now + delay)
                delay = self._arrival[direction] - self.now
            self.after(delay, lambda: deliver(parse(data)))

    def arrive(self, message: Request | Response) -> None:
        """To the call; once it is finished, to an endpoint that knows no such call."""
        if not self.call.finished:
            self.books.hear(message)
            self.take(self.call.receive(message, self.now, self.spec.hop), message)
        elif isinstance(message, Request) and message.method != "ACK":
            self.carry("out", response_to(message, 481, "No Such Call").to_bytes())


class Books:
    """What must hold, whoever is right."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.accepted: list[str] = []
        self.ends: list[tuple[float, Effect]] = []
        self._invites: dict[int, bytes] = {}
        self._finals: set[int] = set()
        self._before: set[bytes] = set()
        self._late: set[bytes] = set()
        self._acked: set[str | None] = set()
        self.forgotten: set[str | None] = set()  # forks that were being hung up when the engine died
        self._answered: set[str | None] = set()
        self._finished_at: float | None = None

    def hear(self, message: Request | Response) -> None:
        """The call is about to be told this."""
        if isinstance(message, Response) and message.cseq[1] == "INVITE" and message.status >= 200:
            self._finals.add(message.cseq[0])
            if message.status < 300 and message.cseq[0] <= 4:
                self._answered.add(message.to.tag)

    def note(self, effect: Effect, heard: Request | Response | None) -> None:
        if isinstance(effect, Transmit):
            message = parse(effect.data)
            if isinstance(message, Request):
                self._sent(message, effect.data, heard)
        elif isinstance(effect, Accepted):
            assert not self.accepted
            assert not self.ends
            self.accepted.append(effect.dialog.remote_tag)
        elif isinstance(effect, Refused | Over):
            assert not self.ends, "it ended twice"
            assert isinstance(effect, Over) or not self.accepted, "an answered call is never refused"
            self.ends.append((self._world.now, effect))
            self._world.trace.append(f"{self._world.now:.3f} {effect}")

    def _sent(self, message: Request, data: bytes, heard: Request | Response | None) -> None:
        if message.method == "INVITE" and message.to.tag is None:
            self._check_invite(message.cseq[0], data)
        if message.method == "ACK":
            self._acked.add(message.to.tag)
        if not self.ends:
            self._before.add(data)
        elif message.method != "ACK":
            self._check_late(message, data, heard)

    def _check_invite(self, cseq: int, data: bytes) -> None:
        assert self._invites.setdefault(cseq, data) == data, "two INVITE transactions with one CSeq"
        assert cseq == 1 or cseq - 1 in self._finals, "a second INVITE while the first is pending"

    def _check_late(self, message: Request, data: bytes, heard: Request | Response | None) -> None:
        """After the end only what relieves the far end of a call that nobody has any more."""
        assert message.method in ("BYE", "CANCEL"), f"{message.method} after the end"
        if message.method == "BYE":
            assert message.to.tag not in self.accepted, "the call's own BYE after its end"
            self._late.add(data)
            return
        assert data not in self._before, "the CANCEL is resent after the end"
        assert data in self._late or (isinstance(heard, Response) and heard.status < 200)
        self._late.add(data)

    def crash(self) -> None:
        self.forgotten = self._acked - set(self.accepted)

    def look(self) -> None:
        if self._finished_at is None and self._world.call.finished:
            self._finished_at = self._world.now

    def close(self) -> None:
        """At the end of the world."""
        world = self._world
        assert len(self.ends) == 1, "it never ended"
        assert self._finished_at is not None, "it never finished"
        assert self._finished_at <= self.ends[0][0] + FINISHED_WITHIN, "it finished too late"
        assert world.call.finished, "it took something up after it was finished"
        assert world.call.wake_at() is None
        if not world.crashed:
            assert self._answered <= self._acked, "a 2xx was heard and never acknowledged"
        world.far.close()


class FarEnd:
    """The called side: its servers, its forks, its dialogs. It follows RFC 3261 and nothing more."""

    def __init__(self, world: World) -> None:
        self._world = world
        random = world.random
        self._challenges = random.choice((0, 0, 1, 1, 2))
        self._short = world.chance(0.1)
        self._silent = world.chance(0.05)
        self._outcome = random.choice(("accept", "accept", "accept", "accept", "refuse", "never"))
        self._forks = 2 if world.chance(0.2) else 1
        self._challenges_bye = world.chance(0.2)
        self._refresher = random.choice(("uac", "uas", None))
        self._servers: dict[int, Server] = {}
        self.dialogs: dict[str, FarDialog] = {}
        self._answers: dict[tuple[str | None, str], bytes] = {}
        self._asking: dict[str | None, Callable[[Response], None]] = {}
        self._numbers = count(1)

    def receive(self, message: Request | Response) -> None:
        if isinstance(message, Response):
            answered = self._asking.get(message.via.branch)
            if answered and message.status >= 200:
                answered(message)
        elif message.method == "INVITE" and message.to.tag is None:
            self._invited(message)
        elif message.method == "ACK":
            self._acknowledged(message)
        else:
            self._asked(message)

    # -- INVITE ------------------------------------------------------------------------------------------

    def _invited(self, invite: Request) -> None:
        server = self._servers.get(invite.cseq[0])
        if server is not None:
            server.again()
        elif not self._silent:
            server = self._servers[invite.cseq[0]] = Server(self._world, invite)
            self._plan(server)

    def _plan(self, server: Server) -> None:
        world, random = self._world, self._world.random
        if self._challenges:
            self._challenges -= 1
            stale = ", stale=true" if len(self._servers) > 1 else ""
            value = CHALLENGE % len(self._servers) + stale
            return world.after(0.01, lambda: server.refuse(407, ("Proxy-Authenticate", value)))
        if self._short:
            self._short = False
            return world.after(0.01, lambda: server.refuse(422, ("Min-SE", "2000")))
        for _ in range(random.randrange(4)):
            status = random.choice((100, 180, 183))
            world.after(random.uniform(0, 10), lambda status=status: server.provisional(status))
        moment = random.uniform(0, random.choice((1, 20, 70)))
        if self._outcome == "accept":
            for fork in range(self._forks):
                world.after(
                    moment + fork * random.random(), lambda tag=f"far{fork}": self._accept(server, tag)
                )
        elif self._outcome == "refuse":
            world.after(moment, lambda: server.refuse(random.choice((302, 404, 486, 503, 603))))
        world.after(RING_LIMIT, lambda: server.refuse(480))

    def _accept(self, server: Server, tag: str) -> None:
        if server.status is None or server.status == 200:
            server.status = 200
            self.dialogs[tag] = FarDialog(self, self._world, server, tag, self._refresher)

    def _acknowledged(self, ack: Request) -> None:
        server = self._servers.get(ack.cseq[0])
        if server is not None and ack.to.tag == server.tag:
            server.acked = True
        dialog = self.dialogs.get(ack.to.tag or "")
        if dialog is not None and ack.cseq[0] == dialog.cseq:
            dialog.acknowledged()

    # -- other requests ----------------------------------------------------------------------------------

    def _asked(self, request: Request) -> None:
        key = request.via.branch, request.method
        if key not in self._answers:
            response = self._answer(request)
            if response is None:
                return
            self._answers[key] = response.to_bytes()
        self._world.carry("in", self._answers[key])

    def _answer(self, request: Request) -> Response | None:
        if request.method == "CANCEL":
            return self._cancelled(request)
        dialog = self.dialogs.get(request.to.tag or "")
        if dialog is None or (dialog.closed and request.method != "BYE"):
            return response_to(request, 481, "No Such Dialog")
        if request.method == "BYE":
            return self._bye(request, dialog)
        status = self._world.random.choice((200, 200, 200, 491, 500))
        expires = ("Session-Expires", request.get("Session-Expires") or "90;refresher=uac")
        return response_to(request, status, "Answer", headers=[CONTACT, expires])

    def _bye(self, request: Request, dialog: FarDialog) -> Response:
        if self._challenges_bye and not request.get("Proxy-Authorization") and self._world.spec.credentials:
            return response_to(request, 407, "Who?", headers=[("Proxy-Authenticate", CHALLENGE % 77)])
        dialog.closed = dialog.closed or "our BYE"
        return response_to(request, 200, "OK")

    def _cancelled(self, request: Request) -> Response:
        server = self._servers.get(request.cseq[0])
        if server is None:
            return response_to(request, 481, "No Such Call", to_tag="far")
        server.cancelled = True
        server.refuse(487)
        return response_to(request, 200, "OK", to_tag=server.tag)

    def ask(
        self, dialog: FarDialog, method: str, then: Callable[[Response], None], *, body: bytes = b""
    ) -> None:
        """A request of the far end, resent until it is answered."""
        number = next(self._numbers)
        branch = f"z9hG4bKfar{number}"
        headers = self.headers(dialog, branch, f"{number} {method}")
        request = Request(method, "sip:outdial@198.51.100.7", [*headers, *((SDP,) if body else ())], body)
        pending = {"open": True}

        def answered(response: Response) -> None:
            if method == "INVITE":
                ack = self.headers(
                    dialog, branch if response.status >= 300 else branch + "a", f"{number} ACK"
                )
                self._world.carry("in", Request("ACK", request.uri, ack).to_bytes())
            if pending["open"]:
                pending["open"] = False
                then(response)

        self._asking[branch] = answered
        data = request.to_bytes()
        resend(self._world, lambda: self._world.carry("in", data), lambda: not pending["open"], lambda: None)

    def headers(self, dialog: FarDialog, branch: str, cseq: str) -> list[tuple[str, str]]:
        invite = dialog.server.request
        return [
            ("Via", f"SIP/2.0/UDP 192.0.2.1:5060;branch={branch}"),
            ("From", f"{invite.get('To')};tag={dialog.tag}"),
            ("To", invite.get("From") or ""),
            ("Call-ID", invite.call_id),
            ("CSeq", cseq),
            CONTACT,
            ("Supported", "timer"),
        ]

    def close(self) -> None:
        """No call is left open, and no telephone rang longer than somebody wanted it."""
        for dialog in self.dialogs.values():
            excused = dialog.tag in self._world.books.forgotten or (
                self._world.failed and not self._world.udp
            )
            assert dialog.closed or excused, f"dialog {dialog.tag} is open at the far end"
        for server in self._servers.values():
            relieved = server.cancelled or server.status not in (None, 480)
            excused = self._world.crashed or self._world.failed or not server.told
            assert relieved or excused, "it rang on after it was given up"


class Server:
    """The server transaction of one INVITE."""

    def __init__(self, world: World, request: Request) -> None:
        self._world = world
        self.request = request
        self.tag = f"server{request.cseq[0]}"
        self.status: int | None = None
        self.acked = self.cancelled = False
        self.told = False  # a provisional response reached a call that was not finished
        self._last: bytes | None = None

    def provisional(self, status: int) -> None:
        if self.status is None:
            tag = None if status == 100 else "far0"
            self._say(response_to(self.request, status, "Wait", to_tag=tag, headers=[CONTACT]))

    def refuse(self, status: int, *headers: tuple[str, str]) -> None:
        if self.status is not None:
            return
        self.status = status
        response = response_to(self.request, status, "No", to_tag=self.tag, headers=headers)
        self._say(response)
        if self._world.udp:
            resend(self._world, self.again, lambda: self.acked, lambda: None, first=False)

    def again(self) -> None:
        if self._last is not None and not self.acked and self.status != 200:
            self._world.carry("in", self._last)

    def _say(self, response: Response) -> None:
        self._last = response.to_bytes()
        self._world.carry("in", self._last)


class FarDialog:
    """A dialog that the far end opened with a 2xx."""

    def __init__(self, far: FarEnd, world: World, server: Server, tag: str, refresher: str | None) -> None:
        self._far, self._world = far, world
        self.server, self.tag = server, tag
        self.cseq = server.request.cseq[0]
        self.closed = ""
        self._acked = False
        headers = [CONTACT, SDP, ("Allow", world.random.choice(("INVITE", "INVITE, UPDATE")))]
        if refresher:
            headers.append(("Session-Expires", f"90;refresher={refresher}"))
        data = response_to(server.request, 200, "OK", to_tag=tag, headers=headers, body=THEIRS).to_bytes()
        resend(world, lambda: world.carry("in", data), lambda: self._acked or bool(self.closed), self.bye)

    def acknowledged(self) -> None:
        if self._acked:
            return
        self._acked = True
        random = self._world.random
        for _ in range(random.randrange(4)):
            self._world.after(random.uniform(0, 60), self._ask)
        if self._world.chance(0.5):
            self._world.after(random.uniform(0, 120), self.bye)

    def _ask(self) -> None:
        method, body = self._world.random.choice(
            (
                ("INFO", b""),
                ("OPTIONS", b""),
                ("UPDATE", b""),
                ("UPDATE", THEIRS),
                ("INVITE", THEIRS),
                ("INVITE", b""),
            )
        )
        if not self.closed:
            self._far.ask(self, method, lambda response: None, body=body)

    def bye(self) -> None:
        if not self.closed:
            self._far.ask(self, "BYE", self._left)

    def _left(self, response: Response) -> None:
        self.closed = self.closed or f"their BYE {response.status}"


def resend(
    world: World,
    send: Callable[[], None],
    done: Callable[[], bool],
    lost: Callable[[], None],
    *,
    first: bool = True,
) -> None:
    """Send at once and again, at intervals from 0.5 s doubled up to 4 s; `lost` after 32 s."""
    end = world.now + LIMIT

    def step(pause: float) -> None:
        if done():
            return
        if world.now >= end:
            return lost()
        send()
        world.after(pause, lambda: step(min(2 * pause, T2)))

    if first:
        step(T1)
    else:
        world.after(T1, lambda: step(2 * T1))


def live(seed: int) -> World:
    world = World(seed)
    try:
        world.live()
    except AssertionError as error:
        trace = "\n".join(world.trace)
        raise AssertionError(f"seed {seed}: {error}\n{trace}") from error
    return world


def lives(seeds: range) -> None:
    for seed in seeds:
        live(seed)


@pytest.mark.parametrize("part", range(3))
def test_what_must_hold_holds_in_every_conversation(part: int) -> None:
    lives(range(part * 100, part * 100 + 100))


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_what_must_hold_holds_in_every_conversation_long(part: int) -> None:
    lives(range(1000 + part * 1000, 2000 + part * 1000))


def test_a_seed_repeats_exactly() -> None:
    assert live(4711).trace == live(4711).trace


def test_the_seeds_reach_every_kind_of_end() -> None:
    """A world that only hung up at once would prove nothing."""
    kinds: Counter[str] = Counter()
    for seed in range(300):
        world = live(seed)
        [(_, end)] = world.books.ends
        kinds[type(end).__name__] += 1
        kinds["local"] += isinstance(end, Refused) and end.local
        kinds["by callee"] += isinstance(end, Over) and end.by == "callee"
        kinds["not accepted, yet over"] += isinstance(end, Over) and not world.books.accepted
        kinds["forked"] += len(world.far.dialogs) > 1
        kinds["crashed"] += world.crashed
    wanted = ("Refused", "Over", "local", "by callee", "not accepted, yet over", "forked", "crashed")
    assert all(kinds[kind] >= 5 for kind in wanted), kinds
