"""The text of the manual page sos.conf(5)."""

from __future__ import annotations

from sos.model import config

#: The sections of the page: a title and paragraphs.  Indented lines are printed verbatim.
CONFIGURATION = (
    (
        "Description",
        """
        The API server, and the commands that connect to blob servers, read /etc/sos.conf and
        then ~/.sos.conf, or instead of both the file that --config names. The files list the
        blob servers by group, and can contain settings. The servers of a group replicate
        among themselves, and never with another group. # starts a comment.

        For a single group, list the URLs of its servers, one a line:

            http://a.example:3001
            http://b.example:3001

        For several groups, give each a section:

            [disks-of-2026]
            -: http://a.example:3001
            -: http://b.example:3001   preferred

            [disks-of-2020]
            -: http://c.example:3001   readonly
            -: http://d.example:3001   readonly weight=3

        An unknown word or setting, or a server that is listed twice, is an error. The message
        names the file and the line. twistd sos-api --dump prints the resulting configuration.
        """,
    ),
    (
        "Words after a server",
        """
        preferred: read from this server before the others of its group.

        readonly: read from this server, but never write to it.

        weight=NUMBER: the capacity of this server relative to the others of its group; 1 by
        default. A server of weight 3 gets three times as many blobs as one of weight 1.

        name=NAME: the name by which placement selects this server for blobs; its URL by default.
        When a server moves to another address, keep its name, or set its old URL as its name: then
        no blob has to move.
        """,
    ),
    (
        "Settings",
        f"""
        The section [sos] contains settings, one a line. Each is the default of the sos-api
        option of the same name, which sos-api(8) describes. An option on the command line
        overrides the setting.

            [sos]
            min-copies = 2
            replicate-every = 60

        The settings are: {", ".join(config.SETTINGS)}.

        Sizes are in bytes, or in powers of 1024: 64K, 8M, 5G, 1T. Times are in seconds,
        except unfinished-expiry, which needs a unit: 90s, 15m, 12h, 30d.
        """,
    ),
    (
        "Reloading",
        """
        On SIGHUP an API server reads the files again. It applies changes of the servers and of
        the words after them at once, without losing a request. It applies changed settings when
        you restart it. If a file has an error, the server keeps its configuration, and logs the
        file and the line.
        """,
    ),
)
