#!/usr/bin/env python3
"""A distributed training run that can be stopped and killed at any moment and goes on from its last checkpoint.

Each worker takes its share of every batch; the gradients are averaged over all workers, so that they keep one model.
It runs with PyTorch where that is installed, and otherwise with Python's standard library alone. Workers find each
other by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT (or by SLURM_PROCID and SLURM_NTASKS).

Worker 0 alone writes to the checkpoint folder, and holds a lock on it while it lives:

    checkpoint.json | .pt   the newest checkpoint, replaced as a whole or not at all
    loss.csv                one line `step,loss` for every step of the run that counts
    writers.log             who has held the lock: when, process, host, job and attempt
    writer.lock             the lock

SIGUSR1 to any worker means: save and end. All workers then end after the same step, with status 0.
"""

import argparse
import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import random
import signal
import socket
import struct
import sys
import time

try:
    import torch
    import torch.distributed
except ImportError:
    torch = None

SEED = 7
FEATURES = 8
BATCH = 16  # examples per worker and step
RATE = 0.05
PATIENCE = 120  # seconds to wait for another worker
LONGEST_MESSAGE = 1 << 20  # bytes


def main():
    options = arguments()
    rank, world = place()
    try:
        run(options, rank, world)
    except (ConnectionError, TimeoutError) as error:
        sys.exit(f"worker {rank}: {error}")


def run(options, rank, world):
    stop = StopSignal()
    use_torch = torch is not None and not options.plain
    with contextlib.ExitStack() as open_things:
        store = None
        if options.checkpoint and rank == 0:
            store = open_things.enter_context(Store(options.checkpoint, ".pt" if use_torch else ".json"))
        group = open_things.enter_context((TorchGroup if use_torch else SocketGroup)(rank, world))
        model = (TorchModel if use_torch else PlainModel)()
        train(options, rank, world, stop, store, group, model)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="the step after which training is complete")
    parser.add_argument("--step-time", type=float, default=0.05, metavar="S", help="least time of a step, in seconds")
    parser.add_argument("--checkpoint", type=pathlib.Path, metavar="DIR", help="folder for checkpoints; none without it")
    parser.add_argument("--every", type=int, default=20, metavar="N", help="steps between two checkpoints")
    parser.add_argument("--plain", action="store_true", help="use the standard library even where PyTorch is installed")
    options = parser.parse_args()
    if options.steps < 1 or options.every < 1 or options.step_time < 0:
        parser.error("--steps and --every are 1 or more, --step-time is 0 or more")
    return options


def place():
    """This worker's place among all, and how many there are."""
    environment = os.environ
    rank = int(environment.get("RANK", environment.get("SLURM_PROCID", "0")))
    world = int(environment.get("WORLD_SIZE", environment.get("SLURM_NTASKS", "1")))
    if not 0 <= rank < world:
        sys.exit(f"rank {rank} of {world} workers: RANK must be below WORLD_SIZE")
    # torch.distributed reads them from the environment.
    environment["RANK"], environment["WORLD_SIZE"] = str(rank), str(world)
    environment.setdefault("MASTER_ADDR", "127.0.0.1")
    environment.setdefault("MASTER_PORT", "29500")
    return rank, world


def train(options, rank, world, stop, store, group, model):
    # Worker 0 reads the checkpoint; the others get it from there.
    start = store.load(model) if store else 0
    start, *weights = group.from_first([float(start), *model.weights()])
    model.set_weights(weights)
    first = int(start) + 1
    if rank == 0:
        kind = "PyTorch" if torch is not None and not options.plain else "the standard library"
        print(f"{world} workers with {kind}: steps {first} to {options.steps}", flush=True)
    for step in range(first, options.steps + 1):
        began = time.monotonic()
        loss, gradient = model.gradient(*examples(step, rank, world))
        # One sum tells loss and gradient, and whether anybody was asked to stop: so all stop after the same step.
        loss, wants_stop, *gradient = group.mean([loss, float(stop.asked), *gradient])
        model.descend(gradient)
        stopping = wants_stop > 0
        if store:
            store.log(step, loss)
            if stopping or step % options.every == 0 or step == options.steps:
                store.save(step, model)
                print(f"step {step} loss {loss:.6f} saved", flush=True)
        if stopping:
            if rank == 0:
                print(f"asked to stop: ends after step {step}", flush=True)
            return
        time.sleep(max(0.0, options.step_time - (time.monotonic() - began)))
    if rank == 0:
        print("complete", flush=True)


class StopSignal:
    """Whether SIGUSR1 has come."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGUSR1, self.ask)

    def ask(self, *_):
        self.asked = True


def examples(step, rank, world):
    """A worker's share of the batch of a step: the same in every run, however often it was interrupted."""
    inputs, targets = [], []
    first = (step * world + rank) * BATCH
    for number in range(first, first + BATCH):
        numbers = random.Random(SEED * 1_000_003 + number)
        row = [numbers.uniform(-1, 1) for _ in range(FEATURES)]
        inputs.append(row)
        targets.append(sum((index - 3) * value for index, value in enumerate(row)) + 0.5 + numbers.gauss(0, 0.1))
    return inputs, targets


class PlainModel:
    """A linear regression by hand: one weight a feature, and a constant."""

    def __init__(self):
        self.values = [0.0] * (FEATURES + 1)

    def weights(self):
        return list(self.values)

    def set_weights(self, values):
        self.values = list(values)

    def gradient(self, inputs, targets):
        loss, gradient = 0.0, [0.0] * len(self.values)
        for row, target in zip(inputs, targets):
            row = [*row, 1.0]
            miss = sum(weight * value for weight, value in zip(self.values, row)) - target
            loss += miss * miss / len(inputs)
            for index, value in enumerate(row):
                gradient[index] += 2 * miss * value / len(inputs)
        return loss, gradient

    def descend(self, gradient):
        self.values = [weight - RATE * slope for weight, slope in zip(self.values, gradient)]

    def write(self, file, step):
        file.write(json.dumps({"step": step, "weights": self.values}).encode())

    def read(self, file):
        saved = json.load(file)
        self.values = saved["weights"]
        return saved["step"]


class TorchModel:
    """The same regression in PyTorch."""

    def __init__(self):
        torch.manual_seed(SEED)
        self.layer = torch.nn.Linear(FEATURES, 1, dtype=torch.float64)
        self.optimizer = torch.optim.SGD(self.layer.parameters(), lr=RATE)

    def weights(self):
        return torch.nn.utils.parameters_to_vector(self.layer.parameters()).tolist()

    def set_weights(self, values):
        with torch.no_grad():
            vector = torch.tensor(values, dtype=torch.float64)
            torch.nn.utils.vector_to_parameters(vector, self.layer.parameters())

    def gradient(self, inputs, targets):
        self.optimizer.zero_grad()
        missed = self.layer(torch.tensor(inputs, dtype=torch.float64)).squeeze(1)
        loss = torch.nn.functional.mse_loss(missed, torch.tensor(targets, dtype=torch.float64))
        loss.backward()
        return loss.item(), torch.cat([each.grad.flatten() for each in self.layer.parameters()]).tolist()

    def descend(self, gradient):
        rest = torch.tensor(gradient, dtype=torch.float64)
        for each in self.layer.parameters():
            each.grad, rest = rest[: each.numel()].view_as(each), rest[each.numel() :]
        self.optimizer.step()

    def write(self, file, step):
        # Plain descent keeps nothing from step to step; an optimizer that does has a state_dict to save too.
        torch.save({"step": step, "model": self.layer.state_dict()}, file)

    def read(self, file):
        saved = torch.load(file, weights_only=True)
        self.layer.load_state_dict(saved["model"])
        return saved["step"]


class SocketGroup:
    """All workers, joined by TCP: worker 0 listens at MASTER_PORT and adds up what the others send."""

    def __init__(self, rank, world):
        self.rank, self.world = rank, world
        self.peers = []  # of worker 0: all others by rank; of the others: worker 0
        address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        if world > 1:
            self.peers = self.listen(address[1]) if rank == 0 else [self.connect(address)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for peer in self.peers:
            peer.close()

    def listen(self, port):
        with socket.create_server(("", port), backlog=self.world) as server:
            server.settimeout(PATIENCE)
            found = {}
            while len(found) < self.world - 1:
                peer, address = server.accept()
                peer.settimeout(5)
                try:
                    name, rank = self.receive_bytes(peer).decode().split()
                    if name != run_name() or not 0 < int(rank) < self.world:
                        raise ValueError(f"it is worker {rank} of run {name}")
                except (OSError, ValueError) as error:
                    print(f"{address[0]} was turned away: {error}", flush=True)
                    peer.close()
                    continue
                peer.settimeout(PATIENCE)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                found[int(rank)] = peer
        for peer in found.values():
            self.send_bytes(peer, b"welcome")
        return [found[rank] for rank in sorted(found)]

    def connect(self, address):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                peer = socket.create_connection(address, timeout=PATIENCE)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.send_bytes(peer, f"{run_name()} {self.rank}".encode())
                self.receive_bytes(peer)
                return peer
            except OSError as error:
                if time.monotonic() > deadline:
                    sys.exit(f"worker {self.rank}: nobody answers at {address[0]}:{address[1]}: {error}")
                time.sleep(0.05)

    def mean(self, values):
        if self.rank > 0:
            self.send(self.peers[0], values)
            return self.receive(self.peers[0])
        # By rank, so that rounding is the same in every run.
        shares = [values, *(self.receive(peer) for peer in self.peers)]
        return self.from_first([sum(column) / self.world for column in zip(*shares)])

    def from_first(self, values):
        if self.rank > 0:
            return self.receive(self.peers[0])
        for peer in self.peers:
            self.send(peer, values)
        return values

    def send(self, peer, values):
        self.send_bytes(peer, struct.pack(f"<{len(values)}d", *values))

    def receive(self, peer):
        data = self.receive_bytes(peer)
        return list(struct.unpack(f"<{len(data) // 8}d", data))

    @staticmethod
    def send_bytes(peer, data):
        peer.sendall(struct.pack("<I", len(data)) + data)

    @staticmethod
    def receive_bytes(peer):
        def exactly(count):
            data = b""
            while len(data) < count:
                piece = peer.recv(count - len(data))
                if not piece:
                    raise ConnectionError("another worker is gone")
                data += piece
            return data

        length = struct.unpack("<I", exactly(4))[0]
        if length > LONGEST_MESSAGE:
            raise ConnectionError("what came is no message of a worker")
        return exactly(length)


class TorchGroup:
    """All workers, joined by torch.distributed."""

    def __init__(self, rank, world):
        self.world = world
        patience = datetime.timedelta(seconds=PATIENCE)
        torch.distributed.init_process_group("gloo", rank=rank, world_size=world, timeout=patience)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        torch.distributed.destroy_process_group()

    def mean(self, values):
        tensor = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(tensor)
        return (tensor / self.world).tolist()

    def from_first(self, values):
        tensor = torch.tensor(values, dtype=torch.float64)
        torch.distributed.broadcast(tensor, src=0)
        return tensor.tolist()


def run_name():
    """The job and its attempt: workers of an earlier attempt do not join this one."""
    return f"{os.environ.get('SLURM_JOB_ID', '0')}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"


class Store:
    """The checkpoint folder, in the hands of its one writer."""

    def __init__(self, folder, suffix):
        self.folder = folder
        self.file = folder / f"checkpoint{suffix}"
        self.losses = None

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = open(self.folder / "writer.lock", "a+")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{self.folder} has another writer, which lives: two must not write one checkpoint")
        self.note("begins")
        return self

    def __exit__(self, kind, *_):
        self.note("ends" if kind is None else "fails")
        if self.losses:
            self.losses.close()
        self.lock.close()

    def note(self, what):
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        with open(self.folder / "writers.log", "a") as log:
            log.write(f"{now} {what} pid={os.getpid()} host={socket.gethostname()} run={run_name()}\n")
            log.flush()
            os.fsync(log.fileno())

    def load(self, model):
        """The step of the newest checkpoint, 0 without any; the losses of later steps are forgotten."""
        step = 0
        if self.file.exists():
            with open(self.file, "rb") as file:
                step = model.read(file)
        path = self.folder / "loss.csv"
        kept = b""
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith(b"\n")]
            kept = b"".join(line for line in whole if int(line.split(b",")[0]) <= step)
        self.replace(path, lambda file: file.write(kept))
        self.losses = open(path, "a")
        return step

    def log(self, step, loss):
        self.losses.write(f"{step},{loss!r}\n")

    def save(self, step, model):
        # First the losses: whatever step a checkpoint names, their lines are there.
        self.losses.flush()
        os.fsync(self.losses.fileno())
        self.replace(self.file, lambda file: model.write(file, step))

    def replace(self, path, write):
        """Writes a file beside its place, and moves it there when it is whole and on disk."""
        beside = path.with_name(path.name + ".new")
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


if __name__ == "__main__":
    main()
