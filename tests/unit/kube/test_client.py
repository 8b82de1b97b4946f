import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from runbook_lib.errors import PreflightError, ServiceError
from runbook_lib.kube.client import Kube

POD = {"kind": "Pod", "metadata": {"name": "a"}}
NOT_YET = (503, {"kind": "Status", "reason": "ServiceUnavailable", "message": "not yet"})
BROKEN = (500, {"kind": "Status", "reason": "InternalError", "message": "broken"})


@pytest.fixture
def server(tmp_path):
    """An API server that gives the answers it was told, one after the other."""
    answers, asked = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, said = answers.pop(0)
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        file = tmp_path / "config"
        address = f"http://127.0.0.1:{running.server_port}"
        file.write_text(
            json.dumps(
                {
                    "current-context": "a",
                    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                    "clusters": [{"name": "a", "cluster": {"server": address}}],
                    "users": [{"name": "a", "user": {"token": "x"}}],
                }
            )
        )
        kube = Kube.connect(file)
        yield kube, answers, asked
        kube.close()
        running.shutdown()
        thread.join()


def test_a_server_that_answered_before_is_waited_for_while_it_restarts(server):
    kube, answers, asked = server
    answers += [(200, POD), NOT_YET, NOT_YET, (200, POD)]
    assert kube.get("Pod", "a", "default") == POD
    assert kube.get("Pod", "a", "default") == POD
    assert len(asked) == 4


def test_a_server_that_never_answered_is_told_at_once(server):
    kube, answers, asked = server
    answers.append(NOT_YET)
    with pytest.raises(ServiceError, match="503"):
        kube.get("Pod", "a", "default")
    assert len(asked) == 1


def test_what_time_does_not_heal_is_told_at_once(server):
    kube, answers, asked = server
    answers += [(200, POD), BROKEN]
    kube.get("Pod", "a", "default")
    with pytest.raises(ServiceError, match="broken"):
        kube.get("Pod", "a", "default")
    assert len(asked) == 2


def test_a_server_that_stays_away_is_given_up(server, monkeypatch):
    kube, answers, _ = server
    monkeypatch.setattr("runbook_lib.kube.client.AWAY_SECONDS", 0.7)
    answers += [(200, POD), *[NOT_YET] * 10]
    kube.get("Pod", "a", "default")
    with pytest.raises((ServiceError, PreflightError), match="503"):
        kube.get("Pod", "a", "default")
    assert 6 < len(answers) < 10
