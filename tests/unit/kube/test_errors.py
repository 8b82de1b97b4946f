"""What the API server says, in the bodies it really sends, becomes an error that says what to do."""

import json

import pytest

from runbook_lib.errors import PreflightError, ServiceError
from runbook_lib.kube.errors import ROLES, ApiError, explain

SERVER = "https://cluster:6443"


def status(code, reason, message, **details):
    body = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return ApiError.from_body(code, json.dumps(body | {"details": details}).encode())


def told(error, doing="apply Pod a"):
    return explain(error, doing, SERVER)


FORBIDDEN = (
    'inferenceservices.serving.kserve.io is forbidden: User "ann" cannot list resource '
    '"inferenceservices" in API group "serving.kserve.io" in the namespace "ml-prod"'
)


def test_a_missing_right_names_who_what_where_and_the_role_that_gives_it():
    error = told(status(403, "Forbidden", FORBIDDEN))
    assert isinstance(error, PreflightError)
    assert error.what == "ann may not list inferenceservices in the namespace ml-prod."
    assert 'apiGroups: ["serving.kserve.io"]' in error.fix
    assert f"kubectl apply -n ml-prod -f {ROLES / 'read.yaml'} && " in error.fix
    assert "rolebinding -n ml-prod runbook-read --role=runbook-read --user=ann" in error.fix


def test_a_right_that_no_shipped_role_has_is_named_by_its_rule_alone():
    words = FORBIDDEN.replace("list", "deletecollection")
    error = told(status(403, "Forbidden", words))
    assert "verbs: [deletecollection]" in error.fix
    assert "kubectl apply" not in error.fix


def test_a_right_in_the_whole_cluster_is_told_as_such():
    said = 'nodes is forbidden: User "ann" cannot list resource "nodes" in API group "" at the cluster scope'
    error = told(status(403, "Forbidden", said))
    assert error.what == "ann may not list nodes in the whole cluster."
    assert "kubectl create clusterrolebinding runbook-cluster --clusterrole=" in error.fix


def test_nobody_is_told_to_sign_in_and_not_to_ask_for_a_role():
    error = told(status(403, "Forbidden", FORBIDDEN.replace('"ann"', '"system:anonymous"')))
    assert "took us for nobody" in error.what
    assert "Sign in again" in error.fix


def test_a_quota_is_no_missing_right():
    said = 'pods "a" is forbidden: exceeded quota: q, requested: requests.nvidia.com/gpu=1, used: 1, limited: 1'
    error = told(status(403, "Forbidden", said, name="a", kind="pods"))
    assert isinstance(error, ServiceError)
    assert "exceeded quota" in error.why


def test_conflicts_are_told_field_by_field_with_their_owner():
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-edit" using apps/v1',
            "field": ".spec.replicas",
        },
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "argocd" with subresource "scale"',
            "field": ".spec.template",
        },
    ]
    raised = status(409, "Conflict", "Apply failed with 2 conflicts", causes=causes)
    assert raised.conflicts() == [(".spec.replicas", "kubectl-edit"), (".spec.template", "argocd")]
    assert told(raised).why.splitlines() == [
        ".spec.replicas belongs to kubectl-edit",
        ".spec.template belongs to argocd",
    ]


def test_invalid_fields_are_listed_with_what_is_wrong_about_each():
    causes = [{"field": "spec.a", "message": "Required value"}, {"field": "spec.b", "message": "x"}]
    error = told(status(422, "Invalid", "Pod a is invalid", name="a", causes=causes))
    assert error.why.splitlines() == ["spec.a: Required value", "spec.b: x"]


def test_a_webhook_that_does_not_answer_is_told_from_one_that_refuses():
    silent = told(
        status(
            500,
            "InternalError",
            'failed calling webhook "inferenceservice.kserve-webhook-server.defaulter": '
            'failed to call webhook: Post "https://x": connect: connection refused',
        )
    )
    assert "webhook did not answer" in silent.what
    denied = told(status(403, "Forbidden", 'admission webhook "x" denied the request: no'))
    assert "denied the request: no" in denied.why


def test_an_absent_object_is_told_from_an_absent_kind():
    gone = status(404, "NotFound", 'pods "a" not found', name="a", kind="pods")
    assert gone.no_such_object
    assert "it is not there" in told(gone).what
    lacking = ApiError.from_body(404, b"404 page not found\n")
    assert lacking.no_such_kind
    assert "has no such kind of object" in told(lacking).what


def test_a_page_of_a_proxy_is_kept_as_the_reason():
    error = told(ApiError.from_body(502, b"<html>Bad Gateway</html>"))
    assert error.why == "<html>Bad Gateway</html>"
    assert "(502)" in error.what


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 410, 422, 429, 500, 503])
def test_whatever_the_server_answers_the_error_says_what_to_do(code):
    error = told(status(code, "Reason", "words of the server"))
    assert error.what
    assert error.fix
    assert "words of the server" in error.why or code == 401
