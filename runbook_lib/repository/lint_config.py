"""Rules for a model's `config.pbtxt`: where it stands, whether it parses, name, backend, instances."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from runbook_lib.errors import RepositoryError
from runbook_lib.repository.findings import CONFIG, Model
from runbook_lib.repository.lint_backend import OF_PLATFORM, choose
from runbook_lib.repository.lint_sizes import kind_name
from runbook_lib.repository.lint_text import parse, without_comments

__all__ = ["UNSAFE_NAME", "check_config"]

PLACEHOLDER = re.compile(r"\$\{\w*\}")
# The Python backend puts the model's path on a shell's command line without quotes.
UNSAFE_NAME = re.compile(r"[\s'\"$&;|<>()`\\]|[^\x00-\x7f]")

LARGEST = 4 * 2**20  # bytes; the largest of NVIDIA's have 30 kB


def check_config(model: Model, backends: frozenset[str], *, on_cpu: bool) -> None:
    """Read a model's configuration as Triton does and note what it refuses.

    Args:
        model: its `config` and `backend` are set here.
        backends: those of the server.
        on_cpu: whether it is the CPU server, whose version and parts are known.
    """
    path = model.path / CONFIG
    misplaced = sorted(model.path.glob(f"*/{CONFIG}"))
    if path.is_dir():
        model.error("config", f"{CONFIG} is a folder; Triton 2.51 dies of it.", f"rm -r {path}")
        return
    if path.exists() and (not path.is_file() or path.stat().st_size > LARGEST):
        model.error(
            "config",
            f"{CONFIG} is no file, or one of more than {LARGEST // 2**20} MiB.",
            "Put the model's configuration there.",
        )
        return
    if path.is_file() and not _read(model, path.read_bytes()):
        return
    _choose(model)
    if misplaced and not path.is_file():
        _explain_misplaced(model, misplaced[0].parent.name)
        _read_misplaced(model, misplaced[0].read_bytes())
        return
    if model.config is None and not _is_named_backend(model, backends):
        _explain_no_model(model)
        return
    if misplaced:
        model.warn(
            "config_in_version",
            f"{misplaced[0].parent.name}/{CONFIG} is not read: the one beside the version folder is.",
            f"rm {misplaced[0]}",
        )
    _check_backend(model, backends)
    _check_name(model)
    if model.config is not None:
        _check_instances(model, gpu=not on_cpu)
        if on_cpu:
            _check_cpu_server(model)
        _check_files(model)


def _read(model: Model, data: bytes) -> bool:
    """Parse the text into the model; False when Triton would not."""
    text = data.decode("utf-8", "replace")
    try:
        model.config = parse(text, where=f"{model.name}/{CONFIG}")
    except RepositoryError as error:
        _explain_syntax(model, text, error)
        return False
    if left := sorted(set(PLACEHOLDER.findall(without_comments(text)))):
        model.warn(
            "placeholder",
            f"{CONFIG} has placeholders that nobody filled: {', '.join(left)}. Triton takes them "
            "as they stand.",
            "Fill the template before it is laid out.",
        )
    return True


def _explain_syntax(model: Model, text: str, error: RepositoryError) -> None:
    why = error.why
    where = re.match(r"(\d+):(\d+)", why)
    lines = text.splitlines()
    line = lines[int(where[1]) - 1] if where and 0 < int(where[1]) <= len(lines) else ""
    unknown = re.search(r"no value named (\w+)", why)
    if unknown and unknown[1].startswith("TYPE_"):
        wire = unknown[1] in {"TYPE_BYTES", "TYPE_STR", "TYPE_TEXT"}
        model.error(
            "data_type",
            f"{CONFIG} names the data type {unknown[1]}, which Triton does not know."
            + (" BYTES is the name of strings on the wire only." if wire else ""),
            "Write TYPE_STRING." if wire else "Write one of Triton's types, such as TYPE_FP32.",
        )
    elif found := PLACEHOLDER.findall(line):
        model.error(
            "placeholder",
            f"{CONFIG} has placeholders that nobody filled: {', '.join(found)}.",
            "Fill the template before it is laid out; Triton does not.",
        )
    else:
        model.error("config", f"{CONFIG} does not parse: {why}", error.fix)


def _choose(model: Model) -> None:
    first = model.path / model.folders[0] if model.folders else None
    choice = choose(model.config, model.name, first)
    model.backend, model.platform, model.file = choice.backend, choice.platform, choice.file


def _is_named_backend(model: Model, backends: frozenset[str]) -> bool:
    """Whether files or name tell of a backend: any name with a dot seems to."""
    there = any((model.path / name / model.file).exists() for name in model.folders[:1])
    return bool(model.backend) and (model.backend in backends or there)


def _explain_misplaced(model: Model, version: str) -> None:
    message = (
        f"{CONFIG} stands in the version folder {version}/; Triton reads it only beside the version "
        f"folders, as {model.name}/{CONFIG}."
    )
    fix = f"mv {model.path}/{version}/{CONFIG} {model.path}/{CONFIG}"
    if model.backend == "python":
        more = " It serves the model by its code alone, without the tensors written there."
        model.warn("config_in_version", message + more, fix)
    else:
        model.error("config_in_version", message, fix)


def _read_misplaced(model: Model, data: bytes) -> None:
    """What would be wrong next, once the file stands where it belongs."""
    if model.backend == "python":
        return
    text = data.decode("utf-8", "replace")
    try:
        parse(text, where=CONFIG)
    except RepositoryError as error:
        _explain_syntax(model, text, error)


def _explain_no_model(model: Model) -> None:
    hidden = model.name.startswith(".")
    model.error(
        "not_a_model",
        f"Triton takes every folder here for a model, and {model.name} is none: it has no {CONFIG}"
        + (" and is not passed over for being hidden." if hidden else " and no file it knows."),
        f"Move it out of the repository{', or rm -r ' + str(model.path) if hidden else ''}.",
    )


def _check_backend(model: Model, backends: frozenset[str]) -> None:
    config, have = model.config, ", ".join(sorted(backends))
    platform = "" if config is None else config.platform
    if platform == "ensemble":
        if config.backend:
            model.error(
                "backend",
                f'An ensemble has no backend, and this one names "{config.backend}".',
                "Take the backend line out.",
            )
    elif config is not None and config.HasField("ensemble_scheduling"):
        model.error(
            "backend",
            "ensemble_scheduling stands in a model that is no ensemble.",
            'Write platform: "ensemble" and no backend.',
        )
    elif not model.backend and platform:
        model.error(
            "backend",
            f'Triton knows no platform "{platform}".',
            f'Write backend: "{platform if platform in backends else have.split(", ")[0]}".',
        )
    elif not model.backend:
        model.error(
            "backend",
            f"{CONFIG} names neither backend nor platform, and no file tells which is meant.",
            f'Write backend: "…" (this server has: {have}) or platform: "ensemble".',
        )
    elif model.backend not in backends:
        case = next((one for one in backends if one == model.backend.lower()), "")
        model.error(
            "backend",
            f'The backend "{model.backend}" is not in this server, which has: {have}.',
            f'Write backend: "{case}".' if case else "Serve it with an image that has the backend.",
        )
    elif model.backend in OF_PLATFORM.values() and OF_PLATFORM.get(model.platform) != model.backend:
        model.error(
            "backend",
            f'platform "{platform}" does not belong to backend "{model.backend}".',
            "Take the platform line out.",
        )


def _check_name(model: Model) -> None:
    named = "" if model.config is None else model.config.name
    if named and named != model.name:
        model.error(
            "name",
            f'{CONFIG} names the model "{named}", its folder is {model.name}.',
            f'Write name: "{model.name}", or leave the line out.',
        )
    if model.backend == "python" and UNSAFE_NAME.search(model.name):
        model.error(
            "name",
            "The folder's name holds a character that the Python backend's shell would read, or that is "
            "not ASCII: Triton would wait for it for ever, or not find it.",
            "Use letters, digits, dots, hyphens and underscores.",
        )


def _check_instances(model: Model, *, gpu: bool) -> None:
    for group in model.config.instance_group:
        kind = kind_name(group.Kind, group.kind)
        if model.is_ensemble:
            model.error(
                "instance_group", "An ensemble runs no instances.", "Take instance_group out."
            )
        elif not kind.startswith("KIND_"):
            model.error(
                "instance_group",
                f"An instance group has the kind {kind}.",
                "Write KIND_CPU, KIND_GPU, KIND_MODEL or KIND_AUTO.",
            )
        elif kind == "KIND_GPU" and not gpu:
            model.error(
                "instance_group",
                "An instance group asks for KIND_GPU, and this server has none.",
                "Write kind: KIND_CPU, or lint for the server with a GPU: --backends trtllm.",
            )
        elif group.gpus and (kind != "KIND_GPU" and (kind != "KIND_AUTO" or not gpu)):
            model.error(
                "instance_group",
                f"An instance group names GPUs, which {'no CPU server has' if not gpu else kind + ' may not'}.",
                "Take gpus out.",
            )
        elif model.backend == "python" and UNSAFE_NAME.search(group.name):
            model.error(
                "instance_group",
                f"The instance group's name {group.name!r} is passed to a shell without quotes.",
                "Use letters, digits, dots, hyphens and underscores, or no name.",
            )
        elif group.profile and model.config.platform != "tensorrt_plan":
            model.error(
                "instance_group", "Only TensorRT plans have a profile.", "Take profile out."
            )


def _check_cpu_server(model: Model) -> None:
    """What Triton 2.51 in nvidia-pytriton does not have, and NVIDIA's images may."""
    config = model.config
    if config.HasField("model_metrics"):
        model.error(
            "config", "Triton 2.51 knows no model_metrics.", "Take it out, or use a newer Triton."
        )
    if config.HasField("model_repository_agents"):
        names = ", ".join(one.name for one in config.model_repository_agents.agents)
        model.error(
            "repository_agent",
            f"This server has no repository agent {names}."
            if names
            else "model_repository_agents without an agent: Triton 2.51 dies of it.",
            "Take model_repository_agents out.",
        )
    if model.backend == "python" and config.runtime not in {"", "libtriton_python.so"}:
        model.error(
            "runtime",
            f'The runtime "{config.runtime}" is not in this server.',
            "Take the runtime line out.",
        )


def _check_files(model: Model) -> None:
    for output in model.config.output:
        if output.label_filename and not (model.path / output.label_filename).is_file():
            model.error(
                "label_file",
                f"The label file {output.label_filename} of output {output.name} is missing.",
                f"Put it beside {CONFIG}.",
            )
    if model.backend == "python":
        _check_parameters(model)


def _check_parameters(model: Model) -> None:
    """The parameters that the Python backend itself reads."""
    tensors = _text(model.config.parameters, "FORCE_CPU_ONLY_INPUT_TENSORS")
    if tensors not in {None, "yes", "no"}:
        model.error(
            "parameter",
            f'FORCE_CPU_ONLY_INPUT_TENSORS is "{tensors}".',
            'Write "yes" or "no".',
        )
    if archive := _text(model.config.parameters, "EXECUTION_ENV_PATH"):
        path = Path(archive.replace("$$TRITON_MODEL_DIRECTORY", str(model.path), 1))
        if not _is_environment(path):
            model.error(
                "environment",
                f"EXECUTION_ENV_PATH names {archive}, which is no packed environment here.",
                "Put the archive of conda-pack there, or take the parameter out.",
            )


def _is_environment(path: Path) -> bool:
    """Whether a file looks like an archive that has an environment's `bin/activate`."""
    import tarfile

    try:
        with tarfile.open(path) as archive:
            names = {name.removeprefix("./") for name in archive.getnames()}
    except (OSError, tarfile.TarError, EOFError):
        return False
    return "bin/activate" in names


def _text(parameters: Any, key: str) -> str | None:
    return str(parameters[key].string_value) if key in parameters else None
