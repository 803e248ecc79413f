"""Records what a published client and the emulator say to each other, for the seeds.

Arguments: port to listen on, port of the emulator, folder for the recordings, then the command that
runs the client. Each connection becomes `NUMBER.said` (the client) and `NUMBER.heard` (the hub).
"""

import asyncio
import itertools
import pathlib
import sys

BYTES_MAX = 64 * 1024


async def copy(reader, writer, path):
    with path.open("wb") as file:
        while data := await reader.read(65536):
            file.write(data[: max(0, BYTES_MAX - file.tell())])
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(port, emulator, folder, command):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    start = len(list(folder.glob("*.said")))
    numbers = itertools.count(start)

    async def connection(reader, writer):
        number = next(numbers)
        hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", emulator)
        await asyncio.gather(
            copy(reader, hub_writer, folder / f"{number:02}.said"),
            copy(hub_reader, writer, folder / f"{number:02}.heard"),
            return_exceptions=True,
        )

    async with await asyncio.start_server(connection, "127.0.0.1", port):
        client = await asyncio.create_subprocess_exec(*command)
        sys.exit(await client.wait())


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
