import time

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ledger import Ledger, arguments

name, nodes = arguments()
ledger = Ledger()

# docs/clients.md
once = {"socket_timeout": 1, "retry": Retry(NoBackoff(), 0)}
sentinel = Sentinel(nodes, sentinel_kwargs=once, socket_timeout=1)
primary = sentinel.master_for(name, socket_timeout=1)


def again(work):
    while True:
        try:
            return work()
        except RedisError as error:
            ledger.failed(error)
            time.sleep(0.005)


number = 0
while not ledger.over:
    key = f"redis-py:{number}"
    number += 1
    again(lambda: primary.set(key, key))
    ledger.ok(key)
    time.sleep(0.001)
lost = [key for key in ledger.acked if again(lambda: primary.get(key)) != key.encode()]
ledger.end(lost)
