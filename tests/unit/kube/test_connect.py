"""Which cluster is meant, and what is said when there is none or it does not answer."""

import socket
import threading

import pytest
import yaml

from runbook_lib.errors import PreflightError
from runbook_lib.kube.client import Kube
from runbook_lib.kube.connect import open_connection


def kubeconfig(path, server="http://127.0.0.1:1", name="one", namespace=None):
    context = {"cluster": name, "user": name} | ({"namespace": namespace} if namespace else {})
    said = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": context}],
    }
    path.write_text(yaml.safe_dump(said), encoding="utf-8")
    return path


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A home without a kubeconfig."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_without_any_kubeconfig_it_is_said_where_one_was_looked_for(nowhere):
    with pytest.raises(PreflightError, match="No cluster is named") as refusal:
        Kube.connect()
    assert str(nowhere / ".kube" / "config") in refusal.value.why
    assert "KUBECONFIG" in refusal.value.fix


def test_the_file_given_wins_over_the_environment_and_that_over_the_home(nowhere, monkeypatch):
    (nowhere / ".kube").mkdir()
    kubeconfig(nowhere / ".kube" / "config", "http://home:1")
    assert Kube.connect().server == "http://home:1"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(nowhere / "env", "http://env:1")))
    assert Kube.connect().server == "http://env:1"
    assert Kube.connect(kubeconfig(nowhere / "given", "http://given:1")).server == "http://given:1"


def test_several_files_are_joined_as_kubectl_joins_them(nowhere, monkeypatch):
    first = kubeconfig(nowhere / "a", "http://a:1", "a")
    second = kubeconfig(nowhere / "b", "http://b:1", "b", namespace="ml")
    monkeypatch.setenv("KUBECONFIG", f"{first}:{nowhere / 'missing'}:{second}")
    assert Kube.connect().server == "http://a:1"
    other = Kube.connect(context="b")
    assert (other.server, other.namespace) == ("http://b:1", "ml")


def test_the_namespace_is_that_of_the_context_else_default(tmp_path):
    assert open_connection(kubeconfig(tmp_path / "a"), None).namespace == "default"
    assert open_connection(kubeconfig(tmp_path / "b", namespace="ml"), None).namespace == "ml"


def test_an_unknown_context_is_told_with_those_that_there_are(tmp_path):
    with pytest.raises(PreflightError, match="has no context two") as refusal:
        Kube.connect(kubeconfig(tmp_path / "a"), "two")
    assert refusal.value.why == "It has one."


@pytest.mark.parametrize("text", ["", "a: [", "just words", "kind: Config\n"])
def test_a_file_that_is_no_kubeconfig_is_told(tmp_path, text):
    path = tmp_path / "bad"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PreflightError, match="can't be used"):
        Kube.connect(path)


def test_a_server_that_is_not_there_is_told_with_its_address(tmp_path):
    kube = Kube.connect(kubeconfig(tmp_path / "a"))
    with pytest.raises(PreflightError, match=r"server at http://127\.0\.0\.1:1 does not answer"):
        kube.list("Pod")


def test_a_server_that_takes_the_request_and_says_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("runbook_lib.kube.client.ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []
        threading.Thread(target=lambda: held.append(listener.accept()[0]), daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(PreflightError, match="does not answer"):
            Kube.connect(kubeconfig(tmp_path / "a", address)).list("Pod")
        for one in held:
            one.close()
