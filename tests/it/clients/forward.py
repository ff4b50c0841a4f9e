"""Asks for a plain and an encrypted page through the proxy that the environment names, with each of
four libraries, and prints what came: one line for each answer.

forward.py LIBRARY PLAIN_URL SECRET_URL CA
"""

import asyncio
import os
import ssl
import sys

library, plain, secret, authority = sys.argv[1:]


def with_requests():
    import requests

    for url in (plain, secret):
        yield requests.get(url, verify=authority, timeout=60)
        yield requests.post(url, data=b"x" * 100_000, verify=authority, timeout=60)


def with_urllib3():
    import urllib3

    def pool(variable):
        # It reads no variables itself; credentials in a URL are for its caller to take out.
        url = urllib3.util.parse_url(os.environ[variable])
        fields = urllib3.make_headers(proxy_basic_auth=url.auth)
        address = f"http://{url.host}:{url.port}"
        return urllib3.ProxyManager(address, proxy_headers=fields, ca_certs=authority)

    for url, variable in ((plain, "HTTP_PROXY"), (secret, "HTTPS_PROXY")):
        with pool(variable) as manager:
            yield manager.request("GET", url)
            yield manager.request("POST", url, body=b"x" * 100_000)


def with_httpx():
    import httpx

    with httpx.Client(verify=ssl.create_default_context(cafile=authority), timeout=60) as client:
        for url in (plain, secret):
            yield client.get(url)
            yield client.post(url, content=b"x" * 100_000)


async def with_aiohttp():
    import aiohttp

    context = ssl.create_default_context(cafile=authority)
    async with aiohttp.ClientSession(trust_env=True) as session:
        for url in (plain, secret):
            async with session.get(url, ssl=context) as answer:
                print(answer.status, await answer.text())
            async with session.post(url, data=b"x" * 100_000, ssl=context) as answer:
                print(answer.status, await answer.text())


if library == "aiohttp":
    asyncio.run(with_aiohttp())
else:
    for answer in globals()[f"with_{library}"]():
        status = answer.status if library == "urllib3" else answer.status_code
        text = answer.data.decode() if library == "urllib3" else answer.text
        print(status, text)
