"""What a browser may do with an object that it is sent to, by the type of the object.

A stored object can be anything, a page with scripts as well, and is served from the same
origin as all others.  So the policy of every type that is not known to be inert is a sandbox
in which nothing is loaded and nothing runs.  Browsers show audio, video and images in a small
document of their own, to which the policy of the object applies, too (Content Security Policy
Level 3, 4.1): it needs the object itself, or style.  ``nosniff`` keeps browsers to the type
that was checked here.

A policy applies where the object is the document.  Where a page embeds it, that page's holds.
"""

from __future__ import annotations

_SANDBOX = b"sandbox; default-src 'none'"
# Out of a sandbox, whose origin is no other's, the document could not load what it shows.
_MEDIA = b"default-src 'none'; media-src 'self'"
_PDF = b"default-src 'none'; object-src 'self'; style-src 'unsafe-inline'"
_IMAGE = b"sandbox; default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"
# It can hold scripts, which do not run in a sandbox, and loads nothing that it does not hold.
_DRAWING = b"sandbox; default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'"

# Plain text is shown in the sandbox as well.
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

    Neither its parameters nor its case matter (RFC 9110, 8.3.1).
    """
    essence = media_type.partition(b";")[0].strip(b" \t").lower()
    return _POLICIES.get(essence, _SANDBOX)
