"""What a trunk makes of a call: URIs, route, and all that a SIP call needs to be placed or ended."""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID

import msgspec

from outdial.model import Trunk
from outdial.sip import sdp
from outdial.sip.call import Call
from outdial.sip.dialog import accepted, spec_ids
from outdial.sip.endpoint import Endpoint
from outdial.sip.message import Response
from outdial.sip.words import CallSpec, Credentials, DialogState, Hop


def to_text(trunk: str, dialog: DialogState) -> str:
    """What is stored of an answered call: the trunk's name and the dialog."""
    return msgspec.json.encode((trunk, dialog)).decode()


def from_text(text: str) -> tuple[str, DialogState]:
    """What `to_text` wrote. Raises `ValueError`."""
    return msgspec.json.decode(text, type=tuple[str, DialogState])


def call_spec(
    endpoint: Endpoint, hop: Hop, trunk: Trunk, *, attempt: UUID, dialed: str, caller: str, offer: bytes
) -> CallSpec:
    """The call of an attempt over a trunk: the same again for the same facts, so that it can be cancelled.

    What `routing` lets through as a number holds no character that could end a header.
    """
    call_id, from_tag, branch = spec_ids(attempt, trunk.name)
    host = bracketed(trunk.host)
    over = transport_of(hop)
    target = number_uri(dialed, trunk)
    caller = quote(trunk.caller_id or caller, safe="+*")
    contact_host, contact_port = endpoint.contact(hop)
    return CallSpec(
        call_id=call_id,
        from_tag=from_tag,
        branch=branch,
        hop=hop,
        request_uri=f"{target}{over}",
        from_uri=f"sip:{caller}@{trunk.from_domain or host}",
        to_uri=target,
        contact=f"sip:outdial@{bracketed(contact_host)}:{contact_port}{over}",
        via=sent_by(endpoint, hop),
        offer=offer,
        route=route_of(trunk, over),
        credentials=credentials_of(trunk),
        timer_b=trunk.timer_b,
    )


def dialog_spec(dialog: DialogState, trunk: Trunk | None, endpoint: Endpoint) -> CallSpec:
    """What a stored dialog needs to be hung up; the trunk has the credentials, if it is still there."""
    host, _ = endpoint.local(dialog.hop)
    at = sent_by(endpoint, dialog.hop)
    return CallSpec(
        call_id=dialog.call_id,
        from_tag=dialog.local_tag,
        branch="",
        hop=dialog.hop,
        request_uri=dialog.remote_target,
        from_uri=dialog.local_uri,
        to_uri=dialog.remote_uri,
        contact=f"sip:outdial@{at}",
        via=at,
        offer=sdp.offer(address=host, port=9, session_id=1),
        credentials=credentials_of(trunk) if trunk is not None else None,
        session_expires=0,
    )


def answered_elsewhere(response: Response, source: Hop, endpoint: Endpoint) -> Call:
    """The call that this 2xx answers, as far as the 2xx tells: enough to acknowledge it and to hang up."""
    host, _ = endpoint.local(source)
    at = sent_by(endpoint, source)
    contact = response.contact
    spec = CallSpec(
        call_id=response.call_id,
        from_tag=response.from_tag or "",
        branch="",
        hop=source,
        request_uri=str(contact.uri) if contact is not None else str(response.to.uri),
        from_uri=str(response.from_.uri),
        to_uri=str(response.to.uri),
        contact=f"sip:outdial@{at}",
        via=at,
        offer=sdp.offer(address=host, port=9, session_id=1),
        session_expires=0,
    )
    return Call.restored(spec, accepted(spec, response))


def number_uri(dialed: str, trunk: Trunk) -> str:
    """The URI of a dial string at its trunk, whatever the transport."""
    host = bracketed(trunk.host)
    place = f"{host}:{trunk.port}" if trunk.port else host
    return f"sip:{quote(dialed, safe='+*')}@{place}"


def sent_by(endpoint: Endpoint, hop: Hop) -> str:
    """What our Via towards a hop says of where its request comes from (RFC 3261 §18.1.1)."""
    host, port = endpoint.local(hop)
    return f"{bracketed(host)}:{port}"


def transport_of(hop: Hop) -> str:
    """The parameter of a URI that says how its host is reached; UDP goes without saying."""
    return "" if hop.transport == "udp" else f";transport={hop.transport}"


def route_of(trunk: Trunk, over: str) -> tuple[str, ...]:
    """The preloaded route: the trunk's outbound proxy, if it has one."""
    return (f"<sip:{trunk.outbound_proxy}{over};lr>",) if trunk.outbound_proxy else ()


def credentials_of(trunk: Trunk) -> Credentials | None:
    """What answers the trunk's challenges; None: it knows us by our address."""
    return Credentials(trunk.username, trunk.password or "") if trunk.username else None


def bracketed(host: str) -> str:
    """A host as URIs and Via write it."""
    return f"[{host}]" if ":" in host else host
