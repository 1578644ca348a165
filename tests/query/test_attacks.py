"""Statements hostile to `engine.sql`: the right answer or a clear error within the limits; the caller never crashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.errors import QueryError
from engine.query import QuerySession
from engine.query.request import Limits

from tests.query.attack_statements import EITHER, ERROR, GROUPS, Attack
from tests.query.hostile_statements import HOSTILE, Hostile
from tests.query.test_sql import WORD, _filled, _pins, _snapshot, scene

__all__ = ["scene"]

LIMITS = {"slow": Limits(1.0, "200MB", threads=2)}
ORDINARY = Limits(20.0, "200MB", threads=2)


def wrong_outcomes(
    session: QuerySession, attacks: list[tuple[str, Attack]], limits: Limits, secrets: list[str]
) -> Iterator[str]:
    for query, attack in attacks:
        shown = query if len(query) < 200 else f"{query[:150]} ... ({len(query):,} characters)"
        try:
            answer = session.run(query, limits).frame
        except QueryError as error:
            told = str(error)
            if attack.outcome not in (ERROR, EITHER):
                yield f"{shown}: {told[:300]}"
            if not told.strip() or "Traceback" in told or "site-packages" in told:
                yield f"{shown}: unclear: {told[:300]}"
            seen = told.replace(query, "")
        else:
            first = answer[0, 0] if answer.height else None
            if attack.outcome == ERROR or attack.outcome not in (EITHER, first):
                yield f"{shown}: answered {str(first)[:200]!r}"
            seen = str(answer.head(3).to_dict(as_series=False))[:100_000]
        yield from (f"{shown}: shows {one}" for one in secrets if one in seen)


SAMPLED = 5  # one of so many unions is asked each time, all of them with the slow tests
CASES = [(name, SAMPLED if name == "unions" else 1) for name in GROUPS]


@pytest.mark.parametrize(("group", "step"), [*CASES, pytest.param("unions", 1, marks=pytest.mark.slow)])
def test_attacks_end_in_the_right_answer_or_an_error(scene: dict[str, Path | str], group: str, step: int) -> None:
    before = _snapshot(Path(scene["root"]))
    secrets = [WORD, str(scene["root"])]
    attacks = [
        (_filled(Hostile(one.statement), scene) if group == "unions" else one.statement, one)
        for one in GROUPS[group][::step]
    ]
    with QuerySession(_pins(scene)) as session:
        wrong = list(wrong_outcomes(session, attacks, LIMITS.get(group, ORDINARY), secrets))
        assert session.run("SELECT count(*) > 0 AS n FROM bars").frame.item() is True
    assert wrong == []
    assert _snapshot(Path(scene["root"])) == before


def test_attacks_are_as_many_as_they_say_and_none_is_there_twice() -> None:
    statements = [one.statement for attacks in GROUPS.values() for one in attacks] + [one.statement for one in HOSTILE]
    assert len(set(statements)) == len(statements) >= 335
