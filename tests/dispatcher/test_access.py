"""How clients get in: what the settings say is what aiokafka and aiobotocore are given."""

import asyncio
import ssl

import pytest
import trustme
from aiohttp import web

from dispatcher.access import aws_client, kafka_client
from dispatcher.errors import SettingsError
from dispatcher.settings import Aws, Kafka, load
from dispatcher.sources import open_from, where
from dispatcher.tokens import Tokens
from ingest.errors import SourceError


def kafka(**given):
    return Kafka.model_validate(given)


def test_nothing_set_is_a_plain_connection():
    assert kafka_client("kafka", kafka()) == {"security_protocol": "PLAINTEXT"}
    assert aws_client(Aws.model_validate({})) == {}
    given = Aws.model_validate({"region": "eu-west-1", "endpoint": "http://localhost:1"})
    assert aws_client(given) == {"region_name": "eu-west-1", "endpoint_url": "http://localhost:1"}


def test_user_and_password():
    access = kafka(security="SASL_SSL", username="u", password="hunter2")
    client = kafka_client("kafka", access)
    assert client["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (client["sasl_plain_username"], client["sasl_plain_password"]) == ("u", "hunter2")
    assert isinstance(client["ssl_context"], ssl.SSLContext)
    assert "hunter2" not in repr(access)


def test_certificates_of_our_own(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours = authority.issue_cert("lookback")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    files = {"ca": "ca.pem", "certificate": "cert.pem", "key": "key.pem"}
    access = kafka(security="SSL", **{name: tmp_path / file for name, file in files.items()})
    context = kafka_client("kafka", access)["ssl_context"]
    assert len(context.get_ca_certs()) == 1
    (tmp_path / "key.pem").write_text("rubbish")
    with pytest.raises(SettingsError, match=r"kafka\.key"):
        kafka_client("kafka", access)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"security": "SASL_PLAINTEXT"}, r"kafka\.username and kafka\.password"),
        ({"security": "SASL_SSL", "mechanism": "OAUTHBEARER"}, r"kafka\.token_url"),
        ({"security": "SSL", "ca": "/nowhere/ca.pem"}, r"kafka\.ca"),
    ],
)
def test_what_is_missing_is_named(given, says):
    with pytest.raises(SettingsError, match=says):
        kafka_client("kafka", kafka(**given))


@pytest.fixture
async def token_server():
    """Gives out numbered tokens of `lifetime_s`; notes what it was asked."""
    asked, state = [], {"lifetime_s": 3600, "status": 200}

    async def answer(request):
        asked.append((dict(await request.post()), request.headers["Authorization"]))
        body = {"access_token": f"token-{len(asked)}", "expires_in": state["lifetime_s"]}
        return web.json_response(body, status=state["status"])

    app = web.Application()
    app.router.add_post("/token", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/token", asked, state
    await runner.cleanup()


def oauth(url):
    return kafka(
        security="SASL_SSL",
        mechanism="OAUTHBEARER",
        token_url=url,
        client_id="lookback",
        client_secret="s3cret",
        scope="kafka",
    )


async def test_a_token_is_fetched_once_and_anew_before_it_expires(token_server):
    url, asked, state = token_server
    tokens = kafka_client("kafka", oauth(url))["sasl_oauth_token_provider"]
    assert {await tokens.token() for _ in range(3)} == {"token-1"}
    assert asked[0][0] == {"grant_type": "client_credentials", "scope": "kafka"}
    state["lifetime_s"] = 30  # less than a minute: too short to be kept
    fresh = Tokens(oauth(url))
    assert await fresh.token() == "token-2"
    assert await fresh.token() == "token-3"
    await asyncio.gather(*(tokens.token() for _ in range(5)))
    assert len(asked) == 3


async def test_a_token_that_is_refused_is_told_without_the_secret(token_server):
    url, _, state = token_server
    state["status"] = 401
    with pytest.raises(ConnectionError, match="check the address") as caught:
        await Tokens(oauth(url)).token()
    assert "s3cret" not in str(caught.value)


def test_addresses_of_sources():
    settings = load(None)
    assert open_from("kafka://a:1,b:2/night,other", settings).name == "kafka:night,other"
    assert open_from("sqs://new-images", settings).name == "sqs:new-images"
    assert where("kafka://a:1/night") == "kafka://a:1/night"
    for wrong in ("kafka://host-without-topic", "ftp://x/y", "http://example.org/q"):
        with pytest.raises(SourceError):
            open_from(wrong, settings)
