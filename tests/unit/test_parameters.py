import nbformat
import pytest
from papermill.inspection import _infer_parameters
from papermill.utils import find_first_tagged_cell_index

from runbook_lib.errors import ProfileError, UsageError
from runbook_lib.parameters import PAGES, page_named, parameters_cell, parse_assignments, validate


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_papermill_reads_every_parameter_of_a_page(page):
    cell = nbformat.v4.new_code_cell(parameters_cell(page), metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(
        cells=[cell],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    assert find_first_tagged_cell_index(notebook, "parameters") == 0
    found = {one.name: (one.inferred_type_name, one.help) for one in _infer_parameters(notebook)}
    assert found == {one.name: (one.type, one.help) for one in page.parameters}


@pytest.mark.parametrize("name", ["03_deploy", "03", "deploy", "notebooks/03_deploy.ipynb"])
def test_a_page_is_found_by_name_number_or_word(name):
    assert page_named(name).name == "03_deploy"


def test_an_unknown_page_names_the_nearest():
    with pytest.raises(UsageError, match="no page 'deplyo'") as caught:
        page_named("deplyo")
    assert "03_deploy" in caught.value.fix


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"replicas": "2"}, "replicas must be int, not str"),
        ({"replicas": True}, "replicas must be int, not bool"),
        ({"replicas": 0}, "at least 1"),
        ({"replicas": 99}, "at most 8"),
        ({"target": "moon"}, "one of lab, kserve"),
        ({"replcas": 2}, "replcas is no parameter"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(values, problem):
    with pytest.raises(ProfileError) as caught:
        validate(page_named("03_deploy"), values)
    assert problem in caught.value.why


def test_all_wrong_parameters_are_told_at_once():
    with pytest.raises(ProfileError) as caught:
        validate(page_named("03_deploy"), {"replicas": "x", "target": "moon", "nope": 1})
    assert caught.value.why.count(";") == 2


def test_not_a_number_is_no_rate():
    with pytest.raises(ProfileError):
        validate(page_named("04_benchmark"), {"rate": float("nan")})


def test_values_of_the_command_line_get_the_type_of_the_schema():
    values = parse_assignments(
        ["04_benchmark", "01_build_engine"], {"rate": "1e3", "rebuild": "TRUE", "profile": "007"}
    )
    assert values == {"rate": 1000.0, "rebuild": True, "profile": "007"}


@pytest.mark.parametrize("text", ["abc", "", "1.5", "1_0x"])
def test_text_that_is_no_whole_number_is_refused(text):
    with pytest.raises(UsageError, match="must be int"):
        parse_assignments(["03_deploy"], {"replicas": text})


def test_an_unknown_assignment_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        parse_assignments(["03_deploy"], {"replica": "2"})
    assert "replicas" in caught.value.fix
