"""The commands that bring a service up, change it, and take it away: deploy, rollback, undeploy, status."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook_lib.cli_parts import APPROVE, AS_JSON, PROFILE, bar, completing, in_force, say
from runbook_lib.errors import LabError, RunbookError, UsageError

if TYPE_CHECKING:
    from runbook_lib.artifacts import ModelRepository
    from runbook_lib.profile import DeploymentProfile
    from runbook_lib.targets.kserve import KServeTarget

__all__ = ["DEPLOYING"]

TARGET = click.option(
    "--target",
    type=click.Choice(["lab", "kserve"]),
    help="By default the lab for a lab profile, and the cluster for all others.",
)
NAMESPACE = click.option("--namespace", help="Namespace of the cluster instead of the profile's.")


def _chosen(profile: DeploymentProfile, target: str | None, *, cluster: bool) -> str:
    """Where a command acts; an option that only a cluster has settles it."""
    if target == "lab" and cluster:
        raise UsageError(
            "--target lab has no namespace and no manifests.", fix="Leave --target out."
        )
    return target or ("kserve" if cluster or profile.track != "lab" else "lab")


def _placed(profile: DeploymentProfile, namespace: str | None) -> DeploymentProfile:
    if namespace is None:
        return profile
    from runbook_lib.profile_kserve import KServeSettings

    settings = profile.kserve.model_dump() | {"namespace": namespace}
    return profile.model_copy(update={"kserve": KServeSettings.model_validate(settings)})


@click.command()
@PROFILE
@TARGET
@NAMESPACE
@click.option("--repository", help="URI of the stored repository instead of the profile's.")
@click.option("--replicas", type=click.IntRange(1, 1000), help="By default the profile's, or 1.")
@click.option("--streaming", type=bool, help="true or false, instead of the profile's.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write the manifests into this folder, for GitOps; change nothing else.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@APPROVE
@AS_JSON
def deploy(  # noqa: PLR0917 - click passes an argument for each option
    profile: str,
    target: str | None,
    namespace: str | None,
    repository: str | None,
    replicas: int | None,
    streaming: bool | None,
    output: Path | None,
    dry_run: bool,
    approve: str,
    as_json: bool,
) -> None:
    """Serve a stored repository: in the lab that is up, or on a cluster with KServe."""
    value = in_force(profile, model_repository=repository)
    if streaming is not None:
        value = value.model_copy(update={"streaming": streaming})
    value = _placed(value, namespace)
    where = _chosen(value, target, cluster=bool(namespace or output))
    if where == "lab":
        _needs_lab()
    count = replicas or (value.kserve.min_replicas if where == "kserve" else 1)
    if output or (dry_run and where == "kserve"):
        _rendered(value, count, output, as_json)
        return
    _deployed(value, where, count, dry_run=dry_run, approve=approve, as_json=as_json)


def _needs_lab() -> None:
    from runbook_lib.lab.lab import current

    if not current().is_up():
        raise LabError(
            "No lab is up to deploy in.",
            why="A service must outlive this command.",
            fix="runbook lab up",
        )


def _rendered(profile: DeploymentProfile, count: int, output: Path | None, as_json: bool) -> None:
    """The manifests: into a folder, or shown with what the API server would make of them."""
    from runbook_lib.kube.apply import differences_of
    from runbook_lib.record.approval import ChangePlan
    from runbook_lib.serving.manifests import to_yaml
    from runbook_lib.targets.kserve import KServeTarget
    from runbook_lib.targets.kserve_place import manifests_of

    repository, note = _repository(profile)
    target = KServeTarget.connect()
    manifests = manifests_of(target.kube, profile, repository, count)
    text = to_yaml(manifests)
    if note:
        click.echo(note, err=True)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        file = output / f"{profile.model_name}.yaml"
        file.write_text(text, encoding="utf-8")
        say({"ok": True, "files": [str(file)]}, f"{len(manifests)} manifests in {file}", as_json)
        return
    if not as_json:
        click.echo(text)  # also where the API server then refuses it
    changes = target.deploy_changes(profile, repository, count)
    plan = ChangePlan("deploy", tuple(changes)).short
    lines = [f"# {one.verb} {one.what} {one.detail}".rstrip() for one in changes]
    diffs = {str(one): one.text for one in differences_of(target.kube, manifests) if one.fields}
    lines += [f"# {name}\n{text.rstrip()}" for name, text in diffs.items()]
    lines += [f"# to approve this plan: --approve {plan}"] if changes else []
    told = {
        "ok": True,
        "plan": plan,
        "manifests": manifests,
        "would": [vars(one) for one in changes],
        "diffs": diffs,
    }
    say(told, "\n".join(["# The API server takes it:", *(lines or ["# no change"])]), as_json)


def _repository(profile: DeploymentProfile) -> tuple[ModelRepository, str]:
    """What the store holds; where it can't be read, the URI alone and a note that says so."""
    from runbook_lib.lab.repositories import named, stored

    try:
        return stored(profile), ""
    except RunbookError as error:
        return named(profile), f"The store was not looked into: {error.what}"


def _deployed(
    profile: DeploymentProfile,
    where: str,
    count: int,
    *,
    dry_run: bool,
    approve: str,
    as_json: bool,
) -> None:
    from runbook_lib.lab.repositories import stored
    from runbook_lib.lab.services import smoke_test
    from runbook_lib.record.approval import ChangePlan, decide
    from runbook_lib.targets import target_named

    target, found = target_named(where), stored(profile)
    intended = ChangePlan("deploy", tuple(target.deploy_changes(profile, found, count)))
    if dry_run:
        say({"ok": True, "plan": intended.short, "would": str(intended)}, str(intended), as_json)
        return
    click.echo(str(intended), err=True)
    decide(intended, approve, profile.approve, [])
    with bar("Deploying") as told:
        running = target.scale(profile, found, count, told)
    smoke = smoke_test(running[0].http, found, profile)
    service = target.service(profile, found, running, smoke)
    say(service.model_dump(mode="json"), str(service), as_json)


def _cluster() -> KServeTarget:
    from runbook_lib.targets.kserve import KServeTarget

    return KServeTarget.connect()


@click.command()
@PROFILE
@NAMESPACE
@AS_JSON
def rollback(profile: str, namespace: str | None, as_json: bool) -> None:
    """Deploy again on the cluster what ran before the newest revision."""
    from runbook_lib.serving.kserve import roll_back

    value, target = _placed(in_force(profile), namespace), _cluster()
    name, inside = target.place(value)
    with bar("Rolling back") as told:
        done = roll_back(
            target.kube, name, inside, on_line=told, timeout=float(value.kserve.ready_seconds)
        )
    said = {"ok": True, "service": name, "namespace": inside, "seconds": done.seconds}
    say(
        said,
        f"{inside}/{name} is back at the revision before, ready after {done.seconds} s",
        as_json,
    )


@click.command()
@click.argument("profile", required=False)
@TARGET
@NAMESPACE
@AS_JSON
def undeploy(profile: str | None, target: str | None, namespace: str | None, as_json: bool) -> None:
    """Stop the services of the lab, or remove the service of a PROFILE from the cluster."""
    from runbook_lib.targets import target_named

    value: Any = None if profile is None else _placed(in_force(profile), namespace)
    where = "lab" if value is None else _chosen(value, target, cluster=bool(namespace))
    stopped = target_named(where).undeploy(value)
    say({"ok": True, "stopped": stopped}, f"Stopped: {', '.join(stopped) or 'nothing'}", as_json)


@click.command()
@click.option("--namespace", help="Only this namespace; by default all of them.")
@AS_JSON
def status(namespace: str | None, as_json: bool) -> int:
    """Show every InferenceService of the cluster, whether it is ready, and what holds it up."""
    from dataclasses import asdict

    from runbook_lib.serving.rollout_status import status_table

    table = status_table(_cluster().kube, namespace)
    well = all(one.ready for one in table.services)
    say({"ok": well, **asdict(table)}, str(table), as_json)
    return 0 if well else 1


@click.command()
@click.argument("page", shell_complete=completing(lambda: list(_pages())))
@click.option("--namespace", required=True, help="Namespace of the service.")
@click.option("--service-account", help="Bind the roles to this account of the namespace.")
@click.option("--storage-secret", default="", help="The one Secret that pages 01 and 03 read.")
@AS_JSON
def roles(
    page: str, namespace: str, service_account: str | None, storage_secret: str, as_json: bool
) -> None:
    """Print the least rights that a PAGE needs on a cluster, as YAML for `kubectl apply`."""
    from runbook_lib.kube.text import to_yaml
    from runbook_lib.parameters import page_named
    from runbook_lib.serving.manifests_roles import bindings, role_manifests

    names = _pages()[page_named(page).name]
    made = role_manifests(names, namespace, storage_secret=storage_secret)
    if service_account:
        made += bindings(made, namespace, service_account)
    say(made, to_yaml(made) if made else f"# {page} needs no right on a cluster.", as_json)


def _pages() -> Mapping[str, tuple[str, ...]]:
    from runbook_lib.serving.manifests_roles import PAGE_ROLES

    return PAGE_ROLES


DEPLOYING = (deploy, rollback, undeploy, status, roles)
