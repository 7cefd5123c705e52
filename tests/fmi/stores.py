"""Fixtures: the stores that the channels through a store are tested on, one of each a run."""

import boto3
import pytest
from servers import s3, valkey

from fmi.channels.redis import Redis
from fmi.channels.s3 import S3

BUCKET = "messages"


@pytest.fixture(scope="session")
def valkey_server():
    with valkey() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server():
    with pytest.MonkeyPatch.context() as environment, s3() as server:
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        client_of(server).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        yield server


def client_of(server):
    return boto3.client("s3", endpoint_url=server.url)


@pytest.fixture
def through_redis(valkey_server):
    return Redis(valkey_server.url)


@pytest.fixture
def through_s3(s3_server):
    return S3(BUCKET, endpoint_url=s3_server.url)


@pytest.fixture(params=["redis", "s3"])
def store(request):
    return request.getfixturevalue(f"through_{request.param}")
