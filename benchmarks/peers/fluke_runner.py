"""fluke's own clients and server: federated averaging, Ditto or FedRep."""

import os

os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'  # See torch_loop.py.

import runner
import torch

# torchvision, which fluke imports for its data sets, has operators for CUDA alone where
# PyTorch is its CPU build, and cannot be imported unless these two are known.
VISION = torch.library.Library('torchvision', 'DEF')
for name in ('nms', 'qnms'):
    VISION.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')

import torch_models
from fluke import DDict
from fluke.algorithms import fedrep
from fluke.algorithms.ditto import DittoClient
from fluke.client import Client
from fluke.config import OptimizerConfigurator
from fluke.data import FastDataLoader
from fluke.nets import EncoderHeadNet
from fluke.server import Server


class ClientOfMethod(Client):
    """A client of federated averaging, which takes a model like the others and none."""

    def __init__(self, index, model, *args, **kwargs):
        super().__init__(index, *args, **kwargs)


METHODS = {
    'fedavg': (ClientOfMethod, Server),
    'ditto': (DittoClient, Server),
    'fedrep': (fedrep.FedRepClient, fedrep.FedRepServer),
}


def build(work: runner.Work) -> torch.nn.Module:
    """Returns the model, of which the last layer is fluke's head."""
    model = torch_models.build(work)
    if work.model == 'linear':
        return model
    return EncoderHeadNet(model[:-1], model[-1])


def train(work: runner.Work, options) -> runner.Result:
    """Trains all clients in each round, as fluke's server does between evaluations."""
    torch.set_num_threads(options.threads)
    client_class, server_class = METHODS[options.method]
    model = build(work)
    x, y = torch_models.inputs(work), torch.from_numpy(work.y).long()
    sgd = DDict(name='SGD', lr=work.learning_rate)
    clients = []
    for index, rows in enumerate(map(work.rows, range(work.clients))):
        loader = FastDataLoader(
            x[rows],
            y[rows],
            num_labels=work.weights[-1].shape[0],
            batch_size=work.batch_size,
            skip_singleton=False,
        )
        clients.append(
            client_class(
                index=index,
                model=build(work),
                train_set=loader,
                test_set=None,
                optimizer_cfg=OptimizerConfigurator(sgd),
                loss_fn=torch.nn.CrossEntropyLoss(),
                local_epochs=1,
                tau=1,
            )
        )
    shared = model.encoder if options.method == 'fedrep' else model
    server = server_class(model=shared, test_set=None, clients=clients, weighted=True)
    for client in clients:
        client.set_channel(server.channel)

    def next_round(number):
        server.broadcast_model(clients)
        for client in clients:
            client.local_update(number)
        models = server.receive_client_models(clients, state_dict=False)
        server.aggregate(clients, models)
        return number + 1

    seconds, _ = runner.time_rounds(next_round, 1, options.rounds)
    parameters = list(server.model.parameters())
    if options.method == 'fedrep':
        parameters += model.head.parameters()
    settings = f'its clients and server, no evaluation, {options.threads} thread(s)'
    return runner.Result(seconds, torch_models.to_keras(work, parameters), settings)


def add_options(parser) -> None:
    """Adds the method and the number of threads."""
    parser.add_argument('--method', choices=list(METHODS), default='fedavg')
    parser.add_argument('--threads', type=int, default=1)


if __name__ == '__main__':
    runner.main(train, ['fluke-fl', 'torch'], add_options)
