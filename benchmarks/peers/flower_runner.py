"""Flower's simulation: a `ClientApp` and `FedAvg` or `FedProx` over Ray's actors."""

import os
import sys
import time

# Read by Flower when it is imported, and by the actors.
os.environ['FLWR_TELEMETRY_ENABLED'] = '0'
os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
os.environ['BENCHMARK_WORK'] = os.path.abspath(sys.argv[1])

import flower_client
import runner
import torch_models
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedProx
from flwr.simulation import run_simulation


class Timed(FedProx):
    """Notes when a round begins and when its mean is there; `FedAvg` if mu is 0."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.begins, self.ends = [], []

    def configure_train(self, *arguments, **named):
        """Notes the beginning of a round."""
        self.begins.append(time.perf_counter())
        return super().configure_train(*arguments, **named)

    def aggregate_train(self, *arguments, **named):
        """Notes the end of a round."""
        result = super().aggregate_train(*arguments, **named)
        self.ends.append(time.perf_counter())
        return result


def train(work: runner.Work, options) -> runner.Result:
    """Trains in a simulation with one actor for each processor."""
    os.environ['BENCHMARK_THREADS'] = '1'
    strategy = Timed(
        proximal_mu=options.mu,
        fraction_evaluate=0.0,
        min_train_nodes=work.clients,
        min_available_nodes=work.clients,
    )
    final = []
    server = ServerApp()

    @server.main()
    def run(grid, context):
        first = [w.numpy() for w in torch_models.from_keras(work)]
        result = strategy.start(
            grid=grid, initial_arrays=ArrayRecord(first), num_rounds=options.rounds
        )
        final.extend(result.arrays.to_numpy_ndarrays())

    run_simulation(
        server_app=server,
        client_app=flower_client.app,
        num_supernodes=work.clients,
        backend_config={
            'init_args': {'num_cpus': options.actors},
            'client_resources': {'num_cpus': 1, 'num_gpus': 0.0},
        },
    )
    seconds = [e - b for b, e in zip(strategy.begins, strategy.ends, strict=True)]
    settings = f'{options.actors} Ray actors of one thread, no evaluation'
    return runner.Result(seconds, torch_models.to_keras(work, final), settings)


def add_options(parser) -> None:
    """Adds the number of actors and the weight of FedProx's term."""
    parser.add_argument('--mu', type=float, default=0.0)
    parser.add_argument('--actors', type=int, default=2)


if __name__ == '__main__':
    runner.main(train, ['flwr', 'ray', 'torch'], add_options)
