"""Calls the endpoint with boto3, as configured by the environment alone, and
prints what came of each call as one JSON object."""

import datetime
import json

import boto3
import botocore.auth
from botocore.exceptions import ClientError


def call(client, operation, **kwargs):
    try:
        answer = getattr(client, operation)(**kwargs)
    except ClientError as err:
        answer = {**err.response["Error"], **err.response}
        answer.pop("Error", None)
    meta = answer.pop("ResponseMetadata")
    answer["status"] = meta["HTTPStatusCode"]
    answer["retries"] = meta["RetryAttempts"]
    answer["has_request_id"] = len(meta.get("RequestId", "")) == 36
    return answer


def signed(hours, client, operation, **kwargs):
    """Signs with a clock that is wrong by that many hours."""
    now = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *a, **k: now(*a, **k) + datetime.timedelta(hours=hours)
    try:
        return call(client, operation, **kwargs)
    finally:
        botocore.auth.get_current_datetime = now


client = boto3.client("secretsmanager")
with_key = lambda key_id, key: boto3.client("secretsmanager", aws_access_key_id=key_id, aws_secret_access_key=key)
print(json.dumps({
    "get": call(client, "get_secret_value", SecretId="prod/db"),
    "get stage": call(client, "get_secret_value", SecretId="prod/db", VersionStage="AWSCURRENT"),
    "binary": call(client, "get_secret_value", SecretId="prod/bin"),
    "describe": call(client, "describe_secret", SecretId="prod/db"),
    "batch": call(client, "batch_get_secret_value", SecretIdList=["prod/db", "other", "unknown"]),
    "not allowed": call(client, "get_secret_value", SecretId="other"),
    "unknown": call(client, "get_secret_value", SecretId="unknown"),
    "no such stage": call(client, "get_secret_value", SecretId="prod/db", VersionStage="NONE"),
    "put": call(client, "put_secret_value", SecretId="prod/db", SecretString="x"),
    "create": call(client, "create_secret", Name="new", SecretString="x"),
    "delete": call(client, "delete_secret", SecretId="prod/db"),
    "list": call(client, "list_secrets"),
    "wrong key": call(with_key("web", "0" * 64), "get_secret_value", SecretId="prod/db"),
    "wrong client": call(with_key("nobody", "0" * 64), "get_secret_value", SecretId="prod/db"),
    "an hour late": signed(-1, client, "get_secret_value", SecretId="prod/db"),
    "an hour early": signed(1, client, "get_secret_value", SecretId="prod/db"),
}, default=lambda v: v.hex() if isinstance(v, bytes) else v.isoformat()))
