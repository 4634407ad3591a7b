"""The settings of a cluster: options of ``sos-api``, and lines in ``[sos]`` of ``sos.conf``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from attrs import frozen

from sos.model import ids, metadata
from sos.model.addresses import host, hosts, origins, proxies, shown
from sos.model.cache_address import cache_address
from sos.model.quantities import (
    chunk_size,
    copies,
    duration,
    grace,
    interval,
    limit,
    port,
    seconds,
    timeout,
)

_HEADER_PATTERN = re.compile(r"[Xx]-(?:[!#$%&'+.^_`|~0-9A-Za-z-]+\*?|\*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def algorithm(text: str) -> str:
    """The hash that names new content: ``sha1`` or ``sha256``."""
    if text not in ids.ALGORITHMS:
        raise ValueError(f"{shown(text)} is not one of {', '.join(ids.ALGORITHMS)}")
    return text


def header_patterns(text: str) -> str:
    """Names of X-* headers, or prefixes of names before a ``*``, separated by commas."""
    patterns = list(dict.fromkeys(each.strip() for each in text.split(",")))
    for each in patterns:
        if _HEADER_PATTERN.fullmatch(each) is None:
            raise ValueError(
                f"{shown(each)} is not an X-* header; write it like X-Mime-Type or X-Meta-*"
            )
        if metadata.is_withheld(metadata.canonical_name(each)):
            raise ValueError(
                f"servers do not store {each}: it is for proxies, browsers or credentials"
            )
    return ", ".join(patterns)


def path(text: str) -> str:
    """A file's path, from the root or from the home directory."""
    if not text.startswith(("/", "~/")) or _CONTROL.search(text):
        # Do not quote the text: it may be the secret that belongs into the file.
        raise ValueError("the value is not a path that starts with / or ~/")
    return text


def yes(text: str) -> bool:
    """``yes`` or ``no``."""
    if text not in ("yes", "no"):
        raise ValueError(f"{shown(text)} is neither yes nor no")
    return text == "yes"


@frozen
class Setting:
    """A setting of a cluster: an option of ``sos-api``, and a line in the section ``[sos]``.

    :param convert: returns the value for its text in ``sos.conf``; raises ValueError.
    :param text: its description, for ``--help``.
    :param default: its value if neither sets it.
    :param shown: the default as a user would write it.
    :param option: replaces *convert* on the command line, where paths may be relative.
    """

    convert: Callable[[str], object]
    text: str
    default: object = None
    shown: str | None = None
    option: Callable[[str], object] | None = None

    @property
    def help(self) -> str:
        """Its description and default, for ``--help``."""
        return self.text if self.shown is None else f"{self.text} [default: {self.shown}]"


#: All settings by name: the only place that declares them.
SETTINGS: Mapping[str, Setting] = {
    "api-host": Setting(
        host, "Address to listen on for uploads and downloads.", "0.0.0.0", "0.0.0.0", str
    ),
    "hosts": Setting(
        hosts,
        "Host names to accept in requests, besides localhost and IP addresses, separated by "
        "commas.",
    ),
    "idle-timeout": Setting(timeout, "Seconds until an idle connection is closed.", 75.0, "75"),
    "trusted-proxies": Setting(
        proxies,
        "Proxies whose forwarded client addresses to trust: IP addresses, networks (10.0.0.0/8), "
        "or unix for Unix sockets, separated by commas.",
    ),
    "upload-port": Setting(port, "Port for uploads.", 9991, "9991"),
    "download-port": Setting(port, "Port for downloads.", 9992, "9992"),
    "admin-port": Setting(
        port,
        "Admin port on 127.0.0.1, for the dashboard, /status and /metrics; 0 for none.",
        9993,
        "9993",
    ),
    "write-copies": Setting(
        copies,
        "Write quorum: the number of copies to store before an upload is acknowledged.",
        1,
        "1",
    ),
    "min-copies": Setting(copies, "Number of copies of each blob to keep in its group.", 2, "2"),
    "replicate-every": Setting(
        seconds, "Seconds between anti-entropy passes; 0 for none.", 60.0, "60"
    ),
    "replicate-rate": Setting(
        limit, "Bytes per second that anti-entropy passes may copy (64K, 8M); by default unlimited."
    ),
    "hash": Setting(
        algorithm, "Hash for the ids of new objects: sha1 or sha256.", ids.DEFAULT_ALGORITHM, "sha1"
    ),
    "max-size": Setting(
        limit, "Largest upload to accept, in bytes (64K, 8M, 5G); by default unlimited."
    ),
    "kept-headers": Setting(
        header_patterns,
        "X-* headers of uploads to store, separated by commas (X-Mime-Type, X-Meta-*); by default "
        "all but those of proxies, browsers and credentials.",
    ),
    "cors-origins": Setting(
        origins,
        "Web origins whose pages may upload and download, separated by commas "
        "(https://app.example); * lets all pages download.",
    ),
    "chunk-size": Setting(
        chunk_size,
        "Split larger objects into chunks of this many bytes (64K or more); 0 for no chunks.",
        8 << 20,
        "8M",
    ),
    "cache": Setting(
        cache_address,
        "Shared cache for the locations of blobs and for small blobs: memcached://host:port or "
        "redis://host:port/database.",
    ),
    "secret-file": Setting(
        path,
        "File of the secret keys with which API servers sign requests to blob servers.",
        option=str,
    ),
    "token-file": Setting(
        path, "File of the access tokens. Clients need one to upload.", option=str
    ),
    "private-reads": Setting(
        yes, "Require a token or a signed link for downloads, not only for uploads.", False
    ),
    "allow-delete": Setting(
        yes, "Let clients delete objects; with a token-file, those with the scope delete.", False
    ),
    "min-retention": Setting(
        duration,
        "Delete no object that was uploaded less than this long ago (12h, 30d); by default none "
        "is too young.",
        0,
    ),
    "gc-every": Setting(
        interval, "Time between garbage collections (12h, 7d); 0 for none.", 86_400, "1d"
    ),
    "gc-grace": Setting(
        grace,
        "Remove no chunk that was stored less than this long ago: at least 1h, and twice as long "
        "as uploads may take.",
        7 * 86_400,
        "7d",
    ),
    "tombstone-age": Setting(
        grace, "Forget deletions after this time, once all servers have them.", 30 * 86_400, "30d"
    ),
    "cache-max-age": Setting(
        duration,
        "How long caches and browsers may keep an object without asking again (15m, 30d).",
        365 * 86_400,
        "365d",
    ),
    "tls-certificate": Setting(
        path, "Serve HTTPS with the certificate in this file (PEM).", option=str
    ),
    "tls-key": Setting(
        path, "File of the private key of tls-certificate, if not in the same file.", option=str
    ),
    "tls-client-ca": Setting(
        path, "Require a client certificate that a CA in this file has signed (PEM).", option=str
    ),
    "tls-ca": Setting(
        path,
        "Trust only https blob servers with a certificate from a CA in this file (PEM); by default "
        "from a CA that the system trusts.",
        option=str,
    ),
    "tls-client-certificate": Setting(
        path, "Present the certificate in this file to https blob servers (PEM).", option=str
    ),
    "tls-client-key": Setting(
        path,
        "File of the private key of tls-client-certificate, if not in the same file.",
        option=str,
    ),
    "unfinished-dir": Setting(
        path, "Enable resumable uploads (tus), and store their parts in this directory.", option=str
    ),
    "unfinished-limit": Setting(
        limit, "Most bytes that the parts of resumable uploads may take (8M, 5G).", 64 << 30, "64G"
    ),
    "unfinished-expiry": Setting(
        duration,
        "Time without progress after which a resumable upload is deleted (15m, 12h, 30d).",
        86_400,
        "1d",
    ),
}
