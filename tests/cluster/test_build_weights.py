"""Weights where a build Job finds them: on a volume claim, and on a hub that wants a token."""

import http.server
import json
import secrets
import shutil
import threading
from urllib.parse import unquote, urlsplit

import pytest

from runbook_lib.errors import BuildError
from runbook_lib.files import sha256_of
from runbook_lib.lab.builder_commands import MODEL
from runbook_lib.lab.cluster.home import NAMESPACE
from runbook_lib.lab.cluster.host import read_host
from runbook_lib.lab.repositories import access
from runbook_lib.profile import DeploymentProfile, load_profile
from runbook_lib.repository.stores import open_store
from runbook_lib.targets.kserve import KServeTarget

COMMIT = "c0ffee" + "0" * 34
FILES = {path.name: path for path in MODEL.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def target(cluster):
    patch = pytest.MonkeyPatch()
    patch.setenv("RUNBOOK_LAB", cluster.folder.parent.name)
    patch.delenv("KUBECONFIG", raising=False)
    # What the weights would have been sent to: nothing is sent here.
    open_store("s3://models/engines/", access()).make_root()
    yield KServeTarget.connect()
    patch.undo()


def profile(weights, **settings):
    given = load_profile("lab/tiny").value.model_dump()
    given["kserve"] |= settings
    return DeploymentProfile.model_validate(given | {"weights": weights})


def quiet(_):
    """A build whose log nobody reads."""


# -- a hub on this machine -------------------------------------------------------------------------


class Hub(http.server.BaseHTTPRequestHandler):
    """What the hub's own client asks for one model, for whoever has the token."""

    token = "hf_of_the_tests"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.headers.get("Authorization") != f"Bearer {self.token}":
            return self.say(401, b'{"error": "who are you?"}')
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/lab/tiny/revision/"):
            return self.say(200, json.dumps(self.about()).encode())
        if path.startswith("/api/models/lab/tiny/tree/"):
            return self.say(200, json.dumps(self.tree()).encode())
        name = path.rpartition("/")[2]
        if path.startswith("/lab/tiny/resolve/") and name in FILES:
            tag = {"ETag": f'"{sha256_of(FILES[name])}"', "X-Repo-Commit": COMMIT}
            return self.say(200, FILES[name].read_bytes(), tag)
        return self.say(404, b'{"error": "not here"}')

    def about(self):
        return {"id": "lab/tiny", "sha": COMMIT, "siblings": [{"rfilename": one} for one in FILES]}

    def tree(self):
        return [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}
            for name, path in FILES.items()
        ]

    def say(self, status, body, headers=None):
        self.send_response(status)
        for key, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        """Nobody reads it."""


@pytest.fixture(scope="module")
def hub(cluster, target):
    """Its address as pods reach it, with the token in a Secret."""
    server = http.server.ThreadingHTTPServer((read_host(cluster.folder).network.host, 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, token in (("hub", Hub.token), ("wrong-hub", "hf_of_somebody_else")):
        target.kube.apply(secret(name, token))
    host, port = server.server_address
    yield f"http://{host}:{port}"
    server.shutdown()
    server.server_close()
    for name in ("hub", "wrong-hub"):
        target.kube.delete("Secret", name, NAMESPACE)


def secret(name, token):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {"HF_TOKEN": token},
    }


def test_an_engine_is_built_from_a_hub_with_a_token_by_reference(target, hub, tmp_path):
    wish = profile("hf://lab/tiny", hub_url=hub, hub_secret="hub")
    log = tmp_path / "log"
    engine = target.build(wish, log, quiet, rebuild=True)
    assert [phase.name for phase in engine.phases][-1] == "verify"
    assert engine.identity.track == "lab"
    assert Hub.token not in log.read_text()


def test_a_token_that_the_hub_does_not_take_is_told_as_such(target, hub, tmp_path):
    wish = profile("hf://lab/tiny:main", hub_url=hub, hub_secret="wrong-hub")
    with pytest.raises(BuildError, match="Fetching the weights failed") as told:
        target.build(wish, tmp_path / "log", quiet, rebuild=True)
    assert "401" in told.value.why or "token" in told.value.why.lower()


# -- a volume claim --------------------------------------------------------------------------------


@pytest.fixture
def claim(cluster, target):
    """A claim on a folder of the node that holds the checkpoint below a path."""
    name = f"weights-{secrets.token_hex(3)}"
    folder = cluster.folder / "volumes" / name
    shutil.copytree(MODEL, folder / "checkpoints" / "tiny")
    about = {"storageClassName": "", "accessModes": ["ReadOnlyMany"]}
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [cluster.node]}
    volume = {
        **about,
        "capacity": {"storage": "1Gi"},
        "persistentVolumeReclaimPolicy": "Retain",
        "local": {"path": str(folder)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
    }
    asked = {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": name}
    for kind, spec in (("PersistentVolume", volume), ("PersistentVolumeClaim", about | asked)):
        place = {"namespace": NAMESPACE} if kind == "PersistentVolumeClaim" else {}
        made = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **place}}
        target.kube.apply(made | {"spec": spec})
    yield f"pvc://{name}/checkpoints/tiny"
    # Also a pod that has ended holds its claim: its Job takes it along.
    for job in target.kube.list("Job", NAMESPACE):
        if f'"claimName": "{name}"' in json.dumps(job):
            target.kube.delete("Job", job["metadata"]["name"], NAMESPACE)
    target.kube.delete("PersistentVolumeClaim", name, NAMESPACE)
    target.kube.delete("PersistentVolume", name)
    shutil.rmtree(folder)


def test_an_engine_is_built_from_a_volume_claim_that_is_only_read(target, claim, tmp_path):
    engine = target.build(profile(claim), tmp_path / "log", quiet, rebuild=True)
    assert engine.identity.track == "lab"
    # Nothing was fetched: the claim is mounted where the build reads.
    assert "weights" not in [phase.name for phase in engine.phases]
