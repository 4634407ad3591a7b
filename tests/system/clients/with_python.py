"""Send one request with requests, httpx or aiohttp: LIBRARY METHOD URL OUTPUT BODY RANGE CA."""

import asyncio
import ssl
import sys

library, method, url, output, body, span, ca = sys.argv[1:]
headers = {} if span == "-" else {"Range": f"bytes={span}"}
trusted = True if ca == "-" else ca


def pieces():
    with open(body, "rb") as file:
        while piece := file.read(65536):
            yield piece


def print_answer(status, length):
    print(status, length or "-")


def with_requests():
    import requests

    data = None if body == "-" else open(body, "rb")  # noqa: SIM115
    with (
        requests.request(
            method, url, headers=headers, data=data, stream=True, verify=trusted, timeout=60
        ) as answer,
        open(output, "wb") as file,
    ):
        for piece in answer.iter_content(65536):
            file.write(piece)
        print_answer(answer.status_code, answer.headers.get("Content-Length"))


def with_httpx():
    import httpx

    data = None if body == "-" else pieces()
    verify = True if ca == "-" else ssl.create_default_context(cafile=ca)
    with (
        httpx.Client(verify=verify, timeout=60) as client,
        client.stream(method, url, headers=headers, content=data) as answer,
        open(output, "wb") as file,
    ):
        for piece in answer.iter_bytes():
            file.write(piece)
        print_answer(answer.status_code, answer.headers.get("Content-Length"))


async def with_aiohttp():
    import aiohttp

    verify = True if ca == "-" else ssl.create_default_context(cafile=ca)
    data = None if body == "-" else open(body, "rb")  # noqa: SIM115
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers, data=data, ssl=verify) as answer,
    ):
        with open(output, "wb") as file:
            async for piece in answer.content.iter_any():
                file.write(piece)
        print_answer(answer.status, answer.headers.get("Content-Length"))


if library == "aiohttp":
    asyncio.run(with_aiohttp())
else:
    {"requests": with_requests, "httpx": with_httpx}[library]()
