"""The block `kserve` of a profile: what it takes, what it refuses, and how it is inherited."""

import pytest
import yaml

from runbook_lib.errors import ProfileError
from runbook_lib.profile import load_profile
from runbook_lib.profile_kserve import KServeSettings


def load(tmp_path, name="p", **values):
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"model_name": "m"} | values), encoding="utf-8")
    return load_profile(str(path), env={})


def test_without_the_block_everything_has_a_default(tmp_path):
    found = load(tmp_path)
    assert found.value.kserve == KServeSettings()
    assert ("kserve", "as by default", "default") in found.table()


def test_a_profile_changes_single_settings_of_the_one_it_extends(tmp_path):
    load(tmp_path, "base", kserve={"namespace": "ml", "storage_secret": "keys"})
    found = load(tmp_path, "own", extends="base.yaml", kserve={"storage_secret": "mine"})
    assert found.value.kserve.namespace == "ml"
    assert found.value.kserve.storage_secret == "mine"


REFUSED = {
    "a namespace in capitals": ({"namespace": "ML"}, "kserve.namespace"),
    "fewer replicas at most than at least": (
        {"min_replicas": 3, "max_replicas": 2, "autoscaling": {"by": "hpa"}},
        "kserve.max_replicas: 2 is below min_replicas 3",
    ),
    "a maximum that nothing reaches": (
        {"max_replicas": 3},
        "kserve.max_replicas: 3 is never reached",
    ),
    "KEDA without Prometheus": (
        {"max_replicas": 2, "autoscaling": {"by": "keda"}},
        "kserve.autoscaling.prometheus: '' is no http or https address",
    ),
    "Prometheus for nobody": (
        {"autoscaling": {"prometheus": "http://p:9090"}},
        "has no meaning with autoscaling.by none",
    ),
    "a role that is none": (
        {"aws_role_arn": "admin"},
        "kserve.aws_role_arn: 'admin' has not the form",
    ),
    "two identities": (
        {
            "aws_role_arn": "arn:aws:iam::123456789012:role/m",
            "azure_client_id": "11111111-2222-3333-4444-555555555555",
        },
        "kserve.azure_client_id: can't be together with aws_role_arn",
    ),
    "an identity for an account that is not ours": (
        {"service_account": "theirs", "gcp_service_account": "m@p.iam.gserviceaccount.com"},
        "belongs on the service account that service_account names",
    ),
    "an unknown key": ({"replicas": 2}, "kserve.replicas is no key"),
    "memory without a unit that there is": ({"memory": "12GB"}, "kserve.memory"),
    "no replica": ({"min_replicas": 0}, "kserve.min_replicas"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cant_be_meant_is_refused_with_its_place(tmp_path, name):
    values, said = REFUSED[name]
    with pytest.raises(ProfileError) as refusal:
        load(tmp_path, kserve=values)
    assert said in refusal.value.why
    assert "p.yaml:" in refusal.value.why


def test_only_what_differs_is_shown():
    shown = str(KServeSettings(namespace="ml", min_replicas=2))
    assert shown == "namespace=ml, min_replicas=2"


def test_a_trade_off_cannot_change_where_a_service_runs(tmp_path):
    with pytest.raises(ProfileError, match="has a problem") as refusal:
        load(tmp_path, tradeoffs=[{"label": "a", "kserve": {"namespace": "x"}}])
    assert "'kserve' is nothing that a trade-off can change" in refusal.value.why
