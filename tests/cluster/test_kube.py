"""The client against the real API server: reading, logs that follow, forwarded ports, refusals."""

import os
import socket
import ssl
import threading
import time
import urllib.request

import pytest
import yaml

from runbook_lib.errors import PreflightError, ServiceError
from runbook_lib.kube import client as client_module
from runbook_lib.kube.client import Kube
from runbook_lib.kube.forward import forward

SERVER = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        if self.path == "/stream":
            self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            for _ in range(4):
                self.wfile.write(b"2\\r\\nx\\n\\r\\n"); self.wfile.flush(); time.sleep(0.2)
            self.wfile.write(b"0\\r\\n\\r\\n")
        else:
            size = int(self.path[1:]); self.send_header("Content-Length", str(size))
            self.end_headers(); self.wfile.write(b"a" * size)
    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.send_header("Content-Length", str(len(data)))
        self.end_headers(); self.wfile.write(data)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def kube(cluster, module_namespace):
    made = Kube.connect(cluster.kubeconfig)
    made.namespace = str(module_namespace)
    return made


def pod(cluster, name, code):
    container = {
        "name": "main",
        "image": cluster.images.triton,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-u", "-c", code],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            # The account of its own is made a moment after the namespace.
            "serviceAccountName": "models",
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "nodeName": cluster.node,
            "containers": [container],
        },
    }


def wait_phase(kube, name, *phases):
    deadline = time.monotonic() + 60
    while (found := kube.get("Pod", name)) is None or found["status"]["phase"] not in phases:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@pytest.fixture(scope="module")
def web(cluster, kube):
    """A pod that serves, with its name."""
    kube.apply(pod(cluster, "web", SERVER))
    wait_serving(kube, "web")
    return "web"


def wait_serving(kube, name):
    wait_phase(kube, name, "Running")
    deadline = time.monotonic() + 30
    while True:
        try:
            with forward(kube, name, 8080):
                return
        except ServiceError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


# -- ports -----------------------------------------------------------------------------------------


def fetch(port, path, data=None):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=30) as answer:
        return answer.read()


def test_a_forwarded_port_carries_bytes_unchanged_both_ways(kube, web):
    body = os.urandom(3_000_000)
    with forward(kube, web, 8080) as port:
        assert fetch(port, "/", body) == body
        assert len(fetch(port, "/20000000")) == 20_000_000


def test_a_stream_comes_piece_by_piece(kube, web):
    with (
        forward(kube, web, 8080) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/stream", timeout=30) as answer,
    ):
        came = [time.monotonic() for _ in answer]
    assert len(came) == 4
    assert came[-1] - came[0] > 0.3  # it is sent over 0.6 s: not all of it waited for the end


def test_many_connections_at_once_do_not_disturb_each_other(kube, web):
    answers = []
    with forward(kube, web, 8080) as port:
        sizes = [1000 * number for number in range(1, 17)]
        threads = [
            threading.Thread(target=lambda size=size: answers.append(len(fetch(port, f"/{size}"))))
            for size in sizes
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join(60)
    assert sorted(answers) == sizes


def test_a_forward_leaves_no_thread_and_no_listener_behind(kube, web):
    before = set(threading.enumerate())
    with forward(kube, web, 8080) as port:
        held = socket.create_connection(("127.0.0.1", port))  # open, and silent
        fetch(port, "/10")
    assert set(threading.enumerate()) - before == set()
    with held:
        assert held.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_pod_that_goes_away_ends_its_connections(cluster, kube):
    kube.apply(pod(cluster, "leaves", SERVER))
    wait_serving(kube, "leaves")
    with forward(kube, "leaves", 8080) as port:
        fetch(port, "/10")
        with socket.create_connection(("127.0.0.1", port), timeout=60) as held:
            held.sendall(b"GET /10 HTTP/1.1\r\n\r\n")
            assert held.recv(4) == b"HTTP"
            assert kube.delete("Pod", "leaves")
            while held.recv(1 << 16):
                pass  # what was on its way; then the end


def test_what_cant_be_forwarded_says_why(cluster, kube, web):
    with pytest.raises(ServiceError, match=r"no pod .*/nobody"), forward(kube, "nobody", 80):
        pass
    with pytest.raises(ServiceError, match="Nothing answers on port 9") as closed:  # noqa: SIM117
        with forward(kube, web, 9):
            pass
    assert "connection refused" in closed.value.why
    kube.apply(pod(cluster, "ended", "pass"))
    wait_phase(kube, "ended", "Succeeded")
    with pytest.raises(ServiceError, match="the pod is Succeeded"), forward(kube, "ended", 8080):
        pass


# -- logs ------------------------------------------------------------------------------------------


def test_a_log_is_followed_to_its_end_and_each_line_comes_once(cluster, kube, monkeypatch):
    """The connection is made to break between lines, as a restarted server or a proxy breaks it."""
    code = "import time\nfor n in range(30): print('line', n); time.sleep(0.1)"
    kube.apply(pod(cluster, "talks", code))
    wait_phase(kube, "talks", "Running", "Succeeded")
    original, opened = Kube.stream, []

    def breaking(self, path, query, **more):
        opened.append(query.get("sinceTime"))
        for count, line in enumerate(original(self, path, query, **more)):
            if len(opened) < 4 and count == 8:
                raise client_module.ApiError(0, "Broken", "cut by the test", {})
            yield line

    monkeypatch.setattr(Kube, "stream", breaking)
    assert list(kube.follow_logs("talks")) == [f"line {number}" for number in range(30)]
    assert len(opened) >= 3
    assert opened[0] is None
    assert all(opened[1:])


def test_a_log_is_read_whole_or_by_its_end(cluster, kube):
    kube.apply(pod(cluster, "said", "print('one'); print('two')"))
    wait_phase(kube, "said", "Succeeded")
    assert kube.logs("said") == "one\ntwo\n"
    assert kube.logs("said", tail=1) == "two\n"
    with pytest.raises(ServiceError, match="read the log of pod said") as refusal:
        kube.logs("said", container="another")
    assert "another" in refusal.value.why


# -- objects ---------------------------------------------------------------------------------------


def test_a_list_is_read_by_pages_to_its_end(kube, monkeypatch):
    monkeypatch.setattr(client_module, "PAGE", 2)
    for number in range(5):
        kube.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"page-{number}", "labels": {"of": "pages"}},
            }
        )
    found = kube.list("ConfigMap", labels="of=pages")
    assert [one["metadata"]["name"] for one in found] == [f"page-{n}" for n in range(5)]
    assert {one["kind"] for one in found} == {"ConfigMap"}
    (last,) = kube.list("ConfigMap", fields="metadata.name=page-4")
    assert kube.delete("ConfigMap", last["metadata"]["name"])
    assert not kube.delete("ConfigMap", last["metadata"]["name"])
    assert kube.get("ConfigMap", "page-4") is None


def test_a_kind_that_the_cluster_lacks_is_told_from_an_object_that_is_not_there(kube):
    assert kube.has("InferenceService")
    assert not kube.has("ScaledObject")
    assert kube.get("InferenceService", "nobody") is None
    with pytest.raises(PreflightError, match="has no such kind of object"):
        kube.get("ScaledObject", "nobody")


def test_a_namespace_that_is_not_there_is_named(kube):
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "nowhere"},
    }
    with pytest.raises(PreflightError, match="namespace nowhere does not exist"):
        kube.apply(wanted, dry_run=True)


# -- who asks, and whom ----------------------------------------------------------------------------


def changed(cluster, tmp_path, change):
    said = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    change(said)
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(said), encoding="utf-8")
    return Kube.connect(path)


def test_a_wrong_token_is_told(cluster, tmp_path):
    def change(said):
        said["users"][0]["user"] = {"token": "nonsense"}

    with pytest.raises(PreflightError, match="does not know who we are"):
        changed(cluster, tmp_path, change).list("Pod")


def test_no_credentials_at_all_are_told(cluster, tmp_path):
    def change(said):
        said["users"][0]["user"] = {}

    with pytest.raises(PreflightError, match=r"took us for nobody|does not know who we are"):
        changed(cluster, tmp_path, change).list("Pod")


def test_a_certificate_of_another_authority_is_told(cluster, tmp_path):
    other = tmp_path / "other.pem"
    pem = ssl.create_default_context()
    certificate = pem.get_ca_certs(binary_form=True)[0]
    other.write_text(ssl.DER_cert_to_PEM_cert(certificate), encoding="utf-8")

    def change(said):
        one = said["clusters"][0]["cluster"]
        one.pop("certificate-authority-data", None)
        one["certificate-authority"] = str(other)

    with pytest.raises(PreflightError, match=r"certificate of the API server .* is not trusted"):
        changed(cluster, tmp_path, change).list("Pod")
