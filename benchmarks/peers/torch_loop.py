"""A plain PyTorch loop: clients one after another, no framework around it."""

import os

# Threads that wait for each other sleep. Spinning, the default, made a round more than
# ten times slower where anything else wanted a processor.
os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'

import runner
import torch
import torch_models


def train(work: runner.Work, options) -> runner.Result:
    """Federated averaging, written as one would in a script."""
    torch.set_num_threads(options.threads)
    model = torch_models.build(work)
    parameters = list(model.parameters())
    x = torch_models.inputs(work)
    y = torch.from_numpy(work.y).long()
    total = int(work.row_splits[-1])

    def next_round(server):
        change = [torch.zeros_like(w) for w in server]
        for client in range(work.clients):
            rows = work.rows(client)
            with torch.no_grad():
                for parameter, weight in zip(parameters, server, strict=True):
                    parameter.copy_(weight)
            for start in range(rows.start, rows.stop, work.batch_size):
                batch = slice(start, min(start + work.batch_size, rows.stop))
                loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
                gradients = torch.autograd.grad(loss, parameters)
                with torch.no_grad():
                    torch._foreach_add_(
                        parameters, gradients, alpha=-work.learning_rate
                    )
            share = (rows.stop - rows.start) / total
            with torch.no_grad():
                for c, parameter, weight in zip(
                    change, parameters, server, strict=True
                ):
                    c.add_(parameter - weight, alpha=share)
        return [w + c for w, c in zip(server, change, strict=True)]

    first = [p.detach().clone() for p in parameters]
    seconds, server = runner.time_rounds(next_round, first, options.rounds)
    weights = torch_models.to_keras(work, server)
    settings = f'{options.threads} thread(s), no DataLoader'
    return runner.Result(seconds, weights, settings)


def add_options(parser) -> None:
    """Adds the number of threads."""
    parser.add_argument('--threads', type=int, default=2)


if __name__ == '__main__':
    runner.main(train, ['torch'], add_options)
