"""Dialogs, and the requests of a call: their identity, their route, the hop they go to (RFC 3261 §8.1, §12).

A UDP request over 1300 bytes should go over TCP (§18.1.1). It does not here: trunks are configured with the
transport that they speak, and few of them listen on both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Final
from uuid import UUID

from outdial.sip.fields import parse_params, split_list, uri_of
from outdial.sip.message import NameAddr, ParseError, Request, Response, Written, named
from outdial.sip.words import USER_AGENT, CallSpec, DialogState, Hop, Transmit

ALLOW: Final = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, NOTIFY"
BRANCH: Final = "z9hG4bK"
MAX_DIALOGS: Final = 16
"""Dialogs of one INVITE that a forking proxy may make; more are ignored."""

RESTORED_STEP: Final = 100_000
"""Higher than any number of requests that a dialog may have sent since it was stored."""

_SECONDS = re.compile(r"[ \t]*+([0-9]{1,9})")
_CAUSE = re.compile(r"[0-9]{1,3}")
_Q850 = re.compile(r"Q\.850[ \t]*+", re.IGNORECASE)

Headers = Sequence[tuple[str, str]]


def spec_ids(attempt_id: UUID, trunk: str) -> tuple[str, str, str]:
    """Call-ID, From tag and branch of an attempt over a trunk.

    They are stable for ever: an engine that starts anew, perhaps of a later version, finds with them the
    call that its predecessor left. The attempt's id leads the Call-ID, so that a trace shows it.
    """
    digest = hashlib.sha256(b"outdial\0" + attempt_id.bytes + b"\0" + trunk.encode()).hexdigest()
    return f"{attempt_id}-{digest[:8]}", digest[16:32], digest[32:48]


def via(spec: CallSpec, hop: Hop, branch: str) -> str:
    """Our Via towards a hop. With `rport` (RFC 3581) answers come back through a NAT."""
    transport = "UDP" if hop.transport == "udp" else hop.transport.upper()
    return f"Via: SIP/2.0/{transport} {spec.via};branch={branch};rport"


def bracketed(address: str) -> str:
    """A URI in <>; an address that has them stays as it is."""
    return address if "<" in address else f"<{address}>"


def routed(target: str, route_set: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """The Request-URI and the Route headers towards a target (§12.2.1.1, with its strict routers)."""
    if not route_set:
        return target, []
    if _loose(route_set[0]):
        return target, [("Route", bracketed(route)) for route in route_set]
    first = NameAddr.parse(bracketed(route_set[0])).uri
    first.headers = ""
    rest = [*route_set[1:], target]
    return str(first), [("Route", bracketed(route)) for route in rest]


def _loose(route: str) -> bool:
    return "lr" in NameAddr.parse(bracketed(route)).uri.params


@lru_cache(256)
def hop_to(address: str, otherwise: Hop) -> Hop:
    """Where a request goes whose next URI this is; `otherwise` where the URI does not say it.

    A URI without a transport is reached over the one that the dialog already has: RFC 3263 §4.1 would take
    UDP, and send in clear what began over TLS.
    """
    try:
        uri = NameAddr.parse(bracketed(address)).uri
    except ParseError:
        return otherwise
    host = uri.params.get("maddr") or uri.host
    transport = (uri.params.get("transport") or otherwise.transport).lower()
    if uri.scheme == "sips":
        transport = "tls"
    if uri.scheme not in ("sip", "sips") or not host.strip("0.:"):  # 0.0.0.0 and :: are no place
        return otherwise
    if transport not in ("udp", "tcp", "tls"):
        return otherwise
    return Hop(transport, host, uri.port or (5061 if transport == "tls" else 5060))


def invite(spec: CallSpec, cseq: int, extra: Headers = ()) -> Request:
    """The INVITE with this CSeq number, outside any dialog (§13.2.1)."""
    uri, route = routed(spec.request_uri, spec.route)
    branch = f"{BRANCH}{spec.branch}{cseq}"
    lines = [
        via(spec, spec.hop, branch),
        *_lines(route),
        "Max-Forwards: 70",
        f"From: {bracketed(spec.from_uri)};tag={spec.from_tag}",
        f"To: {bracketed(spec.to_uri)}",
        f"Call-ID: {spec.call_id}",
        f"CSeq: {cseq} INVITE",
        f"Contact: {bracketed(spec.contact)}",
        f"Allow: {ALLOW}",
        "Supported: timer",
        f"User-Agent: {USER_AGENT}",
        *_lines(extra),
        *[f"{named(name)}: {value}" for name, value in spec.headers],
        "Content-Type: application/sdp",
    ]
    return Written("INVITE", uri, lines, spec.offer, cseq=cseq, branch=branch)


def accepted(spec: CallSpec, response: Response) -> DialogState:
    """The dialog that a 2xx to our INVITE confirms (§12.1.2, §13.2.2.4).

    A Contact or Record-Route that cannot be understood counts as missing: a BYE by the INVITE's own path may
    still end the call.
    """
    return DialogState(
        call_id=spec.call_id,
        local_tag=spec.from_tag,
        remote_tag=response.to_tag or "",
        local_uri=spec.from_uri,
        remote_uri=spec.to_uri,
        remote_target=_target(response) or spec.request_uri,
        route_set=_route_set(response),
        local_cseq=response.cseq[0],
        hop=spec.hop,
    )


def _target(message: Request | Response) -> str | None:
    try:
        uri = next((uri_of(contact) for contact in message.all("Contact")), "")
    except ParseError:
        return None
    return uri if uri.startswith(("sip:", "sips:")) else None


def _route_set(response: Response) -> tuple[str, ...]:
    try:
        return tuple(route.replace("\0", " ") for route in reversed(response.record_routes))
    except ParseError:
        return ()


def listed(message: Request | Response, name: str) -> list[str]:
    """The values of a list header; none where it is malformed."""
    try:
        return message.all(name)
    except ParseError:
        return []


def retry_after(message: Request | Response) -> int | None:
    """The seconds of a Retry-After header, which may have a comment and parameters (§20.33)."""
    match = _SECONDS.match(message.get("Retry-After") or "")
    return int(match[1]) if match else None


def reason_cause(message: Request | Response) -> int | None:
    """The Q.850 cause of a Reason header (RFC 3326), 0 to 127, or None. Never raises."""
    for value in message.all("Reason"):
        try:
            for element in split_list(value):
                if (cause := _q850(element)) is not None:
                    return cause
        except ParseError:
            continue
    return None


def _q850(element: str) -> int | None:
    match = _Q850.match(element)
    if match is None:
        return None
    cause = parse_params(element, "Reason", match.end()).get("cause") or ""
    return int(cause) if _CAUSE.fullmatch(cause) and int(cause) < 128 else None


class Dialog:
    """A confirmed dialog of a call."""

    __slots__ = ("_cseq", "_identity", "_spec", "_state", "_way", "acks", "remote_cseq")

    def __init__(self, spec: CallSpec, state: DialogState) -> None:
        self.remote_cseq: int | None = None
        self.acks: dict[int, Transmit] = {}
        self._spec = spec
        self._state = state
        self._cseq = state.local_cseq
        self._way = _way(state)
        remote_tag = f";tag={state.remote_tag}" if state.remote_tag else ""
        self._identity = (
            "Max-Forwards: 70",
            f"From: {bracketed(state.local_uri)};tag={state.local_tag}",
            f"To: {bracketed(state.remote_uri)}{remote_tag}",
            f"Call-ID: {state.call_id}",
        )

    def retarget(self, message: Request | Response) -> None:
        """A target refresh: requests go to its Contact from now on (§12.2)."""
        target = _target(message)
        if target is not None:
            self._state = replace(self._state, remote_target=target)
            self._way = _way(self._state)

    @property
    def state(self) -> DialogState:
        """The dialog as it is stored."""
        if self._cseq != self._state.local_cseq:
            self._state = replace(self._state, local_cseq=self._cseq)
        return self._state

    def skip(self, cseq: int) -> None:
        """Number the next request higher than `cseq`."""
        self._cseq = max(cseq, self._cseq)

    @property
    def uri(self) -> str:
        """The Request-URI of the next request."""
        return self._way[0]

    def request(
        self, method: str, branch: str, extra: Headers = (), body: bytes = b""
    ) -> tuple[Request, Hop]:
        """The next request, and the hop it goes to (§12.2.1.1)."""
        self.skip(self._cseq + 1)
        return self._request(method, self._cseq, branch, extra, body)

    def acknowledge(self, cseq: int, branch: str, credentials: Headers = ()) -> Transmit:
        """The ACK of a 2xx to the INVITE with this number, which each repetition gets again (§13.2.2.4).

        The last two are kept in `acks`.
        """
        request, hop = self._request("ACK", cseq, branch, credentials, b"")
        while len(self.acks) > 1:
            del self.acks[next(iter(self.acks))]
        return self.acks.setdefault(cseq, Transmit(request.to_bytes(), hop))

    def _request(
        self, method: str, cseq: int, branch: str, extra: Headers, body: bytes
    ) -> tuple[Request, Hop]:
        uri, route, hop = self._way
        branch = f"{BRANCH}{branch}"
        lines = [
            via(self._spec, hop, branch),
            *route,
            *self._identity,
            f"CSeq: {cseq} {method}",
            f"User-Agent: {USER_AGENT}",
            *_lines(extra),
        ]
        if method in ("INVITE", "UPDATE"):
            lines.append(f"Contact: {bracketed(self._spec.contact)}")
        if body:
            lines.append("Content-Type: application/sdp")
        return Written(method, uri, lines, body, cseq=cseq, branch=branch), hop


def _lines(headers: Headers) -> list[str]:
    return [f"{name}: {value}" for name, value in headers]


def _way(state: DialogState) -> tuple[str, list[str], Hop]:
    """The Request-URI, the Route headers and the hop of the requests in a dialog."""
    uri, route = routed(state.remote_target, state.route_set)
    first = state.route_set[0] if state.route_set else state.remote_target
    return uri, _lines(route), hop_to(first, state.hop)


class Branches:
    """The branches of one call's requests (§8.1.1.7): random for the call, and counted within it."""

    __slots__ = ("_count", "_of_call", "_random")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._of_call = ""
        self._count = 0

    def next(self) -> str:
        """One that nobody else has."""
        self._of_call = self._of_call or f"{self._random.getrandbits(96):024x}"
        self._count += 1
        return f"{self._of_call}{self._count}"


class Early:
    """The dialogs of what rings, `limit` at most (§12.1). One is made when it is used: most never are."""

    __slots__ = ("_limit", "_rang", "_spec", "_used")

    def __init__(self, spec: CallSpec, limit: int) -> None:
        self._spec = spec
        self._limit = limit
        self._rang: dict[str, Response] = {}
        self._used: dict[str, Dialog] = {}

    def meet(self, response: Response) -> None:
        """A provisional response."""
        tag = response.to_tag
        if response.status > 100 and tag and tag not in self._rang and len(self._rang) < self._limit:
            self._rang[tag] = response

    def get(self, tag: str) -> Dialog | None:
        """The dialog with this remote tag."""
        if tag in self._rang and tag not in self._used:
            self._used[tag] = Dialog(self._spec, accepted(self._spec, self._rang[tag]))
        return self._used.get(tag)

    def confirmed(self, tag: str, response: Response) -> Dialog:
        """The dialog that a 2xx confirms; the far end's numbers go on."""
        dialog = Dialog(self._spec, accepted(self._spec, response))
        early = self._used.get(tag)
        dialog.remote_cseq = early.remote_cseq if early else None
        return dialog

    def clear(self) -> None:
        """Forget them: one was confirmed."""
        self._rang.clear()
        self._used.clear()
