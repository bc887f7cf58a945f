"""The SIP user agent, client side only: it places calls and refuses all else.

Everything is sans-IO (bytes and the time in, bytes and events out) but `connection.py`, `datagrams.py`,
`endpoint.py`, `timers.py`, `resolver.py`, `rtp.py` and `udp.py`.

    words.py         what the parts tell one another: hops, call specifications, effects
    fields.py        names and values of header fields: URIs, addresses, Vias (RFC 3261 §20, §25)
    message.py       SIP messages, parsed from bytes and written to bytes (RFC 3261 §7, §25)
    framing.py       the bytes of a connection cut into messages
    sdp.py           offers and answers of audio (RFC 3264, RFC 4566)
    digest.py        credentials for 401 and 407 (RFC 7616, RFC 8760)
    transaction.py   transactions with their timers (RFC 3261 §17)
    dialog.py        dialogs and route sets (RFC 3261 §12)
    session.py       session timers (RFC 4028)
    authenticator.py answering the challenges of one call or registration
    referral.py      handing a call over by REFER (RFC 3515)
    uas.py           what the far end asks within a call
    call.py          one outgoing call from its INVITE to its end
    registration.py  keeping a registration alive (RFC 3261 §10), and asking whether a hop is alive
    locate.py        NAPTR, SRV and addresses in the order to try (RFC 3263)
    endpoint.py      sockets, and the conversations on them
    datagrams.py     UDP: the sockets of each family
    timers.py        when a conversation is looked at next
    connection.py    one connection over TCP or TLS
    resolver.py      names to hops, by DNS, with a cache
    stream.py        what a received RTP stream says: losses, keys, frames (RFC 3550, RFC 4733)
    rtp.py           audio: playing, keys, counts (RFC 3550, RFC 4733)
    udp.py           audio's sockets: the range of ports, the socket filter of Linux
"""
