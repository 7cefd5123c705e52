"""The cloud template is right, and makes what it says in an account."""

import json
from types import SimpleNamespace

import pytest
from botocore.session import get_session
from cfnlint.api import lint_file
from deployed import DEPLOY, resources
from parts.aws import ACCESS, ministack

from dispatcher.invokers.pointers import PAYLOADS, Pointers

TEMPLATE = DEPLOY / "cloud.yaml"
STACK = "lookback-test"
REGION = "us-east-1"
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/lookback@sha256:{'0' * 64}"


def test_the_template_has_nothing_that_cfn_lint_finds():
    assert [str(each) for each in lint_file(TEMPLATE)] == []


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """Makes clients of an empty account."""
    with ministack(tmp_path_factory.mktemp("cloud")) as server:
        at = {"endpoint_url": f"http://{server.address}"}
        yield lambda service: get_session().create_client(service, **at, **ACCESS)


def make(account, stack, **parameters):
    """Make the stack, or make it anew; its outputs, and the names that its resources got."""
    cloud = account("cloudformation")
    given = {"ImageUri": IMAGE, "AlarmEmail": "night@example.org", "MonthlyUsd": 0} | parameters
    change = cloud.update_stack if stack in names(cloud) else cloud.create_stack
    change(
        StackName=stack,
        TemplateBody=TEMPLATE.read_text(),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": k, "ParameterValue": str(v)} for k, v in given.items()],
    )
    done = cloud.get_waiter(f"stack_{change.__name__.removesuffix('_stack')}_complete")
    done.wait(StackName=stack, WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})
    (found,) = cloud.describe_stacks(StackName=stack)["Stacks"]
    made = cloud.describe_stack_resources(StackName=stack)["StackResources"]
    return SimpleNamespace(
        outputs={each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]},
        ids={each["LogicalResourceId"]: each["PhysicalResourceId"] for each in made},
    )


def names(cloud):
    return {each["StackName"] for each in cloud.describe_stacks()["Stacks"]}


@pytest.fixture(scope="module")
def stack(account):
    """The stack as it is by default, but for the budget, which this account cannot have."""
    return make(account, STACK)


def policies(account, role):
    iam = account("iam")
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        yield from iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"][
            "Statement"
        ]


def rights(account, role):
    for each in policies(account, role):
        actions = [each["Action"]] if isinstance(each["Action"], str) else each["Action"]
        yield from ((action, each["Resource"]) for action in actions)


def test_everything_is_made_and_nothing_that_was_not_asked_for(account, stack):
    optional = {n for n, each in resources(TEMPLATE).items() if "Condition" in each}
    assert resources(TEMPLATE).keys() - optional <= stack.ids.keys()
    assert optional & stack.ids.keys() == {"ImageTopic", "DispatcherProfile"}


def test_the_function_is_one_processor_and_an_image_by_digest(account, stack):
    found = account("lambda").get_function(FunctionName=stack.outputs["FunctionName"])
    assert found["Code"]["ImageUri"] == IMAGE
    assert found["Configuration"]["MemorySize"] == 1769
    assert found["Configuration"]["Timeout"] == 90
    assert found["Configuration"]["Environment"]["Variables"] == {
        "LOOKBACK_WEIGHTS": "galaxies",
        "LOOKBACK_PRECISION": "float32",
        "LOOKBACK_PAYLOADS": f"https://{stack.ids['PayloadBucket']}.s3.{REGION}.amazonaws.com/",
    }


def test_the_alias_is_a_version_that_was_published(account, stack):
    alias = account("lambda").get_alias(FunctionName=STACK, Name="live")
    assert alias["FunctionVersion"] == "1"
    assert stack.outputs["AliasArn"] == alias["AliasArn"]


def test_the_queue_gives_up_into_another_one(account, stack):
    sqs = account("sqs")

    def of(name):
        return sqs.get_queue_attributes(QueueUrl=stack.ids[name], AttributeNames=["All"])[
            "Attributes"
        ]

    queue, dead = of("Queue"), of("DeadLetterQueue")
    redrive = json.loads(queue["RedrivePolicy"])
    assert redrive == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 8}
    assert json.loads(dead["RedriveAllowPolicy"])["sourceQueueArns"] == [queue["QueueArn"]]
    assert queue["KmsMasterKeyId"] == dead["KmsMasterKeyId"] == stack.ids["Key"]


def test_a_notice_of_the_topic_arrives_in_the_queue(account, stack):
    account("sns").publish(TopicArn=stack.outputs["Topic"], Message="a new image")
    (got,) = account("sqs").receive_message(QueueUrl=stack.ids["Queue"])["Messages"]
    assert json.loads(got["Body"])["Message"] == "a new image"


def test_only_the_topic_may_write_to_the_queue(account, stack):
    found = account("sqs").get_queue_attributes(
        QueueUrl=stack.ids["Queue"], AttributeNames=["Policy"]
    )
    (allowed,) = [
        each
        for each in json.loads(found["Attributes"]["Policy"])["Statement"]
        if each["Effect"] == "Allow"
    ]
    assert allowed["Principal"] == {"Service": "sns.amazonaws.com"}
    assert allowed["Condition"]["ArnEquals"]["aws:SourceArn"] == stack.outputs["Topic"]


def test_payloads_are_private(account, stack):
    s3, bucket = account("s3"), stack.ids["PayloadBucket"]
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    refused = [
        each["Condition"]
        for each in json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
        if each["Effect"] == "Deny" and each["Action"] == "s3:*"
    ]
    assert {"Bool": {"aws:SecureTransport": "false"}} in refused
    assert stack.outputs["Bucket"] == f"s3://{bucket}"


async def test_the_function_reads_the_addresses_that_it_is_sent_and_no_others(account, stack):
    bucket = stack.ids["PayloadBucket"]
    client = {"region_name": REGION, "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    pointers = Pointers(bucket, "", "run", None, client)
    await pointers.connect()
    address = await pointers.signed("payloads/run/0")
    await pointers.close()
    function = account("lambda").get_function_configuration(FunctionName=STACK)
    allowed = function["Environment"]["Variables"]["LOOKBACK_PAYLOADS"]
    assert allowed.endswith("/")
    assert address.startswith(allowed)


def test_the_function_may_write_its_log_and_nothing_else(account, stack):
    (logs,) = account("logs").describe_log_groups(logGroupNamePrefix="/lookback/")["logGroups"]
    assert logs["retentionInDays"] == 30
    assert set(rights(account, stack.ids["FunctionRole"])) == {
        ("logs:CreateLogStream", logs["arn"]),
        ("logs:PutLogEvents", logs["arn"]),
    }


def test_the_dispatcher_has_the_rights_that_are_used_and_each_on_one_thing(account, stack):
    queue = account("sqs").get_queue_attributes(
        QueueUrl=stack.ids["Queue"], AttributeNames=["QueueArn"]
    )["Attributes"]["QueueArn"]
    bucket = f"arn:aws:s3:::{stack.ids['PayloadBucket']}"
    key = account("kms").describe_key(KeyId=stack.ids["Key"])["KeyMetadata"]["Arn"]
    assert set(rights(account, stack.ids["DispatcherRole"])) == {
        *((f"lambda:{each}", stack.outputs["AliasArn"]) for each in ("InvokeFunction", _LOOK)),
        *((f"sqs:{each}", queue) for each in _OF_THE_QUEUE),
        *((f"s3:{each}Object", f"{bucket}/payloads/*") for each in ("Put", "Get", "Delete")),
        *((f"s3:{each}Object", f"{bucket}/weights/*") for each in ("Put", "Get")),
        ("s3:ListBucket", bucket),
        ("kms:GenerateDataKey", key),
        ("kms:Decrypt", key),
    }


_LOOK = "GetFunctionConfiguration"
_OF_THE_QUEUE = ("GetQueueUrl", "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility")


def test_the_kill_switch_is_for_people(account, stack):
    iam = account("iam")
    found = iam.get_policy_version(PolicyArn=stack.outputs["KillSwitchArn"], VersionId="v1")
    (statement,) = found["PolicyVersion"]["Document"]["Statement"]
    assert "lambda:PutFunctionConcurrency" in statement["Action"]
    assert statement["Resource"].endswith(f":function:{STACK}")
    dispatcher = {action for action, _ in rights(account, stack.ids["DispatcherRole"])}
    assert "lambda:PutFunctionConcurrency" not in dispatcher


def test_somebody_is_told(account, stack):
    alarms = account("cloudwatch").describe_alarms()["MetricAlarms"]
    assert {each["MetricName"] for each in alarms} == {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesVisible",
        "Throttles",
        "Errors",
    }
    assert {tuple(each["AlarmActions"]) for each in alarms} == {(stack.ids["AlarmTopic"],)}


def test_another_image_is_another_version_and_the_alias_moves(account):
    make(account, "lookback-again")
    anew = make(account, "lookback-again", ImageUri=IMAGE.replace("sha256:0", "sha256:1"))
    client, name = account("lambda"), anew.outputs["FunctionName"]
    versions = client.list_versions_by_function(FunctionName=name)["Versions"]
    assert {"1", "2"} <= {each["Version"] for each in versions}
    assert client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "2"


def test_environments_are_kept_warm_if_somebody_pays(account):
    made = make(account, "lookback-warm", ProvisionedConcurrency=3)
    found = account("lambda").get_provisioned_concurrency_config(
        FunctionName=made.outputs["FunctionName"], Qualifier="live"
    )
    assert found["RequestedProvisionedConcurrentExecutions"] == 3


def test_results_and_stamps_have_rights_of_their_own(account):
    made = make(account, "lookback-more", ResultsBucket="yes", StampsBucket="survey-stamps")
    given = set(rights(account, made.ids["DispatcherRole"]))
    assert ("s3:GetObject", "arn:aws:s3:::survey-stamps/*") in given
    assert ("s3:PutObject", f"arn:aws:s3:::{made.ids['Results']}/*") in given
    assert made.outputs["ResultsAt"] == f"s3://{made.ids['Results']}"


# What the emulated account cannot show is looked up in the template: encryption and lives of
# objects, concurrency, budgets, and rules between security groups.


@pytest.fixture(scope="module")
def template():
    """The properties of every resource."""
    return {name: each["Properties"] for name, each in resources(TEMPLATE).items()}


@pytest.mark.parametrize("name", ["PayloadBucket", "Results"])
def test_buckets_are_encrypted_with_the_key(template, name):
    (rule,) = template[name]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": {"Fn::GetAtt": ["Key", "Arn"]},
    }


def test_payloads_are_short_lived(template):
    (rule,) = template["PayloadBucket"]["LifecycleConfiguration"]["Rules"]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 1)
    assert rule["Prefix"] == PAYLOADS


def test_concurrency_is_reserved(template):
    assert template["Function"]["ReservedConcurrentExecutions"] == {"Ref": "ReservedConcurrency"}


def test_the_budget_takes_one_right_from_the_dispatcher(template):
    (denied,) = template["NoMoreCalls"]["PolicyDocument"]["Statement"]
    assert (denied["Effect"], denied["Action"]) == ("Deny", "lambda:InvokeFunction")
    cut_off = template["CutOff"]
    assert cut_off["ApprovalModel"] == "AUTOMATIC"
    assert cut_off["Definition"]["IamActionDefinition"] == {
        "PolicyArn": {"Ref": "NoMoreCalls"},
        "Roles": [{"Ref": "DispatcherRole"}],
    }
    (grant,) = template["BudgetRole"]["Policies"][0]["PolicyDocument"]["Statement"]
    assert grant["Condition"] == {"ArnEquals": {"iam:PolicyARN": {"Ref": "NoMoreCalls"}}}


def test_only_ranks_come_to_the_rendezvous(template):
    rule = template["RendezvousIn"]
    assert (rule["FromPort"], rule["ToPort"]) == (7711, 7711)
    assert rule["SourceSecurityGroupId"] == {"Fn::GetAtt": ["FunctionGroup", "GroupId"]}
    open_to_all = [
        name
        for name, each in template.items()
        if "CidrIp" in str(each.get("SecurityGroupIngress", ""))
    ]
    assert open_to_all == []
