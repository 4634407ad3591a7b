"""Credentials for S3, and request signatures (AWS Signature Version 4).

botocore finds the keys in the usual places, and signs.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from attrs import field, frozen
from botocore.auth import S3SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import (  # type: ignore[import-untyped]
    Credentials,
    RefreshableCredentials,
)
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
from botocore.session import Session  # type: ignore[import-untyped]

from sos.errors import StoreUnusable

#: The region of a bucket by default.
DEFAULT_REGION = "us-east-1"


@frozen
class Identity:
    """The credentials and the region that sign requests."""

    credentials: Credentials = field(repr=False)
    region: str

    @property
    def may_block(self) -> bool:
        """Whether signing can block, because it may fetch new keys first."""
        return isinstance(self.credentials, RefreshableCredentials)

    def sign(
        self, method: str, url: str, query: dict[str, str], fields: dict[str, str], hash: str
    ) -> tuple[str, dict[str, str]]:
        """Return the URL of a request with its query, and its headers with the signature.

        :param hash: the SHA-256 of its body in hex, which the server verifies.
        """
        ordered = urlencode(sorted(query.items()), safe="-_.~")
        url = f"{url}?{ordered}" if ordered else url
        request = AWSRequest(method=method, url=url, headers=fields)
        _Auth(self.credentials.get_frozen_credentials(), "s3", self.region, hash).add_auth(request)
        return url, dict(request.headers.items())


class _Auth(S3SigV4Auth):
    """A signer that uses the known hash of the body."""

    def __init__(self, credentials: Any, service: str, region: str, hash: str) -> None:
        super().__init__(credentials, service, region)
        self._hash = hash

    def payload(self, request: Any) -> str:
        return self._hash


def find_identity(region: str | None) -> Identity:
    """Find keys and region in the environment, in ``~/.aws`` or from a metadata service.

    It may block. Raises StoreUnusable if there are no keys.
    """
    try:
        session = Session()
        credentials = session.get_credentials()
        region = region or session.get_config_variable("region") or DEFAULT_REGION
    except BotoCoreError as error:
        raise StoreUnusable(f"cannot read the S3 keys: {error}") from None
    if credentials is None:
        raise StoreUnusable(
            "no S3 keys found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE to a profile in ~/.aws/credentials"
        )
    return Identity(credentials, region)
