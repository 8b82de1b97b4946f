"""Builds in containers: Debian's podman, and an image made here from a static busybox."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from runbook_lib.engine.build import build_once
from runbook_lib.engine.build_profile import LocalBuilder
from runbook_lib.engine.command import Command
from runbook_lib.engine.identity import identity_of
from runbook_lib.engine.runner_container import ContainerRunner
from runbook_lib.errors import BuildError, PreflightError
from runbook_lib.values import Limits

IMAGE = "localhost/runbook-builder:1"
BUSYBOX = Path("/bin/busybox")
# The limits that podman sets by itself need a right that a container, such as CI's, lacks.
CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{0}/graph"
runroot = "{0}/run"
"""
ENGINE = """\
mkdir -p "$1/engine" && cp "$2" "$1/engine/config.json" || exit 1
printf 'ftrt\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\012\\016\\001\\060' > "$1/engine/rank0.engine"
echo "[TRT-LLM] [I] Engine serialized. Total time: 00:00:02"
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    """Podman with a store of these tests' own, and the image in it."""
    lost = [name for name in ("podman", "runc") if not shutil.which(name)]
    lost += [] if BUSYBOX.exists() else ["busybox-static"]
    if lost:
        pytest.skip(f"no {', '.join(lost)}: sudo apt-get install -y {' '.join(lost)}")
    folder = tmp_path_factory.mktemp("podman")
    (folder / "containers.conf").write_text(CONF)
    (folder / "storage.conf").write_text(STORAGE.format(folder))
    env = {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        with tarfile.open(folder / "image.tar", "w") as tar:
            tar.add(BUSYBOX, "bin/busybox")
            for name in ("sh", "mkdir", "cp", "echo", "sleep", "cat", "touch", "env"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname, link.mode = tarfile.SYMTYPE, "busybox", 0o777
                tar.addfile(link)
        subprocess.run(["podman", "import", "-q", folder / "image.tar", IMAGE], check=True)
        yield folder
        subprocess.run(["podman", "rm", "--all", "--force"], check=True, capture_output=True)


@pytest.fixture
def config(tmp_path, samples):
    path = tmp_path / "weights" / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(samples.config("1.2.0")))
    return path


@pytest.fixture
def build(podman, config, tmp_path):
    """Builds by a script in the container; `$1` is the work folder, `$2` a file of the weights."""

    def made(script=ENGINE, image=IMAGE, **options):
        runner = ContainerRunner(image, config.parent, "podman")
        return build_once(
            lambda work: [Command("build", ("sh", "-c", script, "sh", str(work), str(config)))],
            lambda folder, files: identity_of(folder, files, limits=LIMITS),
            inputs={"image": image},
            store=tmp_path / "engines",
            log=tmp_path / "log",
            runner=runner,
            **options,
        )

    return made


LIMITS = Limits(max_batch_size=8, max_input_len=8, max_seq_len=16, max_num_tokens=16)


def containers():
    done = subprocess.run(["podman", "ps", "-aq"], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_an_engine_is_built_in_a_container_and_knows_its_image(build, tmp_path):
    made = build()
    assert [one.name for one in made.phases] == ["serialize"]
    assert (made.identity.compiler, made.reused) == ("TensorRT-LLM 1.2.0", False)
    receipt = json.loads((Path(made.path) / "receipt.json").read_text())
    assert receipt["built_on"] == {"runner": "podman", "image": IMAGE}
    assert containers() == []
    assert build(script="exit 1").reused


def test_the_weights_can_not_be_changed_and_nothing_else_is_seen(build, config, podman):
    with pytest.raises(BuildError) as caught:
        build(f"touch {config.parent}/new")
    assert "Read-only file system" in caught.value.why
    with pytest.raises(BuildError) as caught:
        build(f"cat {podman}/containers.conf")
    assert "No such file" in caught.value.why


def test_a_secret_goes_in_by_name_and_stands_in_no_log(build, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    build(f'test "${{#HF_TOKEN}}" = 14 || exit 9\n{ENGINE}')
    log = (tmp_path / "log").read_text()
    assert "--env HF_TOKEN" in log
    assert "hf_very_secret" not in log


def test_the_peaks_are_those_of_the_container(build):
    made = build(
        f"{ENGINE}\nx=0123456789; while [ ${{#x}} -lt 40000000 ]; do x=$x$x; done\nsleep 2; echo held"
    )  # a shell becomes the last command of its script, so that one is none that sleeps
    assert made.peak_memory_bytes > 40_000_000


def test_a_container_goes_with_the_time_that_is_over(build, tmp_path):
    with pytest.raises(BuildError, match="took longer than"):
        build("sleep 60", timeout=4)
    assert containers() == []
    assert [one.name for one in (tmp_path / "engines").iterdir() if one.is_dir()] == []


def test_a_step_that_is_killed_for_memory_is_told_so(build):
    with pytest.raises(BuildError, match=r"exit code 137; the kernel's out-of-memory killer"):
        build("exit 137")


def test_an_image_that_is_nowhere_is_a_failed_pull(build):
    with pytest.raises(BuildError, match="The build step pull failed"):
        build(image="localhost/no-such-image:1")


def test_what_a_killed_build_left_running_ends_with_the_next(build, podman, tmp_path):
    build()
    key = next(one.name for one in (tmp_path / "engines").iterdir() if one.is_dir())
    argv = ["podman", "run", "--detach", "--label", f"runbook.build={key}", IMAGE, "sleep", "60"]
    subprocess.run(argv, check=True, capture_output=True)
    assert len(containers()) == 1
    build(rebuild=True)
    assert containers() == []


SCRIPT = """
import sys
from pathlib import Path
from runbook_lib.cli_build import ended_by_sigterm
from runbook_lib.engine.build import build_once
from runbook_lib.engine.command import Command
from runbook_lib.engine.runner_container import ContainerRunner
folder = Path(sys.argv[1])
with ended_by_sigterm():
    build_once(
        lambda work: [Command("build", ("sh", "-c", f"touch {work}/at; sleep 60"))],
        None, inputs={}, store=folder / "engines", log=folder / "log",
        runner=ContainerRunner(sys.argv[2], None, "podman"),
    )
"""


def test_a_cancelled_build_leaves_no_container_and_no_half_engine(podman, tmp_path):
    running = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), IMAGE])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("engines/.*/at")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(containers()) == 1
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=30) == 128 + signal.SIGTERM
    assert containers() == []
    assert [one for one in (tmp_path / "engines").iterdir() if one.is_dir()] == []


def test_the_commands_of_a_profile_run_in_the_container(podman, profile, weights, tools, tmp_path):
    value = profile.model_copy(update={"builder_cmd": "sh -c 'exit 5' {output_dir}"})
    runner = ContainerRunner(IMAGE, weights, "podman")
    with pytest.raises(BuildError, match=r"builder-cmd failed \(exit code 5\)"):
        LocalBuilder(runner).build(value, tmp_path / "log", lambda _: None, rebuild=False)


def test_without_podman_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreflightError, match="Neither podman nor docker"):
        ContainerRunner(IMAGE)


def test_docker_is_told_the_same_in_its_own_words(monkeypatch, tmp_path):
    runner = ContainerRunner(IMAGE, None, "docker")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    words = runner.words(Command("build", ("trtllm-build",)), tmp_path)
    assert words[:2] == ("docker", "run")
    assert "--user" in words
    assert words[-2:] == (IMAGE, "trtllm-build")
