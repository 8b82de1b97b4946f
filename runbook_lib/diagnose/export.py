"""A diagnosis for others: Markdown for a ticket, SARIF 2.1.0 for tools that read findings."""

from __future__ import annotations

from typing import Any

from runbook_lib.artifacts import Diagnosis, Finding

__all__ = ["to_markdown", "to_sarif"]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
SURE = 0.8


def to_markdown(diagnosis: Diagnosis) -> str:
    """Findings for a ticket. What came from logs stands in code, where nothing of it is markup."""
    parts = [_section(number, one) for number, one in enumerate(diagnosis.findings, 1)]
    if not parts:
        parts = ["No finding: nothing that was read tells of trouble.\n"]
    if diagnosis.not_explained:
        parts.append("### Not explained\n\n" + _code("\n".join(diagnosis.not_explained)))
    read = "\n".join(f"{name}: {said}" for name, said in diagnosis.sources.items())
    return "\n".join(["## Diagnosis\n", *parts, "### Read\n", _code(read)])


def _section(number: int, finding: Finding) -> str:
    rows = [
        f"### {number}. {finding.title} (`{finding.id}`, {finding.score:.2f})\n",
        f"{finding.cause}\n",
        _code("\n".join(finding.evidence)),
        f"- confirm: `{_inline(finding.confirm)}`",
        f"- fix: {finding.fix}",
    ]
    rows += [f"- costs: {finding.costs}"] if finding.costs else []
    rows += [f"- next page: {finding.page}"] if finding.page else []
    rows += [f"- leads to: `{_inline(one)}`" for one in finding.consequences]
    return "\n".join(rows) + "\n"


def _inline(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")


def _code(text: str) -> str:
    """A block that no text can close: its fence is longer than any inside."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}\n"


def to_sarif(diagnosis: Diagnosis) -> dict[str, Any]:
    """SARIF 2.1.0: a result a finding, located where its first line was read."""
    rules = [
        {
            "id": one.id,
            "shortDescription": {"text": one.title},
            "help": {"text": f"{one.fix}\nConfirm: {one.confirm}"},
        }
        for one in diagnosis.findings
    ]
    driver = {"name": "runbook diagnose", "rules": rules}
    results = [_result(one) for one in diagnosis.findings]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _result(finding: Finding) -> dict[str, Any]:
    return {
        "ruleId": finding.id,
        "level": "error" if finding.score >= SURE else "warning",
        "message": {"text": f"{finding.title}. {finding.cause}"},
        "rank": round(finding.score * 100, 1),
        "locations": [_location(line) for line in finding.evidence],
    }


def _location(line: str) -> dict[str, Any]:
    """`source:number: text`, as findings give their evidence."""
    place, _, text = line.partition(": ")
    source, _, number = place.rpartition(":")
    region: dict[str, Any] = {"snippet": {"text": text}}
    if source and number.isdecimal():
        region["startLine"] = int(number)
    artifact = {"uri": (source or place).replace(" ", "%20")}
    return {"physicalLocation": {"artifactLocation": artifact, "region": region}}
