"""The lab's build as commands, in TensorRT-LLM's two stages, and what an engine depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Limits
from runbook_lib.engine.commands import Command
from runbook_lib.engine.template import in_force, own_commands
from runbook_lib.files import content_digest, list_files, sha256_of
from runbook_lib.lab.environment import LOCK, LabEnvironment
from runbook_lib.profile import DeploymentProfile

__all__ = [
    "BUILDER",
    "EMBEDDED",
    "MODEL",
    "build_commands",
    "build_inputs",
    "commands_in",
    "limits_of",
    "optimization_level_of",
    "weights_folder",
]

HERE = Path(__file__).resolve().parent
BUILDER = HERE / "builder"
MODEL = HERE / "model"
EMBEDDED = "lab:model"


def weights_folder(profile: DeploymentProfile) -> Path:
    """The checkpoint folder of a lab profile: the embedded model, or a folder of the user's."""
    return MODEL if profile.weights == EMBEDDED else Path(profile.weights).expanduser().absolute()


def limits_of(profile: DeploymentProfile) -> Limits:
    """The engine's limits as the profile sets them."""
    return Limits(
        max_batch_size=profile.max_batch_size,
        max_input_len=profile.max_input_len,
        max_seq_len=profile.effective_max_seq_len,
        max_num_tokens=profile.effective_max_num_tokens,
        max_beam_width=profile.max_beam_width,
    )


def optimization_level_of(profile: DeploymentProfile) -> int:
    """0 keeps the activations of quantised weights in floats; 1, the default, quantises them too."""
    return 1 if profile.optimization_level is None else profile.optimization_level


def build_commands(
    profile: DeploymentProfile, environment: LabEnvironment, work: Path
) -> list[Command]:
    """Convert the checkpoint, then build the engine into `work/engine`, on this machine."""
    program = (str(environment.python), str(BUILDER))
    return commands_in(profile, program, str(weights_folder(profile)), str(work))


def commands_in(
    profile: DeploymentProfile, program: tuple[str, str], weights: str, work: str
) -> list[Command]:
    """The same two steps wherever builder and weights lie; every limit written out.

    Args:
        program: the interpreter, and the folder of the builder.
        weights: folder of the checkpoint as it was trained.
        work: folder that gets `checkpoint` and `engine`.
    """
    own = own_commands(profile, weights=weights, work=work)
    if own is not None:
        return own
    profile = in_force(profile)
    (python, builder), limits = program, limits_of(profile)
    convert = [
        *(python, f"{builder}/convert_checkpoint.py"),
        *("--model_dir", weights),
        *("--output_dir", f"{work}/checkpoint"),
        *("--dtype", profile.dtype),
        *("--quantization", profile.quantization),
        *("--kv_cache_dtype", profile.kv_cache_dtype),
        *("--tp_size", str(profile.tensor_parallel_size)),
    ]
    build = [
        *(python, f"{builder}/build_engine.py"),
        *("--checkpoint_dir", f"{work}/checkpoint"),
        *("--output_dir", f"{work}/engine"),
        *("--max_batch_size", str(limits.max_batch_size)),
        *("--max_input_len", str(limits.max_input_len)),
        *("--max_seq_len", str(limits.max_seq_len)),
        *("--max_num_tokens", str(limits.max_num_tokens)),
        *("--optimization_level", str(optimization_level_of(profile))),
    ]
    return [Command("convert_checkpoint", tuple(convert)), Command("build_engine", tuple(build))]


def build_inputs(profile: DeploymentProfile, target: str) -> dict[str, Any]:
    """Everything a lab engine depends on: weights, builder, compiler, CPU, and the choices made."""
    own = own_commands(profile, weights="WEIGHTS", work="WORK")
    profile = in_force(profile)
    # Of weights that lie elsewhere only their address is known.
    stored = profile.weights if "://" in str(profile.weights) else ""
    return {
        **({} if own is None else {"builder_cmd": [list(one.argv) for one in own]}),
        "weights": stored or content_digest(list_files(weights_folder(profile))),
        "builder": [sha256_of(path) for path in sorted(BUILDER.glob("*.py"))],
        "environment": sha256_of(LOCK),
        "target": target,
        "dtype": profile.dtype,
        "quantization": profile.quantization,
        "kv_cache_dtype": profile.kv_cache_dtype,
        "tp_size": profile.tensor_parallel_size,
        "optimization_level": optimization_level_of(profile),
        "limits": limits_of(profile).model_dump(),
    }
