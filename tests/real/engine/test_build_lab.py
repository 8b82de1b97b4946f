"""A template in the lab: the guide's line means the lab's builder, another is run as it stands."""

import sys
from pathlib import Path

import pytest

from runbook_lib.errors import BuildError
from runbook_lib.lab import engines
from runbook_lib.lab.builder_commands import build_inputs
from runbook_lib.profile import load_profile

GUIDE = (
    "trtllm-build --model /weights/{model_name} --dtype {dtype} {quantization_arg} "
    "--use_context_fmha={use_context_fmha} --max_batch_size 2 --max_input_len {max_input_len} "
    "--max_output_len {max_output_len} --tp_size {tensor_parallel_size} "
    "--kv_cache_dtype {kv_cache_dtype}"
)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The lab's profile with a template, built into a store of the test's own."""
    monkeypatch.setattr(engines, "cache_dir", lambda: tmp_path)

    def made(template):
        return load_profile("lab/tiny", env={}, overrides={"builder_cmd": template}).value

    return made


def test_the_guides_line_builds_an_engine_of_its_limits(tiny, tmp_path):
    plain = load_profile("lab/tiny", env={}, overrides={}).value
    made = engines.build(tiny(GUIDE), tmp_path / "log")
    assert made.identity.limits.max_batch_size == 2
    assert made.identity.limits.max_seq_len == plain.effective_max_seq_len
    assert made.peak_memory_bytes
    assert [argv[1].rpartition("/")[2] for argv in made.commands] == [
        "convert_checkpoint.py",
        "build_engine.py",
    ]
    assert engines.build(tiny(GUIDE), tmp_path / "log").reused


def test_a_builder_of_the_users_own_is_run_with_the_profiles_values(tiny, tmp_path):
    mine = f"{sys.executable} -c 'import sys; sys.exit(sys.argv[1])' {{dtype}}:{{output_dir}}"
    with pytest.raises(BuildError, match="builder-cmd failed") as caught:
        engines.build(tiny(mine), tmp_path / "log")
    assert caught.value.why.startswith("float16:")
    assert Path(caught.value.why.partition(":")[2]).name == "engine"


def test_another_template_is_another_engine(tiny):
    one, other = (build_inputs(tiny(f"a {word} {{output_dir}}"), "x") for word in "bc")
    assert one != other
