"""The archive of the cluster's images: the same bytes from the same files, other names from others."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from runbook_lib.errors import PreflightError
from runbook_lib.lab.cluster import image_parts, images
from runbook_lib.lab.cluster.image_layers import (
    Image,
    Layer,
    copy_layer,
    write_archive,
    write_layer,
)
from runbook_lib.lab.cluster.image_parts import Part, mirror_of


def tree(folder, *, backwards=False, mask=0o022):
    """A small system, with its files made in either order and under any umask."""
    files = {"etc/passwd": 0o600, "usr/bin/su": 0o4755, "usr/bin/tool": 0o700, "var/log/old": 0o644}
    before = os.umask(mask)
    try:
        for name in sorted(files, reverse=backwards):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            path.chmod(files[name])
        (folder / "tmp").mkdir()
        (folder / "bin").symlink_to("usr/bin")
        os.mkfifo(folder / "pipe")
    finally:
        os.umask(before)
    return folder


def layer(folder, name="one", **options):
    tar = folder / f"{name}.tar"
    write_layer(tree(folder / name, **options), tar, leave_out=("var/log",))
    return Layer.of(f"{name}-key", tar)


def entries(tar):
    with tarfile.open(tar) as archive:
        return {one.name: one for one in archive}


# -- layers ----------------------------------------------------------------------------------------


def test_a_layer_is_the_same_whatever_the_order_the_umask_and_the_time_of_its_files(tmp_path):
    first = layer(tmp_path / "a")
    other = layer(tmp_path / "b", backwards=True, mask=0o077)
    assert first.diff_id == other.diff_id


def test_everybody_may_read_a_layer_and_nobody_gains_rights_by_it(tmp_path):
    found = entries(layer(tmp_path).tar)
    modes = {name: one.mode for name, one in found.items()}
    assert modes["etc/passwd"] == 0o644
    assert modes["usr/bin/su"] == modes["usr/bin/tool"] == modes["usr"] == 0o755
    assert modes["tmp"] == 0o1777
    assert {(one.uid, one.gid, one.uname) for one in found.values()} == {(0, 0, "")}


def test_a_layer_keeps_links_and_emptied_folders_and_no_pipes(tmp_path):
    found = entries(layer(tmp_path).tar)
    assert (found["bin"].issym(), found["bin"].linkname) == (True, "usr/bin")
    assert found["var/log"].isdir()
    assert {"var/log/old", "pipe"} & found.keys() == set()


# -- the archive -----------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path):
    base, top = layer(tmp_path, "base"), layer(tmp_path, "top", backwards=True)
    (tmp_path / "top" / "more").write_text("more")
    write_layer(tmp_path / "top", top.tar)
    top = Layer.of(top.key, top.tar)
    path = tmp_path / "images.tar"
    one = Image("runbook.local/one:1", [base], {"User": "1000"})
    both = Image("runbook.local/both:1", [base, top], {"Cmd": ["tool"]})
    write_archive(path, [one, both])
    return path


def members(path):
    with tarfile.open(path) as opened:
        return {one.name: opened.extractfile(one).read() for one in opened}


def test_an_archive_names_each_image_with_its_config_and_layers(archive):
    held = members(archive)
    one, both = json.loads(held["manifest.json"])
    assert (one["RepoTags"], both["RepoTags"]) == (
        ["runbook.local/one:1"],
        ["runbook.local/both:1"],
    )
    for row in (one, both):
        config = held[row["Config"]]
        assert row["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
        digests = [f"sha256:{hashlib.sha256(held[name]).hexdigest()}" for name in row["Layers"]]
        told = json.loads(config)
        assert told["rootfs"] == {"type": "layers", "diff_ids": digests}
        assert (told["os"], told["architecture"]) == ("linux", "amd64")
    assert json.loads(held[both["Config"]])["config"] == {"Cmd": ["tool"]}


def test_a_shared_layer_is_held_once(archive):
    with tarfile.open(archive) as opened:
        names = opened.getnames()
    assert len(names) == len(set(names)) == 5
    one, both = json.loads(members(archive)["manifest.json"])
    assert one["Layers"] == both["Layers"][:1]


def test_a_layer_of_an_older_archive_is_taken_over_by_its_key_alone(archive, tmp_path):
    kept = copy_layer([archive], "top-key", tmp_path / "again.tar")
    assert kept == Layer.of("top-key", tmp_path / "again.tar")
    assert kept.tar.read_bytes() == (tmp_path / "top.tar").read_bytes()
    assert copy_layer([archive], "top-other", tmp_path / "none.tar") is None


# -- names -----------------------------------------------------------------------------------------


def changed(files, name):
    path = files / name
    path.write_bytes(path.read_bytes() + b"\n")


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Copies of every file that goes into the images, which a test may change."""
    ours = shutil.copytree(image_parts.FILES, tmp_path / "files")
    shutil.copytree(image_parts.BUILDER, ours / "builder")
    shutil.copy2(image_parts.LOCK, ours / "lab.txt")
    monkeypatch.setattr(image_parts, "FILES", ours)
    monkeypatch.setattr(image_parts, "STORAGE_LOCK", ours / "storage.txt")
    monkeypatch.setattr(image_parts, "LOCK", ours / "lab.txt")
    monkeypatch.setattr(image_parts, "BUILDER", ours / "builder")
    return ours


def keys():
    return {name: part.key for name, part in image_parts.parts().items()}


@pytest.mark.parametrize(
    ("name", "only"),
    [
        ("storage.txt", "storage"),
        ("initializer.py", "storage"),
        ("lab.txt", "triton"),
        ("tritonserver", "lab"),
        ("builder/build_engine.py", "lab"),
    ],
)
def test_a_changed_input_makes_new_names_and_changes_its_own_layer_alone(inputs, name, only):
    before, named = keys(), images.expected_images(Path("/cache"))
    assert (keys(), images.expected_images(Path("/cache"))) == (before, named)
    changed(inputs, name)
    after = images.expected_images(Path("/cache"))
    assert {part for part, key in keys().items() if key != before[part]} == {only}
    assert {named.triton, named.storage_initializer, named.pause}.isdisjoint(
        {after.triton, after.storage_initializer, after.pause}
    )


def test_another_list_of_debian_packages_makes_new_names(monkeypatch):
    named = images.expected_images(Path("/cache"))
    monkeypatch.setattr(image_parts, "DEBIAN", ("python3",))
    assert images.expected_images(Path("/cache")).digest != named.digest


def test_other_settings_of_a_container_make_new_names(monkeypatch):
    named = images.expected_images(Path("/cache"))
    monkeypatch.setattr(images, "ENVIRONMENT", ())
    monkeypatch.setattr(images, "COMMON", {"User": "1001"})
    assert images.expected_images(Path("/cache")).digest != named.digest


# -- making ----------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """The images of small layers: what they hold can be changed, and who was laid out is written down."""
    holds = dict.fromkeys(("root", "storage", "triton", "lab", "pause"), "1")
    laid_out = []

    def part(name):
        def lay_out(folder, _told):
            laid_out.append(name)
            (folder / name).write_text(holds[name])

        return Part(name, f"{name}-{holds[name]}", lay_out)

    monkeypatch.setattr(images, "parts", lambda: {name: part(name) for name in holds})
    monkeypatch.setattr(images, "SPACE", 0)
    monkeypatch.setattr(images.os, "geteuid", lambda: 0)
    monkeypatch.setattr(images, "PROGRAMS", {})
    return holds, laid_out


def test_images_are_made_once_and_told_of(small, tmp_path):
    _, laid_out = small
    told = []
    made = images.ensure_images(tmp_path, on_line=told.append)
    assert made == images.ensure_images(tmp_path) == images.expected_images(tmp_path)
    assert laid_out == ["root", "storage", "triton", "lab", "pause"]
    assert "The cluster's images are made" in told[-1]
    tags = [row["RepoTags"] for row in json.loads(members(made.archive)["manifest.json"])]
    assert tags == [[made.triton], [made.storage_initializer], [made.pause]]
    assert made.triton == f"runbook.local/triton:{made.digest}"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", made.digest]
    assert [path.name for path in made.archive.parent.iterdir()] == ["images.tar"]


def test_a_change_lays_out_its_own_layer_and_takes_over_the_rest(small, tmp_path):
    holds, laid_out = small
    before = images.ensure_images(tmp_path)
    old = members(before.archive)
    laid_out.clear()
    holds["lab"] = "2"
    after = images.ensure_images(tmp_path)
    new = members(after.archive)
    assert laid_out == ["lab"]
    assert new["layers/root-1.tar"] == old["layers/root-1.tar"]
    with tarfile.open(fileobj=io.BytesIO(new["layers/lab-2.tar"])) as opened:
        assert opened.extractfile("lab").read() == b"2"
    assert not before.archive.exists()


def test_a_build_that_fails_leaves_the_images_before_and_nothing_half_made(small, tmp_path):
    holds, _ = small
    before = images.ensure_images(tmp_path)
    holds["triton"] = 2  # no text: it can't be laid out
    with pytest.raises(TypeError):
        images.ensure_images(tmp_path)
    assert before.archive.is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", before.digest]


def test_a_build_that_was_killed_is_cleared_away_by_the_next(small, tmp_path):
    (tmp_path / ".old.1.part" / "root").mkdir(parents=True)
    made = images.ensure_images(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", made.digest]


def test_a_missing_program_is_named_with_the_command_that_gets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(images.os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreflightError) as error:
        images.ensure_images(tmp_path)
    assert "apt-get install -y debootstrap" in error.value.fix
    assert list(tmp_path.iterdir()) == [tmp_path / ".lock"]


def test_without_root_nothing_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(images.os, "geteuid", lambda: 1000)
    with pytest.raises(PreflightError, match="as root on Linux x86_64"):
        images.ensure_images(tmp_path)


# -- the mirror ------------------------------------------------------------------------------------

DEB822 = """Types: deb
URIs: {uri}
Suites: bookworm bookworm-updates
Components: {components}
"""


@pytest.mark.parametrize(
    ("sources", "mirror"),
    [
        ("", ""),
        (
            DEB822.format(uri="http://mirror.example/debian/", components="main"),
            "http://mirror.example/debian",
        ),
        (
            "deb [signed-by=/k.gpg] https://m.example/debian trixie main non-free",
            "https://m.example/debian",
        ),
        ("deb http://archive.ubuntu.com/ubuntu jammy main universe", ""),
        ("deb https://download.example/linux/debian bookworm stable", ""),
        ("deb https://apt.example bookworm main", ""),
        ("# deb http://off.example/debian bookworm main", ""),
        (
            DEB822.format(uri="http://off.example/debian", components="main") + "Enabled: no\n",
            "",
        ),
        (
            DEB822.format(uri="http://m.example/debian-security", components="main")
            + "\n"
            + DEB822.format(uri="http://m.example/debian", components="main contrib"),
            "http://m.example/debian",
        ),
    ],
)
def test_debian_comes_from_the_machine_s_own_mirror_else_from_debootstrap_s(sources, mirror):
    assert mirror_of(sources) == mirror
