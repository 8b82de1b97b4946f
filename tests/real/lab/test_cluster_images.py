"""The cluster's images, entered as a runtime would: user 1000, a root that can't be written to."""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runbook_lib.errors import PreflightError
from runbook_lib.files import list_files
from runbook_lib.lab import engines
from runbook_lib.lab.builder_commands import BUILDER, MODEL
from runbook_lib.lab.cluster.image_parts import pause_program
from runbook_lib.lab.cluster.images import ensure_images
from runbook_lib.lab.repositories import TEMPLATES
from runbook_lib.lab.s3 import start_s3
from runbook_lib.places import cache_dir
from runbook_lib.profile import load_profile
from runbook_lib.repository.layout import LayoutSettings, write_repository
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.store import push
from runbook_lib.serving.supervise import Owner, free_ports, stop
from runbook_lib.serving.triton import generate, is_ready

pytestmark = pytest.mark.timeout(900)  # the first test makes the images where the cache has none

# Layers below, a tmpfs above that is then closed; volumes, /dev and /proc as a runtime gives them.
ENTER = """
set -e
root=$BOX/root
mount -t tmpfs tmpfs "$BOX"
mkdir "$root" "$BOX/upper" "$BOX/work"
mount -t overlay -o "lowerdir=$LAYERS,upperdir=$BOX/upper,workdir=$BOX/work" overlay "$root"
for volume in $VOLUMES; do
    mkdir -p "$root${volume#*=}"
    mount --bind "${volume%%=*}" "$root${volume#*=}"
done
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir -m 1777 "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
for device in null zero random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,ro "$root"
exec chroot --userspec=1000:1000 --groups=1000 "$root" /usr/bin/env -i "$@"
"""
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")
PROFILE = "lab/tiny"


@dataclass
class Image:
    """An image of the archive: its unpacked layers and its settings."""

    layers: list[Path]
    settings: dict
    box: Path
    volumes: dict[str, Path] = field(default_factory=dict)

    def start(self, *words, **options):
        """Start a container: the image's own entry point, with these words instead of its own."""
        program = [*self.settings.get("Entrypoint", []), *words]
        given = {f"{key}={value}" for key, value in options.pop("env", {}).items()}
        volumes = {"/tmp": self.box / "tmp"} | self.volumes
        settings = {
            "BOX": str(self.box / "mount"),
            "LAYERS": ":".join(str(path) for path in reversed(self.layers)),
            "VOLUMES": " ".join(f"{path}={inside}" for inside, path in volumes.items()),
        }
        argv = [*NAMESPACES, "sh", "-c", ENTER, "sh", *self.settings["Env"], *given, *program]
        return subprocess.Popen(argv, env=os.environ | settings, text=True, **options)

    def run(self, *words, env=()):
        """Run a container to its end."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = self.start(*words, env=dict(env), **pipes)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def with_volume(self, inside, path):
        """The same image with a folder of the host inside, which its user may write to."""
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
        return Image(self.layers, self.settings, self.box, self.volumes | {inside: path})


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Every image by its short name; unpacked once, removed at the end: they are a gigabyte."""
    try:
        made = ensure_images(cache_dir() / "cluster" / "images")
    except PreflightError as error:
        pytest.skip(f"{error.what} {error.fix}")
    folder = tmp_path_factory.mktemp("images")
    (folder / "mount").mkdir()
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    with tarfile.open(made.archive) as archive:
        rows = json.load(archive.extractfile("manifest.json"))
        for member in {name for row in rows for name in row["Layers"]}:
            with tarfile.open(fileobj=archive.extractfile(member)) as layer:
                layer.extractall(folder / member, filter="fully_trusted")
        yield {
            row["RepoTags"][0].partition("/")[2].partition(":")[0]: Image(
                [folder / member for member in row["Layers"]],
                json.load(archive.extractfile(row["Config"]))["config"],
                folder,
            )
            for row in rows
        }
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def triton(unpacked):
    return unpacked["triton"]


@pytest.fixture(scope="module")
def access(tmp_path_factory):
    store = start_s3(tmp_path_factory.mktemp("s3"), Owner.this_process())
    keys = store.credentials
    yield S3Access(store.endpoint, keys.access_key, keys.secret_key)
    stop(store.running)


def keys_of(access):
    """The variables that KServe gives its initializer."""
    return {
        "AWS_ENDPOINT_URL": access.endpoint,
        "AWS_ACCESS_KEY_ID": access.access_key,
        "AWS_SECRET_ACCESS_KEY": access.secret_key,
        "AWS_DEFAULT_REGION": access.region,
        "S3_USE_HTTPS": "0",
    }


def fine(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done


# -- entering --------------------------------------------------------------------------------------


def test_a_container_is_user_1000_and_can_write_to_tmp_and_shared_memory_alone(triton):
    assert triton.settings["User"] == "1000"
    said = fine(
        triton.run("sh", "-c", "id -u; id -un; touch /tmp/a /dev/shm/a; touch /opt/a || echo no")
    )
    assert said.stdout.split() == ["1000", "runbook", "no"]


def test_triton_is_on_the_path_and_knows_its_options(triton):
    said = triton.run(*triton.settings["Cmd"], "--help").stderr
    assert said.startswith("Usage: tritonserver [options]")


def test_pause_sleeps_until_it_is_killed(tmp_path):
    program = tmp_path / "pause"
    program.write_bytes(pause_program())
    program.chmod(0o755)
    process = subprocess.Popen([program])
    calls = Path(f"/proc/{process.pid}/syscall")
    while calls.read_text().split()[0] != "34":  # pause, on x86-64
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=10) == -signal.SIGUSR1


# -- the storage initializer and Triton ------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """An engine that was built on this machine."""
    log = tmp_path_factory.mktemp("build") / "build.log"
    return Path(engines.build(load_profile(PROFILE).value, log).path)


@pytest.fixture(scope="module")
def repository(engine, access, tmp_path_factory):
    """That engine, laid out and stored."""
    folder = tmp_path_factory.mktemp("repository") / "models"
    write_repository(
        folder,
        engine_dir=engine,
        tokenizer_dir=MODEL,
        settings=LayoutSettings(
            models_dir=TEMPLATES,
            max_batch_size=engines.read_identity(engine).limits.max_batch_size,
            runtime_files=(BUILDER / "engine_runtime.py",),
        ),
    )
    push(folder, "s3://models/triton/", credentials=access, create_bucket=True)
    return folder


def initialized(unpacked, access, folder, *words, **changed):
    """What the initializer did, as KServe calls it: a URI and the folder for it."""
    image = unpacked["storage-initializer"].with_volume("/mnt/models", folder)
    return image.run(*words, "/mnt/models", env=keys_of(access) | changed)


@pytest.fixture(scope="module")
def downloaded(unpacked, access, repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloaded")
    fine(initialized(unpacked, access, folder, "s3://models/triton/"))
    return folder


def test_the_initializer_brings_every_file_as_it_was_pushed(downloaded, repository):
    manifest = (".runbook-manifest.json",)
    assert list_files(downloaded, leave_out=manifest) == list_files(repository)


MISSING = {
    "no such bucket": ("s3://nowhere/triton/", {}, "nowhere"),
    "no such prefix": ("s3://models/none/", {}, "No model found in none/"),
    "wrong key": ("s3://models/triton/", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "403"),
}


@pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING.keys())
def test_what_can_t_be_fetched_ends_with_the_words_of_kserve(
    unpacked, access, repository, tmp_path, missing
):
    uri, changed, words = missing
    done = initialized(unpacked, access, tmp_path, uri, **changed)
    assert done.returncode == 1
    (told,) = [line for line in done.stderr.splitlines() if "Storage initialization failed" in line]
    assert words in told


def test_an_initializer_without_a_folder_tells_its_usage(unpacked, access, tmp_path):
    image = unpacked["storage-initializer"]
    done = image.run("s3://models/triton/")
    assert (done.returncode, done.stderr.split()[0]) == (1, "usage:")


def test_triton_serves_what_was_downloaded_and_loads_the_engine_as_it_was_built(
    triton, downloaded, tmp_path
):
    http, grpc, metrics = free_ports(3)
    words = ["tritonserver", "--model-repository=/mnt/models", f"--http-port={http}"]
    words += [f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
    image = triton.with_volume("/mnt/models", downloaded)
    log = tmp_path / "triton.log"
    with log.open("wb") as said:
        process = image.start(*words, stdout=said, stderr=said)
    try:
        url = f"http://127.0.0.1:{http}"
        while not is_ready(url):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        assert "loaded as built" in log.read_text()
        assert generate(url, "ensemble", "What is an engine?", max_tokens=8)["text_output"]
    finally:
        process.kill()
        process.wait()


def test_the_builder_inside_reads_an_engine_from_outside_as_it_was_built(triton, engine, tmp_path):
    shutil.copytree(engine, tmp_path / "engine", copy_function=shutil.copyfile)
    image = triton.with_volume("/engine", tmp_path / "engine")
    program = ("python3", "/opt/lab/builder/engine_runtime.py")
    said = fine(image.run(*program, "generate", "/engine", "--ids", "1,2,3"))
    assert json.loads(said.stdout)["compiled"] is False
