"""What a mirror does when a watch ends in ways that a healthy API server seldom shows."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from runbook_lib.kube.client import Kube
from runbook_lib.kube.watch import Mirror, Scope, list_once

SCOPE = Scope("Pod", "prod")


def pod(name, version):
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


def event(kind, thing):
    return {"type": kind, "object": thing}


class Script:
    """What the server answers: lists in turn (the last again and again), and watches in turn."""

    def __init__(self, lists, watches=()):
        self.lists, self.watches = list(lists), list(watches)
        self.listed, self.watched = [], []
        self.ended = threading.Event()

    def list(self, query):
        self.listed.append(query)
        return self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]

    def watch(self, query):
        self.watched.append(query)
        return self.watches.pop(0) if self.watches else None


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(script):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                parts = urlsplit(self.path)
                query = {key: one[0] for key, one in parse_qs(parts.query).items()}
                if parts.path == "/version":
                    self.answer(200, {"major": "1", "minor": "34"})
                elif "watch" in query:
                    self.stream(script.watch(query))
                else:
                    self.answer(*script.list(query))

            def answer(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def stream(self, events):
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for one in events or ():
                    line = json.dumps(one).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                if events is None:  # nothing more happens until the test is over
                    script.ended.wait(20)
                self.wfile.write(b"0\r\n\r\n")

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append((server, script))
        return connect(tmp_path, server.server_address[1])

    yield start
    for server, script in servers:
        script.ended.set()
        server.shutdown()
        server.server_close()


def connect(folder, port):
    named = {"name": "here"}
    config = {
        "clusters": [named | {"cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [named | {"user": {}}],
        "contexts": [named | {"context": {"cluster": "here", "user": "here"}}],
        "current-context": "here",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return Kube.connect(path)


def listing(*pods, version=10):
    return 200, {"metadata": {"resourceVersion": str(version)}, "items": list(pods)}


def status(code, reason):
    return code, {"kind": "Status", "code": code, "reason": reason, "message": reason}


def until(said):
    deadline = time.monotonic() + 10
    while not said():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def names(mirror):
    return [one["metadata"]["name"] for one in mirror.objects().get("Pod", ())]


def test_changes_reach_the_copy_and_a_kind_is_written_on_each_object(serve):
    script = Script(
        [listing(pod("a", 1), pod("b", 2))],
        [[event("ADDED", pod("c", 11)), event("DELETED", pod("a", 12))]],
    )
    with Mirror(serve(script), [SCOPE]) as mirror:
        until(lambda: names(mirror) == ["b", "c"])
        assert {one["kind"] for one in mirror.objects()["Pod"]} == {"Pod"}


def test_a_mirror_that_is_left_ends_its_watches_at_once(serve):
    before = set(threading.enumerate())
    with Mirror(serve(Script([listing(pod("a", 1))])), [SCOPE, Scope("Node")]) as mirror:
        mirror.wait_known(10)
        keepers = [
            one for one in set(threading.enumerate()) - before if one.name.startswith("watch ")
        ]
        assert len(keepers) == 2
    for one in keepers:
        one.join(2)
    assert not [one for one in keepers if one.is_alive()]


def test_a_watch_that_ends_goes_on_where_it_was_and_lists_nothing_again(serve):
    bookmark = {"kind": "Pod", "metadata": {"resourceVersion": "40"}}
    script = Script(
        [listing(pod("a", 1))],
        [[event("ADDED", pod("b", 11))], [event("BOOKMARK", bookmark)], []],
    )
    with Mirror(serve(script), [SCOPE]) as mirror:
        until(lambda: len(script.watched) == 4)
        assert [one["resourceVersion"] for one in script.watched] == ["10", "11", "40", "40"]
        assert (mirror.lists, names(mirror)) == (1, ["a", "b"])


@pytest.mark.parametrize("code", [410, 500])
def test_a_point_that_the_server_has_forgotten_is_listed_anew(serve, code):
    gone = {"kind": "Status", "code": code, "reason": "Expired", "message": "too old"}
    script = Script(
        [listing(pod("a", 1)), listing(pod("b", 50), version=60)], [[event("ERROR", gone)]]
    )
    with Mirror(serve(script), [SCOPE]) as mirror:
        if code == 410:
            until(lambda: names(mirror) == ["b"])
            assert mirror.lists == 2
        else:  # any other failure is tried again from the same point
            until(lambda: len(script.watched) == 2)
            assert (mirror.lists, names(mirror)) == (1, ["a"])


def test_what_may_not_be_read_is_named_and_the_rest_is_mirrored(serve):
    forbidden = status(403, "Forbidden")
    kube = serve(Script([listing(pod("a", 1))]))
    with Mirror(kube, [SCOPE]) as mirror:
        assert mirror.wait_known(10)
        assert mirror.refused == {}
    with Mirror(serve(Script([forbidden])), [SCOPE]) as mirror:
        assert mirror.wait_known(10)
        assert mirror.refused == {"Pod": "not permitted"}
        assert mirror.objects() == {}


def test_a_refusal_of_what_could_be_read_before_is_that_of_a_server_that_still_starts(serve):
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    script = Script(
        [listing(pod("a", 1)), status(403, "Forbidden"), listing(pod("b", 2))],
        [[event("ERROR", gone)]],
    )
    with Mirror(serve(script), [SCOPE]) as mirror:
        until(lambda: names(mirror) == ["b"])
        assert mirror.refused == {}


def test_a_server_that_is_away_is_told_and_what_was_known_is_kept(serve, tmp_path):
    kube = serve(Script([status(503, "ServiceUnavailable"), listing(pod("a", 1))]))
    with Mirror(kube, [SCOPE]) as mirror:
        assert mirror.wait_known(10)
        until(lambda: names(mirror) == ["a"] and not mirror.away)
    with Mirror(connect(tmp_path, 9), [SCOPE]) as mirror:
        assert mirror.wait_known(10)
        assert mirror.away.startswith("the API server does not answer: ")


def test_one_list_call_a_kind_whatever_is_refused(serve):
    script = Script([listing(pod("a", 1)), status(403, "Forbidden"), status(404, "NotFound")])
    kube = serve(script)
    objects, unread = list_once(
        kube, [SCOPE, Scope("Event", "prod"), Scope("InferenceService", "prod")]
    )
    assert [one["kind"] for one in objects["Pod"]] == ["Pod"]
    assert unread == {"Event": "not permitted", "InferenceService": "no such kind here"}
    assert len(script.listed) == 3


def test_nothing_is_asked_for_in_pages_since_a_mirror_wants_all_of_it(serve):
    script = Script([listing()])
    with Mirror(serve(script), [Scope("Pod", "prod", labels="a=b", fields="metadata.name=x")]) as m:
        assert m.wait_known(10)
    assert script.listed == [{"labelSelector": "a=b", "fieldSelector": "metadata.name=x"}]
