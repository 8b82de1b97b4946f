import pytest

from runbook_lib.record.masking import masked, secret_values


@pytest.mark.parametrize(
    "name",
    [
        *(
            "HF_TOKEN",
            "NGC_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "aws_access_key_id",
        ),
        *("DB_PASSWORD", "PGPASSWD", "SSH_PASSPHRASE", "SMTP_PASS", "GOOGLE_CREDENTIALS", "APIKEY"),
        *("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_KEY", "CLIENT_SECRET", "SIGNING_KEY"),
    ],
)
def test_a_variable_whose_name_says_so_is_secret(name):
    assert "hush-hush" in secret_values({name: "hush-hush"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOME", "hush-hush"),
        ("TOKENIZERS_PARALLELISM", "whatever"),
        ("MAX_NUM_TOKENS", "131072"),
        ("DB_PASSWORD", "short"),
        ("DB_PASSWORD", "stream"),
        ("DB_PASSWORD", "complete"),
        ("WEB_IDENTITY_TOKEN_FILE", "run/secrets/token"),
        ("SECRETS_DIR", "/no/such/place"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/key.json"),
    ],
)
def test_other_values_are_left_alone(name, value):
    assert secret_values({name: value}) == ()


def test_a_secret_that_begins_with_a_slash_is_no_path():
    assert "/wJalrXUtn/FEMI" in secret_values({"AWS_SECRET_ACCESS_KEY": "/wJalrXUtn/FEMI"})


def test_the_longest_goes_first_so_that_no_rest_of_it_stays():
    secrets = secret_values({"A_TOKEN": "abcdef", "B_TOKEN": "abcdefgh"})
    assert masked("abcdefgh abcdef", secrets) == "[masked] [masked]"


@pytest.mark.parametrize(
    "spelled",
    [
        '{"a": "p\\u00e4\\"ss\'/<w>\\n+ "}',
        "{'a': 'pä\"ss\\'/<w>\\n+ '}",
        "?a=p%C3%A4%22ss%27%2F%3Cw%3E%0A%2B%20",
        "?a=p%C3%A4%22ss%27%2F%3Cw%3E%0A%2B+",
        "<td>pä&quot;ss&#x27;/&lt;w&gt;\n+ </td>",
        "cMOkInNzJy88dz4KKyA=",
    ],
    ids=["json", "repr", "url", "form", "html", "base64"],
)
def test_the_usual_spellings_of_a_secret_are_masked_too(spelled):
    kept = masked(spelled, secret_values({"A_TOKEN": "pä\"ss'/<w>\n+ "}))
    assert "[masked]" in kept
    assert "ss" not in kept
    assert "zJy88" not in kept


def test_lists_mappings_and_their_keys_are_masked_and_the_rest_is_kept():
    value = {"hush-hush": ["a hush-hush b", 3, None, {"x": ("hush-hush",)}]}
    kept = {"[masked]": ["a [masked] b", 3, None, {"x": ["[masked]"]}]}
    assert masked(value, ["hush-hush"]) == kept
    assert "hush-hush" in value
