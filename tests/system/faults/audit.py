"""Every copy on every server, looked at."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

from sos.model import manifest
from sos.model.manifest import MARK
from tests.support.http import connect


def copies(url: str) -> Counter[str]:
    """Return the ids that the server at *url* has; each is read, and is what it is called."""
    connection = connect(url)
    found: Counter[str] = Counter()
    try:
        connection.request("GET", "/blobs")
        for id in json.loads(connection.getresponse().read()):
            connection.request("GET", f"/blob/{id}")
            response = connection.getresponse()
            body, mark = response.read(), response.getheader(MARK)
            assert response.status == 200, (url, id, response.status, body)
            if mark is None:
                assert hashlib.sha1(body).hexdigest() == id, (url, id)
            else:
                manifest.parse(body, id, mark)
            found[id] += 1
    finally:
        connection.close()
    return found
