"""Loss and accuracy of each client in a plain PyTorch loop."""

import os

# See torch_loop.py.
os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'

import numpy as np
import runner
import torch
import torch_models


def evaluate(work: runner.Work, options) -> runner.Result:
    """Evaluates client after client, batch after batch; hands back loss, accuracy."""
    torch.set_num_threads(options.threads)
    model = torch_models.build(work)
    x, y = torch_models.inputs(work), torch.from_numpy(work.y).long()

    @torch.inference_mode()
    def next_round(_):
        loss, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for client in range(work.clients):
            rows = work.rows(client)
            for start in range(rows.start, rows.stop, work.batch_size):
                batch = slice(start, min(start + work.batch_size, rows.stop))
                logits = model(x[batch])
                loss += torch.nn.functional.cross_entropy(
                    logits, y[batch], reduction='sum'
                )
                correct += (logits.argmax(1) == y[batch]).sum()
        return float(loss) / len(y), float(correct) / len(y)

    seconds, values = runner.time_rounds(next_round, None, options.rounds)
    return runner.Result(
        seconds, [np.asarray(v) for v in values], f'{options.threads} thread(s)'
    )


def add_options(parser) -> None:
    """Adds the number of threads."""
    parser.add_argument('--threads', type=int, default=1)


if __name__ == '__main__':
    runner.main(evaluate, ['torch'], add_options)
