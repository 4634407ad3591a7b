"""Content-Security-Policies of stored objects, by media type.

A stored object can be anything, even a page with scripts, and all objects share one origin.
So the policy for every type that is not known to be inert is a sandbox in which nothing loads
and nothing runs.  Browsers show audio, video and images in a small document of their own, to
which the policy of the object applies, too (Content Security Policy Level 3, 4.1).  It must
load the object, and style.  ``nosniff`` makes browsers use the type that was checked here.

If a page embeds the object, the policy of the page applies instead.
"""

from __future__ import annotations

_SANDBOX = b"sandbox; default-src 'none'"
# Not a sandbox: its document would have an opaque origin, and could not load the object.
_MEDIA = b"default-src 'none'; media-src 'self'"
_PDF = b"default-src 'none'; object-src 'self'; style-src 'unsafe-inline'"
_IMAGE = b"sandbox; default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"
# An SVG can contain scripts, which do not run in a sandbox.  It loads nothing from outside.
_DRAWING = b"sandbox; default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'"

# Browsers can show plain text in the sandbox.
_POLICIES = {
    **dict.fromkeys(
        (
            b"application/ogg",
            b"audio/3gpp",
            b"audio/aac",
            b"audio/flac",
            b"audio/mp3",
            b"audio/mp4",
            b"audio/mpeg",
            b"audio/ogg",
            b"audio/opus",
            b"audio/vnd.wave",
            b"audio/wav",
            b"audio/wave",
            b"audio/webm",
            b"audio/x-flac",
            b"audio/x-m4a",
            b"audio/x-wav",
            b"video/3gpp",
            b"video/mp4",
            b"video/mpeg",
            b"video/ogg",
            b"video/quicktime",
            b"video/webm",
            b"video/x-m4v",
            b"video/x-matroska",
        ),
        _MEDIA,
    ),
    **dict.fromkeys(
        (
            b"image/apng",
            b"image/avif",
            b"image/bmp",
            b"image/gif",
            b"image/heic",
            b"image/heif",
            b"image/jpeg",
            b"image/jpg",
            b"image/jxl",
            b"image/png",
            b"image/tiff",
            b"image/vnd.microsoft.icon",
            b"image/webp",
            b"image/x-icon",
        ),
        _IMAGE,
    ),
    b"image/svg+xml": _DRAWING,
    b"application/pdf": _PDF,
}


def policy(media_type: bytes) -> bytes:
    """Return the Content-Security-Policy of objects of *media_type*, a Content-Type.

    Its parameters and case are ignored (RFC 9110, 8.3.1).
    """
    essence = media_type.partition(b";")[0].strip(b" \t").lower()
    return _POLICIES.get(essence, _SANDBOX)
