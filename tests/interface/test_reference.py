"""The reference pages name every code and every interface, with its fields (docs/reference)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outdial.errors import Code
from outdial.intake import MAX_ENTRIES, MAX_INCOMPLETE
from outdial.web.app import ROUTES, V2_ROUTES
from outdial.wire import (
    blacklist,
    campaign_body,
    campaigns,
    number_deletion,
    numbers,
    results,
    retry,
    special_dates,
)
from outdial.wire.fields import Integer, LocalDay, LocalTime, OneOf, Positive, Text

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
NEVER = {"02000004", "02000005", "02000008", "02000010", "02000011"}


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_every_code_has_a_row_and_every_row_a_code() -> None:
    rows = re.findall(r"^\| `(0[\d-]+)` \| (.+?) \| (.*?) ?\| (.+?) \|", page("codes.md"), re.MULTILINE)
    assert [code for code, *_ in rows] == [code.wire for code in Code]
    for code, meaning, way_out, source in rows:
        assert meaning
        assert source
        assert way_out or code == Code.OK.wire, f"{code} has no way out"


def test_every_code_that_is_never_earned_has_its_reason() -> None:
    reasons = dict(re.findall(r"^\| `(0\d{7})` \| [^|]+ \| ([^|]+) \|$", page("rules.md"), re.MULTILINE))
    assert set(reasons) == NEVER
    assert not NEVER & {code.wire for code in Code}
    assert set(re.findall(r"`(0[\d-]{6,7})`", page("codes.md"))) == {code.wire for code in Code} | NEVER


def routes() -> set[tuple[str, str]]:
    found = set()
    for before, route in [("", one) for one in ROUTES] + [("v2: ", one) for one in V2_ROUTES]:
        values = iter(route.names)
        path = "/".join(f"{{{next(values)}}}" if part == b"*" else part.decode() for part in route.path)
        found |= {(method.decode(), before + path) for method in route.handlers}
    return found


def test_every_route_has_a_heading_and_every_heading_a_route() -> None:
    headings = set(re.findall(r"^### ([A-Z]+) ((?:v2: )?\S+)$", page("api.md"), re.MULTILINE))
    assert headings == routes() | {("GET", path) for path in ("/healthz", "/readyz", "/openapi.json")}


def section(method: str, path: str) -> str:
    _, _, rest = page("api.md").partition(f"### {method} {path}\n")
    return rest.partition("\n### ")[0]


Rule = Text | Integer | OneOf | LocalDay | LocalTime | Positive
RESOURCES = {
    "numbers": (numbers, "### POST {vdnId}/calldata/{campaignId}", 7),
    "deleting numbers": (number_deletion, "### POST {vdnId}/calldata/{campaignId}/delete", 7),
    "results": (results, "### POST {vdnId}/callresult/{campaignId}", 7),
    "campaigns": (campaign_body, "## Campaigns", 21),
    "querying and deleting campaigns": (campaigns, "## Campaigns", 4),
    "retry policy": (retry, "## Retry policy", 10),
    "special dates": (special_dates, "## Special dates", 4),
    "blacklist": (blacklist, "## Blacklist", 9),
}


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_field_rule_is_on_the_page(resource: str) -> None:
    """Its name, with its length or range as the code has it."""
    module, heading, count = RESOURCES[resource]
    text = page("api.md").partition(heading + "\n")[2] + page("rules.md").replace(",", "")
    rules = [rule for rule in vars(module).values() if isinstance(rule, Rule)]
    assert len(rules) == count
    for rule in rules:
        rows = [line for line in text.splitlines() if re.search(rf"`\.?{rule.name}`", line)]
        assert rows, rule.name
        if isinstance(rule, Text):
            assert any(re.search(rf"\b{rule.max_length}\b", row) for row in rows), rule.name
        if isinstance(rule, Positive):
            assert any(f"up to {rule.high}" in row for row in rows), rule.name
        if isinstance(rule, Integer) and rule.name not in ("offset", "id"):
            assert any(f"{rule.low} to {rule.high}" in row for row in rows), rule.name


def test_the_characters_and_numbers_of_the_contract_are_on_the_page() -> None:
    assert numbers.FORBIDDEN_IN_CUSTOM_FIELD in page("api.md")
    assert f"more than {MAX_INCOMPLETE:,} incomplete" in page("rules.md")
    assert f"1 to {MAX_ENTRIES} entries" in page("api.md")


def test_the_rules_keep_the_section_numbers() -> None:
    """Comments in the code refer to them."""
    titles = re.findall(r"^## (\d)\. ", page("rules.md"), re.MULTILINE)
    assert titles == [str(number) for number in range(1, 9)]
