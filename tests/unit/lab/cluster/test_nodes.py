import pytest

from runbook_lib.hardware import gpu
from runbook_lib.lab.cluster.nodes import pretended_node, pretended_nodes

NODES = {node["metadata"]["name"]: node for node in pretended_nodes()}
LABEL = "nvidia.com/"


@pytest.mark.parametrize("name", NODES)
def test_a_pretended_node_is_kwok_s_and_takes_only_pods_that_say_they_know_it(name):
    node = NODES[name]
    assert node["metadata"]["annotations"] == {"kwok.x-k8s.io/node": "fake"}
    assert node["spec"]["taints"] == [
        {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
    ]


@pytest.mark.parametrize("name", NODES)
def test_a_node_offers_slices_as_its_strategy_says(name):
    labels = NODES[name]["metadata"]["labels"]
    offered = {one for one in NODES[name]["status"]["capacity"] if one.startswith(LABEL)}
    if labels[f"{LABEL}mig.strategy"] == "mixed":
        assert offered
        assert all(one.startswith(f"{LABEL}mig-") for one in offered)
    else:
        assert offered == {f"{LABEL}gpu"}


@pytest.mark.parametrize("name", NODES)
def test_each_slice_of_a_node_is_one_that_its_gpu_has_and_is_counted_in_its_labels(name):
    node = NODES[name]
    labels = node["metadata"]["labels"]
    known = {"kwok-h100-mig-mixed": "H100-SXM-80GB", "kwok-a100-mig-mixed": "A100-SXM-40GB"}
    slices = {
        one.removeprefix(f"{LABEL}mig-"): count
        for one, count in node["status"]["capacity"].items()
        if one.startswith(f"{LABEL}mig-")
    }
    if not slices:
        assert name not in known
        return
    assert set(slices) <= {one.name for one in gpu(known[name]).mig}
    for one, count in slices.items():
        assert labels[f"{LABEL}mig-{one}.count"] == count
        assert labels[f"{LABEL}mig-{one}.product"] == f"{labels[f'{LABEL}gpu.product']}-MIG-{one}"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("kwok-h100", "H100-SXM-80GB"),
        ("kwok-h100-mig-mixed", "H100-SXM-80GB"),
        ("kwok-a100-mig-mixed", "A100-SXM-40GB"),
        ("kwok-a100-mig-single", "A100-SXM-40GB"),
        ("kwok-l40s", "L40S"),
    ],
)
def test_a_node_s_compute_capability_is_its_gpu_s(name, model):
    labels = NODES[name]["metadata"]["labels"]
    said = f"{labels[f'{LABEL}gpu.compute.major']}.{labels[f'{LABEL}gpu.compute.minor']}"
    assert said == gpu(model).compute_capability


def test_more_nodes_of_a_kind_have_names_of_their_own():
    more = pretended_node("h100", "h100-17")
    assert more["metadata"]["name"] == more["metadata"]["labels"]["kubernetes.io/hostname"]
    assert more["status"] == NODES["kwok-h100"]["status"]
