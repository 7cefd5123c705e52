"""How clients get in: settings turned into the arguments of aiokafka and aiobotocore."""

from __future__ import annotations

import ssl
from typing import Any

from dispatcher.errors import SettingsError
from dispatcher.settings import Aws, Kafka, KafkaOut


def kafka_client(section: str, access: Kafka | KafkaOut) -> dict[str, Any]:
    """Arguments for a client of aiokafka; `section`: name of the settings, for errors.

    Raises:
        SettingsError: something is missing, or a certificate cannot be read.
    """
    client: dict[str, Any] = {"security_protocol": access.security}
    if "SSL" in access.security:
        client["ssl_context"] = _tls(section, access)
    if access.security.startswith("SASL"):
        client |= _sasl(section, access)
    return client


def aws_client(aws: Aws) -> dict[str, Any]:
    """Arguments for `create_client` of aiobotocore; what is unset comes from the environment."""
    given = {"region_name": aws.region, "endpoint_url": aws.endpoint}
    return {name: value for name, value in given.items() if value is not None}


def _tls(section: str, access: Kafka | KafkaOut) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=access.ca)
        if access.certificate:
            context.load_cert_chain(access.certificate, access.key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{section}: a certificate cannot be read ({error}): "
            f"check {section}.ca, {section}.certificate and {section}.key"
        ) from error
    return context


def _sasl(section: str, access: Kafka | KafkaOut) -> dict[str, Any]:
    if access.mechanism == "OAUTHBEARER":
        needed = (access.token_url, access.client_id, access.client_secret)
        if None in needed:
            raise SettingsError(
                f"OAUTHBEARER needs {section}.token_url, {section}.client_id and "
                f"{section}.client_secret"
            )
        from dispatcher.tokens import Tokens  # late: aiokafka takes its time to load

        return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": Tokens(access)}
    if access.username is None or access.password is None:
        raise SettingsError(f"{access.mechanism} needs {section}.username and {section}.password")
    return {
        "sasl_mechanism": access.mechanism,
        "sasl_plain_username": access.username,
        "sasl_plain_password": access.password.get_secret_value(),
    }
