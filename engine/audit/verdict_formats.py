"""A verdict as text for machines: JSON (and the baseline of the next audit), JUnit XML, GitHub annotations.

The same verdict is always the same bytes: nothing here asks for the time. Cells are hostile text in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import polars as pl

from engine import __version__
from engine.audit.baseline import FORMAT, VERSION
from engine.audit.verdict import Verdict
from engine.errors import ParameterError
from engine.export.formats.output_formats import write_bytes, write_result

MOST_CASES = 10_000
MOST_PARTS = 50  # of a finding, in a text
MOST_ANNOTATIONS = 10  # of each level: what GitHub shows of one step
LEVELS = {"error": "error", "warning": "warning", "info": "notice"}
OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS

# XML 1.0 has no way to write these.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_json(verdict: Verdict) -> bytes:
    """Render a verdict as indented UTF-8 JSON, which is also the baseline of a later audit.

    Returns
    -------
    bytes
        An object: `format` and `version` of this shape, `engine` (the version that wrote it), `exit_code`,
        `threshold`, `counts`, `summary`, `rules`, `findings`, `parts` (of findings, by their fingerprint), `mended`, `notes`. Instants are ISO 8601 in UTC with
        `Z`, sessions ISO dates; what is not a number is null.
    """
    rules = [
        {
            "name": rule.name,
            "rule": str(rule),
            "severity": rule.severity,
            "allow": rule.allow,
            "tolerance": str(rule.tolerance),
        }
        for rule in verdict.rules.rules
    ]
    content = {
        "format": FORMAT,
        "version": VERSION,
        "engine": __version__,
        "exit_code": verdict.exit_code,
        "threshold": verdict.rules.threshold,
        "counts": verdict.counts,
        "summary": verdict.summary.to_dicts(),
        "rules": rules,
        "findings": verdict.findings.to_dicts(),
        "parts": verdict.parts.to_dicts(),
        "mended": verdict.mended.to_dicts(),
        "notes": verdict.notes,
    }
    return orjson.dumps(content, option=OPTIONS) + b"\n"


def to_junit(verdict: Verdict, most: int = MOST_CASES) -> bytes:
    """Render as JUnit XML a case per finding (failing: failure; not `new`: skipped) or rule without; past `most` in one.

    A suite per check; a case per finding: a failure where it fails, skipped where it is known, tolerated or allowed,
    else passed with the finding as its output. A rule that finds nothing is a case that passed. Beyond `most` findings
    the rest are one case.
    """
    shown, left = verdict.findings.head(most), verdict.findings.slice(most)
    # A rule that is broken in a built-in finding did not pass.
    said = set(verdict.findings["check_name"])
    broken = set(verdict.findings["rule"].drop_nulls())
    suites: dict[str, list[Mapping[str, Any]]] = {
        rule.name: [] for rule in verdict.rules.rules if rule.name not in said and str(rule) not in broken
    }
    names = named_parts(verdict.parts)
    for row in ({**row, "part_names": names.get(row["fingerprint"])} for row in shown.iter_rows(named=True)):
        suites.setdefault(row["check_name"], []).append(row)
    root = ET.Element("testsuites", name="engine audit")
    for name, rows in suites.items():
        add_suite(root, name, [finding_case(name, row) for row in rows] or [passed_case(name, "nothing found")])
    if left.height:
        rest = passed_case("more", f"{left.height} more findings, which are not listed here")
        if left["fails"].any():
            ET.SubElement(rest, "failure", message=f"{left['fails'].sum()} of them fail", type="error")
        add_suite(root, "more", [rest])
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    root.set("time", "0")
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def to_annotations(verdict: Verdict, most: int = MOST_ANNOTATIONS) -> bytes:
    """Render `new` findings as GitHub annotations, `most` per level and a count of the rest, then the headline."""
    lines = []
    for level, rows in by_level(verdict.findings.filter(pl.col("state") == "new")).items():
        lines += [annotation(level, row) for row in rows.head(most).iter_rows(named=True)]
        if rows.height > most:
            lines.append(f"::notice title=engine audit::{rows.height - most} more of level {level}")
    lines.append(f"::notice title=engine audit::{escape_data(verdict.headline)}")
    return "".join(f"{line}\n" for line in lines).encode()


RENDERERS: Mapping[str, Callable[[Verdict], bytes]] = {"json": to_json, "junit": to_junit, "github": to_annotations}
FORMS = (*RENDERERS, "parquet")


def render(verdict: Verdict, form: str) -> bytes:
    """Render a verdict as `json`, `junit` or `github` bytes (UTF-8); ParameterError for another form."""
    if form not in RENDERERS:
        raise ParameterError(f"format: received {form!r}; valid: {', '.join(RENDERERS)}")
    return RENDERERS[form](verdict)


def write_verdict(verdict: Verdict, form: str, output: Path) -> Path:
    """Write json, junit, github or parquet (findings only) atomically; ParameterError: other form, ExportError: unwritable.

    Raises
    ------
    ParameterError
        Another form.
    ExportError
        The file cannot be written.
    """
    if form not in FORMS:
        raise ParameterError(f"format: received {form!r}; valid: {', '.join(FORMS)}")
    if form == "parquet":
        return write_result(verdict.findings, "parquet", output)
    return write_bytes(render(verdict, form), output)


# ---------------------------------------------------------------------------- JUnit


def add_suite(root: ET.Element, name: str, cases: list[ET.Element]) -> None:
    """Append a `testsuite` of these cases, with counts of tests, failures and skipped, to `root`."""
    counts = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "skipped")}
    suite = ET.SubElement(
        root,
        "testsuite",
        name=xml_text(name),
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        errors="0",
        skipped=str(counts["skipped"]),
        time="0",
    )
    suite.extend(cases)


def finding_case(suite: str, row: Mapping[str, Any]) -> ET.Element:
    """Return a JUnit case: failure if it fails, skipped unless `new`, else passed; output unless failing."""
    case = ET.Element(
        "testcase", name=xml_text(finding_place(row) or row["message"]), classname=xml_text(f"audit.{suite}"), time="0"
    )
    if row["fails"]:
        failure = ET.SubElement(case, "failure", message=xml_text(row["message"]), type=row["severity"])
        failure.text = xml_text(finding_text(row))
    elif row["state"] != "new":
        ET.SubElement(case, "skipped", message=xml_text(f"{row['state']}: {row['note']}"))
    if not row["fails"]:
        ET.SubElement(case, "system-out").text = xml_text(finding_text(row))
    return case


def passed_case(suite: str, name: str) -> ET.Element:
    """Return a JUnit case without failure, of class `audit.<suite>`."""
    return ET.Element("testcase", name=name, classname=xml_text(f"audit.{suite}"), time="0")


def named_parts(parts: pl.DataFrame) -> dict[str, str]:
    """Text per fingerprint of a finding: the first 50 of its parts, each with its series and what is said of it."""
    own = parts.filter(pl.col("role") == "part")
    said = pl.concat_str(
        "symbol", "price_type", "interval", pl.format("({})", "message"), separator=" ", ignore_nulls=True
    )
    whole = own.group_by("finding", maintain_order=True).agg(
        said.head(MOST_PARTS).str.join("; ").alias("said"), pl.len().alias("size")
    )
    return {
        finding: text + (f"; and {size - MOST_PARTS} more" if size > MOST_PARTS else "")
        for finding, text, size in whole.iter_rows()
    }


def finding_text(row: Mapping[str, Any]) -> str:
    """Return lines: `severity: message`, then `name: text` of evidence, remedy, note, rule, fingerprint where not empty."""
    named = [(name, row[name]) for name in ("evidence", "remedy", "note", "rule", "fingerprint")]
    named.append((f"parts ({row['parts']})", row.get("part_names")))
    return "\n".join([f"{row['severity']}: {row['message']}", *(f"{name}: {text}" for name, text in named if text)])


def finding_place(row: Mapping[str, Any]) -> str:
    """Return symbol, price type, interval, session, start and source, joined by spaces; nulls are left out."""
    start = row["start_ts"] and row["start_ts"].strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = (row["symbol"], row["price_type"], row["interval"], row["session"], start, row["source"])
    return " ".join(str(part) for part in parts if part is not None)


def xml_text(text: str) -> str:
    """Return the text with characters that XML 1.0 forbids written as Python escapes."""
    return _NOT_XML.sub(lambda match: repr(match[0])[1:-1], text)


# ---------------------------------------------------------------------------- GitHub


def by_level(found: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Split findings by level error, warning, notice (info); failing ones are error, empty levels are left out."""
    level = pl.when("fails").then(pl.lit("error")).otherwise(pl.col("severity").replace_strict(LEVELS))
    leveled = found.with_columns(level.alias("level"))
    return {one: rows for one in LEVELS.values() if (rows := leveled.filter(pl.col("level") == one)).height}


def annotation(level: str, row: Mapping[str, Any]) -> str:
    """Return one `::level file=..,title=..::text` command; text is message, evidence, remedy, all escaped."""
    title = f"{row['check_name']}: {finding_place({**row, 'source': None})}".rstrip(": ")
    properties = {"file": row["source"], "title": title}
    given = ",".join(f"{name}={escape_property(value)}" for name, value in properties.items() if value)
    said = [row["message"], row["evidence"] or "", row["remedy"] or ""]
    text = escape_data("\n".join(part for part in said if part))
    return f"::{level} {given}::{text}"


def escape_data(text: str) -> str:
    """Percent-encode %, CR and LF, and write other unprintable characters as Python escapes."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in escaped)


def escape_property(text: str) -> str:
    """Escape as `escape_data` does, and percent-encode `:` and `,` too."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")
