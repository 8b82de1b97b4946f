from __future__ import annotations

import pytest

from runbook_lib.errors import ProfileError
from runbook_lib.hardware import device, gpu, gpu_names, overheads


@pytest.mark.parametrize("name", gpu_names())
def test_every_gpu_is_whole_and_tells_its_source(name):
    found = gpu(name)
    assert found.sm.startswith("sm")
    assert found.memory_bytes > 10**10
    assert found.source
    for piece in found.mig:
        assert 0 < piece.memory_bytes <= found.memory_bytes
        assert piece.count * piece.memory_bytes <= 1.15 * found.memory_bytes, piece
        assert "+" not in piece.resource


def test_figures_of_a_known_gpu_are_those_of_its_data_sheet():
    found = gpu("H100-SXM-80GB")
    assert (found.sm, found.bandwidth_gb_s, found.dense_tflops["fp8"]) == ("sm90", 3350, 1979)
    assert found.labels()["nvidia.com/gpu.compute.major"] == "9"
    assert "fp8" not in gpu("A100-SXM-80GB").dense_tflops


def test_memory_that_was_measured_is_planned_with_and_lies_near_the_nominal():
    measured = [one for one in map(device, gpu_names()) if one.usable_bytes]
    assert [one.name for one in measured] == ["H100-SXM-80GB", "H200-SXM-141GB"]
    for one in measured:
        assert one.memory_bytes <= one.room <= one.memory_bytes * 1.074  # GiB for GB at most
        assert "measured" in one.room_basis
    assert device("L4").room == device("L4").memory_bytes
    assert "nominal" in device("L4").room_basis


def test_a_slice_has_its_resource_and_memory():
    found = device("A100-SXM-40GB:1g.5gb")
    assert (found.memory_bytes, found.target, found.slice_of) == (
        5 * 10**9,
        "sm80",
        "A100-SXM-40GB",
    )
    piece = gpu("A100-SXM-40GB").slice("1g.5gb+me")
    assert piece.resource == "nvidia.com/mig-1g.5gb.me"


def test_a_beginning_that_one_gpu_has_is_enough():
    assert gpu("b200").name == "B200-SXM"
    assert gpu("l4").name == "L4"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("H100", "H100-PCIe-80GB, H100-SXM-80GB"),
        ("H100-SMX-80GB", "H100-SXM-80GB"),
        ("", "Known: "),
        ("quantum", "Known: "),
        ("A10:1g.5gb", "can't be sliced"),
        ("A100-SXM-40GB:1g.10", "It has 1g.5gb"),
    ],
)
def test_an_unknown_device_is_answered_with_what_there_is(name, told):
    with pytest.raises(ProfileError) as caught:
        device(name)
    assert told in str(caught.value)


def test_nccl_takes_memory_only_where_ranks_talk():
    known = overheads()
    assert known.nccl(1) == 0
    assert known.nccl(3) == known.nccl(4) > known.nccl(2) > 0
    assert known.nccl(16) == known.nccl(8)
