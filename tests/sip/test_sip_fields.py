"""What is read cheaply of an address or a Via is what reading all of it finds (RFC 3261 §20, §25.1)."""

from __future__ import annotations

import pytest

from outdial.sip.fields import NameAddr, ParseError, Via, branch_of, tag_of, uri_of

ADDRESSES = (
    "<sip:1@192.0.2.1:5060>;tag=a1",
    "<sip:1@192.0.2.1:40500;transport=UDP>;tag=a1;x=y",
    '"A > ;tag=no" <sip:1;tag=user@h;tag=uri>;x=1;TAG=b-2',
    '"a;tag=display" <sip:h>',
    "<sip:h>;tagged=no",
    "<sip:h>;x=;tag=.9",
    "<sip:h>;tag=a;tag=b",
    "sip:h;tag=bare",
    '<sip:h?x=y> ; x="q;tag=no" ; tag = c',
    "Bob <sips:b@[2001:db8::1]>;tag=6",
)
VIAS = (
    "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport",
    "SIP/2.0/UDP 192.0.2.1:40500;rport;branch=z9hG4bK1",
    "SIP/2.0/TCP h;xbranch=no;Branch=z9hG4bK2;branch=late",
    "SIP/2.0/UDP h",
    "SIP/2.0/UDP h;branch;branch=late",
    "SIP / 2.0 / UDP h ; branch = z9hG4bK3",
    'SIP/2.0/UDP h;x="a;branch=no";branch=z9hG4bK4',
)


@pytest.mark.parametrize("text", ADDRESSES)
def test_the_tag(text: str) -> None:
    assert tag_of(text) == NameAddr.parse(text).tag


@pytest.mark.parametrize("text", ADDRESSES)
def test_the_uri(text: str) -> None:
    uri = NameAddr.parse(text).uri
    uri.headers = ""
    assert uri_of(text) == str(uri)


@pytest.mark.parametrize("text", VIAS)
def test_the_branch(text: str) -> None:
    assert branch_of(text) == Via.parse(text).branch
    assert branch_of(f"{text}, SIP/2.0/UDP second;branch=z9hG4bKno") == Via.parse(text).branch


@pytest.mark.parametrize(
    "text", ["", "<sip:h", "<sip:h>;tag", "<sip:h>;tag;tag=late", "<sip:h>;tag=\x01", "sip:", '"a <sip:h>']
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    for read in (tag_of, uri_of, branch_of):
        with pytest.raises(ParseError):
            read(text)
