"""What Lambda and S3 refuse, and what a person does about it.

Error codes as in AWS's API references (Lambda "Invoke", "Common errors"; S3 "Error responses").
"""

from __future__ import annotations

from typing import Final

from botocore.exceptions import ClientError

FULL: Final = frozenset(
    {
        "TooManyRequestsException",
        "EC2ThrottledException",
        "ENILimitReachedException",
        "SubnetIPAddressLimitReachedException",
        "ResourceNotReadyException",
        "SnapStartNotReadyException",
        "ThrottlingException",
        "SlowDown",
    }
)
"""Codes that say "not now": nothing was run, and it may be otherwise in a moment."""

ADVICE: Final = "check [functions] and [aws] in the settings, and the credentials"

_WHAT_TO_DO: Final = {
    "AccessDeniedException": "give the dispatcher's role lambda:InvokeFunction and "
    "lambda:GetFunctionConfiguration on this alias",
    "AccessDenied": "give the dispatcher's role s3:PutObject, s3:GetObject and s3:DeleteObject "
    "below functions.bucket",
    "ResourceNotFoundException": "deploy it, or mend functions.name and functions.alias",
    "NoSuchBucket": "create the bucket again (deploy/cloud.yaml does), or mend functions.bucket",
    "ExpiredTokenException": "get new credentials: those of this process have expired",
    "ExpiredToken": "get new credentials: those of this process have expired",
    "UnrecognizedClientException": "mend the credentials: AWS does not know these",
    "InvalidSignatureException": "mend the secret of the credentials, or the clock of this machine",
    "RequestTooLargeException": "set functions.bucket for large batches, or make batch.items "
    "smaller",
    "KMSAccessDeniedException": "let the function's role use the key of its environment",
    "KMSDisabledException": "enable the key of the function's environment",
}


def refusal(error: ClientError) -> str:
    """One line: what was refused, and what to do."""
    said = error.response.get("Error", {})
    code, message = said.get("Code", "unknown"), said.get("Message", "")
    advice = _WHAT_TO_DO.get(code, ADVICE)
    return f"{error.operation_name} was refused ({code}: {message}): {advice}"
