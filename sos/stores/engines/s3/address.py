"""The address of a store in a bucket: ``s3://bucket/prefix?endpoint=URL&region=NAME``."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from attrs import frozen

_FORM = "s3://bucket/prefix?endpoint=http://host:port&region=name"
_PORTS = {"http": 80, "https": 443}
_OPTIONS = frozenset(("endpoint", "region"))

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Keys need no percent-encoding, which programs do differently.
_SEGMENT = re.compile(r"(?!\.+$)[A-Za-z0-9._-]+")
_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
# Most bytes of a prefix: S3 keys have up to 1024, and the longest of ours needs the rest.
_MOST_OF_A_PREFIX = 512


@frozen
class S3Address:
    """The address of a store in a bucket; ``str()`` is its URL.

    :param prefix: the prefix of all keys, empty or with a slash at its end.
    :param endpoint: scheme, host and port; None for Amazon's endpoint of the region.
    :param region: None for the region of the environment.
    """

    bucket: str
    prefix: str
    endpoint: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        options = {"endpoint": self.endpoint, "region": self.region}
        query = "&".join(f"{name}={value}" for name, value in options.items() if value)
        return f"s3://{self.bucket}/{self.prefix.rstrip('/')}{'?' if query else ''}{query}"

    def base(self, region: str) -> str:
        """Return the URL of the bucket in *region*, without a slash at its end.

        With an endpoint the bucket is the first part of the path, which needs no DNS name for
        each bucket.
        """
        if self.endpoint is not None:
            return f"{self.endpoint}/{self.bucket}"
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        if "." in self.bucket:  # a certificate for *.s3 does not cover that
            return f"https://s3.{region}.{domain}/{self.bucket}"
        return f"https://{self.bucket}.s3.{region}.{domain}"


def s3_address(text: str) -> S3Address:
    """Parse the URL of a store in a bucket; the message of a ValueError contains no secret."""
    try:
        parts = urlsplit(text)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(f"not a bucket URL; expected {_FORM}") from None
    if "@" in parts.netloc:
        raise ValueError("a bucket URL must not contain keys: put them into the environment")
    if parts.scheme != "s3" or parts.fragment or not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(f"not a bucket URL; expected {_FORM}")
    segments = [each for each in parts.path.split("/") if each]
    prefix = "".join(f"{each}/" for each in segments)
    if len(prefix) > _MOST_OF_A_PREFIX or not all(map(_SEGMENT.fullmatch, segments)):
        raise ValueError(
            "the prefix must consist of letters, digits and ._-/, "
            f"at most {_MOST_OF_A_PREFIX} characters"
        )
    names = [name for name, _ in options]
    for name in names:
        if name not in _OPTIONS:
            raise ValueError(f"{name[:40]!a} is not an option of an s3: store; expected {_FORM}")
        if names.count(name) > 1:
            raise ValueError(f"{name} is given twice")
    given = dict(options)
    region = given.get("region")
    if region is not None and not _REGION.fullmatch(region):
        raise ValueError("a region is a name like eu-central-1")
    endpoint = given.get("endpoint")
    return S3Address(
        parts.netloc, prefix, None if endpoint is None else _endpoint(endpoint), region
    )


def _endpoint(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        port = 0
    if (
        port == 0
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise ValueError("an endpoint must be http://host:port or https://host, without a path")
    # The signed Host header does not contain a default port.
    usual = f":{_PORTS[parts.scheme]}"
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(usual)}"
