"""`runbook diagnose`: from a symptom to the one line to change."""

from __future__ import annotations

import json
from pathlib import Path

import click

from runbook_lib.cli_parts import AS_JSON

__all__ = ["diagnose"]

FORMS = ("text", "json", "markdown", "sarif")


@click.command()
@click.option(
    "--evidence",
    "paths",
    multiple=True,
    metavar="FILE",
    help="A log, an event list, a ticket, a bundle, an engine's or a repository's folder; - is stdin.",
)
@click.option("--service", default="", help="An InferenceService of the cluster at hand.")
@click.option("--namespace", default="", help="Its namespace.")
@click.option("--url", default="", help="A Triton server.")
@click.option("--metrics", default="", help="Its metrics URL.")
@click.option("--rules", type=click.Path(path_type=Path), help="Folder of your own rules.")
@click.option("--collect", type=click.Path(path_type=Path), help="Also write the evidence, masked.")
@click.option("--format", "form", type=click.Choice(FORMS), default="text", show_default=True)
@AS_JSON
def diagnose(  # noqa: PLR0917 - click passes an argument for each option
    paths: tuple[str, ...],
    service: str,
    namespace: str,
    url: str,
    metrics: str,
    rules: Path | None,
    collect: Path | None,
    form: str,
    as_json: bool,
) -> int:
    """Name the cause of what is wrong, with the line that shows it and what to do. Reads only.

    Ends with 0 when nothing tells of trouble; an error that no rule explains is trouble too.
    """
    from runbook_lib.diagnose import bundle, export, judge
    from runbook_lib.diagnose.rulebook import rulebook
    from runbook_lib.study.diagnosing import gather

    book = rulebook(rules)
    evidence = gather(
        paths, service=service, namespace=namespace, url=url, metrics=metrics, book=book
    )
    if collect:
        for line in bundle.write_bundle(evidence, collect):
            click.echo(f"collected {line}", err=True)
    found = judge.diagnose(evidence, book)
    if as_json or form == "json":
        click.echo(json.dumps(found.model_dump(mode="json"), indent=2))
    elif form == "sarif":
        click.echo(json.dumps(export.to_sarif(found), indent=2))
    else:
        click.echo(export.to_markdown(found) if form == "markdown" else str(found))
    return 0 if found.healthy else 1
