from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.errors import LabError
from runbook_lib.lab.cluster.network import Network, cable, choose_network

BLOCKS = st.builds(
    lambda number, length: ip_network((number, length), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(9, 32),
)


def test_a_machine_without_a_cluster_gives_the_first_block():
    assert choose_network([]) == Network("10.88.0.0/22")


def test_a_block_that_something_else_uses_in_part_is_left_alone():
    assert choose_network([ip_network("10.88.3.7/32"), ip_network("10.89.0.0/16")]) == Network(
        "10.90.0.0/22"
    )


@given(st.lists(BLOCKS, max_size=8))
def test_the_chosen_block_never_overlaps_with_what_is_taken(taken):
    chosen = ip_network(choose_network(taken).block)
    assert not any(chosen.overlaps(one) for one in taken)


def test_a_machine_whose_routes_cover_everything_is_told_so():
    with pytest.raises(LabError) as refused:
        choose_network([ip_network("10.0.0.0/8")])
    assert "10.88.0.0/22" in refused.value.why
    assert "ip route" in refused.value.fix


def test_cable_pods_and_services_share_the_block_and_no_address():
    network = Network("10.91.0.0/22")
    block = ip_network(network.block)
    spaces = [ip_network(f"{network.host}/30", strict=False)]
    spaces += [ip_network(network.pods), ip_network(network.services)]
    assert all(one.subnet_of(block) for one in spaces)
    assert not any(a.overlaps(b) for a in spaces for b in spaces if a is not b)
    assert ip_address(network.node) in spaces[0]
    assert ip_address(network.api_service) == next(ip_network(network.services).hosts())


def test_on_the_host_only_the_cluster_s_own_interface_is_touched():
    outside, inside = cable("rbtest", Network("10.91.0.0/22"), 4711)
    assert all("rbtest" in command for command in outside)
    assert not any("rbtest" in command for command in inside)
