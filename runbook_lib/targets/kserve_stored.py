"""What a stored repository tells of the engine in it, where nobody here built it."""

from __future__ import annotations

from pathlib import PurePosixPath

from runbook_lib.artifacts import EngineIdentity, ModelRepository
from runbook_lib.engine.identity import inspect_engine
from runbook_lib.lab.engines import read_identity
from runbook_lib.lab.repositories import access_for
from runbook_lib.places import cache_dir
from runbook_lib.repository.fetch import fetch_files
from runbook_lib.values import Limits

__all__ = ["identity_of"]

CONFIG = "config.json"


def identity_of(repository: ModelRepository) -> EngineIdentity | None:
    """The identity that came with the repository, else that of its engine's own `config.json`.

    TensorRT-LLM writes no SM into that file: the target is then `unknown`. None without an engine.

    Raises:
        BuildError: the file is no engine's.
        RepositoryError, ServiceError: the store does not give what its manifest names.
    """
    if repository.identity is not None:
        return repository.identity
    engines = [one.path for one in repository.files if one.path.endswith("rank0.engine")]
    beside = {str(PurePosixPath(path).with_name(CONFIG)) for path in engines}
    found = [one for one in repository.files if one.path in beside]
    if not found:
        return None
    folder = cache_dir() / "identities" / found[0].sha256[:16]
    fetch_files(repository.uri, folder, found[:1], credentials=access_for(repository.uri))
    engine = (folder / found[0].path).parent
    facts = inspect_engine(engine)
    if facts.lab:
        return read_identity(engine)
    needed = {name for name, field in Limits.model_fields.items() if field.is_required()}
    if not needed <= facts.limits.keys():
        return None
    return EngineIdentity(
        track="engine",
        target="unknown",
        compiler=f"TensorRT-LLM {facts.version}",
        dtype=facts.dtype,
        quantization=facts.quantization,
        kv_cache_dtype=facts.kv_cache_dtype,
        tp_size=facts.tp_size,
        pp_size=facts.pp_size,
        cp_size=facts.cp_size,
        limits=Limits(**{name: facts.limits[name] for name in needed}),
    )
