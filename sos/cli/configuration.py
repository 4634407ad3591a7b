"""What sos.conf(5) says."""

from __future__ import annotations

from sos.model import config

#: The sections of the page: a title, and paragraphs; what is indented stays as it is.
CONFIGURATION = (
    (
        "Description",
        """
        The files /etc/sos.conf and ~/.sos.conf are read, in this order, by the API server
        and by those commands that speak to blob servers; instead of both, the file that
        --config names. They list the blob servers, in groups that replicate among
        themselves and never with another group, and can hold settings. # begins a comment.

        A file that lists servers of one group needs nothing but their URLs, one a line:

            http://a.example:3001
            http://b.example:3001

        Otherwise it has a section for each group:

            [disks-of-2026]
            -: http://a.example:3001
            -: http://b.example:3001   preferred

            [disks-of-2020]
            -: http://c.example:3001   readonly
            -: http://d.example:3001   readonly weight=3

        An unknown word or setting, or a server that is listed twice, is an error; it names
        the file and the line. twistd sos-api --dump prints what was understood.
        """,
    ),
    (
        "Words behind a server",
        """
        preferred: it is read from before the others of its group.

        readonly: it is read from, and never written to.

        weight=NUMBER: it keeps so many times as much as a server without one.

        name=NAME: what decides which objects belong to it, its URL without one. Keep it when the
        host gets another address, and nothing is moved; it may be the URL of before.
        """,
    ),
    (
        "Settings",
        f"""
        The section [sos] holds settings, a line each. They are options of sos-api that
        concern a whole cluster, see sos-api(8) for what they mean; an option wins over the
        setting of the same name.

            [sos]
            min-copies = 2
            replicate-every = 60

        There are: {", ".join(config.SETTINGS)}.

        Sizes can be written 64K, 8M, 5G or 1T, which are powers of 1024; times are in
        seconds.
        """,
    ),
    (
        "Reading it again",
        """
        At SIGHUP an API server reads the files again. Which servers there are, and the
        words behind them, changes without a request being lost; settings change when it is
        started again. A file with a mistake changes nothing, and the log says where that is.
        """,
    ),
)
