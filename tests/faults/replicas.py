#!/usr/bin/env python3
"""Several replicas on one PostgreSQL server, hit again and again: nothing lost, nothing twice, no window over.

    python3 tests/faults/replicas.py kills --cycles 60 --seed 1     kill -9, or 20 s frozen, of a replica at random
    python3 tests/faults/replicas.py database --cycles 30           the server crashes and is 20 s away
    python3 tests/faults/replicas.py cuts --cuts 500                connections are reset once a COMMIT was done
    python3 tests/faults/replicas.py kinds                          connections are reset in the middle of each statement
    python3 tests/faults/replicas.py network --cycles 20            one replica's way to the server is slow, cut, half open
                                                                    or swallows everything, for a while
    python3 tests/faults/replicas.py rolling                        each replica is ended and started again in turn
    python3 tests/faults/replicas.py followers --followers 500      what it costs to follow a batch, and to be idle
    python3 tests/faults/replicas.py cleanup --items 1000000        what is left when everything has been erased

`--binary PATH` takes another build, `--upstream PATH` another one for the scripted upstream alone; `--replicas N`.
Each line that is printed names the seed; the exit code is 1 if a promise did not hold.
"""

import argparse
import pathlib
import signal
import sys

import database_faults
import measured
import process_faults
import rolling
from support import BINARY

PARTS = {
    "kills": process_faults.kills, "database": database_faults.crashes, "cuts": database_faults.cuts,
    "kinds": database_faults.kinds, "network": database_faults.network, "rolling": rolling.rolling,
    "followers": measured.followers, "cleanup": measured.cleanup,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=PARTS)
    parser.add_argument("--binary", default=BINARY, type=pathlib.Path)
    parser.add_argument("--upstream", type=pathlib.Path, help="the binary of the scripted upstream; the same one without it")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cycles", type=int, help="faults; 60 kills, 30 crashes, 20 of the network without it")
    parser.add_argument("--rate", type=int, default=3_000, help="requests a minute")
    parser.add_argument("--cuts", type=int, default=500)
    parser.add_argument("--away", type=float, default=20.0, help="seconds that a replica is frozen or the server down")
    parser.add_argument("--followers", type=int, default=500)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="how often all items run and are erased")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long something is counted")
    parser.add_argument("--sdk", type=pathlib.Path, help="a folder for the environment with the OpenAI SDK")
    arguments = parser.parse_args()
    arguments.binary = arguments.binary.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(PARTS[arguments.what](arguments))


if __name__ == "__main__":
    main()
