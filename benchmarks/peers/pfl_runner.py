"""pfl's simulated federated averaging, FedProx or SCAFFOLD, with PyTorch.

For two processes start it with `torchrun --nproc_per_node=2`; each then trains its
share of the clients, and the sums are added with gloo.
"""

import time

import numpy as np
import runner
import torch
import torch_models
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints, WeightByUser
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.algorithm.fedprox import FedProx, FedProxParams
from pfl.algorithm.scaffold import SCAFFOLD, SCAFFOLDParams
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import MinimizeReuseUserSampler
from pfl.data.user_state import InMemoryUserStateStorage
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops import pytorch_ops
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel


class Network(torch.nn.Module):
    """What pfl asks of a model: `loss` and `metrics`."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def loss(self, x, y):
        """Returns the mean cross-entropy of a batch."""
        return torch.nn.functional.cross_entropy(self.network(x), y)

    def metrics(self, x, y):
        """Returns nothing: evaluation is not measured here."""
        return {}


class Clock(TrainingProcessCallback):
    """Notes when each round ended."""

    def __init__(self):
        self.ends = []

    def on_train_begin(self, *, model):
        """Notes when the first round begins."""
        self.ends.append(time.perf_counter())
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Notes when a round ended."""
        self.ends.append(time.perf_counter())
        return False, Metrics()


def algorithm(work: runner.Work, method: str, **common):
    """Returns an algorithm of pfl, its parameters and how clients are weighted.

    Args:
      work: The workload.
      method: `fedavg`, `fedprox` (mu of 0.01) or `scaffold` (option II).
      **common: The parameters of all of them.
    """
    if method == 'fedprox':
        return FedProx(), FedProxParams(mu=0.01, **common), WeightByDatapoints()
    if method == 'scaffold':
        params = SCAFFOLDParams(
            population=work.clients,
            use_gradient_as_control_variate=False,
            user_state_storage=InMemoryUserStateStorage(),
            **common,
        )
        return SCAFFOLD(), params, WeightByUser()
    return FederatedAveraging(), NNAlgorithmParams(**common), WeightByDatapoints()


def train(work: runner.Work, options) -> runner.Result:
    """Trains with one of pfl's algorithms."""
    torch.set_num_threads(options.threads)
    model = Network(torch_models.build(work))
    x = torch_models.inputs(work)
    y = torch.from_numpy(work.y).long()
    # Made once: pfl keeps a data set's batches when it keeps the data set.
    datasets = [
        PyTorchTensorDataset((x[rows], y[rows]), user_id=client)
        for client, rows in enumerate(map(work.rows, range(work.clients)))
    ]
    sizes = np.diff(work.row_splits).tolist()
    # Clients of different sizes are spread over the processes by size.
    balanced = dict(enumerate(sizes)) if len(set(sizes)) > 1 else None
    data = FederatedDataset(
        datasets.__getitem__,
        MinimizeReuseUserSampler(list(range(work.clients))),
        user_id_to_weight=balanced,
    )
    clock = Clock()
    method, params, weighting = algorithm(
        work,
        options.method,
        central_num_iterations=options.rounds,
        evaluation_frequency=options.rounds + 1,
        train_cohort_size=work.clients,
        val_cohort_size=None,
    )
    method.run(
        algorithm_params=params,
        backend=SimulatedBackend(
            training_data=data, val_data=data, postprocessors=[weighting]
        ),
        model=PyTorchModel(
            model,
            local_optimizer_create=torch.optim.SGD,
            central_optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        ),
        model_train_params=NNTrainHyperParams(
            local_batch_size=work.batch_size,
            local_num_epochs=1,
            local_learning_rate=work.learning_rate,
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=work.batch_size),
        callbacks=[clock],
        send_metrics_to_platform=False,
    )
    processes = pytorch_ops.distributed.world_size
    settings = (
        f'SimulatedBackend, {processes} process(es) of {options.threads} thread(s),'
        ' batches kept'
    )
    weights = torch_models.to_keras(work, model.parameters())
    return runner.Result(np.diff(clock.ends).tolist(), weights, settings)


def add_options(parser) -> None:
    """Adds the number of threads and the algorithm."""
    methods = ['fedavg', 'fedprox', 'scaffold']
    parser.add_argument('--method', choices=methods, default='fedavg')
    parser.add_argument('--threads', type=int, default=1)


if __name__ == '__main__':
    runner.main(
        train,
        ['pfl', 'torch'],
        add_options,
        lambda: pytorch_ops.distributed.global_rank == 0,
    )
