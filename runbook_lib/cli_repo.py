"""`runbook repo`: lay out, check, repair and store model repositories."""

from __future__ import annotations

from pathlib import Path

import click

from runbook_lib.cli_parts import AS_JSON, bar, completing, in_force, profile_completions, say
from runbook_lib.errors import UsageError

__all__ = ["repo"]

PART = (
    "The two part: believe the server, whose verdict is the exit code. It is the lab's CPU server; "
    "a lint for another image's --backends may rightly say something else."
)


@click.group()
def repo() -> None:
    """Lay out, check and store model repositories."""


@repo.command("init")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--profile", required=True, shell_complete=completing(profile_completions), help="Which model."
)
@click.option("--trtllm", default="", metavar="VERSION", help="TensorRT-LLM, if not the profile's.")
@click.option("--engine", type=click.Path(path_type=Path), help="Folder of the built engine.")
@click.option(
    "--mount", default="/mnt/models", show_default=True, help="Where the server sees FOLDER."
)
@AS_JSON
def repo_init(
    folder: Path, profile: str, *, trtllm: str, engine: Path | None, mount: str, as_json: bool
) -> None:
    """Write the whole repository of a profile: every model, tokenizer, engine; nothing left to fill.

    What is not at hand is told, with the place where it goes.
    """
    from runbook_lib.lab.repositories import begin_repository

    with bar("Laying out") as told:
        begun = begin_repository(
            folder, in_force(profile), engine, version=trtllm, mount=mount, on_line=told
        )
    say(begun.to_dict(), str(begun), as_json)


@repo.command("lint")
@click.argument("location", metavar="PATH_OR_URI")
@click.option(
    "--backends", default="cpu", show_default=True, help="cpu, trtllm, or a list with commas."
)
@click.option(
    "--ask-triton",
    is_flag=True,
    help="Start the lab's Triton on it too; the exit code is then its.",
)
@AS_JSON
def repo_lint(location: str, backends: str, ask_triton: bool, as_json: bool) -> int:
    """Say whether Triton would load every model of a repository, and what to change.

    Of a stored one (s3://, gs://, as://) the listing and small texts are read, nothing else.
    """
    from runbook_lib.repository.lint_stored import is_stored, lint_stored

    if is_stored(location):
        from runbook_lib.lab.repositories import access_for

        if ask_triton:
            raise UsageError(
                "--ask-triton wants a folder of this machine.",
                fix="Copy the repository here first, or leave the option out.",
            )
        result = lint_stored(location, backends=backends, credentials=access_for(location))
        say(result.to_dict(), str(result), as_json)
        return 0 if result.ok else 1
    return _lint_folder(Path(location.removeprefix("file://")), backends, ask_triton, as_json)


def _lint_folder(path: Path, backends: str, ask_triton: bool, as_json: bool) -> int:
    from runbook_lib.repository.lint import lint

    result = lint(path, backends=backends)
    if not ask_triton:
        say(result.to_dict(), str(result), as_json)
        return 0 if result.ok else 1
    from runbook_lib.lab.verdict import ask_triton as ask

    if not path.is_dir():
        raise UsageError(
            f"{path} is no folder that Triton could be asked about.", fix="Give the repository."
        )
    verdict = ask(path)
    words = "" if verdict.ok == result.ok else f"\n\n{PART}"
    told = result.to_dict() | {"triton": verdict.to_dict() | {"agrees": verdict.ok == result.ok}}
    say(told, f"{result}\n\n{verdict}{words}", as_json)
    return 0 if verdict.ok else 1


@repo.command("fix")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), help="New folder, by default FOLDER-fixed."
)
@click.option("--backends", default="cpu", show_default=True, help="As for lint.")
@AS_JSON
def repo_fix(folder: Path, output: Path | None, backends: str, as_json: bool) -> int:
    """Write a repaired copy of a repository that Triton refuses, and show what was changed.

    Only what can mean one thing is repaired; what is left is told, and the command then ends with 1.
    """
    from runbook_lib.repository.fix import fix
    from runbook_lib.repository.fix_source import default_output

    fixed = fix(folder, output or default_output(folder), backends=backends)
    say(fixed.to_dict(), str(fixed), as_json)
    return 0 if fixed.ok else 1


@repo.command("edit")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("changes", nargs=-1, required=True, metavar="FIELD=VALUE...")
@AS_JSON
def repo_edit(config: Path, changes: tuple[str, ...], as_json: bool) -> None:
    """Set fields of a config.pbtxt in place; its comments stay. Shows what changed.

    A field is a path: max_batch_size, dynamic_batching.max_queue_delay_microseconds,
    input.text_input.optional, parameters.kv_cache_free_gpu_mem_fraction.
    """
    from runbook_lib.repository.config_edit import edit_file

    changed = edit_file(config, changes)
    say(changed.to_dict() | {"ok": True}, str(changed), as_json)


@repo.command("diff")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@AS_JSON
def repo_diff(old: Path, new: Path, as_json: bool) -> int:
    """Compare two config.pbtxt as Triton reads them; ends with 1 where they differ."""
    from runbook_lib.repository.config_diff import diff_files

    found = diff_files(old, new)
    say(found.to_dict(), str(found), as_json)
    return 1 if found.fields else 0


@repo.command("skeleton")
@click.argument("folder", type=click.Path(path_type=Path))
@AS_JSON
def repo_skeleton(folder: Path, as_json: bool) -> None:
    """Write the guide's three-model example in a form that Triton loads and serves."""
    from runbook_lib.repository.skeleton import skeleton

    files = [str(path) for path in skeleton(folder)]
    say({"ok": True, "files": files}, f"{len(files)} files in {folder}", as_json)


@repo.command("push")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("uri")
@click.option("--replace", is_flag=True, help="Replace another content under the same URI.")
@AS_JSON
def repo_push(folder: Path, uri: str, replace: bool, as_json: bool) -> None:
    """Send a repository to an object store; a half push is never taken as whole."""
    from runbook_lib.lab.repositories import push_at_hand

    with bar("Pushing") as told:
        pushed = push_at_hand(folder, uri, replace=replace, on_line=told)
    say(pushed.to_dict(), str(pushed), as_json)


@repo.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("uri")
@AS_JSON
def repo_verify(folder: Path, uri: str, as_json: bool) -> int:
    """Compare a stored repository with a folder, byte for byte by digest."""
    from runbook_lib.lab.repositories import access_for, told
    from runbook_lib.repository.store_verify import verify

    with bar("Verifying") as line:
        found = verify(folder, uri, credentials=access_for(uri), on_progress=told(line))
    problems = [str(one) for one in found]
    text = "\n".join(problems) or f"{uri} holds exactly what {folder} holds."
    say({"ok": not problems, "problems": problems}, text, as_json)
    return 1 if problems else 0


@repo.command("pull")
@click.argument("uri")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace another content in the folder.")
@AS_JSON
def repo_pull(uri: str, folder: Path, replace: bool, as_json: bool) -> None:
    """Bring a stored repository here, whole and as it was pushed, or not at all."""
    from runbook_lib.lab.repositories import access_for, told
    from runbook_lib.repository.fetch import fetch

    with bar("Pulling") as line:
        pulled = fetch(
            uri, folder, credentials=access_for(uri), replace=replace, on_progress=told(line)
        )
    say(pulled.to_dict(), str(pulled), as_json)
