"""Who we are to S3, and the signature under each request: version 4 of Amazon's.

botocore finds the keys, where every program of the kind finds them, and signs.
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

#: Where a bucket is when nothing says otherwise.
DEFAULT_REGION = "us-east-1"


@frozen
class Identity:
    """What requests are signed with.

    :param region: that is signed for.
    """

    credentials: Credentials = field(repr=False)
    region: str

    @property
    def may_block(self) -> bool:
        """Whether to sign may be to ask somewhere for new keys first."""
        return isinstance(self.credentials, RefreshableCredentials)

    def sign(
        self, method: str, url: str, query: dict[str, str], fields: dict[str, str], hash: str
    ) -> tuple[str, dict[str, str]]:
        """Return the whole URL of a request, and its headers with the signature among them.

        :param hash: the SHA-256 of its body in hex, which the server compares.
        """
        ordered = urlencode(sorted(query.items()), safe="-_.~")
        url = f"{url}?{ordered}" if ordered else url
        request = AWSRequest(method=method, url=url, headers=fields)
        _Auth(self.credentials.get_frozen_credentials(), "s3", self.region, hash).add_auth(request)
        return url, dict(request.headers.items())


class _Auth(S3SigV4Auth):
    """Signs a body whose hash is known."""

    def __init__(self, credentials: Any, service: str, region: str, hash: str) -> None:
        super().__init__(credentials, service, region)
        self._hash = hash

    def payload(self, request: Any) -> str:
        return self._hash


def find_identity(region: str | None) -> Identity:
    """Look for keys and region in the environment, the files of ``~/.aws``, and what serves them.

    It may block.  Raises StoreUnusable when there are none.
    """
    try:
        session = Session()
        credentials = session.get_credentials()
        region = region or session.get_config_variable("region") or DEFAULT_REGION
    except BotoCoreError as error:
        raise StoreUnusable(f"the keys for s3: cannot be read: {error}") from None
    if credentials is None:
        raise StoreUnusable(
            "there are no keys for s3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE to a profile in ~/.aws/credentials"
        )
    return Identity(credentials, region)
