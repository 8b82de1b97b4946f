import json

from runbook_lib.lab.cluster.kserve import settings_of

SHIPPED = {
    "_example": "not json",
    "deploy": '{"defaultDeploymentMode": "Serverless"}',
    "ingress": '{"ingressDomain": "example.com", "disableIngressCreation": false}',
    "storageInitializer": '{"image": "kserve/storage-initializer:latest", "memoryLimit": "1Gi"}',
    "credentials": '{"s3": {}}',
}


def test_what_kserve_shipped_stays_but_for_what_this_cluster_has_not():
    made = settings_of(SHIPPED, "runbook.local/storage-initializer:x")
    assert "_example" not in made
    assert made["credentials"] == SHIPPED["credentials"]
    assert json.loads(made["deploy"]) == {"defaultDeploymentMode": "Standard"}
    assert json.loads(made["ingress"]) == {
        "ingressDomain": "example.com",
        "disableIngressCreation": True,
        "disableIstioVirtualHost": True,
    }
    assert json.loads(made["storageInitializer"]) == {
        "image": "runbook.local/storage-initializer:x",
        "memoryLimit": "1Gi",
    }
