from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from runbook_lib import cli
from runbook_lib.parameters import PAGES


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """A cache, records and a colour setting of the test's own."""
    monkeypatch.setenv("RUNBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNBOOK_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def run(monkeypatch, capsys):
    """The command as the shell starts it: its exit code, standard output and standard error."""

    def ended(*words):
        monkeypatch.setattr(sys, "argv", ["runbook", *map(str, words)])
        with pytest.raises(SystemExit) as ending:
            cli.main()
        said = capsys.readouterr()
        return ending.value.code, said.out, said.err

    return ended


def commands(group=cli.runbook, words=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


EVERY = dict(commands())
every_command = pytest.mark.parametrize("words", EVERY, ids=" ".join)


# -- every command ---------------------------------------------------------------------------------


@every_command
def test_every_command_says_what_it_does(words):
    said = CliRunner().invoke(cli.runbook, [*words, "--help"])
    assert said.exit_code == 0
    assert EVERY[words].help


@every_command
def test_every_command_can_answer_in_json(words):
    options = {option for one in EVERY[words].params for option in one.opts}
    assert "--json" in options or words == ("completion",)


@every_command
def test_a_wrong_option_is_a_wrong_use_and_json_where_that_is_asked(words, run):
    code, out, err = run(*words, "--no-such-option", "--json")
    assert code == 2
    assert json.loads(out)["ok"] is False
    assert "--no-such-option" in json.loads(out)["what"]
    assert "Usage: " in err


def test_help_does_not_depend_on_the_command_line_being_read_by_main():
    said = CliRunner().invoke(cli.runbook, ["--help"])
    assert said.exit_code == 0
    assert {"plan", "run", "repo", "tradeoffs"} <= set(cli.runbook.commands)


def test_the_version_is_told():
    assert "0.1.0" in CliRunner().invoke(cli.runbook, ["--version"]).output


# -- ends well -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["list"], "pages"),
        (["describe", "03_deploy"], "parameters"),
        (["plan", "lab/tiny"], "fits"),
        (["run", "all", "--dry-run"], "would_run"),
        (["schema", "deployment"], "properties"),
        (["lab", "down"], "stopped"),
        (["undeploy"], "stopped"),
    ],
)
def test_json_is_all_that_standard_output_gets(words, key, run):
    code, out, _ = run(*words, "--json")
    assert code == 0
    assert key in json.loads(out)


def test_the_pages_and_profiles_are_listed(run):
    code, out, _ = run("list")
    assert code == 0
    assert [page.name for page in PAGES] == [line.split()[0] for line in out.splitlines()[:7]]
    assert "lab/tiny" in out
    assert "load/" not in out


@pytest.mark.parametrize("name", ["03_deploy", "03", "deploy", "notebooks/03_deploy.ipynb"])
def test_a_page_is_found_by_any_of_its_names(name, run):
    code, out, _ = run("describe", name)
    assert code == 0
    assert out.startswith("03_deploy: Deploy")
    assert "replicas" in out


def test_a_plan_is_told_with_its_verdict_and_commands(run):
    code, out, _ = run("plan", "lab/tiny")
    assert code == 0
    assert out.startswith("fits")
    assert "build_engine.py" in out


@pytest.mark.parametrize("gpu", ["A100-SXM-40GB:1g.5gb", "H200-SXM-141GB", "H100-SXM-80GB"])
def test_the_exit_code_of_a_plan_is_its_verdict(gpu, run):
    code, out, _ = run("plan", "llama-7b", "--gpu", gpu, "--json")
    plan = json.loads(out)
    assert code == (0 if plan["fits"] else 1)
    assert any("trtllm-build" in argv for argv in plan["commands"])


def test_a_plan_with_a_traffic_a_price_and_a_preset_tells_all_three(run, tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text('{"isl": 900, "osl": 100}\n' * 50)
    words = ("plan", "llama-7b", "--gpu", "H100-SXM-80GB", "--traffic", str(path))
    code, out, _ = run(*words, "--price-per-hour", "3", "--preset", "low-latency")
    assert code == 0
    assert "trace.jsonl: 50 requests of 1,000 tokens" in out
    assert "a million output tokens" in out
    assert "max_batch_size 32 (was 64)" in out


def test_a_plan_ends_with_1_where_the_traffic_does_not_fit(run, tmp_path):
    (tmp_path / "long.csv").write_text("isl,osl\n9000,100\n")
    code, out, _ = run("plan", "llama-7b", "--traffic", str(tmp_path / "long.csv"))
    assert code == 1
    assert "the limits refuse 100.00%" in out


def test_the_guides_variables_take_part_in_a_plan(run, monkeypatch):
    monkeypatch.setenv("MAX_BATCH_SIZE", "3")
    assert json.loads(run("plan", "lab/tiny", "--json")[1])["limits"]["max_batch_size"] == 3


@pytest.mark.parametrize("kind", ["deployment", "load", "mig"])
def test_a_schema_is_json_with_and_without_asking(kind, run):
    plain, asked = run("schema", kind), run("schema", kind, "--json")
    assert plain == asked
    assert json.loads(plain[1])["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_completion_script_is_printed(shell, run):
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "_RUNBOOK_COMPLETE" in out


def test_a_dry_run_checks_everything_and_starts_nothing(run, tmp_path):
    code, out, _ = run("run", "00", "deploy", "-p", "replicas=3", "--dry-run", "--json")
    steps = json.loads(out)["would_run"]
    assert code == 0
    assert [step["page"] for step in steps] == ["00_plan", "03_deploy"]
    assert steps[1]["parameters"]["replicas"] == 3
    assert "replicas" not in steps[0]["parameters"]
    assert not (tmp_path / "outputs").exists()


def test_approvals_are_handed_on_together(run):
    words = ["run", "03", "--approve", "auto", "--approve", "0123456789ab", "--dry-run", "--json"]
    step = json.loads(run(*words)[1])["would_run"][0]
    assert step["parameters"]["approve"] == "auto,0123456789ab"


# -- wrong use -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["describe", "03_deplo"], "Did you mean 03_deploy?"),
        (["run", "99"], "There is no page '99'"),
        (["run", "00", "-p", "novalue"], "-p novalue is not NAME=VALUE"),
        (["run", "00", "-p", "=1"], "-p =1 is not NAME=VALUE"),
        (["run", "03", "-p", "replica=2"], "Did you mean replicas?"),
        (["run", "00", "-p", "replicas=2"], "No page of this run has a parameter 'replicas'"),
        (["run", "03", "-p", "replicas=two"], "replicas must be int"),
        (["run", "01", "-p", "rebuild=yes"], "rebuild must be true or false"),
        (["run", "00", "-p", "profile=lab/tiny"], "Say --profile lab/tiny"),
        (["run", "00", "-p", "target=lab"], "Say --target lab"),
        (["run", "00", "-p", "run=outputs/x"], "Say --resume outputs/x"),
        (["lab", "status", "--name", "../x"], "can't be the name of a lab"),
        (["repo", "lint", ".", "--backends", ","], "No backend is named"),
    ],
)
def test_what_can_not_mean_anything_ends_with_2_and_says_how_it_is_meant(words, said, run):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert run(*words, "--json")[0] == 2


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["no-such-command"],
        ["plan"],
        ["run"],
        ["run", "00", "--target", "moon"],
        ["run", "00", "--cell-timeout", "soon"],
        ["deploy", "lab/tiny", "--replicas", "0"],
        ["tradeoffs", "lab/tiny", "--requests", "0"],
        ["completion", "ksh"],
        ["schema", "engine"],
    ],
    ids=" ".join,
)
def test_what_the_parser_refuses_ends_with_2(words, run):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "Usage: " in err


# -- what was checked is bad -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        # The words mean something, and name nothing: the error is the profile's, not the use's.
        (["plan", "lab/tny"], "ProfileError", "Did you mean"),
        (["run", "all", "--profile", "tinyy", "--dry-run"], "ProfileError", "lab/tiny"),
        (["plan", "load/lab-closed"], "ProfileError", "is a load profile"),
        (["plan", "llama-7b", "--gpu", "H1000"], "ProfileError", "H1000"),
        (["plan", "llama-7b", "--trtllm", "9.9"], "PlanError", "9.9 is not known"),
        (["run", "04", "-p", "requests=0", "--dry-run"], "ProfileError", "at least 1"),
        (["run", "00", "--resume", "nowhere"], "RecordError", "is not a run"),
        (["record", "verify", "nowhere"], "RecordError", "is not a run"),
        (["engine", "build", "llama-7b"], "PreflightError", "not a folder with files"),
        (["tradeoffs", "llama-7b"], "PlanError", "its track is engine"),
        (["deploy", "lab/tiny"], "LabError", "No lab is up"),
        (["bench", "http://127.0.0.1:1", "--load", "lab-closd"], "ProfileError", "lab-closed"),
    ],
)
def test_an_error_ends_with_1_and_is_json_where_that_is_asked(words, error, said, run):
    code, out, err = run(*words, "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["error"]) == (1, False, error)
    assert said in out
    assert told["what"] in err
    assert run(*words)[:2] == (1, "")


def test_the_rights_of_a_page_are_printed_and_bound_to_an_account(run):
    words = ("roles", "03", "--namespace", "ml-prod", "--service-account", "ci")
    code, out, _ = run(*words, "--storage-secret", "keys", "--json")
    made = json.loads(out)
    assert code == 0
    kinds = [one["kind"] for one in made]
    assert kinds == [
        "Role",
        "ClusterRole",
        *["Role"] * 3,
        *(f"{kind}Binding" for kind in kinds[:5]),
    ]
    assert {one["subjects"][0]["name"] for one in made[5:]} == {"ci"}
    assert run("roles", "02", "--namespace", "ml-prod")[1].startswith("# 02 needs no right")


@pytest.mark.parametrize("words", [["--namespace", "prod"], ["--output", "there"]])
def test_what_only_a_cluster_has_is_refused_for_the_lab(words, run):
    code, _, err = run("deploy", "lab/tiny", "--target", "lab", *words)
    assert code == 2
    assert "has no namespace and no manifests" in err


def test_a_kubeconfig_that_is_not_there_is_told(run, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, _, err = run("status")
    assert code == 1
    assert f"{tmp_path / 'none'} does not exist" in err


def test_a_missing_repository_is_a_finding_of_the_linter(run, tmp_path):
    code, out, _ = run("repo", "lint", tmp_path / "none", "--json")
    told = json.loads(out)
    assert (code, told["ok"]) == (1, False)
    assert told["findings"][0]["severity"] == "error"
    assert "does not exist" in told["findings"][0]["message"]
    assert run("repo", "lint", tmp_path / "none")[0] == 1


def test_a_lab_that_is_down_ends_with_1(run):
    code, out, _ = run("lab", "status", "--json")
    assert code == 1
    assert json.loads(out)["up"] is False


def test_what_was_not_approved_is_shown_before_it_is_refused(run, tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text("track: lab\nmodel_name: tiny-llama\napprove: ask\n")
    table = tmp_path / "table.csv"
    code, out, err = run("tradeoffs", profile, "--output", table, "--json")
    assert (code, json.loads(out)["error"]) == (1, "ApprovalError")
    assert err.startswith("measure  profile")
    assert not table.exists()


def test_a_foreign_table_is_refused_before_anything_is_measured(run, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b\n")
    code, _, err = run("tradeoffs", "lab/tiny", "--output", table)
    assert code == 2
    assert "--output" in err
    assert table.read_text() == "a,b\n"


# -- how it is said --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_errors_are_red_only_where_colour_is_welcome(terminal, environment, coloured, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli._in_colour() is coloured


def test_a_stop_by_hand_is_no_success_and_no_traceback(run, monkeypatch):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "profile_completions", stopped)
    code, out, _ = run("list")
    assert (code, out) == ("Interrupted.", "")


# -- as a program ----------------------------------------------------------------------------------


def program(*words, **environment):
    argv = [str(Path(sys.executable).parent / "runbook"), *words]
    given = os.environ | environment
    return subprocess.run(argv, capture_output=True, text=True, env=given)


def test_the_program_ends_as_it_should_and_says_errors_without_colour():
    done = program("describe", "99")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("There is no page '99'.")
    assert "\x1b" not in done.stderr


def test_bash_gets_a_script_that_it_can_read():
    done = program("completion", "bash")
    assert done.returncode == 0
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0


def test_a_page_is_completed_by_its_name():
    done = program(
        _RUNBOOK_COMPLETE="bash_complete", COMP_WORDS="runbook describe 03", COMP_CWORD="2"
    )
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["plain,03_deploy"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("run al", ["all"]),
        ("plan lab/", ["lab/tiny"]),
        ("run all --profile tensorrt-llm/l", ["tensorrt-llm/llama-7b"]),
    ],
)
def test_what_is_completed_goes_on_from_what_was_typed(typed, offered):
    words = f"runbook {typed}"
    at = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = program(_RUNBOOK_COMPLETE="bash_complete", **at)
    assert done.stdout.splitlines() == [f"plain,{name}" for name in offered]
