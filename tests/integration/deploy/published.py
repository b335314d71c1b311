"""Published ports of containers: what arrives at one address goes to another, both ways, as an engine's proxy does.

``python -m tests.integration.deploy.published LISTEN=TARGET...`` with HOST:PORT on both sides.
"""

import asyncio
import sys
from contextlib import suppress

CHUNK = 65536


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof() if writer.can_write_eof() else writer.close()


async def serve(listen: str, target: str) -> asyncio.Server:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there = await asyncio.open_connection(*split(target))
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, there), copy(there_reader, writer))
        for each in (writer, there):
            each.close()

    return await asyncio.start_server(connect, *split(listen))


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


async def main(pairs: list[str]) -> None:
    for pair in pairs:
        await serve(*pair.split("="))
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
