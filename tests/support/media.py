"""Small files of the types that browsers show, made here: all that is to be seen is red."""

from __future__ import annotations

import struct
import zlib

#: Pixels on each side of what is to be seen.
SIDE = 200

#: Records half a second of a red canvas, and returns it in base64.
RECORD_WEBM = """async () => {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("2d");
    const recorder = new MediaRecorder(canvas.captureStream(25), {mimeType: "video/webm"});
    const pieces = [];
    recorder.ondataavailable = event => pieces.push(event.data);
    const stopped = new Promise(resolve => recorder.onstop = resolve);
    recorder.start();
    for (let frame = 0; frame < 20; frame++) {
        context.fillStyle = frame % 2 ? "#f00" : "#f10000";
        context.fillRect(0, 0, canvas.width, canvas.height);
        await new Promise(resolve => setTimeout(resolve, 25));
    }
    recorder.stop();
    await stopped;
    const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
    return btoa(String.fromCharCode(...bytes));
}"""

#: A second of silence: frames of MPEG-1 Layer III, 128 kbit/s, 44.1 kHz, without any data.
MP3 = (b"\xff\xfb\x90\xc4" + bytes(413)) * 40


def svg(more: str = "") -> bytes:
    """Return a red square, coloured by a style sheet, with *more* behind it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE}" height="{SIDE}">'
        f'<style>rect {{ fill: #f00 }}</style><rect id="it" width="{SIDE}" height="{SIDE}"/>'
        f"{more}</svg>"
    ).encode()


def png() -> bytes:
    """Return a red square."""
    row = b"\0" + b"\xff\0\0" * SIDE

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    pixels = zlib.compress(row * SIDE)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


def pdf() -> bytes:
    """Return one page, all of it red."""
    content = b"1 0 0 rg 0 0 %d %d re f" % (SIDE, SIDE)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %d]/Contents 4 0 R>>" % (SIDE, SIDE),
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
    ]
    document = b"%PDF-1.4\n"
    table = b"xref\n0 5\n0000000000 65535 f \n"
    for number, each in enumerate(objects, 1):
        table += b"%010d 00000 n \n" % len(document)
        document += b"%d 0 obj%s endobj\n" % (number, each)
    trailer = b"trailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(document)
    return document + table + trailer
