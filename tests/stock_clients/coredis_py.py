import anyio
from coredis import Sentinel
from coredis.connection import TCPLocation
from coredis.exceptions import RedisError

from ledger import Ledger, arguments

name, nodes = arguments()
ledger = Ledger()


async def again(work):
    while True:
        try:
            return await work()
        except (RedisError, OSError) as error:
            ledger.failed(error)
            await anyio.sleep(0.005)


async def main():
    # docs/clients.md
    locations = [TCPLocation(host, port) for host, port in nodes]
    async with Sentinel(locations, stream_timeout=1) as sentinel:
        primary = sentinel.primary_for(name, stream_timeout=1)
        async with primary:
            number = 0
            while not ledger.over:
                key = f"coredis:{number}"
                number += 1
                await again(lambda: primary.set(key, key))
                ledger.ok(key)
                await anyio.sleep(0.001)
            lost = []
            for key in ledger.acked:
                if await again(lambda: primary.get(key)) != key.encode():
                    lost.append(key)
            ledger.end(lost)


anyio.run(main)
