"""No policy grants more than is used: a star has its reason beside it."""

import pytest
from deployed import DEPLOY, resources, statements

TEMPLATE = DEPLOY / "cloud.yaml"


def unexplained(text):
    """Lines with a star outside their comment, and nothing behind it that says why."""
    for number, line in enumerate(text.splitlines(), start=1):
        code, mark, why = line.partition("  # ")
        if "*" in code and not code.lstrip().startswith("#") and not (mark and len(why) > 15):
            yield number, line.strip()


def policies():
    body = TEMPLATE.read_text().split("\nResources:\n")[1]
    return body.split("\nOutputs:\n")[0]


def test_every_star_says_why():
    assert list(unexplained(policies())) == []


@pytest.mark.parametrize(
    "line",
    ['Action: "s3:*"', "Action: sqs:*", 'Resource: "*"', 'Resource: "*"  # why', "- kms:Re*"],
)
def test_a_star_without_a_reason_is_found(line):
    assert list(unexplained(line)) == [(1, line)]


def test_no_statement_allows_what_it_does_not_name():
    for name, statement in statements(resources(TEMPLATE)):
        assert not {"NotAction", "NotResource", "NotPrincipal"} & statement.keys(), name


def test_no_role_may_do_everything_of_a_service():
    """Only refusals, and the account's own rights to its key, may be of everything."""
    allowed = [
        (name, action)
        for name, statement in statements(resources(TEMPLATE))
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
        if "*" in action
    ]
    assert allowed == [("Key", "kms:*")]


def test_the_function_reads_no_bucket_and_calls_nobody():
    services = {
        action.split(":")[0]
        for name, statement in statements(resources(TEMPLATE))
        if name == "FunctionRole" and statement["Effect"] == "Allow"
        for action in statement["Action"]
    }
    assert services == {"logs", "sts"}


def test_the_dispatcher_cannot_lift_the_kill_switch():
    rights = {
        action
        for name, statement in statements(resources(TEMPLATE))
        if name == "DispatcherRole"
        for action in statement["Action"]
        if action.startswith("lambda:")
    }
    assert rights == {"lambda:InvokeFunction", "lambda:GetFunctionConfiguration"}
