"""Why no node takes a pod: the scheduler tells every hindrance at once, this names the one.

The nodes are sorted out in the order in which a person would: those that take no pods at all,
those that the pod does not want, those that are too small, those that keep it out by a taint.
Where the nodes may not be read, the scheduler's own sentence must do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from runbook_lib.serving.rollout_snapshot import Manifest, meta

__all__ = ["GPU", "quantity", "why_unschedulable"]

# Nodes with these take nobody's pods: they are down, drained, or only pretended.
CLOSED = ("node.kubernetes.io/", "node-role.kubernetes.io/", "kwok.x-k8s.io/")
UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15} | {
    f"{unit}i": 1024.0**power for power, unit in enumerate("KMGTP", start=1)
}
GPU = re.compile(r"gpu|mig-|gaudi")
Verdict = tuple[str, dict[str, str]]


def quantity(text: object) -> float:
    """A Kubernetes amount as a number: `500m`, `8Gi`, `2`."""
    found = re.fullmatch(r"([0-9.]+(?:[eE][0-9+-]+)?)([a-zA-Z]{0,2})", str(text).strip())
    return float(found[1]) * UNITS[found[2]] if found and found[2] in UNITS else 0.0


def why_unschedulable(pod: Manifest, nodes: Sequence[Manifest], said: str) -> Verdict:
    """The id of the cause, and the words for its sentences.

    Args:
        pod: the pod that waits for a node.
        nodes: the cluster's nodes; none when they may not be read.
        said: the scheduler's sentence.
    """
    needs = _needs(pod)
    words = {"needs": ", ".join(f"{name}={amount:g}" for name, amount in sorted(needs.items()))}
    if not nodes:
        wishes = _wishes(pod, ()) | {"present": "labels that may not be read here"}
        return _by_the_sentence(said), words | wishes | {"taint": _taint_in(said)}
    tolerations = pod.get("spec", {}).get("tolerations") or []
    opened = [node for node in nodes if not _closed(node, tolerations)]
    if not opened:
        return "no-node-ready", words | {"nodes": str(len(nodes))}
    wanted = [node for node in opened if _matches(pod, node)]
    if not wanted:
        return "node-affinity", words | _wishes(pod, opened)
    able = [node for node in wanted if _offers(node, needs)]
    if not able:
        return _too_small(needs, wanted, opened, words)
    kept_out = [_keeping_out(node, tolerations) for node in able]
    if all(kept_out):
        return "taint", words | {"taint": kept_out[0]}
    full = _by_the_sentence(said)
    # A taint or a label of other nodes is no hindrance where some node fits.
    return (full if full in {"gpu-in-use", "node-full"} else "unschedulable"), words


def _needs(pod: Manifest) -> dict[str, float]:
    """What a pod asks for: the sum over its containers, or more where an init container needs it."""
    spec = pod.get("spec", {})
    total: dict[str, float] = {}
    for one in spec.get("containers") or ():
        for name, amount in _requests(one).items():
            total[name] = total.get(name, 0.0) + amount
    for one in spec.get("initContainers") or ():
        for name, amount in _requests(one).items():
            total[name] = max(total.get(name, 0.0), amount)
    return {name: amount for name, amount in total.items() if amount}


def _requests(container: Manifest) -> dict[str, float]:
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: quantity(amount) for name, amount in asked.items()}


def _closed(node: Manifest, tolerations: Sequence[Manifest]) -> bool:
    return any(
        str(taint.get("key", "")).startswith(CLOSED) and not _tolerated(taint, tolerations)
        for taint in _hard_taints(node)
    )


def _keeping_out(node: Manifest, tolerations: Sequence[Manifest]) -> str:
    """The first taint of a node that the pod does not tolerate."""
    taints = (one for one in _hard_taints(node) if not _tolerated(one, tolerations))
    return next((f"{one['key']}={one.get('value', '')}:{one['effect']}" for one in taints), "")


def _hard_taints(node: Manifest) -> Iterable[Manifest]:
    taints = node.get("spec", {}).get("taints") or ()
    return [one for one in taints if one.get("effect") in {"NoSchedule", "NoExecute"}]


def _tolerated(taint: Manifest, tolerations: Sequence[Manifest]) -> bool:
    return any(
        one.get("effect") in {None, "", taint.get("effect")}
        and (one.get("key") in {None, "", taint.get("key")})
        and (
            one.get("operator") == "Exists"
            or (bool(one.get("key")) and one.get("value", "") == taint.get("value", ""))
        )
        for one in tolerations
    )


def _matches(pod: Manifest, node: Manifest) -> bool:
    labels = meta(node).get("labels") or {}
    spec = pod.get("spec", {})
    if not (spec.get("nodeSelector") or {}).items() <= labels.items():
        return False
    terms = _affinity_terms(pod)
    return not terms or any(_fulfils(term, node, labels) for term in terms)


def _affinity_terms(pod: Manifest) -> list[Manifest]:
    affinity = (pod.get("spec", {}).get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms: list[Manifest] = required.get("nodeSelectorTerms") or []
    return terms


def _fulfils(term: Manifest, node: Manifest, labels: Mapping[str, str]) -> bool:
    fields = {"metadata.name": str(meta(node).get("name", ""))}
    return all(_holds(one, labels) for one in term.get("matchExpressions") or ()) and all(
        _holds(one, fields) for one in term.get("matchFields") or ()
    )


def _holds(wish: Manifest, labels: Mapping[str, str]) -> bool:
    has, values = labels.get(wish["key"]), wish.get("values") or []
    match wish.get("operator"):
        case "In":
            return has in values
        case "NotIn":
            return has not in values
        case "Exists":
            return has is not None
        case "DoesNotExist":
            return has is None
        case "Gt":
            return has is not None and float(has) > float(values[0])
        case _:  # Lt, the last one that there is
            return has is not None and float(has) < float(values[0])


def _wishes(pod: Manifest, nodes: Sequence[Manifest]) -> dict[str, str]:
    """What the pod wants of a node's labels, and what the nodes say there."""
    spec = pod.get("spec", {})
    asked = {key: f"{key}={value}" for key, value in (spec.get("nodeSelector") or {}).items()}
    for term in _affinity_terms(pod):
        for one in term.get("matchExpressions") or ():
            values = ", ".join(one.get("values") or ())
            asked[one["key"]] = f"{one['key']} {one.get('operator')} {values}".strip()
    have = sorted(
        {
            f"{key}={value}"
            for node in nodes
            for key, value in (meta(node).get("labels") or {}).items()
            if key in asked
        }
    )
    wished = " and ".join(asked.values())
    return {"wished": wished, "present": ", ".join(have) or "none of these labels"}


def _allocatable(node: Manifest) -> dict[str, float]:
    offered = node.get("status", {}).get("allocatable") or {}
    return {name: quantity(amount) for name, amount in offered.items()}


def _offers(node: Manifest, needs: Mapping[str, float]) -> bool:
    has = _allocatable(node)
    return all(has.get(name, 0.0) >= amount for name, amount in needs.items())


def _too_small(
    needs: Mapping[str, float],
    wanted: Sequence[Manifest],
    opened: Sequence[Manifest],
    words: dict[str, str],
) -> Verdict:
    """No node is large enough even when it is empty; a resource that nobody has comes first."""
    most = {name: max(_allocatable(node).get(name, 0.0) for node in wanted) for name in needs}
    short = [name for name, amount in needs.items() if most[name] < amount]
    # Each amount is on some node, but on none all of them.
    short = sorted(short or needs, key=lambda name: (not GPU.search(name), name))
    name = short[0]
    words |= {"resource": name, "amount": f"{needs[name]:g}", "most": f"{most[name]:g}"}
    if not GPU.search(name):
        return "node-too-small", words
    offered = sorted(
        {
            other
            for node in opened
            for other, amount in _allocatable(node).items()
            if amount and GPU.search(other) and other != name
        }
    )
    if not most[name] and offered:
        return "gpu-resource-name", words | {"offered": ", ".join(offered)}
    return "gpu-unavailable", words


def _by_the_sentence(said: str) -> str:
    lacking = re.findall(r"Insufficient ([\w./-]+\w)", said)
    taint = _taint_in(said)
    if any(GPU.search(one) for one in lacking):
        return "taint" if GPU.search(taint) else "gpu-in-use"
    if lacking or "Too many pods" in said:
        return "node-full"
    if re.search(r"node affinity|node selector", said, re.IGNORECASE):
        return "node-affinity"
    return "taint" if taint else "unschedulable"


def _taint_in(said: str) -> str:
    found = re.search(r"taint\w* \{([^}]*)\}", said)
    return found[1].strip() if found else ""
