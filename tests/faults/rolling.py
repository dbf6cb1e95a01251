"""A rolling restart under load, as an operator does it behind a load balancer."""

import json
import pathlib
import subprocess
import sys
import time

from balancer import Balancer
from cluster import Cluster
from support import ROOT

sys.path.insert(0, str(ROOT / "tests/sdk"))
import environments  # noqa: E402

DRAIN = 20.0
CLIENTS, ITEMS = 6, 60


def rolling(arguments):
    folder = (arguments.sdk or ROOT / "target/sdk") / "faults-openai"
    folder.parent.mkdir(parents=True, exist_ok=True)
    interpreter = environments.python(folder.resolve(), "openai")
    # Calls last half of what a drain may take.
    script = f'latency = "{DRAIN / 2:.0f}s"\nlog = "full"\n'
    cluster = Cluster(arguments, script, "limits.max_concurrent = 64", f'server.drain_timeout = "{DRAIN:.0f}s"')
    cluster.start()
    balancer = Balancer([replica.service.port for replica in cluster.replicas])
    clients = subprocess.Popen(
        [interpreter, pathlib.Path(__file__).with_name("sdk_load.py"), f"http://127.0.0.1:{balancer.port}", str(CLIENTS), str(ITEMS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    time.sleep(15.0)
    drains = []
    for round_number in range(arguments.cycles or 1):
        for replica in cluster.replicas:
            drains.append(restarted(cluster, replica))
            print(f"seed {arguments.seed}: round {round_number + 1}: {replica.caller} drained in {drains[-1]:.1f} s", flush=True)
            # As long as a careful operator waits before the next one.
            time.sleep(5.0)
    found = json.loads(clients.communicate("")[0])
    balancer.close()
    log = cluster.upstream.ask("log")
    print(f"seed {arguments.seed}: {found['calls']} calls of clients, {len(found['failed'])} failed after the SDK's retries; "
          f"{found['batches']} batches, {found['live']} live calls; lost {found['lost']}, twice {found['twice']}; "
          f"{log['arrived']} upstream calls, extra {log['repeats']}, cut off {log['gone']}; longest drain {max(drains):.1f} s of {DRAIN:.0f}")
    for failure in found["failed"][:10]:
        print(f"failed: {failure}")
    cluster.must(not found["failed"], f"{len(found['failed'])} calls of clients failed")
    cluster.must(found["lost"] == found["twice"] == 0, "lines were lost or came twice")
    cluster.must(log["repeats"] == 0, f"{log['repeats']} extra upstream calls: {cluster.upstream.ask('log?repeated=1&limit=5')}")
    cluster.must(max(drains) <= DRAIN, f"a drain took {max(drains):.1f} s")
    return cluster.close()


def restarted(cluster, replica):
    """Ends a replica in order and starts it again; seconds that its end took."""
    started = time.monotonic()
    replica.service.process.terminate()
    try:
        code = replica.service.process.wait(3 * DRAIN)
    except subprocess.TimeoutExpired:
        replica.kill()
        code = "a kill"
    took = time.monotonic() - started
    cluster.must(code == 0, f"{replica.caller} ended with {code}")
    replica.start()
    replica.until_ready()
    return took
