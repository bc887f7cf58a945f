"""The SIP user agent, client side only: it places calls and refuses all else.

Everything but `endpoint.py`, `rtp.py` and `udp.py` is sans-IO: bytes and the time in, bytes and events out.

    words.py         what the parts tell one another: hops, call specifications, effects
    message.py       SIP messages, parsed from bytes and written to bytes (RFC 3261 §7, §25)
    sdp.py           offers and answers of audio (RFC 3264, RFC 4566)
    digest.py        credentials for 401 and 407 (RFC 7616, RFC 8760)
    transaction.py   client and server transactions with their timers (RFC 3261 §17)
    dialog.py        dialogs and route sets (RFC 3261 §12)
    call.py          one outgoing call from its INVITE to its end
    registration.py  keeping a registration alive (RFC 3261 §10)
    locate.py        NAPTR, SRV and addresses in the order to try (RFC 3263)
    stream.py        what a received RTP stream says: losses, keys, frames (RFC 3550, RFC 4733)
    endpoint.py      sockets, timers and name look-ups
    rtp.py           audio: playing, keys, counts (RFC 3550, RFC 4733)
    udp.py           its sockets: the range of ports, the socket filter of Linux
"""
