"""Rules for version folders: which ones Triton counts, loads, and what of them survives a store."""

from __future__ import annotations

import re

from runbook_lib.repository.findings import CONFIG, Model

__all__ = ["check_versions"]

CHECKPOINTS = ".ipynb_checkpoints"
LIKE_A_VERSION = re.compile(r"[vV]?[+-]?\d")
LARGEST = 2**63 - 1
NAME_FIX = "Name version folders 1, 2, 3, …"


def check_versions(model: Model) -> None:
    """Note what is wrong with the version folders of a model."""
    if any(one.rule == "not_a_model" for one in model.findings):
        return
    if any(model.path.rglob(CHECKPOINTS)):
        model.warn(
            "checkpoints",
            f"{CHECKPOINTS} lies in it: JupyterLab's copies would be shipped with the model.",
            f"find {model.path} -name {CHECKPOINTS} -exec rm -r {{}} +",
        )
    _check_names(model)
    _check_policy(model)
    for version in model.loaded:
        _check_content(model, version)


def _check_names(model: Model) -> None:
    for name in model.folders:
        if LIKE_A_VERSION.match(name) and not re.fullmatch(r"0|[1-9]\d*", name):
            number = re.match(r"[+-]?\d+", name)
            says = f"reads it as version {int(number[0])}" if number else "passes over it"
            says = "passes over it" if name.startswith("0") else says
            model.warn("version_name", f"The folder {name} is no version: Triton {says}.", NAME_FIX)


def _check_policy(model: Model) -> None:
    policy = None if model.config is None else model.config.version_policy
    if policy is not None and policy.HasField("specific"):
        absent = sorted(set(policy.specific.versions) - model.available)
        if absent and model.loaded:
            names = ", ".join(map(str, absent))
            model.warn(
                "version_policy",
                f"version_policy names versions that are not there: {names}.",
                "Add them or take them out.",
            )
    if model.loaded:
        return
    if not model.available:
        model.error(
            "no_version",
            "There is no version folder, so Triton has nothing to load.",
            f"mkdir -p {model.path}/1, and put the model's files into it (an ensemble: a "
            "placeholder that is not empty)",
        )
    else:
        have = ", ".join(map(str, sorted(model.available)))
        model.error(
            "version_policy",
            f"version_policy selects none of the versions that are there ({have}).",
            "Name one of them, or leave version_policy out: the highest is loaded.",
        )


def _check_content(model: Model, version: int) -> None:
    folder = model.path / str(version)
    if version > LARGEST:
        model.error("version_name", f"Triton dies of a version as large as {version}.", NAME_FIX)
    elif not model.is_ensemble and (version < 0 or not folder.is_dir()):
        model.error(
            "version_name",
            f"Triton counts a folder here as version {version} and finds no folder of that name.",
            NAME_FIX,
        )
    if not folder.is_dir():
        return
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != CONFIG]
    if any(path.stat().st_size for path in files):
        return
    model.warn(
        "empty_version",
        f"Version folder {version} holds {'only empty files' if files else 'nothing'}: object stores "
        "know no empty folders and KServe's downloader skips empty files, so it would vanish.",
        f"echo placeholder > {folder}/placeholder.txt",
    )
