"""What a Flower client does; a module, so that an actor reads the arrays once."""

import functools
import os
import pathlib

import runner
import torch
import torch_models
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp


@functools.cache
def _loaded(path: str, threads: int):
    torch.set_num_threads(threads)
    work = runner.load(pathlib.Path(path))
    model = torch_models.build(work)
    x, y = torch_models.inputs(work), torch.from_numpy(work.y).long()
    return work, model, list(model.parameters()), x, y


def train(message: Message, context: Context) -> Message:
    """Trains a client from the server's weights, with the plain loop's steps."""
    work, model, parameters, x, y = _loaded(
        os.environ['BENCHMARK_WORK'], int(os.environ['BENCHMARK_THREADS'])
    )
    with torch.no_grad():
        server = message.content['arrays'].to_numpy_ndarrays()
        start = [torch.from_numpy(weight) for weight in server]
        for parameter, weight in zip(parameters, start, strict=True):
            parameter.copy_(weight)
    # What FedProx's strategy sends; others send none.
    mu = message.content['config'].get('proximal-mu', 0.0)
    rows = work.rows(int(context.node_config['partition-id']))
    for first in range(rows.start, rows.stop, work.batch_size):
        batch = slice(first, min(first + work.batch_size, rows.stop))
        loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            if mu:
                away = torch._foreach_sub(parameters, start)
                gradients = torch._foreach_add(gradients, away, alpha=mu)
            torch._foreach_add_(parameters, gradients, alpha=-work.learning_rate)
    arrays = ArrayRecord([p.detach().numpy() for p in parameters])
    metrics = MetricRecord({'num-examples': rows.stop - rows.start})
    content = RecordDict({'arrays': arrays, 'metrics': metrics})
    return Message(content=content, reply_to=message)


app = ClientApp()
app.train()(train)
