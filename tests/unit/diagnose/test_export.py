"""A diagnosis for a ticket and for tools; what a log says is never markup there."""

import json

from runbook_lib.diagnose.evidence import Evidence
from runbook_lib.diagnose.export import to_markdown, to_sarif
from runbook_lib.diagnose.judge import diagnose
from runbook_lib.diagnose.reading import from_text

TAG = "E0116 Version tag does not match."
HOSTILE = "E0116 Version tag does not match. ```\n<script>alert(1)</script> ````"


def test_markdown_says_what_why_and_what_to_do():
    text = to_markdown(diagnose(from_text("server.log", TAG)))
    assert "### 1. The engine was built by another TensorRT or TensorRT-LLM release" in text
    assert f"server.log:1: {TAG}" in text
    assert "- fix: Build inside the very image" in text


def test_nothing_of_a_log_ends_its_block():
    text = to_markdown(diagnose(from_text("log", HOSTILE)))
    fence = max(line.partition("t")[0] for line in text.splitlines() if line.startswith("```"))
    assert len(fence) == 4
    inside = text.split(f"{fence}text\n")[1].split(f"\n{fence}\n")[0]
    assert "```" in inside


def test_healthy_evidence_says_so():
    assert "No finding" in to_markdown(diagnose(Evidence()))
    assert to_sarif(diagnose(Evidence()))["runs"][0]["results"] == []


def test_sarif_places_a_result_where_its_line_was_read():
    found = to_sarif(diagnose(from_text("server.log", f"calm\n{TAG}")))
    [result] = found["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "server.log"}
    assert place["region"] == {"startLine": 2, "snippet": {"text": TAG}}
    assert result["ruleId"] == found["runs"][0]["tool"]["driver"]["rules"][0]["id"]
    json.dumps(found)


def test_a_source_without_a_number_is_placed_too():
    from runbook_lib.artifacts import Finding

    one = Finding(
        id="x", title="t", cause="c", confirm="k", fix="f", evidence=("Pod p: it broke",), score=0.5
    )
    [result] = to_sarif(diagnose(Evidence(named=(one,))))["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "Pod%20p"}
    assert result["level"] == "warning"
