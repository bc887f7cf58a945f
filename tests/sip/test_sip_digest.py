"""Digest credentials: the vectors of the RFCs, and a second reckoning by hand (RFC 7616, RFC 8760)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import pytest

from outdial.sip.digest import MAX_CHALLENGE, Challenge, authorization, choose, parse_challenge
from outdial.sip.message import ParseError
from outdial.sip.words import Credentials

MUFASA = Credentials("Mufasa", "Circle of Life")
RFC7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
RFC2617 = (
    'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
    'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)

Hash = Callable[[str], str]


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def response_of(value: str) -> str:
    found = re.search(r'response="([0-9a-f]+)"', value)
    assert found
    return found[1]


def answer(challenge: str, credentials: Credentials = MUFASA, cnonce: str = CNONCE, nc: int = 1) -> str:
    return authorization(
        parse_challenge(challenge), credentials, method="GET", uri="/dir/index.html", cnonce=cnonce, nc=nc
    )


class TestVectors:
    @pytest.mark.parametrize(
        ("algorithm", "response"),
        [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ],
    )
    def test_rfc_7616(self, algorithm: str, response: str) -> None:
        """§3.9.1."""
        assert answer(RFC7616.format(algorithm)) == (
            'Digest username="Mufasa", realm="http-auth@example.org", '
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", uri="/dir/index.html", '
            f'response="{response}", algorithm={algorithm}, qop=auth, nc=00000001, cnonce="{CNONCE}", '
            'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
        )

    def test_rfc_2617(self) -> None:
        """§3.5, with quality auth, and the same by the formula without one (§3.2.2.1), which RFC 2069 had."""
        credentials = Credentials("Mufasa", "Circle Of Life")
        with_quality = answer(RFC2617 + ', qop="auth,auth-int"', credentials, "0a4f113b")
        assert response_of(with_quality) == "6629fae49393a05397450978507c4ef1"
        without = answer(RFC2617, credentials)
        assert response_of(without) == "670fd8c2df070c60b045671b8b24ff02"
        assert not re.search("qop|nc=|cnonce|algorithm", without)

    @pytest.mark.parametrize(("algorithm", "digest"), [("MD5-sess", md5), ("sha-256-SESS", sha256)])
    def test_sessions(self, algorithm: str, digest: Hash) -> None:
        """RFC 7616 §3.4.2, reckoned here once more; the name goes back as it came."""
        nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
        secret = digest(f"{digest('Mufasa:http-auth@example.org:Circle of Life')}:{nonce}:{CNONCE}")
        expected = digest(f"{secret}:{nonce}:0000002a:{CNONCE}:auth:{digest('GET:/dir/index.html')}")
        value = answer(RFC7616.format(algorithm), nc=42)
        assert response_of(value) == expected
        assert f"algorithm={algorithm}, qop=auth, nc=0000002a" in value

    def test_a_session_without_quality(self) -> None:
        """The client nonce is part of the secret, so it is sent."""
        value = answer('Digest realm="r", nonce="n", algorithm=MD5-sess')
        secret = md5(f"{md5('Mufasa:r:Circle of Life')}:n:{CNONCE}")
        assert response_of(value) == md5(f"{secret}:n:{md5('GET:/dir/index.html')}")
        assert f'cnonce="{CNONCE}"' in value
        assert "nc=" not in value


class TestChallenge:
    def test_all_parts(self) -> None:
        challenge = parse_challenge(
            'digest  Realm = "a \\"b\\"" ,, nonce=n=, stale=TRUE,qop=auth , algorithm="MD5", opaque="", x="x"'
        )
        assert challenge == Challenge('a "b"', "n=", "MD5", ("auth",), "", True)
        assert parse_challenge('Digest realm="", nonce="n", stale="false"').stale is False

    def test_quotes_are_escaped_again(self) -> None:
        """Hashed is the text without escapes (RFC 7616 §3.4.2, unq), sent with them."""
        value = answer('Digest realm="a\\"b", nonce="n"', Credentials('u"\\', "p"))
        assert value.startswith('Digest username="u\\"\\\\", realm="a\\"b", ')
        secret = md5('u"\\:a"b:p')
        assert response_of(value) == md5(f"{secret}:n:{md5('GET:/dir/index.html')}")

    @pytest.mark.parametrize(
        "value",
        ["", "Basic realm=x", "Digest", "Digest x", 'Digest realm="r"', 'Digest nonce="n"',
         'Digest realm="r", nonce=""', 'Digest realm="r", nonce="n\x7f"',
         'Digest realm="r, nonce="n"', 'Digest realm="r" nonce="n"', 'Digest realm="r", nonce="n", ="x"',
         'Digest realm="r\x00", nonce="n"', 'Digest realm="r", nonce="n", x="' + "x" * MAX_CHALLENGE + '"'],
    )  # fmt: skip
    def test_refused(self, value: str) -> None:
        with pytest.raises(ParseError):
            parse_challenge(value)
        assert choose([value]) is None


class TestChoose:
    """RFC 8760 §2.4: the strongest that we know."""

    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [
            (["MD5", "SHA-256"], "SHA-256"),
            (["SHA-256", "MD5"], "SHA-256"),
            (["SHA-512-256", "MD5"], "MD5"),
            (["MD5-sess", "MD5"], "MD5-sess"),
            (["AKAv1-MD5"], None),
            ([], None),
        ],
    )
    def test_algorithms(self, offered: list[str], chosen: str | None) -> None:
        found = choose([RFC7616.format(algorithm) for algorithm in offered])
        assert (found and found.algorithm) == chosen

    @pytest.mark.parametrize(
        ("qop", "usable"),
        [
            ("", True),
            (', qop=""', True),
            (', qop="auth"', True),
            (', qop="auth-int,auth"', True),
            (", qop=AUTH", True),
            (', qop="auth-int"', False),
            (", qop=other", False),
        ],
    )
    def test_qualities(self, qop: str, usable: bool) -> None:
        """auth-int alone is not answered."""
        value = RFC2617 + qop
        assert (choose([value]) is not None) == usable
        if not usable:
            with pytest.raises(ValueError, match="not ours"):
                answer(value)

    def test_no_algorithm_is_md5(self) -> None:
        found = choose([RFC2617])
        assert found
        assert (found.algorithm, found.strength) == ("", 1)
